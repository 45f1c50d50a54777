"""One HTTP/1.1 answer, cut out of a byte stream (RFC 9112).

Made for the answers to POST /prompt, of which there is one for every prompt: whole after one read, a few
headers, a known length. Everything else that the standard allows is taken too, only more slowly.
"""

import re
import zlib

HEAD_BYTES = 1 << 16  # what a head may have; aiohttp allows less
BODY_BYTES = 1 << 28  # the longest answers name all the choices of a wrong input; this stops a runaway
_STATUS = re.compile(rb"http/1\.([01]) ([1-9]\d\d)(?: [^\r\n]*)?(?:\r\n|\Z)")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([^\r\n]*?)[ \t]*(?=\r\n|\Z)")
_CODING = re.compile(rb"\r\ntransfer-encoding:[ \t]*([^\r\n]*?)[ \t]*(?=\r\n|\Z)")
_CONTENT = re.compile(rb"\r\ncontent-encoding:[ \t]*([^\r\n]*?)[ \t]*(?=\r\n|\Z)")
_CONNECTION = re.compile(rb"\r\nconnection:[ \t]*([^\r\n]*)")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r\n")
_WINDOWS = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}  # as zlib wants to be told
_BODILESS = frozenset({204, 304})


class BrokenAnswer(ValueError):
    """What came is no answer to our request."""


class Answered:
    """Takes bytes until the answer is whole; then it says what it was.

    `keep`: the connection can take another request.
    """

    __slots__ = ("_chunked", "_coding", "_got", "_head", "_need", "_parts", "body", "keep", "status")

    def __init__(self) -> None:
        self.status = 0
        self.body = b""
        self.keep = True
        self._head: bytes | None = None
        self._need = -1  # bytes of body; -1: as many as come
        self._chunked = False
        self._coding = b""  # how the body is compressed
        self._parts: list[bytes] = []  # of the body, or of a head that is not whole
        self._got = 0  # bytes in them

    def __repr__(self) -> str:
        return f"<Answered {self.status}, {len(self.body)} bytes>"

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Names and values, as they came."""
        lines = (self._head or b"").decode("latin-1").split("\r\n")[1:]
        return [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]

    def take(self, data: bytes) -> bool:
        """Takes what was read; whether the answer is whole. Raises: BrokenAnswer."""
        while self._head is None:
            if self._parts:
                data = self._parts.pop() + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                if len(data) > HEAD_BYTES:
                    raise BrokenAnswer("a head without end")
                self._parts = [data]
                return False
            self._take_head(data[:end])  # once more where that was a 1xx
            data = data[end + 4 :]
        return self._take_chunks(data) if self._chunked else self._take_plain(data)

    def end(self) -> bool:
        """Nothing more comes; whether the answer is whole: it is, where the close was to end it.

        Raises: BrokenAnswer.
        """
        if self._head is None or self._need >= 0 or self._chunked:
            return False
        self._end_body(b"".join(self._parts))
        return True

    def _end_body(self, body: bytes) -> None:
        self.body = _unpacked(body, self._coding) if self._coding and body else body

    def _take_plain(self, data: bytes) -> bool:
        self._parts.append(data)
        self._got += len(data)
        if self._got > BODY_BYTES:
            raise BrokenAnswer("a body without end")
        if self._need < 0 or self._got < self._need:
            return False
        self._end_body(b"".join(self._parts)[: self._need])
        self.keep = self.keep and self._got == self._need  # nobody asked for what follows
        return True

    def _take_head(self, head: bytes) -> None:
        low = head.lower()
        line = _STATUS.match(low)
        if line is None:
            raise BrokenAnswer("no HTTP/1.1 answer")
        self.status = int(line[2])
        if self.status < 200:
            if self.status == 101:
                raise BrokenAnswer("another protocol")
            return
        self._head = head
        closes = b"\nconnection:" in low and b"close" in b",".join(_CONNECTION.findall(low))
        self.keep = line[1] == b"1" and not closes
        if b"\ncontent-encoding:" in low:
            self._coding = b",".join(_CONTENT.findall(low)).replace(b"identity", b"")
            if self._coding and self._coding not in _WINDOWS:
                raise BrokenAnswer("a compression that was not asked for")
        lengths = set(_LENGTH.findall(low))
        if self.status in _BODILESS:
            self._need = 0
        elif b"\ntransfer-encoding:" in low:
            if _CODING.findall(low) != [b"chunked"]:
                raise BrokenAnswer("a transfer coding that was not asked for")
            self.keep = self.keep and not lengths  # RFC 9112, 6.3: perhaps somebody smuggles
            self._chunked = True
        elif lengths:
            length = lengths.pop()
            if lengths or not length.isdigit() or len(length) > 12:
                raise BrokenAnswer("lengths that cannot be")
            self._need = int(length)
        else:
            self.keep = False  # the body ends with the connection

    def _take_chunks(self, data: bytes) -> bool:
        """`_parts`: the chunks so far, and last what is not yet a whole one."""
        if self._parts:
            data = self._parts.pop() + data
        at = 0
        while (line := _CHUNK.match(data, at)) is not None:
            start, size = line.end(), int(line[1], 16)
            if size == 0:
                end = data.find(b"\r\n\r\n", start - 2)  # behind the trailers, mostly none
                if end < 0:
                    break
                self._end_body(b"".join(self._parts))
                self.keep = self.keep and len(data) == end + 4
                return True
            if len(data) < start + size + 2:
                break
            if data[start + size : start + size + 2] != b"\r\n":
                raise BrokenAnswer("a chunk that is longer than it said")
            self._parts.append(data[start : start + size])
            self._got += size
            at = start + size + 2
        if line is None and (b"\r\n" in data[at:] or len(data) - at > HEAD_BYTES):
            raise BrokenAnswer("a chunk without a size")
        if self._got + len(data) - at > BODY_BYTES:
            raise BrokenAnswer("a body without end")
        self._parts.append(data[at:])
        return False


def _unpacked(body: bytes, coding: bytes) -> bytes:
    """What some proxies compress although `identity` was asked for. Raises: BrokenAnswer."""
    bare = coding == b"deflate" and body[0] & 0x0F != zlib.DEFLATED  # some send it without its own head
    unpacker = zlib.decompressobj(-15 if bare else _WINDOWS[coding])
    try:
        whole = unpacker.decompress(body, BODY_BYTES)
    except zlib.error:
        raise BrokenAnswer("a body that is not compressed as it says") from None
    if not unpacker.eof or unpacker.unused_data:
        raise BrokenAnswer("a compressed body without end")
    return whole
