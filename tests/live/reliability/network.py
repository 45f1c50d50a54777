"""A network before a server, in which connections die and nobody is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from async_comfy.testing import SimulatedServer


class Line:
    """One connection through it."""

    def __init__(self) -> None:
        self.dead = False


class Network:
    """Carries everything to the server and back."""

    def __init__(self, port: int) -> None:
        self.url = ""
        self._port = port
        self._lines: set[Line] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ends: list[asyncio.StreamWriter] = []

    def forget(self) -> None:
        """What is open now is dead: nothing passes, and neither end hears of the other's end."""
        for line in self._lines:
            line.dead = True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A new connection."""
        line = Line()
        self._lines.add(line)
        self._ends.append(writer)
        try:
            theirs, ours = await asyncio.open_connection("127.0.0.1", self._port)
        except ConnectionRefusedError:
            writer.close()  # it restarts
            return
        self._ends.append(ours)
        for way in (self._carry(line, reader, ours), self._carry(line, theirs, writer)):
            self._tasks.add(asyncio.create_task(way))

    async def _carry(self, line: Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                if not line.dead:
                    writer.write(data)
        if not line.dead:
            writer.close()

    async def end(self) -> None:
        """It is taken down."""
        for task in self._tasks:
            task.cancel()
        for end in self._ends:
            end.close()
        closing = [end.wait_closed() for end in self._ends]
        await asyncio.gather(*self._tasks, *closing, return_exceptions=True)


@asynccontextmanager
async def network(server: SimulatedServer) -> AsyncIterator[Network]:
    """One before this server."""
    between = Network(server.port)
    listening = await asyncio.start_server(between.serve, "127.0.0.1", 0)
    between.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield between
    finally:
        listening.close()
        await between.end()
