"""Where the worker can be held, so that a test meets it in a known state and needs no sleep."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Literal

from async_comfy.testing.pulse import Pulse

Point = Literal["prompt", "start", "node", "step", "success", "history"]
"""Where the worker can stand still.

"prompt": before it takes the next one from the queue. "start": it took one and said nothing yet. "node": in a
node that was announced (`executing`) and did nothing yet. "step": before the next step of a sampler.
"success": all nodes done, `execution_success` not yet said. "history": said, and the entry not yet written.
"""


class Interrupted(Exception):
    """The run was told to stop."""


class Gate:
    """Holds and releases the worker, and carries the wish to interrupt it."""

    def __init__(self, pulse: Pulse) -> None:
        self.pulse = pulse
        self.at: Point | None = None
        self.interrupted = False
        self._held: frozenset[Point] = frozenset()
        self._tickets = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._moved = asyncio.Event()

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop of the worker, so that other threads can wake it."""
        self._loop = loop

    def hold(self, points: tuple[Point, ...]) -> None:
        """The worker stops at the next of these points."""
        self._held = frozenset(points)
        self._tickets = 0

    def release(self) -> None:
        """The worker goes on, and stops nowhere."""
        self._held = frozenset()
        self.at = None
        self._wake()

    def advance(self, count: int) -> None:
        """The worker passes `count` of the points at which it is held, and stops again."""
        self._tickets += count
        self.at = None  # at once, so that whoever waits for the next point does not find this one
        self._wake()

    def interrupt(self) -> None:
        """The run stops at its next chance: before a node, at a step, while it is held or waits."""
        self.interrupted = True
        self._wake()

    def check(self, *, deaf: bool) -> None:
        """Raises `Interrupted` once for each wish to interrupt; not where the node is `deaf` to it."""
        if self.interrupted and not deaf:
            self.interrupted = False
            raise Interrupted

    async def stand(self, point: Point, *, deaf: bool = True) -> None:
        """Waits as long as `point` is held. Raises: `Interrupted` unless `deaf`."""
        self.at = point
        self.pulse.beat()
        while point in self._held and self._tickets == 0 and (deaf or not self.interrupted):
            self._moved.clear()
            await self._moved.wait()
        if point in self._held and self._tickets:
            self._tickets -= 1
        self.at = None
        self.check(deaf=deaf)

    async def pause(self, seconds: float, *, deaf: bool) -> None:
        """Lets `seconds` pass, at least one turn of the loop. Raises: `Interrupted` unless `deaf`."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        await asyncio.sleep(0)
        while (left := end - loop.time()) > 0 and (deaf or not self.interrupted):
            self._moved.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._moved.wait(), left)
        self.check(deaf=deaf)

    def soon(self, call: Callable[[], object]) -> None:
        """Calls something on the worker's loop, from whatever thread. A server that is gone does not."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call)

    def _wake(self) -> None:
        self.soon(self._moved.set)
