"""One server of a pool: its session, opened until it holds, and what is told of it."""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from math import inf
from typing import Any

import anyio

from async_comfy._live.fleet import GIB, Server, address
from async_comfy._live.session import Session
from async_comfy.errors import Closed, ComfyError, ServerError, Unreachable
from async_comfy.protocol.backoff import Backoff

QUICK_S = 2.0  # a server that is back so soon, without our jobs, died at once: nothing ran in between
PROBE_S = 0.2  # between questions to a server whose socket broke: is the process gone?
PROBES = 10  # as long as QUICK_S: a refusal later may be of another death
KNOCK_S = 0.25  # the first wait for a process that is gone; doubling, with full jitter
WAKE_S = 0.1  # for an idle worker to hear of a /free; on 0.33 a pause of 5 ms failed 2 of 60 times, 20 never
LONGEST_KNOCK_S = 5.0  # a card should not idle for long; one refused connection in so many seconds is nothing

_log = logging.getLogger("async_comfy")


class Member:
    """A server and its session. `dead` is called when its process is seen to be gone."""

    def __init__(self, server: Server, dead: Callable[["Member"], None]) -> None:
        self.server = server
        self.address = address(server.url)
        self.session: Session | None = None
        self.trouble: ComfyError | None = None
        self.vram_bytes = int((server.vram_gb or 0) * GIB)
        self.up = False
        self.quick = False  # the last outage was shorter than QUICK_S, or began with the death of the process
        self.remaining: int | None = None  # prompts in its queue, everybody's, at the last look
        self._strangers = 0  # of those, not ours
        self._requests = 0  # of sessions that are over
        self._dead = dead
        self._died = True  # of a server that we never saw nobody knows what it holds
        self._down_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self._probe: asyncio.Task[None] | None = None
        self._failed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Member {self.server.name} {'up' if self.up else 'down'}>"

    @property
    def name(self) -> str:
        """What the fleet calls it."""
        return self.server.name

    @property
    def requests(self) -> int:
        """HTTP requests so far."""
        return self._requests + (self.session.statistics().requests if self.session is not None else 0)

    def start(self) -> None:
        """Begins to connect, and goes on until closed."""
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def close(self) -> None:
        """Ends the session. Jobs live on at the server."""
        tasks = [task for task in (self._task, self._probe) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.session is not None:
            await self.session.close()

    def look(self) -> bool | None:
        """What changed since the last look: True: it came up, False: it went down, None: nothing."""
        session = self.session
        seen = session.statistics() if session is not None and session.failure is None else None
        if session is not None and seen is None:
            self._failed.set()
        self.remaining = seen.queue_remaining if seen is not None else None
        up = seen is not None and seen.connected
        if up == self.up:
            return None
        self.up = up
        if up:
            # A refusal is the proof of a death; coming back so quickly is as good as one.
            self.quick = self.quick or time.monotonic() - self._down_at < QUICK_S
        else:
            self.quick = False
            self._down_at = time.monotonic()
            self._probe = asyncio.get_running_loop().create_task(self._is_it_dead())
        return up

    def renewed(self) -> bool:
        """Whether it may have been restarted since it was up last, so that nothing is warm there."""
        renewed, self._died = self._died, False
        return renewed

    def strangers_now(self, ours: int) -> int:
        """Prompts of other people in its queue. Two looks have to agree: our own count runs ahead of its."""
        before, self._strangers = self._strangers, max((self.remaining or 0) - ours, 0)
        return min(before, self._strangers)

    async def _keep(self) -> None:
        backoff = Backoff(KNOCK_S, LONGEST_KNOCK_S)
        while True:
            try:
                session = await self._connect()
            except Exception as error:  # noqa: BLE001  # an option that no session has, an odd answer: told as trouble
                self.trouble = error if isinstance(error, ComfyError) else self._odd(error)
                await anyio.sleep(backoff.next_s(random.random()))  # noqa: S311  # jitter
                continue
            self.session, self.trouble = session, None
            self._failed.clear()  # what failed was the session before
            backoff.reset()
            await self._failed.wait()
            self.trouble = session.failure
            self._requests += session.statistics().requests
            self.session = None
            await session.close()

    async def _connect(self) -> Session:
        session = Session(self.server.url, **self.server.options)
        try:
            await session.open()
            await self._measure(session)
        except BaseException:
            await session.close()
            raise
        return session

    def _odd(self, error: Exception) -> ComfyError:
        trouble = ComfyError(
            f"Cannot connect to {self.name}: {error}.", hint="Look at its options and its log."
        )
        if str(trouble) != str(self.trouble):  # said once, however often it is tried
            _log.error("%s", trouble, exc_info=error)
        return trouble

    async def _measure(self, session: Session) -> None:
        if self.server.vram_gb is not None:
            return
        try:
            self.vram_bytes = vram_bytes(await session.system.stats())
        except ServerError as error:
            _log.info("%s does not say how much VRAM it has: %s", self.name, error)

    async def _is_it_dead(self) -> None:
        """Asks whether anybody listens there; a refusal means that the process is gone with its queue."""
        lived = False  # after its socket broke: meanwhile anything may have begun
        for _ in range(PROBES):
            if self.up or self.session is None:
                return
            try:
                await self.session.queue.remaining()
                lived = True
            except Unreachable as error:
                if _refused(error):
                    self.quick, self._died = not lived, True
                    self._dead(self)
                    self._failed.set()  # nothing of ours is there any more: a session anew is sooner back
                    return
            except Closed:
                return
            except ComfyError as error:
                _log.info("%s answers oddly: %s", self.name, error)
            await anyio.sleep(PROBE_S)


async def unload(session: Session) -> float:
    """Has the models of a server unloaded once its running prompt is through; seconds to send nothing for.

    A worker takes what is queued before it looks at what it was told (main.py, prompt_worker). So an idle one
    is given a moment, in which it wakes and hears of it: a prompt that came at once could run before.
    """
    idle = not await session.queue.remaining()
    await session.system.free()
    return WAKE_S if idle else 0.0


def vram_bytes(stats: dict[str, Any]) -> int:
    """The largest card's VRAM in an answer to GET /system_stats; 0 where it does not say."""
    devices = stats.get("devices")
    cards = [card for card in devices if isinstance(card, dict)] if isinstance(devices, list) else []
    sizes = [card.get("vram_total") for card in cards]
    return max((int(size) for size in sizes if isinstance(size, int | float) and 0 <= size < inf), default=0)


def _refused(error: Unreachable) -> bool:
    return isinstance(getattr(error.__cause__, "os_error", None), ConnectionRefusedError)
