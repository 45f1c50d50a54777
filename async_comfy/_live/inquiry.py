"""Looking at the server where events leave a doubt. A healthy session never looks."""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial

import anyio

from async_comfy._live.api import History, Queue
from async_comfy._live.crowd import crowd
from async_comfy.errors import ComfyError, NetworkError
from async_comfy.protocol.job import Life
from async_comfy.protocol.recovery import HistoryEntry, Look, Queued, Recovery, Verdict
from async_comfy.protocol.router import Router

TICK_S = 0.5  # between checks for what should have been heard, while jobs are open
AT_ONCE = 8  # histories asked for at the same time
LOOK_S = 5.0  # for one look, doubled after each that took longer: on a dead connection nothing ever comes
LONGEST_LOOK_S = 60.0  # a server that loads a model answers as late

_log = logging.getLogger("async_comfy")


class Inquiry:
    """Watches for doubts while jobs are open, and looks. `tell` gets the verdicts."""

    def __init__(
        self, router: Router, queue: Queue, history: History, tell: Callable[[Verdict], None]
    ) -> None:
        self.recovery = Recovery()
        self._router = router
        self._queue = queue
        self._history = history
        self._tell = tell
        self._poked = asyncio.Event()
        self._look_s = LOOK_S
        self._looking: anyio.CancelScope | None = None
        self._hurried = False

    def __repr__(self) -> str:
        return f"<Inquiry {len(self.recovery.doubts)} doubts, {self.recovery.looks} looks>"

    def poke(self) -> None:
        """There is something to do now."""
        self._poked.set()

    def suspect(self, life: Life, reason: str) -> None:
        """Something may have been missed of this job."""
        self.recovery.suspect(life, reason, time.monotonic())
        self.poke()

    def hurry(self) -> None:
        """The server is there again: look now, and do not wait for an answer from before."""
        self.recovery.hurry(time.monotonic())
        if self._looking is not None:
            self._hurried = True
            self._looking.cancel()
        self.poke()

    async def run(self, renew: Callable[[], None]) -> None:
        """Until cancelled. `renew` is called when the event path itself looks dead."""
        while True:
            if not self._router.lives:
                await self._poked.wait()
            self._poked.clear()
            now = time.monotonic()
            if self.recovery.watch(self._router, now):
                renew()
            if lives := self.recovery.due(now):
                await self._look(lives)
            with anyio.move_on_after(self.recovery.pause_s(time.monotonic(), TICK_S)):
                await self._poked.wait()

    async def _look(self, lives: list[Life]) -> None:
        look = None
        with anyio.move_on_after(self._look_s) as self._looking:
            look = await self._ask(lives)
        if look is not None:
            self._look_s = LOOK_S
            for verdict in self.recovery.take(look, time.monotonic()):
                self._tell(verdict)
        elif not self._hurried:
            self._look_s = min(2 * self._look_s, LONGEST_LOOK_S)
            self.recovery.failed(time.monotonic())
        self._looking, self._hurried = None, False

    async def _ask(self, lives: list[Life]) -> Look | None:
        asked_at = time.monotonic()
        try:
            queue = await self._queue.ids()
            history = await self._entries(lives, queue)
            return Look(asked_at, queue, history, self._router.heard_at)
        except ComfyError as error:
            _log.info("a look at the server failed: %s", error)
            return None

    async def _entries(self, lives: list[Life], queue: Queued) -> dict[str, HistoryEntry | None]:
        absent = [life.prompt_id for life in lives if life.prompt_id not in queue.running | queue.pending]
        answers = await crowd([partial(self._entry, prompt_id) for prompt_id in absent], AT_ONCE)
        return {prompt_id: entry for found in answers for prompt_id, entry in found.items()}

    async def _entry(self, prompt_id: str) -> dict[str, HistoryEntry | None]:
        """What history says of it; nothing where its answer makes no sense, which is its own trouble only."""
        try:
            return {prompt_id: await self._history.entry(prompt_id)}
        except NetworkError:
            raise
        except ComfyError as error:
            _log.warning("the history of %s cannot be read: %s", prompt_id, error)
            return {}
