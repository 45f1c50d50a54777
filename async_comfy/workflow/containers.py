"""Media files that ComfyUI made carry their workflow: where each format keeps it.

Nothing here decodes pictures or sound. Every reader walks the file's own table of parts, skips what it does
not want, and reads at most `MAX_TEXT` bytes of what it does.

Where the nodes write it: PNG text chunks, EXIF of WebP and JPEG, tags of MP4 and FLAC (ComfyUI
``nodes.py``, ``comfy_api/latest/_ui.py``, ``comfy_api/latest/_input_impl/video_types.py``).
"""

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

from async_comfy.errors import WorkflowError

HEAD = 16  # bytes that tell the formats apart
MAX_TEXT = 64 * 1024 * 1024  # one embedded text; the largest workflows are a hundredth of it
MAX_PARTS = 100_000  # parts of one file; a long video has a few hundred at the levels we walk
SUFFIXES = frozenset({".json", ".png", ".webp", ".jpg", ".jpeg", ".mp4", ".flac"})

Texts = Iterator[tuple[str, bytes]]

_WANTED = frozenset({"prompt", "workflow", "parameters"})  # the last is another program's


class _Broken(Exception):
    """The file ends early or contradicts itself."""


def sniff(head: bytes) -> str:
    """The media format that begins with these bytes, "" for none that carries workflows."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WebP"
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"fLaC"):
        return "FLAC"
    return "MP4" if head[4:8] == b"ftyp" else ""


def texts(kind: str, stream: BinaryIO, place: str) -> Mapping[str, str]:
    """The texts embedded in the file, by lower-case name ("prompt", "workflow", ...).

    Raises: `WorkflowError` for a file that is cut off or damaged before its texts end.
    """
    found: dict[str, str] = {}
    try:
        for name, text in _READERS[kind](stream):
            if name.lower() in _WANTED:
                found.setdefault(name.lower(), _decoded(text))
    except _Broken as broken:
        if "prompt" not in found and "workflow" not in found:
            raise WorkflowError(f"this {kind} is damaged: {broken}.", place=place) from None
    return found


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")  # what PNG says its plain text is in


def _take(stream: BinaryIO, size: int, what: str) -> bytes:
    if size > MAX_TEXT:
        raise _Broken(f"its {what} claims {size >> 20} MiB")
    data = stream.read(size)
    if len(data) < size:
        raise _Broken(f"it ends inside its {what}")
    return data


def _inflated(data: bytes, what: str) -> bytes:
    """Decompressed, or refused at `MAX_TEXT`: a few kilobytes can unpack to gigabytes."""
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(data, MAX_TEXT)
    except zlib.error:
        raise _Broken(f"its {what} does not unpack") from None
    if inflater.unconsumed_tail:
        raise _Broken(f"its {what} unpacks to more than {MAX_TEXT >> 20} MiB")
    return text


def _png(stream: BinaryIO) -> Texts:
    stream.seek(8)
    seen: set[str] = set()
    for _ in range(MAX_PARTS):
        size, kind = struct.unpack(">I4s", _take(stream, 8, "chunks"))
        if kind == b"IEND":
            return
        if kind in (b"tEXt", b"zTXt", b"iTXt"):
            yield from _png_text(kind, _take(stream, size, "text"), seen)
            stream.seek(4, 1)  # the checksum: a text that parses needs none
        else:
            stream.seek(size + 4, 1)


def _png_text(kind: bytes, data: bytes, seen: set[str]) -> Texts:
    label, _, text = data.partition(b"\0")
    name = _decoded(label).lower()
    if name not in _WANTED or name in seen:  # before unpacking: a thousand packed texts cost as much as one
        return
    seen.add(name)
    if kind == b"zTXt":
        text = _inflated(text[1:], "text")
    if kind == b"iTXt":
        packed, text = text[:1] == b"\1", text[2:].split(b"\0", 2)[-1]
        text = _inflated(text, "text") if packed else text
    yield name, text


def _webp(stream: BinaryIO) -> Texts:
    stream.seek(12)
    for _ in range(MAX_PARTS):
        head = stream.read(8)
        if not head:
            return
        if len(head) < 8:
            raise _Broken("it ends inside its chunks")
        kind, size = struct.unpack("<4sI", head)
        if kind == b"EXIF":
            yield from _exif(_take(stream, size, "EXIF"))
            stream.seek(size & 1, 1)
        else:
            stream.seek(size + (size & 1), 1)


def _jpeg(stream: BinaryIO) -> Texts:
    stream.seek(2)
    for _ in range(MAX_PARTS):
        mark, kind, size = struct.unpack(">BBH", _take(stream, 4, "segments"))
        if mark != 0xFF or size < 2:
            raise _Broken("its segments do not line up")
        if kind == 0xDA:  # start of scan: the picture follows, and no text after it
            return
        data = _take(stream, size - 2, "segments")
        if kind == 0xE1 and data.startswith(b"Exif\0\0"):
            yield from _exif(data)
        elif kind == 0xFE:
            yield from _labelled(data)


_SUBDIRECTORY = 0x8769  # the tag that points to the camera's own directory, where UserComment lies
_SIZES = {1: 1, 2: 1, 7: 1}  # EXIF types that hold text: bytes, ASCII, undefined


def _exif(data: bytes) -> Texts:
    """Every text in EXIF. The nodes write ``prompt:{...}`` and ``workflow:{...}`` under camera tags."""
    data = data.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise _Broken("its EXIF has no byte order")
    offsets = [_number(data, 4, order)]
    for _ in range(4):  # directories that we follow; more than two is not usual
        if not offsets:
            return
        yield from _directory(data, offsets.pop(), order, offsets)


def _directory(data: bytes, start: int, order: str, offsets: list[int]) -> Texts:
    if start + 2 > len(data):
        raise _Broken("its EXIF points outside itself")
    (count,) = struct.unpack_from(order + "H", data, start)
    budget = len(data)
    for at in range(start + 2, min(start + 2 + 12 * count, len(data) - 11), 12):
        tag, kind, size = struct.unpack_from(order + "HHI", data, at)
        if tag == _SUBDIRECTORY:
            offsets.append(_number(data, at + 8, order))
        elif kind in _SIZES and size > 4:
            where = _number(data, at + 8, order)
            budget -= size
            if budget < 0:
                raise _Broken("its EXIF texts overlap")
            yield from _labelled(data[where : where + size])


def _number(data: bytes, at: int, order: str) -> int:
    if at + 4 > len(data):
        raise _Broken("its EXIF is cut off")
    return int(struct.unpack_from(order + "I", data, at)[0])


_COMMENT_CODES = {b"ASCII\0\0\0": "utf-8", b"UNICODE\0": "utf-16"}


def _labelled(data: bytes) -> Texts:
    """A text that says in itself what it is: ``prompt:{...}``; bare JSON counts as the prompt or workflow."""
    code = _COMMENT_CODES.get(data[:8])
    text = _comment(data[8:], code) if code else data
    text = text.strip(b"\0 \r\n\t")
    name, colon, rest = text.partition(b":")
    if colon and name.isalpha() and rest.lstrip()[:1] in (b"{", b"["):
        yield _decoded(name), rest.strip()
    elif text[:1] == b"{":
        yield "workflow" if b'"nodes"' in text and b'"links"' in text else "prompt", text


def _comment(data: bytes, code: str) -> bytes:
    if code == "utf-8":
        return data
    # Writers disagree on the byte order: JSON begins with a letter of ASCII, which tells.
    return data.decode("utf-16-be" if data[:1] == b"\0" else "utf-16-le", "replace").encode()


def _flac(stream: BinaryIO) -> Texts:
    stream.seek(4)
    for _ in range(MAX_PARTS):
        head = _take(stream, 4, "blocks")
        size = int.from_bytes(head[1:], "big")
        if head[0] & 0x7F == 4:
            yield from _vorbis(_take(stream, size, "comments"))
        else:
            stream.seek(size, 1)
        if head[0] & 0x80:  # the last block before the sound
            return


def _vorbis(data: bytes) -> Texts:
    vendor = _little(data, 0)
    at, count = vendor + 8, _little(data, vendor + 4)
    for _ in range(min(count, MAX_PARTS)):
        size = _little(data, at)
        name, _, text = data[at + 4 : at + 4 + size].partition(b"=")
        yield _decoded(name), text
        at += 4 + size


def _little(data: bytes, at: int) -> int:
    if at + 4 > len(data):
        raise _Broken("it ends inside its comments")
    return int.from_bytes(data[at : at + 4], "little")


_BOXES = frozenset({b"moov", b"udta", b"meta", b"ilst"})


def _mp4(stream: BinaryIO) -> Texts:
    end = stream.seek(0, 2)
    names: list[bytes] = []
    todo, parts = [(b"", 0, end)], 0
    while todo:
        kind, at, end = todo.pop()
        while at + 8 <= end and (parts := parts + 1) <= MAX_PARTS:
            inner, body, after = _box(stream, at, end)
            if inner in _BOXES:
                todo.append((inner, body, after))
            elif inner == b"keys":
                names = _keys(_at(stream, body, after))
            elif kind == b"ilst":
                yield from _item(inner, _at(stream, body, after), names)
            at = after


def _box(stream: BinaryIO, at: int, end: int) -> tuple[bytes, int, int]:
    """The kind, the begin of the content, and the end of the box at `at`."""
    size, kind = struct.unpack(">I4s", _at(stream, at, at + 8))
    body = at + 8
    if size == 1:  # a 64-bit size follows
        size, body = int.from_bytes(_at(stream, body, body + 8), "big"), body + 8
    after = end if size == 0 else at + size
    if after < body or after > end:
        raise _Broken(f"its box at byte {at} does not fit")
    if kind == b"meta" and after - body >= 8 and _at(stream, body + 4, body + 8) != b"hdlr":
        body += 4  # ISO files have a version here, QuickTime files have not
    return kind, body, after


def _at(stream: BinaryIO, start: int, end: int) -> bytes:
    stream.seek(start)
    return _take(stream, end - start, "boxes")


def _keys(data: bytes) -> list[bytes]:
    names, at = [], 8
    while at + 8 <= len(data):
        size = max(int.from_bytes(data[at : at + 4], "big"), 8)
        names.append(data[at + 8 : at + size])
        at += size
    return names


def _item(kind: bytes, data: bytes, names: list[bytes]) -> Texts:
    """One tag: its kind is a number into `keys`, or a name of its own (``©cmt``)."""
    if data[4:8] != b"data":
        return
    text, number = data[16:], int.from_bytes(kind, "big")
    name = names[number - 1] if 0 < number <= len(names) else b""
    yield (_decoded(name), text) if name in (b"prompt", b"workflow") else next(_labelled(text), ("", text))


_READERS: Mapping[str, Callable[[BinaryIO], Texts]] = {
    "PNG": _png,
    "WebP": _webp,
    "JPEG": _jpeg,
    "MP4": _mp4,
    "FLAC": _flac,
}
