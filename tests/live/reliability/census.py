"""What a session could leave behind: tasks, and open file descriptors."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from async_comfy.testing import SimulatedServer
from tests.live.waiting import until


def descriptors() -> int:
    """How many files and sockets this process holds open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@asynccontextmanager
async def nothing_left(server: SimulatedServer) -> AsyncIterator[None]:
    """Asserts that the block leaves neither a task nor a connection, seen from either side."""
    gc.collect()
    tasks, files = set(asyncio.all_tasks()), descriptors()
    yield
    gc.collect()
    await until(lambda: server.open_sockets == 0)
    await until(lambda: not [task for task in asyncio.all_tasks() - tasks if not task.done()])
    await until(lambda: descriptors() <= files)
