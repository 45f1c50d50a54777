"""What a server's names are called in Python."""

import builtins
import itertools
import keyword
import re
import unicodedata
from collections.abc import Iterable

BUILTINS = frozenset(dir(builtins))


def identifier(name: str) -> str:
    """`name` as Python can say it.

    A dot becomes ``__``, any other character that a Python name cannot have ``_``; one that begins with a
    digit gets ``_`` before it, a keyword ``_`` after it.
    """
    text = unicodedata.normalize("NFKC", name.replace(".", "__"))
    text = "".join(letter if f"a{letter}".isidentifier() else "_" for letter in text) or "_"
    text = text if text.isidentifier() else f"_{text}"
    return f"{text}_" if keyword.iskeyword(text) else text


def snake(name: str) -> str:
    """A title or a class as a variable: ``load_clip`` for "Load CLIP" and "LoadCLIP".

    Empty where nothing is left; no underscore in front, so that a named tuple may have it.
    """
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    words = re.sub(r"[^A-Za-z0-9]+", "_", words).strip("_").lower()
    return identifier(f"n{words}" if words[:1].isdigit() else words) if words else ""


class Names:
    """Hands out names, each once: a second ``image`` is ``image_2``."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._next: dict[str, itertools.count[int]] = {}

    def give(self, wanted: str) -> str:
        """`wanted`, or the next that is free."""
        name = wanted
        while name in self._taken:
            name = f"{wanted}_{next(self._next.setdefault(wanted, itertools.count(2)))}"
        self._taken.add(name)
        return name
