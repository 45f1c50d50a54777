"""Finding the servers of a fleet, again and again: behind a DNS name, in a file, from a callable."""

import asyncio
import inspect
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from anyio.to_thread import run_sync
from yarl import URL

from async_comfy._live.access import access
from async_comfy._live.fleet import Fleet, Server, as_server
from async_comfy.errors import CallerError, Unreachable

LOOK_S = 10.0  # from one look to the next; a DNS answer is rarely good for less

Found = Sequence[Server | str]
Discovery = Callable[[], Awaitable[Found]]
"""Asked now and then; what it names is the fleet. When it raises, the fleet stays as it is."""


def behind(url: str) -> Discovery:
    """Every address that a host name has now, each a server: ``behind("http://comfy.internal:8188")``."""
    base = access(url).url

    async def look() -> Found:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(base.host, base.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise Unreachable(f"Cannot look up {base.host}: {error.strerror}.", hint="Check it.") from None
        return sorted({_at(base, str(address[0])) for *_, address in found})

    return look


def in_file(path: str | os.PathLike[str]) -> Discovery:
    """The servers of a `fleet.toml`, read again when it changed."""
    seen: tuple[int, Found] | None = None

    async def look() -> Found:
        nonlocal seen
        changed = await run_sync(_changed, Path(path))
        if seen is None or seen[0] != changed:
            seen = changed, (await run_sync(Fleet.load, path)).servers
        return seen[1]

    return look


def from_call(call: Callable[[], Found | Awaitable[Found]]) -> Discovery:
    """What a function says, `async` or not."""

    async def look() -> Found:
        found = call()
        return await found if inspect.isawaitable(found) else found

    return look


async def servers(look: Discovery) -> list[Server]:
    """One look, each server once. Raises: what the look does."""
    named = {server.name: server for server in map(as_server, await look())}
    return list(named.values())


def _at(base: URL, address: str) -> str:
    return str(base.with_host(address))


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError as error:
        raise CallerError(f"Cannot read {path}: {error.strerror}.", hint="Check the path.") from None
