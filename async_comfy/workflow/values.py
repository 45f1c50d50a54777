"""What an input of a node may hold: JSON, a link to another node's output, or a file to upload."""

import math
import numbers
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from async_comfy.errors import WorkflowError
from async_comfy.workflow.files import File

MAX_DEPTH = 200  # no editor nests values deeper than a handful; the interpreter's stack ends near 1000


class Link(NamedTuple):
    """Output number `slot` of the node `node`; put it where another node takes it in."""

    node: str
    slot: int = 0


def is_link(value: object) -> bool:
    """Whether `value` is a link as a prompt writes it: ``["4", 0]``."""
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int)
        and not isinstance(value[1], bool)
    )


def linked(value: object) -> str | None:
    """The id of the node that `value` links to, None where it is no link."""
    return value[0] if isinstance(value, list | tuple) and is_link(value) else None


def settle(value: object, place: str, depth: int = 0) -> Any:
    """A copy of `value` that nobody else can change: plain JSON, or a `File` at the top.

    Paths, bytes and pictures become a `File`; numbers of other libraries become Python's.

    Raises: `WorkflowError` for what neither JSON nor an upload can carry.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, Mapping | list | tuple):
        return _settle_inside(value, place, depth)
    if depth == 0 and (file := as_file(value)):
        return file
    raise WorkflowError(f"cannot hold a {type(value).__name__}.", place=place, hint=_hint(value))


def _settle_inside(value: Mapping[Any, Any] | list[Any] | tuple[Any, ...], place: str, depth: int) -> Any:
    if depth >= MAX_DEPTH:
        raise WorkflowError(f"values are nested deeper than {MAX_DEPTH} levels.", place=place)
    if isinstance(value, Mapping):
        return {str(key): settle(item, place, depth + 1) for key, item in value.items()}
    return [settle(item, place, depth + 1) for item in value]


def _hint(value: object) -> str:
    if hasattr(value, "class_type"):
        return "To connect a node, say which of its outputs: node[0] is the first."
    return (
        "An input takes JSON values, a link such as node[0], or a file: a path, bytes, a picture or a File."
    )


def as_file(value: object) -> File | None:
    """`value` as a file to upload, None where it is no such thing. Text is never a file by itself."""
    if isinstance(value, File):
        return value
    if isinstance(value, os.PathLike | bytes | bytearray | memoryview):
        return File(value)
    # A picture of Pillow, known by what it can do: Pillow itself need not be there.
    if callable(getattr(value, "save", None)) and hasattr(value, "mode") and hasattr(value, "size"):
        return File(value)
    return None


def fresh(value: Any) -> Any:
    """A copy that the caller may change, of a value that `settle` made."""
    if isinstance(value, list):
        return [fresh(item) for item in value]
    if isinstance(value, dict):
        return {key: fresh(item) for key, item in value.items()}
    return value


def only_json_of_python(value: Any) -> bool:
    """Whether `value` holds what only Python's own JSON writes: NaN and the infinities."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, list):
        return any(map(only_json_of_python, value))
    if isinstance(value, dict):
        return any(map(only_json_of_python, value.values()))
    return False


def parse_value(text: str, like: object = None) -> Any:
    """What someone who typed `text` meant: JSON where it is JSON, else the text itself.

    Where the input holds text now (`like`), it stays text: ``42`` is a fine prompt.
    """
    if isinstance(like, str):
        return text
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError):
        return text
