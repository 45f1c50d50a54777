"""Carries prompts to one server: POSTs over connections of its own.

There is one POST for every prompt, and aiohttp's takes longer than all that its events take together (the
figures are in docs/benchmarks.md). This one does what those need and nothing else: plain HTTP/1.1, no proxy,
no redirect, no cookie jar. Where that is not enough it declines, and aiohttp is asked.
"""

import asyncio
from typing import Self, cast

from multidict import CIMultiDict

from async_comfy._live.access import Access, way_to
from async_comfy._live.landing import landing
from async_comfy.protocol.answer import Answered, BrokenAnswer

IDLE_S = 15.0  # an unused connection is closed then; aiohttp does so too, and ComfyUI much later
_JOINED = 1 << 16  # head and body go out in one piece up to this size


class Declined(Exception):  # no error: somebody else is asked
    """Nothing was sent: no connection could be made here."""


class Garbled(ConnectionError):
    """Something came, and it was no answer."""


class Courier:
    """POSTs to one server, at most `most` at once."""

    def __init__(self, access: Access, *, most: int, connect_s: float, answer_s: float) -> None:
        self._access = access
        self._connect_s, self._answer_s = connect_s, answer_s
        self._turns = asyncio.Semaphore(most)
        self._lines: set[_Line] = set()
        self._idle: list[_Line] = []
        self._heads: dict[str, bytes] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<Courier to {self._access}, {len(self._lines)} connections>"

    @classmethod
    def to(cls, access: Access, *, most: int, connect_s: float, answer_s: float) -> Self | None:
        """One that can reach this server; None where aiohttp is needed."""
        if access.url.scheme != "http" or access.proxy is not None:
            return None
        return cls(access, most=most, connect_s=connect_s, answer_s=answer_s)

    async def post(self, path: str, body: bytes) -> Answered:
        """Sends JSON; the whole answer, whatever its status.

        Raises: Declined; OSError where the connection broke, or nothing came for too long, after it was sent
        """
        head = self._heads.get(path) or self._head(path)
        head = b"%s%d\r\n\r\n" % (head, len(body))
        async with self._turns:
            line = await self._line()
            try:
                answered = await line.ask(head, body)
            except BaseException:
                line.transport.abort()
                raise
            if not line.transport.is_closing():
                self._idle.append(line)  # only now: until here a cancelled caller may cut it
            return answered

    def close(self) -> None:
        """Cuts every connection: the answers that are due never come, and nothing more is sent."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for line in list(self._lines):
            line.transport.abort()

    def made(self, line: "_Line") -> None:
        """The line is connected."""
        if self._closed:
            line.transport.abort()
            return
        self._lines.add(line)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(IDLE_S, self._look)

    def lost(self, line: "_Line") -> None:
        """The line is gone."""
        self._lines.discard(line)
        if line in self._idle:
            self._idle.remove(line)

    async def _line(self) -> "_Line":
        if self._closed:
            raise Declined
        while self._idle:
            line = self._idle.pop()
            if not line.transport.is_closing():
                return line
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_s):
                way = await way_to(self._access.url)
                _, line = await loop.create_connection(lambda: _Line(self), **way)
        except OSError as error:  # a time-out is one, too
            raise Declined from error
        if line.transport.is_closing():  # the server ended it at once, or `close` did
            raise Declined
        return line

    def _look(self) -> None:
        """Closes what is not used, and cuts what never answers. One timer, not one for each POST."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for line in list(self._lines):
            if line.waits:
                line.note_progress(now)
                if now - line.since > self._answer_s:
                    line.expire()
            elif now - line.since > IDLE_S:
                line.transport.abort()
        self._sweep = loop.call_later(IDLE_S, self._look) if self._lines else None

    def _head(self, path: str) -> bytes:
        """The request's head up to its length. Kept: it is the same for every prompt."""
        url = self._access.http(path)
        headers = CIMultiDict[str](
            {"Host": url.host_port_subcomponent or "", "Accept": "*/*", "Accept-Encoding": "identity"}
        )
        headers.update(self._access.socket_headers())
        headers.update({"Content-Type": "application/json"})
        lines = [f"POST {url.raw_path_qs} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        head = self._heads[path] = "\r\n".join([*lines, "Content-Length: "]).encode()
        return head


class _Line(asyncio.BufferedProtocol):
    """One connection; one request at a time."""

    transport: asyncio.Transport

    def __init__(self, courier: Courier) -> None:
        self._courier = courier
        self._loop = asyncio.get_running_loop()
        self._view = landing()
        self._answer = Answered()
        self._waiter: asyncio.Future[Answered] | None = None
        self._unsent = 0  # bytes, when that was last looked at
        self.since = 0.0  # when it was last of use, by the loop's clock

    @property
    def waits(self) -> bool:
        """Whether an answer is due."""
        return self._waiter is not None

    def ask(self, head: bytes, body: bytes) -> "asyncio.Future[Answered]":
        """Sends a request; the answer to come."""
        loop = self._loop
        self._answer, self._waiter, self.since = Answered(), loop.create_future(), loop.time()
        if len(body) < _JOINED:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self.transport.write(body)
        self._unsent = self.transport.get_write_buffer_size()
        return self._waiter

    def note_progress(self, now: float) -> None:
        """A large prompt takes its time on a slow way: while it goes out, the answer is not late."""
        unsent = self.transport.get_write_buffer_size()
        if unsent < self._unsent:
            self._unsent, self.since = unsent, now

    def expire(self) -> None:
        """It never answered."""
        self._fail(TimeoutError())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio calls it."""
        self.transport = cast("asyncio.Transport", transport)  # TCP; uvloop's has another class
        self._courier.made(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to read into; asyncio calls it."""
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes were read; asyncio calls it."""
        if self._waiter is None:
            self.transport.abort()  # nobody asked: this connection is out of step
            return
        self.since = self._loop.time()
        try:
            whole = self._answer.take(self._view[:nbytes].tobytes())
        except BrokenAnswer as error:
            self._fail(Garbled(str(error)))
            return
        if whole:
            self._done()

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio calls it, once."""
        self._courier.lost(self)
        error = exc if isinstance(exc, OSError) else ConnectionResetError("closed before the answer")
        try:
            if exc is None and self._waiter is not None and self._answer.end():
                self._done()
        except BrokenAnswer as broken:
            error = Garbled(str(broken))
        self._fail(error)

    def _done(self) -> None:
        waiter, self._waiter = self._waiter, None
        if not self._answer.keep or self.transport.get_write_buffer_size():
            self.transport.abort()
        if waiter is not None and not waiter.done():
            waiter.set_result(self._answer)

    def _fail(self, error: OSError) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
