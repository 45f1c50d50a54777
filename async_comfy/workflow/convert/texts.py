"""Texts that change on their way into the prompt: dynamic prompts and file names.

Source: ComfyUI_frontend ``extensions/core/dynamicPrompts.ts`` and ``utils/searchAndReplace.ts``.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

from async_comfy.workflow.convert.nodes import Node

DEEPEST = 50
"""Alternatives within alternatives deeper than this are not meant."""

COMMENT = re.compile(r"/\*[\s\S]*?\*/|//.*")
ESCAPED = re.compile(r"\\([{}|])")
PLACEHOLDER = re.compile(r"%([^%]+)%")
UNSAFE = re.compile(r'[/?<>\\:*|"\x00-\x1f\x7f]')
"""What a name taken from a widget may not hold."""

CLOCK = {"yyyy": "%year%", "MM": "%month%", "dd": "%day%", "hh": "%hour%", "mm": "%minute%", "ss": "%second%"}
"""Parts of a date, and the words for which the server itself puts them in (``folder_paths.py``)."""


def dynamic_prompt(text: str, depth: int = 0) -> str:
    """`text` without comments, and with the first of each ``{one|other}``.

    The editor throws dice there; the same file must give the same prompt here.
    """
    text = COMMENT.sub("", text)
    if depth > DEEPEST:
        return text
    done: list[str] = []
    index = 0
    while index < len(text):
        if text[index] == "\\":
            done.append(text[index : index + 2])
            index += 2
        elif text[index] == "{":
            choice, index = _first_choice(text, index + 1)
            done.append(dynamic_prompt(choice, depth + 1))
        else:
            done.append(text[index])
            index += 1
    return ESCAPED.sub(r"\1", "".join(done))


def _first_choice(text: str, index: int) -> tuple[str, int]:
    """The first alternative of the block that begins at `index`, and where the block ends."""
    start, depth, end = index, 0, -1
    while index < len(text):
        char = text[index]
        if char == "\\":
            index += 1
        elif char == "{":
            depth += 1
        elif char == "}":
            if not depth:
                break
            depth -= 1
        elif char == "|" and not depth and end < 0:
            end = index
        index += 1
    return text[start : index if end < 0 else end], min(index + 1, len(text))


def replacer(nodes: Iterable[Node]) -> Callable[[str], str]:
    """What puts values of other nodes into a text: ``%KSampler.seed%``; dates are left to the server."""
    nodes = list(nodes)

    def replaced(match: re.Match[str]) -> str:
        inner = match[1]
        if inner.startswith("date:"):
            return _date(inner.removeprefix("date:")) or match[0]
        node_name, dot, widget_name = inner.partition(".")
        if not dot or "." in widget_name:
            return match[0]
        widget = _find(nodes, node_name, widget_name)
        return match[0] if widget is None else UNSAFE.sub("_", widget)

    return lambda text: PLACEHOLDER.sub(replaced, text)


def _find(nodes: list[Node], node_name: str, widget_name: str) -> str | None:
    named = [node for node in nodes if _search_name(node) == node_name]
    named = named or [node for node in nodes if node.title == node_name]
    widget = named[0].widget_named(widget_name) if named else None
    return _as_text(widget.read()) if widget else None


def _search_name(node: Node) -> Any:
    return node.record.properties.get("Node name for S&R", None if node.virtual else node.type)


def _date(pattern: str) -> str:
    """The pattern in the server's words; empty where it asks for more than the server can say."""
    parts = re.split(r"([A-Za-z]+)", pattern)
    words = [CLOCK.get(part, part) for part in parts]
    return "" if any(word.isalpha() for word in words) else "".join(words)


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, str | int | float) else ""
