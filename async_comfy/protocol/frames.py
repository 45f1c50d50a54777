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
_STEP = msgspec.json.Decoder(_Progress)
_SNAPSHOT = msgspec.json.Decoder(_ProgressState)


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


NOTHING = b"\0"
"""A mark that no text frame holds."""


def gauge_owner(raw: bytes) -> str | None:
    """The prompt id of a `progress_state` or a `progress`, told without decoding.

    None where it is neither, or not told for certain: the frame is then decoded like every other.
    """
    if raw.startswith(SNAPSHOT_HEAD):
        at = len(SNAPSHOT_HEAD)
    elif raw.startswith(STEP_HEAD):
        mark = raw.find(_PROMPT_MARK, len(STEP_HEAD))
        if mark < 0 or _nested(raw, mark):
            return None
        at = mark + len(_PROMPT_MARK)
    else:
        return None
    end = at + _UUID_CHARS
    owner = raw[at:end]
    if raw[end : end + 1] != b'"' or b"\\" in owner:
        return None
    return owner.decode("ascii", "replace")


def gauge_marks(prompt_id: str) -> tuple[bytes, bytes]:
    """By which this prompt's gauges are told among all frames.

    How a `progress_state` begins, and what `is_step_of` looks for; `NOTHING` where the prompt id is not as
    plain as a UUID.
    """
    if not prompt_id.isascii() or not prompt_id.replace("-", "").isalnum():
        return NOTHING, NOTHING
    owner = prompt_id.encode() + b'"'
    return SNAPSHOT_HEAD + owner, _PROMPT_MARK + owner


def is_step_of(raw: bytes, mark: bytes) -> bool:
    """Whether a frame is a `progress` of the prompt with this mark. A wrong no is safe."""
    return raw.startswith(STEP_HEAD) and (at := raw.find(mark, len(STEP_HEAD))) > 0 and not _nested(raw, at)


def _nested(raw: bytes, end: int) -> bool:
    """Whether up to there more was opened than the message and its data."""
    return raw.count(b"{", 0, end) != 2


def is_step(raw: bytes) -> bool:
    """Whether a gauge frame is a `progress` (one node's steps) and not a `progress_state`."""
    return raw.startswith(STEP_HEAD)


def decode_gauge(raw: bytes) -> Event:
    """The event in a frame that `gauge_owner` or `is_step_of` knew. Raises: BrokenFrame."""
    try:
        return (_STEP if is_step(raw) else _SNAPSHOT).decode(raw).data
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return _decode_odd(raw)


def read_gauge(gauge: bytes | Event | None) -> Event | None:
    """What was kept of a gauge, decoded; None where it is broken."""
    if not isinstance(gauge, bytes):
        return gauge
    try:
        return decode_gauge(gauge)
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
