"""Work that goes on beside its starter: kept, told of when it fails, ended at the end."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

_log = logging.getLogger("async_comfy")


class Tasks:
    """The tasks of one owner. `of`: how the log calls that."""

    def __init__(self, of: str) -> None:
        self._of = of
        self._running: set[asyncio.Task[Any]] = set()

    def __repr__(self) -> str:
        return f"<Tasks of {self._of}: {len(self._running)}>"

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begins it."""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._reap)
        return task

    async def stop(self) -> None:
        """Cancels all, and returns when they have ended."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _reap(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("%s: a task failed", self._of, exc_info=task.exception())


async def to_its_end(task: asyncio.Task[None]) -> None:
    """Waits for it, however often the caller is cancelled meanwhile; raises that afterwards."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled
