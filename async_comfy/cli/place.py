"""Where runs go: to one server, or to a pool of the servers in a fleet file."""

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from async_comfy import ComfyError, NetworkError, Pool, Session
from async_comfy.cli.fleet_file import load
from async_comfy.cli.report import Place
from async_comfy.cli.server import GIVE_UP_S, Server
from async_comfy.workflow import ObjectInfo

IN_FLIGHT = 3  # one runs, one waits so that the GPU never does, one is being downloaded
POOLED = 16  # a server: a pool places what its servers are warm for, so it has to see some of what comes


class AtServer:
    """Runs are sent to one server."""

    def __init__(self, server: Server) -> None:
        self.session = server.session()

    @property
    def in_flight(self) -> int:
        """How many runs to give it at a time, unless somebody says so."""
        return IN_FLIGHT

    @property
    def servers(self) -> int:
        """How many servers work."""
        return 1

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Place]:
        """A connection. Raises: ComfyError."""
        async with self.session:
            yield self.session

    async def declared(self, classes: list[str]) -> list[ObjectInfo]:
        """What it says of these node classes."""
        return [await self.session.nodes.some(classes)]

    async def sessions(self, names: Collection[str], stack: AsyncExitStack) -> Mapping[str, Session]:
        """Those in which to ask for prompts that were sent before, by server."""
        return {self.session.url: self.session}


class AtFleet:
    """Runs are given to a pool, which places them. Raises: CallerError for a file that is no fleet."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.fleet = load(file)
        self.pool = Pool.from_file(file)

    @property
    def in_flight(self) -> int:
        """How many runs to give to the pool for each server, unless somebody says so."""
        return POOLED

    @property
    def servers(self) -> int:
        """How many servers there are."""
        return len(self.fleet.servers)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Place]:
        """The pool. Raises: ComfyError."""
        async with self.pool:
            yield self.pool

    async def declared(self, classes: list[str]) -> list[ObjectInfo]:
        """What each server says of these node classes, as far as they can be reached."""
        found: list[ObjectInfo] = []
        trouble: ComfyError | None = None
        for server in self.fleet.servers:
            try:
                async with Session(server.url, **server.options) as session:
                    found.append(await session.nodes.some(classes))
            except NetworkError as error:
                trouble = trouble or error
        if not found and trouble is not None:
            raise trouble
        return found

    async def sessions(self, names: Collection[str], stack: AsyncExitStack) -> Mapping[str, Session]:
        """One to each server of these names. Raises: NetworkError where one cannot be asked."""
        found: dict[str, Session] = {}
        for server in self.fleet.servers:
            if server.name not in names:
                continue
            session = Session(server.url, **{"give_up_s": GIVE_UP_S, **server.options})
            try:
                found[server.name] = await stack.enter_async_context(session)
            except NetworkError as error:
                error.hint = (
                    f"Runs of an earlier call were in flight at {server.name}: start it, so that it can be "
                    f"asked; or take it out of {self.file}, to run them elsewhere."
                )
                raise
        return found
