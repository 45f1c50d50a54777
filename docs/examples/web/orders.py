"""Orders: jobs on the ComfyUI server, and whoever watches them in a browser."""

import asyncio
import logging
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, Self

from async_comfy import (
    Cancelled,
    ComfyError,
    Job,
    NetworkError,
    OutOfMemory,
    Preview,
    Rejected,
    TimedOut,
    WorkflowError,
)

GRACE_S = 3.0  # a browser that lost its connection is back after one second, a closed one never
KEPT = 200  # finished orders whose pictures can still be had
THEIRS = (Rejected, WorkflowError, Cancelled, TimedOut)

_log = logging.getLogger(__name__)


class Order:
    """A job that somebody waits for. When nobody has watched it for `GRACE_S`, it is cancelled."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._watchers = 0
        self._cancelling: asyncio.Task[None] | None = None
        self._patience = self._expect_somebody()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Somebody watches for as long as the block lasts."""
        self._watchers += 1
        self._patience.cancel()
        try:
            yield
        finally:
            self._watchers -= 1
            if not self._watchers:
                self._patience = self._expect_somebody()

    async def news(self) -> AsyncIterator[tuple[str, Any]]:
        """What a page shows, as (event, data), from now to the end."""
        shown = self._moment()
        yield "progress", shown
        try:
            async for event in self.job:
                if isinstance(event, Preview):
                    yield "preview", f"data:{event.media_type};base64,{b64encode(event.data).decode()}"
                elif (moment := self._moment()) != shown:
                    shown = moment
                    yield "progress", shown
            yield "done", await self._made()
        except ComfyError as error:
            yield "failed", {"outcome": self.job.state, **told(error)}

    async def cancel(self) -> None:
        """Stops the job, if it is not over."""
        self._patience.cancel()
        try:
            if not self.job.done:
                await self.job.cancel()
        except ComfyError as error:
            _log.warning("could not cancel %s: %s", self.job.id, error)

    def _moment(self) -> dict[str, Any]:
        now = self.job.progress
        return {
            "state": now.state,
            "fraction": round(now.fraction, 4),
            "ahead": now.ahead,
            "title": now.title,
            "step": now.step,
            "steps": now.steps,
        }

    async def _made(self) -> dict[str, Any]:
        result = await self.job
        return {
            "images": [f"jobs/{self.job.id}/images/{index}" for index in range(len(result.images))],
            "seed": next(iter(result.seeds.values()), None),
            "ran_s": result.ran_s,
        }

    def _expect_somebody(self) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(GRACE_S, self._give_up)

    def _give_up(self) -> None:
        self._cancelling = asyncio.create_task(self.cancel())


def told(error: ComfyError) -> dict[str, str]:
    """What a visitor is told: what is theirs to mend in full; the rest, with addresses, is for the log."""
    if isinstance(error, THEIRS):
        return {"error": error.message, "hint": error.hint}
    _log.error("%s: %s", type(error).__name__, error)
    if isinstance(error, OutOfMemory):
        return {"error": "This is too large for the picture server.", "hint": "Ask for a smaller picture."}
    if isinstance(error, NetworkError):
        return {"error": "The picture server went away.", "hint": "Ask again in a minute."}
    return {
        "error": "The picture server could not make this.",
        "hint": "Its log says why.",
    }


class Orders:
    """All orders by prompt id. Leaving the block cancels what is open: nobody could ask for it any more."""

    def __init__(self) -> None:
        self._orders: dict[str, Order] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(order.cancel() for order in self._orders.values()))

    def get(self, prompt_id: str) -> Order | None:
        """The order of that id, if it is still known."""
        return self._orders.get(prompt_id)

    def add(self, order: Order) -> None:
        """Keeps it, and forgets the oldest of those that are over."""
        over = [known for known, kept in self._orders.items() if kept.job.done]
        for known in over[: max(0, len(over) - KEPT + 1)]:
            del self._orders[known]
        self._orders[order.job.id] = order
