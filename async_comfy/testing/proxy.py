"""A TCP proxy that fails on purpose: between a client and any server, what a bad network does."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from async_comfy.testing.pulse import PATIENCE_S, Pulse
from async_comfy.testing.thread import in_thread

Direction = Literal["up", "down"]
"""Up is from the client to the server, down is from the server to the client."""

CHUNK_BYTES = 65_536  # read at once


@dataclass
class Cut:
    """Ends a connection when `at` bytes went in one direction, counted from where `after` went up."""

    direction: Direction
    at: int
    after: bytes = b""
    times: float = 1


class Link:
    """One connection through the proxy: two streams and what passed through them."""

    def __init__(
        self, proxy: "FaultProxy", client: asyncio.StreamWriter, server: asyncio.StreamWriter
    ) -> None:
        self.proxy = proxy
        self.writers: dict[Direction, asyncio.StreamWriter] = {"up": server, "down": client}
        self.passed: dict[Direction, int] = {"up": 0, "down": 0}
        self.ended = False
        self._heard = b""
        self._since: dict[bytes, dict[Direction, int]] = {}

    def reset(self) -> None:
        """Ends both sides at once."""
        self.ended = True
        for writer in self.writers.values():
            writer.transport.abort()

    async def pump(self, reader: asyncio.StreamReader, direction: Direction) -> None:
        """Carries one direction until it ends, and ends the other side as this one did."""
        writer = self.writers[direction]
        try:
            while data := await reader.read(CHUNK_BYTES):
                await self.proxy.flowing(direction)
                await asyncio.sleep(self.proxy.latency_s)
                if not await self._carry(data, direction, writer):
                    return self.reset()
            if not self.ended:
                writer.write_eof()
        except (ConnectionError, OSError, RuntimeError):
            self.reset()

    async def _carry(self, data: bytes, direction: Direction, writer: asyncio.StreamWriter) -> bool:
        """Passes the bytes on; whether the connection may live."""
        if self.ended:
            return True  # half-open: swallowed
        whole = len(data)
        kept = self.proxy.allowed(self, direction, data)
        size = self.proxy.segment_bytes or whole
        for start in range(0, kept, size):
            writer.write(data[start : min(start + size, kept)])
            await writer.drain()
        self.passed[direction] += kept
        self.proxy.passed[direction] += kept
        self.proxy.pulse.beat()
        return kept == whole

    def count(self, direction: Direction, data: bytes, after: bytes) -> int | None:
        """How many bytes went in `direction` before `data`, since `after` went up; None where it did not yet.

        Counting starts with the first byte of `after`, in both directions.
        """
        if not after:
            return self.passed[direction]
        if after not in self._since and direction == "up":
            self._note(after, data)
        if after not in self._since:
            return None
        return self.passed[direction] - self._since[after][direction]

    def _note(self, after: bytes, data: bytes) -> None:
        joined = self._heard[-len(after) :] + data
        found = joined.find(after)
        if found >= 0:
            start = self.passed["up"] - (len(joined) - len(data)) + found
            self._since[after] = {"up": start, "down": self.passed["down"]}
        self._heard = joined[-CHUNK_BYTES:]


class FaultProxy:
    """Stands between a client and `target` (a URL), at `url`. Carries faithfully until it is told otherwise.

    ``async with FaultProxy(server.url) as proxy``, or ``with FaultProxy(server.url).in_thread() as proxy``.
    The plain methods may be called from any thread. `latency_s`: seconds that each piece waits, both ways.
    `segment_bytes`: the size of the pieces that are passed on, 0 for as they come.
    """

    def __init__(self, target: str, host: str = "127.0.0.1", port: int = 0) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "127.0.0.1", parts.port or (443 if parts.scheme == "https" else 80))
        self._path = parts.path
        self.host = host
        self.port = port
        self.latency_s = 0.0
        self.segment_bytes = 0
        self.connections = 0
        self.passed: dict[Direction, int] = {"up": 0, "down": 0}
        self.pulse = Pulse()
        self._cuts: list[Cut] = []
        self._links: list[Link] = []
        self._stalled: set[Direction] = set()
        self._moved = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: asyncio.Server | None = None

    def __repr__(self) -> str:
        return f"FaultProxy({self.url} -> {self._target[0]}:{self._target[1]})"

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        await self._listen()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._close()
        self._reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def in_thread(self) -> AbstractContextManager[Self]:
        """Runs the proxy in a loop and a thread of its own, for as long as the block lasts."""
        return in_thread(self, "fault proxy")

    @property
    def url(self) -> str:
        """Where the client connects, with the path of the target."""
        return f"http://{self.host}:{self.port}{self._path}"

    @property
    def open_connections(self) -> int:
        """How many connections go through now."""
        return len(self._links)

    # Faults

    def cut(self, direction: Direction, at: int, *, after: bytes = b"", times: float = 1) -> None:
        """Resets a connection once `at` bytes went in `direction`; the rest is never passed on.

        With `after` (say ``b"POST /prompt"``) bytes are counted from where those went up, in both directions,
        and connections that never carry them are spared.
        """
        self._cuts.append(Cut(direction, at, after, times))

    def stall(self, direction: Direction) -> None:
        """Nothing more passes in one direction; nobody is told."""
        self._stalled.add(direction)

    def reset(self) -> None:
        """Ends all connections at once, as a router does that forgot them."""
        self._call(self._reset)

    def half_open(self, gone: Literal["client", "server"]) -> None:
        """One end of each connection is gone, and the other never hears of it."""
        self._call(self._half_open, "down" if gone == "client" else "up")

    def clear(self) -> None:
        """Carries faithfully again: no cuts, no stalls, no latency. What is broken stays broken."""
        self._cuts.clear()
        self.latency_s, self.segment_bytes = 0.0, 0
        self._stalled.clear()
        self._call(self._moved.set)

    async def refuse(self) -> None:
        """Nothing listens any more; open connections go on."""
        await self._here(self._close)

    async def accept(self) -> None:
        """Listens again, on the same port."""
        await self._here(self._listen)

    async def until(self, condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
        """Waits until `condition` holds; looked at whenever something passes. Raises: `TimeoutError`."""
        await self.pulse.until(condition, timeout_s)

    # Carrying

    async def flowing(self, direction: Direction) -> None:
        """Waits as long as a direction is stalled."""
        while direction in self._stalled:
            self._moved.clear()
            await self._moved.wait()

    def allowed(self, link: Link, direction: Direction, data: bytes) -> int:
        """How many of these bytes pass before a cut."""
        # Every cut listens to every piece: a pattern may lie across two of them.
        counts = [(cut, link.count(direction, data, cut.after)) for cut in self._cuts if cut.times > 0]
        for cut, before in counts:
            if cut.direction == direction and before is not None and before + len(data) >= cut.at:
                cut.times -= 1
                # One byte short of the whole piece would be "passed", so the cut is told by a lower number.
                return min(max(0, cut.at - before), len(data) - 1)
        return len(data)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            there, to = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        link = Link(self, writer, to)
        self._links.append(link)
        self.pulse.beat()
        try:
            await asyncio.gather(link.pump(reader, "up"), link.pump(there, "down"))
        finally:
            self._links.remove(link)
            for end in (writer, to):
                end.close()
                with contextlib.suppress(OSError):
                    await end.wait_closed()
            self.pulse.beat()

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._connected(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._take, self.host, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _reset(self) -> None:
        for link in self._links:
            link.reset()

    def _half_open(self, gone: Direction) -> None:
        for link in self._links:
            link.ended = True
            link.writers[gone].transport.abort()

    def _call(self, call: Callable[..., object], *args: Any) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *args)

    async def _here(self, doing: Callable[[], Awaitable[None]]) -> None:
        if self._loop is None or self._loop is asyncio.get_running_loop():
            await doing()
        else:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(doing(), self._loop))  # type: ignore[arg-type]  # our own coroutine functions
