"""Frames of the event socket, turned into events.

Text frames are ``{"type": ..., "data": {...}}``; binary frames begin with a big-endian u32 kind
(ComfyUI ``server.py``, ``encode_bytes``; ``protocol.py``, ``BinaryEventTypes``).
Strict parsers refuse what Python's ``json.dumps`` writes (NaN, lone surrogates), so whatever msgspec
refuses gets a second chance with the standard library before it counts as broken.
"""

import json
import struct
from typing import Any

import msgspec

from async_comfy import events
from async_comfy.events import Event, Unknown

HELLO = b'{"type":"feature_flags","data":{"supports_preview_metadata":true}}'
"""Must be the first frame that a client sends; as a second one the server ignores it."""

PREVIEW, TEXT, PREVIEW_WITH_METADATA = 1, 3, 4
_MEDIA = {1: "image/jpeg", 2: "image/png"}
_U32 = struct.Struct(">I")
_UUID_CHARS = 36


class BrokenFrame(ValueError):
    """This frame means nothing: not JSON, no type, or cut short."""


class _ExecInfo(msgspec.Struct):
    queue_remaining: int | None = None


class _StatusInfo(msgspec.Struct):
    exec_info: _ExecInfo = msgspec.field(default_factory=_ExecInfo)


class _StatusData(msgspec.Struct):
    status: _StatusInfo = msgspec.field(default_factory=_StatusInfo)
    sid: str | None = None
    credential_key: str | None = None

    def __repr__(self) -> str:
        return f"_StatusData({self.status!r}, sid={self.sid!r})"  # never the key


class _Status(msgspec.Struct, tag_field="type", tag="status"):
    data: _StatusData


class _FeatureFlags(msgspec.Struct, tag_field="type", tag="feature_flags"):
    data: dict[str, Any]


class _ExecutionStart(msgspec.Struct, tag_field="type", tag="execution_start"):
    data: events.ExecutionStart


class _ExecutionCached(msgspec.Struct, tag_field="type", tag="execution_cached"):
    data: events.ExecutionCached


class _Executing(msgspec.Struct, tag_field="type", tag="executing"):
    data: events.Executing


class _Progress(msgspec.Struct, tag_field="type", tag="progress"):
    data: events.Progress


class _ProgressState(msgspec.Struct, tag_field="type", tag="progress_state"):
    data: events.ProgressState


class _Executed(msgspec.Struct, tag_field="type", tag="executed"):
    data: events.Executed


class _ExecutionSuccess(msgspec.Struct, tag_field="type", tag="execution_success"):
    data: events.ExecutionSuccess


class _ExecutionInterrupted(msgspec.Struct, tag_field="type", tag="execution_interrupted"):
    data: events.ExecutionInterrupted


class _ExecutionError(msgspec.Struct, tag_field="type", tag="execution_error"):
    data: events.ExecutionError


_Known = (
    _Status
    | _FeatureFlags
    | _ExecutionStart
    | _ExecutionCached
    | _Executing
    | _Progress
    | _ProgressState
    | _Executed
    | _ExecutionSuccess
    | _ExecutionInterrupted
    | _ExecutionError
)
_KNOWN: msgspec.json.Decoder[_Known] = msgspec.json.Decoder(_Known)


class _Metadata(msgspec.Struct):
    """What comes before the picture in a binary frame of kind 4."""

    prompt_id: str | None = None
    node_id: str | None = None
    display_node_id: str | None = None
    parent_node_id: str | None = None
    real_node_id: str | None = None
    image_type: str = "image/jpeg"


_METADATA = msgspec.json.Decoder(_Metadata)


def decode_text(raw: bytes) -> Event:
    """The event in a text frame; `Unknown` where the type or its shape is not the core server's.

    Raises: BrokenFrame
    """
    try:
        return _event(_KNOWN.decode(raw))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return _decode_odd(raw)


def decode_binary(raw: bytes) -> Event:
    """The event in a binary frame; `Unknown` for kinds that custom nodes invented.

    Raises: BrokenFrame
    """
    kind = _u32(raw, 0)
    if kind == PREVIEW:
        media = _MEDIA.get(_u32(raw, 4), "application/octet-stream")
        return events.Preview(media_type=media, data=raw[8:])
    if kind == TEXT:
        node, text = _split(raw)
        return events.ProgressText(node=node.decode(errors="replace"), text=text.decode(errors="replace"))
    if kind == PREVIEW_WITH_METADATA:
        return _preview(*_split(raw))
    return Unknown(name=f"binary:{kind}", data=raw[4:])


def credential_key(raw: bytes) -> str | None:
    """The secret that some servers send in their first status, for connecting again."""
    try:
        known = _KNOWN.decode(raw)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return known.data.credential_key if isinstance(known, _Status) else None


# The server writes with json.dumps' own separators and key order (send_sync), so the two frequent
# gauges can be told by their first bytes, and their prompt by a search, without decoding anything.
SNAPSHOT_HEAD = b'{"type": "progress_state", "data": {"prompt_id": "'
STEP_HEAD = b'{"type": "progress", "data": {"value": '
_PROMPT_MARK = b'"prompt_id": "'
_SNAPSHOT_ID = slice(len(SNAPSHOT_HEAD), len(SNAPSHOT_HEAD) + _UUID_CHARS)
_AFTER_ID = _SNAPSHOT_ID.stop


def snapshot_owner(raw: bytes) -> str | None:
    """The prompt id of a frame with `SNAPSHOT_HEAD`, a `progress_state`.

    None is always safe: the frame is then decoded like every other.
    """
    owner = raw[_SNAPSHOT_ID]
    if raw[_AFTER_ID : _AFTER_ID + 1] != b'"' or b"\\" in owner:
        return None
    return owner.decode("ascii", "replace")


def step_owner(raw: bytes) -> str | None:
    """The prompt id of a frame with `STEP_HEAD`, a `progress`; None as above."""
    mark = raw.find(_PROMPT_MARK, len(STEP_HEAD))
    at = mark + len(_PROMPT_MARK)
    end = at + _UUID_CHARS
    owner = raw[at:end]
    nested = b"{" in raw[len(STEP_HEAD) : mark]
    if mark < 0 or nested or raw[end : end + 1] != b'"' or b"\\" in owner:
        return None
    return owner.decode("ascii", "replace")


def is_step(raw: bytes) -> bool:
    """Whether a gauge frame is a `progress` (one node's steps) and not a `progress_state`."""
    return raw.startswith(STEP_HEAD)


def decode_gauge(raw: bytes) -> Event | None:
    """The event in a gauge frame that was kept as it came; None where it is broken."""
    try:
        return decode_text(raw)
    except BrokenFrame:
        return None


def _event(known: _Known) -> Event:
    if isinstance(known, _Status):
        return events.Status(queue_remaining=known.data.status.exec_info.queue_remaining, sid=known.data.sid)
    if isinstance(known, _FeatureFlags):
        return events.FeatureFlags(flags=known.data)
    return known.data


def _decode_odd(raw: bytes) -> Event:
    try:
        message = json.loads(raw)
    except (ValueError, RecursionError):
        raise BrokenFrame(f"a text frame of {len(raw)} bytes that is not JSON") from None
    kind = message.get("type") if isinstance(message, dict) else None
    if not isinstance(kind, str):
        raise BrokenFrame("a text frame without a type")
    try:
        return _event(msgspec.convert(message, _Known))
    except (msgspec.ValidationError, RecursionError):
        data = message.get("data")
        if isinstance(data, dict):
            data.pop("credential_key", None)  # a secret, whatever shape the status has that brings it
        owner = data.get("prompt_id") if isinstance(data, dict) else None
        return Unknown(prompt_id=owner if isinstance(owner, str) else None, name=kind, data=data)


def _preview(head: bytes, image: bytes) -> Event:
    about = _metadata(head)
    return events.Preview(
        prompt_id=about.prompt_id,
        media_type=about.image_type,
        data=image,
        node=about.node_id,
        display_node=about.display_node_id,
        parent_node=about.parent_node_id,
        real_node=about.real_node_id,
    )


def _metadata(head: bytes) -> _Metadata:
    """Odd metadata does not cost the picture: it is then one without metadata, as of kind 1."""
    try:
        return _METADATA.decode(head)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        pass
    try:
        about = json.loads(head)
    except (ValueError, RecursionError):
        return _Metadata()
    try:
        return msgspec.convert(about, _Metadata)
    except msgspec.ValidationError:
        owner = about.get("prompt_id") if isinstance(about, dict) else None
        return _Metadata(prompt_id=owner if isinstance(owner, str) else None)


def _split(raw: bytes) -> tuple[bytes, bytes]:
    """Kinds 3 and 4: u32 length, so many bytes of head, then the body."""
    end = 8 + _u32(raw, 4)
    if end > len(raw):
        raise BrokenFrame("a binary frame that ends within its head")
    return raw[8:end], raw[end:]


def _u32(raw: bytes, at: int) -> int:
    if len(raw) < at + 4:
        raise BrokenFrame(f"a binary frame of {len(raw)} bytes")
    return int(_U32.unpack_from(raw, at)[0])
