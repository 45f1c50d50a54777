"""What somebody handed over: read it, tell what it is, and take the workflow out of it."""

import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec

from async_comfy.errors import WorkflowError
from async_comfy.workflow import containers
from async_comfy.workflow.spelling import nearest
from async_comfy.workflow.values import MAX_DEPTH, settle

MAX_BYTES = 100 * 1024 * 1024  # what a server takes in one POST, `max_upload_size`
MAX_VALUES = 2_000_000  # so many JSON values fill about 200 MB of memory; a large workflow has 50,000

Source = str | os.PathLike[str] | bytes | Mapping[str, Any]

_SAVE_API = "In the ComfyUI editor choose Workflow > Export (API) and give that file."


class Document(NamedTuple):
    """A workflow as it was found: API prompt, editor's document, or both. `place` names the source."""

    prompt: dict[str, Any] | None
    ui: dict[str, Any] | None
    place: str


def read(source: Source) -> Document:
    """The workflow in a file, in bytes or in decoded JSON.

    Raises: `WorkflowError` that says what it is instead, and where it broke.
    """
    if isinstance(source, Mapping):
        return recognise(settle(source, "workflow"), "workflow")
    if isinstance(source, bytes | bytearray | memoryview):
        return _from_stream(io.BytesIO(source), "workflow")
    if isinstance(source, str) and source.lstrip("\ufeff \t\r\n").startswith(("{", "[")):
        return recognise(parse(source.encode("utf-8", "surrogatepass"), "workflow"), "workflow")
    if isinstance(source, str | os.PathLike):
        return _from_path(Path(source).expanduser())
    raise WorkflowError(
        f"a {type(source).__name__} is no workflow.", hint="Give a path, bytes or a decoded JSON object."
    )


def _from_path(path: Path) -> Document:
    try:
        with path.open("rb") as file:
            return _from_stream(file if file.seekable() else io.BytesIO(file.read(MAX_BYTES + 1)), str(path))
    except FileNotFoundError:
        raise WorkflowError("no such file.", place=str(path), hint=_neighbours(path)) from None
    except IsADirectoryError:
        raise WorkflowError("this is a folder.", place=str(path), hint=_neighbours(path / "*")) from None
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise WorkflowError(f"cannot be read: {reason}.", place=str(path)) from None


def _neighbours(path: Path) -> str:
    try:
        names = sorted(p.name for p in path.parent.iterdir() if p.suffix.lower() in containers.SUFFIXES)
    except OSError:
        return f"There is no folder {path.parent} either."
    near = nearest(path.name, names, 3, 0.4) or names[:3]
    return f"In that folder there is: {', '.join(near)}." if near else ""


def _from_stream(stream: BinaryIO, place: str) -> Document:
    head = stream.read(containers.HEAD)
    stream.seek(0)
    kind = containers.sniff(head)
    if kind:
        return _from_media(kind, containers.texts(kind, stream, place), place)
    data = stream.read(MAX_BYTES + 1)
    return recognise(parse(data, place), place)


def _from_media(kind: str, texts: Mapping[str, str], place: str) -> Document:
    found: list[Document] = []
    problems: list[WorkflowError] = []
    for name in ("prompt", "workflow"):
        try:
            found += _embedded(texts.get(name), f"{place}, its {name}")
        except WorkflowError as problem:
            problems.append(problem)  # either of them alone is enough
    if problems and not found:
        raise problems[0]
    if not found:
        raise WorkflowError(f"this {kind} holds no workflow.", place=place, hint=_why_none(texts))
    prompt = next((one.prompt for one in found if one.prompt is not None), None)
    return Document(prompt, next((one.ui for one in reversed(found) if one.ui is not None), None), place)


def _embedded(text: str | None, place: str) -> list[Document]:
    if text is None or not _looks_json(text):  # other programs write other things under these names
        return []
    value = parse(text.encode("utf-8", "surrogatepass"), place)
    return [recognise(value, place)] if value else []  # an editor may embed {}


def _why_none(texts: Mapping[str, str]) -> str:
    if "parameters" in texts:
        return "It was made by another program (its text is of the AUTOMATIC1111 kind)."
    return "Programs that edit or share pictures often strip it; take the file that ComfyUI saved."


def parse(data: bytes, place: str) -> Any:
    """Decoded JSON, in bounded time and memory.

    A byte order mark, NaN, lone surrogates and UTF-16 are accepted as the server accepts them; of
    duplicate keys the last one counts, as there.

    Raises: `WorkflowError` with line and column.
    """
    _bounded(data, place)
    if data.lstrip()[:1] == b"<":
        raise WorkflowError(
            "this is a web page, not a workflow.",
            place=place,
            hint="Perhaps an error or login page was saved instead of the file.",
        )
    try:
        return _shallow(_decoded(data), place)
    except RecursionError:
        raise WorkflowError(f"nested deeper than {MAX_DEPTH} levels.", place=place) from None
    except json.JSONDecodeError as error:
        whole = f"{error.msg} at line {error.lineno}, column {error.colno}"
        truncated = error.pos >= len(error.doc.rstrip())
        text = "the JSON is cut off" if truncated else "this is not JSON"
        raise WorkflowError(f"{text} ({whole}).", place=place, hint=_not_json(data)) from None
    except (UnicodeDecodeError, ValueError):
        raise WorkflowError(
            "this is neither JSON nor a picture, video or sound of ComfyUI.", place=place
        ) from None


def _bounded(data: bytes, place: str) -> None:
    if len(data) > MAX_BYTES:
        raise WorkflowError(f"larger than the {MAX_BYTES >> 20} MiB that a server takes.", place=place)
    if data.count(b",") + data.count(b"[") + data.count(b"{") > MAX_VALUES:
        raise WorkflowError(f"holds more than {MAX_VALUES:,} values, so it is no workflow.", place=place)


def _decoded(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return json.loads(data.removeprefix(b"\xef\xbb\xbf"))


def _shallow(value: Any, place: str) -> Any:
    """`value`, unless it is nested so deep that walking it would end the stack."""
    layer: Iterable[Any] = [value]
    for _ in range(MAX_DEPTH):
        layer = [
            item
            for box in layer
            if isinstance(box, dict | list)
            for item in (box.values() if isinstance(box, dict) else box)
            if isinstance(item, dict | list)
        ]
        if not layer:
            return value
    raise WorkflowError(f"nested deeper than {MAX_DEPTH} levels.", place=place)


def _not_json(data: bytes) -> str:
    if not data.strip():
        return "The file is empty."
    return "Give a workflow saved by ComfyUI: JSON, or a picture, video or sound that it made."


def recognise(found: Any, place: str) -> Document:
    """Tells what decoded JSON is and takes the workflow out of it.

    Raises: `WorkflowError` that says what it is instead.
    """
    if isinstance(found, list):
        return _from_queue_item(found, place)
    if not isinstance(found, dict):
        raise WorkflowError(f"{named(found)}, not a workflow.", place=place, hint=_SAVE_API)
    if isinstance(found.get("nodes"), list):
        return Document(None, found, place)
    if _is_prompt(found):
        return Document(found, None, place)
    return _from_envelope(found, place) or _refuse(found, place)


def _is_prompt(found: Mapping[str, Any]) -> bool:
    return any(isinstance(node, dict) and "class_type" in node for node in found.values())


def named(value: object) -> str:
    """What kind of JSON value it is, in words."""
    kinds = {str: "a JSON text", bool: "a JSON boolean", list: "a JSON list", dict: "a JSON object"}
    return "JSON null" if value is None else kinds.get(type(value), "a JSON number")


def _from_queue_item(found: Sequence[Any], place: str) -> Document:
    """What the server keeps of a prompt: [number, prompt id, prompt, extra data, outputs, ...]."""
    if len(found) >= 3 and isinstance(found[2], dict) and isinstance(found[1], str):
        extra = found[3] if len(found) > 3 else None
        return _with_ui(recognise(found[2], place), extra)
    raise WorkflowError("a JSON list, not a workflow.", place=place, hint=_SAVE_API)


def _with_ui(document: Document, extra: Any) -> Document:
    info = extra.get("extra_pnginfo") if isinstance(extra, dict) else None
    ui = info.get("workflow") if isinstance(info, dict) else None
    known = isinstance(ui, dict) and isinstance(ui.get("nodes"), list)
    return document._replace(ui=ui) if known else document


def _from_envelope(found: Mapping[str, Any], place: str) -> Document | None:
    """A history entry, a job, a POST body, a video's comment: the workflow lies under a known key."""
    inner = {key: _opened(found.get(key), place) for key in ("prompt", "workflow")}
    extra = found.get("extra_data")
    if isinstance(inner["prompt"], dict | list):
        document = recognise(inner["prompt"], place)
        ui = inner["workflow"]
        return document._replace(ui=ui) if _is_ui(ui) else _with_ui(document, extra)
    if isinstance(inner["workflow"], dict):
        return recognise(inner["workflow"], place)
    entries = [entry for entry in found.values() if isinstance(entry, dict) and "prompt" in entry]
    if len(entries) > 1:
        raise WorkflowError(
            f"a history of {len(entries)} prompts.",
            place=place,
            hint="Give one entry of it, by its prompt id.",
        )
    return recognise(entries[0], place) if entries and len(found) == 1 else None


def _opened(value: Any, place: str) -> Any:
    return parse(value.encode("utf-8", "surrogatepass"), place) if _looks_json(value) else value


def _looks_json(value: Any) -> bool:
    return isinstance(value, str) and value.lstrip()[:1] in ("{", "[")


def _is_ui(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("nodes"), list)


def _refuse(found: Mapping[str, Any], place: str) -> Document:
    first = next(iter(found.values()), None)
    if not found:
        raise WorkflowError("an empty workflow: it has no nodes.", place=place)
    if isinstance(first, dict) and "input" in first and "output" in first:
        raise WorkflowError(
            "this is an object_info (what a server's nodes are), not a workflow.",
            place=place,
            hint="Give the workflow, and this file as object_info.",
        )
    if "error" in found:
        raise WorkflowError(
            "this is a server's error answer, not a workflow.", place=place, hint="Give the workflow itself."
        )
    if found.keys() & {"queue_running", "queue_pending", "jobs"}:
        raise WorkflowError(
            "this is a server's queue, not a workflow.", place=place, hint="Give one prompt out of it."
        )
    keys = ", ".join(repr(key[:40]) for key in list(found)[:5])
    raise WorkflowError(f"a JSON object, but no workflow (its keys: {keys}).", place=place, hint=_SAVE_API)


def write(target: Path, data: bytes) -> None:
    """Puts a file there, whole or not at all. Raises: `WorkflowError`."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as file:
            file.write(data)
        part.replace(target)
    except OSError as error:
        with suppress(OSError):  # a disk that takes no files gives none up, either
            part.unlink()
        raise WorkflowError(f"cannot be written: {error.strerror}.", place=str(target)) from None
