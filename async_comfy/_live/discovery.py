"""Finding the servers of a fleet, again and again: behind a DNS name, in a file, from a callable."""

import asyncio
import inspect
import os
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from anyio.to_thread import run_sync
from yarl import URL

from async_comfy._live.access import access
from async_comfy._live.fleet import Fleet, Server, as_server
from async_comfy.errors import CallerError, Unreachable

LOOK_S = 2.0  # from one look to the next
EVERY_S = 10.0  # that a name is looked up, and a callable asked; a DNS answer is rarely good for less

Found = Sequence[Server | str] | Fleet
Discovery = Callable[[], Awaitable[Found]]
"""Asked now and then; what it names is the fleet. When it raises, the fleet stays as it is."""


def behind(url: str, *, every_s: float = EVERY_S) -> Discovery:
    """Every address that a host name has now, each a server: ``behind("http://comfy.internal:8188")``."""
    base = access(url).url

    async def look() -> Found:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(base.host, base.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise Unreachable(f"Cannot look up {base.host}: {error.strerror}.", hint="Check it.") from None
        return sorted({_at(base, str(address[0])) for *_, address in found})

    return _now_and_then(look, every_s)


def in_file(path: str | os.PathLike[str]) -> Discovery:
    """The servers, lanes and limits of a `fleet.toml`, read again within two seconds of a change."""
    seen: tuple[int, Found] | None = None

    async def look() -> Found:
        nonlocal seen
        changed = await run_sync(_changed, Path(path))
        if seen is None or seen[0] != changed:
            seen = changed, await run_sync(Fleet.load, path)
        return seen[1]

    return look


def from_call(call: Callable[[], Found | Awaitable[Found]], *, every_s: float = EVERY_S) -> Discovery:
    """What a function says, `async` or not: URLs, `Server`s, or a `Fleet`."""

    async def look() -> Found:
        found = call()
        return await found if inspect.isawaitable(found) else found

    return _now_and_then(look, every_s)


async def servers(look: Discovery) -> list[Server]:
    """One look, each server once. Raises: what the look does."""
    return list(named(await look()).values())


def named(found: Found) -> dict[str, Server]:
    """The servers by name. Raises: CallerError for what is no address."""
    each = found.servers if isinstance(found, Fleet) else found
    return {server.name: server for server in map(as_server, each)}


def _now_and_then(look: Discovery, every_s: float) -> Discovery:
    """The answer of the last time, until it is so old."""
    last: tuple[float, Found] | None = None

    async def lazy() -> Found:
        nonlocal last
        now = time.monotonic()
        if last is None or now - last[0] >= every_s:
            last = now, await look()
        return last[1]

    return lazy


def _at(base: URL, address: str) -> str:
    return str(base.with_host(address))


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError as error:
        raise CallerError(f"Cannot read {path}: {error.strerror}.", hint="Check the path.") from None
