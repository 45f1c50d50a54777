"""CPU to receive one message: by type, one at a time and in bursts, from 100 servers.

Nothing is decoded where the name does not say so: this is the way from the socket to the program.
"""

import asyncio
import time
from collections.abc import Sequence
from statistics import median
from types import TracebackType
from typing import Any

import aiohttp
import websockets.asyncio.client as ws

from async_comfy._live.access import access
from async_comfy._live.stream import open_stream
from benchmarks import traffic
from benchmarks.contestants import Contestant, Ours, Poster, RawSocket, connect_raw
from benchmarks.fleet import Fleet
from benchmarks.machine import seasoned
from benchmarks.tables import Bars, Table

NAME = "receive"
SERVERS = 100
POLL_S = 0.02


class Receiver(Contestant):
    """Holds a prompt on every server and counts the messages that come."""

    async def hold(self) -> None:
        """Submits the prompts that the servers will talk about."""
        raise NotImplementedError

    def heard(self, size: int) -> int:
        """How many messages came so far, all of `size` bytes."""
        raise NotImplementedError


class _Counting(Poster, Receiver):
    """Counts what comes on sockets of its own."""

    count = 0

    async def stream(self, server: int) -> tuple[str, int]:
        raise NotImplementedError

    async def hold(self) -> None:
        for server in range(len(self.urls)):
            await self.post(server, traffic.HERE)

    def heard(self, size: int) -> int:
        return self.count


class RawBytes(_Counting):
    """Bytes come."""

    name = "raw asyncio.Protocol"

    async def connect(self) -> None:
        self.sockets: list[RawSocket] = await connect_raw(self)

    def heard(self, size: int) -> int:
        return sum(socket.bytes for socket in self.sockets) // size


class Frames(_Counting):
    """Our own stream, without anything behind it."""

    name = "async_comfy, frames"

    async def connect(self) -> None:
        for url, client in zip(self.urls, self.clients, strict=True):
            stream = await open_stream(access(url), client, [], self, _nothing)
            self.stack.push_async_callback(stream.close)

    def take_text(self, raw: bytes, now: float) -> None:
        self.count += 1

    def take_binary(self, raw: bytes, now: float) -> None:
        self.count += 1


class Recv(_Counting):
    """The websockets package's iteration."""

    name = "websockets recv"

    async def connect(self) -> None:
        for server in range(len(self.urls)):
            target = self.socket_url(server)
            socket = await self.stack.enter_async_context(ws.connect(target, compression=None, max_size=None))
            self.listen(self._read(socket))

    async def _read(self, socket: ws.ClientConnection) -> None:
        async for _message in socket:
            self.count += 1


class Aiohttp(_Counting):
    """aiohttp's WebSocket."""

    name = "aiohttp"

    async def connect(self) -> None:
        for server in range(len(self.urls)):
            socket = await self.http.ws_connect(self.socket_url(server), max_msg_size=0)
            self.stack.push_async_callback(socket.close)
            self.listen(self._read(socket))

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for _message in socket:
            self.count += 1


class Held(Ours, Receiver):
    """Whole sessions. Their prompts end with them, not by being cancelled one by one."""

    tasks: Sequence["asyncio.Future[Any]"] = ()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, trace)
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def heard(self, size: int) -> int:
        # Not by statistics(): asked of hundreds of sessions, it would show in what is measured.
        return sum(session._board.router.counts.frames for session in self.sessions)


class Unwatched(Held):
    """Decoded and routed; nobody watches."""

    name = "async_comfy, result only"

    async def hold(self) -> None:
        self.tasks = [asyncio.ensure_future(session.run(self.workflow)) for session in self.sessions]
        while sum(session.statistics().open_jobs for session in self.sessions) < len(self.sessions):
            await asyncio.sleep(POLL_S)
        await asyncio.sleep(0.2)


class Watched(Held):
    """Every event typed and handed to a loop of the user's."""

    name = "async_comfy, every event"

    async def hold(self) -> None:
        jobs = [await session.submit(self.workflow) for session in self.sessions]
        self.tasks = [asyncio.ensure_future(self._watch(job)) for job in jobs]

    async def _watch(self, job: Any) -> None:
        async for _event in job:
            pass


def _nothing() -> None:
    pass


RECEIVERS: tuple[type[Receiver], ...] = (RawBytes, Frames, Unwatched, Watched, Recv, Aiohttp)


async def receive(
    fleet: Fleet,
    kind: type[Receiver],
    what: str,
    *,
    times: int,
    together: int,
    beat_us: int,
    width: int = 0,
) -> dict[str, float]:
    """One receiver's CPU per message and share of a core."""
    fleet.reset(beat_us=beat_us, hold=True)
    async with kind(fleet.urls) as receiver:
        await receiver.hold()
        await asyncio.sleep(0.05)
        size = fleet.frame_bytes(what)
        messages = (width or len(fleet.urls)) * times * together
        expected = receiver.heard(size) + messages
        cpu, wall = time.process_time(), time.perf_counter()
        fleet.flood(what, times=times, together=together, beat_us=beat_us, width=width)
        await asyncio.sleep(times * beat_us / 1e6)  # counting costs: not before it may be enough
        async with asyncio.timeout(60):
            while receiver.heard(size) < expected:
                await asyncio.sleep(POLL_S)
        spent, passed = time.process_time() - cpu, time.perf_counter() - wall
        fleet.flooded()
    return {"cpu_us": spent / messages * 1e6, "core": spent / passed}


def measure(quick: bool) -> dict[str, Any]:
    """Every type of message, one at a time and in bursts."""
    return asyncio.run(_measure(1 if quick else 2))


async def _measure(rounds: int) -> dict[str, Any]:
    seasoned()
    found: dict[str, dict[str, dict[str, float]]] = {"one at a time": {}, "in bursts": {}}
    with Fleet(SERVERS) as fleet:
        for what in traffic.KINDS:
            large = what.startswith("preview")
            paces = {
                "one at a time": {
                    "times": 40 if large else 80,
                    "together": 1,
                    "beat_us": 8000 if large else 4000,
                },
                "in bursts": {"times": 8, "together": 4 if large else 50, "beat_us": 30_000},
            }
            for pace, options in paces.items():
                found[pace][what] = await _compare(fleet, what, rounds, options)
    return {"cpu_us": found}


async def _compare(fleet: Fleet, what: str, rounds: int, options: dict[str, int]) -> dict[str, float]:
    times: dict[str, list[float]] = {kind.name: [] for kind in RECEIVERS}
    for number in range(rounds):
        for kind in RECEIVERS if number % 2 == 0 else RECEIVERS[::-1]:
            times[kind.name].append((await receive(fleet, kind, what, **options))["cpu_us"])
    return {name: median(each) for name, each in times.items()}


def tables(result: dict[str, Any]) -> list[Table]:
    """For the report."""
    found = []
    for pace, kinds in result["cpu_us"].items():
        header = ["message", *(kind.name for kind in RECEIVERS)]
        rows = [(what, *(each[kind.name] for kind in RECEIVERS)) for what, each in kinds.items()]
        plot = Bars(f"receive_{pace.replace(' ', '_')}", f"CPU per message, {pace}", "us", _small(kinds))
        found.append(Table(f"CPU per message, us, {pace}", header, rows, "", plot))
    return found


def _small(kinds: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    return {what: each for what, each in kinds.items() if not what.startswith("preview")}
