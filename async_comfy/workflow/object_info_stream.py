"""GET /object_info as it comes, class by class, of whatever size."""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any

_BETWEEN = re.compile(r"[ \t\n\r]*[{,]?[ \t\n\r]*")
_COLON = re.compile(r"[ \t\n\r]*:[ \t\n\r]*")
_DECODER = json.JSONDecoder()


class Splitter:
    """Takes the bytes of one JSON object, piece by piece, and gives its members as they are whole.

    Only the member that is under way is kept. Written by Python's json.dumps, so NaN is taken.
    """

    def __init__(self) -> None:
        self._text = ""
        self._letters = codecs.getincrementaldecoder("utf-8")()
        self._began = False

    def __repr__(self) -> str:
        return f"<Splitter, {len(self._text)} letters waiting>"

    def take(self, data: bytes) -> Iterator[tuple[str, Any]]:
        """The members that this piece makes whole. Raises: ValueError where it cannot be such an object."""
        self._text += self._letters.decode(data)
        if not self._began and self._text.lstrip():
            if not self._text.lstrip().startswith("{"):
                raise ValueError("no JSON object")
            self._began = True
        at = 0
        while (found := self._member(at)) is not None:
            name, value, at = found
            yield name, value
        self._text = self._text[at:]

    def end(self) -> None:
        """All has come. Raises: ValueError where the object is not whole."""
        self._letters.decode(b"", final=True)
        rest = self._text.strip()
        if not self._began or rest not in {"}", "{}"}:
            raise ValueError("the object ends in the middle")

    def _member(self, at: int) -> tuple[str, Any, int] | None:
        text = self._text
        start = _BETWEEN.match(text, at)
        assert start is not None  # noqa: S101  # for the type checker: it matches nothing, too
        try:
            name, end = _DECODER.raw_decode(text, start.end())
            colon = _COLON.match(text, end)
            if not isinstance(name, str) or colon is None:
                return None
            value, end = _DECODER.raw_decode(text, colon.end())
        except (ValueError, RecursionError):
            return None  # more of it is to come, or `end` will say that it never did
        if end == len(text):
            return None  # a number could go on
        return name, value, end
