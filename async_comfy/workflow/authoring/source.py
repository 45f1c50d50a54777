"""Values as Python source, laid out as formatters leave it."""

import math
import textwrap
import unicodedata
from collections.abc import Iterable
from typing import Any

WIDTH = 88  # what formatters take for a line unless they are told otherwise
INDENT = "    "


def literal(value: Any, depth: int = 0) -> str:
    """A JSON value. Lists and objects stand one item a line, at `depth` steps of indentation."""
    if isinstance(value, dict):
        pairs = [f"{literal(key)}: {literal(item, depth + 1)}" for key, item in value.items()]
        return block("{", pairs, "}", depth)
    if isinstance(value, list | tuple):
        return block("[", [literal(item, depth + 1) for item in value], "]", depth)
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    return text(value) if isinstance(value, str) else repr(value).replace("e+", "e")


def too_long(line: str, depth: int = 0) -> bool:
    """Whether formatters would break the line, at `depth` steps of indentation."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in line)
    return len(INDENT) * depth + len(line) + wide > WIDTH


def block(head: str, items: Iterable[str], tail: str, depth: int = 0) -> str:
    """Items one a line between brackets. The comma after the last keeps formatters from joining them."""
    lines = [f"{INDENT * (depth + 1)}{item},\n" for item in items]
    return f"{head}\n{''.join(lines)}{INDENT * depth}{tail}" if lines else f"{head}{tail}"


def text(value: str) -> str:
    """A string in the quotes that formatters prefer: double ones, unless more of them are inside."""
    single = repr(f'"{value}')[2:-1]  # of a text with a double quote `repr` escapes the single ones
    if value.count('"') > value.count("'"):
        return f"'{single}'"
    return '"' + single.replace("\\'", "'").replace('"', '\\"') + '"'


def docstring(paragraphs: Iterable[str], depth: int = 1) -> str:
    """A docstring of these paragraphs, wrapped; whatever they say, it stays inside of its quotes."""
    room = WIDTH - len(INDENT * depth)
    wrapped = [_wrapped(paragraph, room) for paragraph in paragraphs if paragraph.strip()]
    said = "\n\n".join(wrapped).replace("\\", "\\\\").replace('"""', "'''")
    lines = [f"{INDENT * depth}{line}".rstrip() for line in said.split("\n")]
    alone = len(lines) == 1 and not too_long(f"{lines[0]}      ") and not said.endswith('"')
    end = "" if alone else f"\n{INDENT * depth}"
    body = "\n".join(lines).lstrip()
    body = f" {body}" if body.startswith('"') else body
    return f'{INDENT * depth}"""{body}{end}"""'


def flat(said: object) -> str:
    """Text on one line."""
    return " ".join(str(said).split())


def _wrapped(paragraph: str, room: int) -> str:
    """Each line of its own, further lines of it indented as it is."""
    return "\n".join(_line(line, room) for line in paragraph.split("\n"))


def _line(line: str, room: int) -> str:
    indent = line[: len(line) - len(line.lstrip(" "))]
    words = "".join(letter if letter.isprintable() else " " for letter in line).split()
    return textwrap.fill(
        " ".join(words),
        room,
        initial_indent=indent,
        subsequent_indent=f"{indent}    " if indent else "",
        break_long_words=False,
        break_on_hyphens=False,
    )
