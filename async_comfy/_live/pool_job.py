"""What the user of a pool holds: a job that is somewhere, or nowhere yet.

It is as honest as the `Job` of a session, and outlives its server: an attempt that ended without an outcome
is followed by another one, and the handle stays the same.
"""

import asyncio
import copy
import time
from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from contextvars import copy_context
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio

from async_comfy._live.handle import Job, check_patience
from async_comfy.errors import CallerError, Closed, ComfyError, TimedOut
from async_comfy.events import Event, Preview
from async_comfy.protocol.failover import Attempt, Retry
from async_comfy.protocol.host import Placement
from async_comfy.protocol.lanes import Ticket
from async_comfy.results import JobProgress, Result
from async_comfy.workflow import Workflow

if TYPE_CHECKING:
    from async_comfy._live.pool import Pool

Sending = Callable[[str, str], None]
"""Is told prompt id and server right before the prompt is sent there. What it raises ends the job instead."""

OUTCOMES = {
    "Failed": "failed",
    "OutOfMemory": "failed",
    "Rejected": "rejected",
    "Cancelled": "cancelled",
    "Ambiguous": "ambiguous",
    "Lost": "lost",
}


class PoolJob:
    """One job of a pool.

    `await job` gives its `Result` or raises what went wrong; `async for event in job` gives the events of
    every attempt. `server`: where it is, None while it waits in the pool. `attempts`: those that ended.
    """

    __slots__ = (
        "_accepted_at",
        "_error",
        "_inners",
        "_movers",
        "_on_end",
        "_pool",
        "_result",
        "_waiters",
        "attempts",
        "context",
        "extra_data",
        "free_first",
        "keep_events",
        "needs",
        "partial",
        "placement",
        "rehearsal",
        "retry",
        "sending",
        "sent_id",
        "span",
        "targets",
        "ticket",
        "withdrawn",
        "workflow",
    )

    def __init__(
        self,
        pool: "Pool",
        workflow: Workflow,
        ticket: Ticket,
        *,
        retry: Retry,
        partial: bool,
        targets: Sequence[str] | None,
        extra_data: Mapping[str, Any] | None,
        keep_events: bool,
        sending: Sending | None = None,
    ) -> None:
        self.workflow = workflow
        self.ticket = ticket
        self.retry = retry
        self.needs = ticket.needs
        self.partial = partial
        self.targets = targets
        self.extra_data = extra_data
        self.keep_events = keep_events
        self.sending = sending
        self.sent_id = ""  # the prompt id of this attempt, once it may have come to the server
        self.context = copy_context()  # its attempts run in it: logs and spans are the caller's
        self.attempts: list[Attempt] = []
        self.placement: Placement | None = None
        self.span: Any = None  # of OpenTelemetry, where the program uses it
        self.withdrawn = False
        self.free_first = False
        self.rehearsal = False  # run for what it loads, by `Pool.warm`
        self._pool = pool
        self._inners: tuple[Job, ...] = ()  # one of each attempt that a server accepted
        self._accepted_at: Placement | None = None
        self._result: Result | None = None
        self._error: ComfyError | None = None
        self._movers: list[asyncio.Future[None]] | None = None
        self._waiters: list[asyncio.Future[None]] | None = None
        self._on_end: list[Callable[[PoolJob], None]] | None = None

    def __repr__(self) -> str:
        where = f" on {self.server}" if self.server else ""
        return f"<PoolJob {self.id} {self.state}{where}>"

    @property
    def id(self) -> str:
        """What the pool calls it; the prompt id is another one at each attempt."""
        return f"job-{self.ticket.number}"

    @property
    def lane(self) -> str:
        """The class of jobs that it belongs to."""
        return self.ticket.lane

    @property
    def server(self) -> str | None:
        """The name of the server where it is or ended; None while it waits in the pool."""
        return self.placement.host if self.placement is not None else None

    @property
    def prompt_id(self) -> str | None:
        """The prompt id of its latest attempt; None before the first."""
        return self.sent_id or (self._inners[-1].id if self._inners else None)

    @property
    def done(self) -> bool:
        """Whether the outcome stands. It never changes then."""
        return self._result is not None or self._error is not None

    @property
    def state(self) -> str:
        """Where it is: "waiting" in the pool, then "queued", "running", ... and in the end the outcome."""
        if self._result is not None:
            return "completed"
        if self._error is not None:
            return OUTCOMES.get(type(self._error).__name__, "failed")
        if self.placement is None:
            return "waiting"
        inner = self.inner
        return inner.state if inner is not None and not inner.done else "submitting"

    @property
    def progress(self) -> JobProgress:
        """How far it is right now."""
        if self._inners and (self.done or self.inner is not None):
            return self._inners[-1].progress
        return JobProgress(state=self.state)

    def explain(self) -> str:
        """Why it is where it is. See `Pool.explain`."""
        return self._pool.explain(self)

    def __await__(self) -> Generator[None, None, Result]:
        """Waits for the end. Raises: `Failed`, `Rejected`, `Cancelled`, `Lost`, `Ambiguous`, `Closed`."""
        return self._wait().__await__()

    async def wait(self, *, queued: float | None = None, running: float | None = None) -> Result:
        """Waits with patience of `queued` seconds until it runs, here or there, and `running` from then on.

        Raises: TimedOut, with the phase in which it was; the job itself goes on. CallerError for a patience
        that is no number of seconds. Else as `await job`.
        """
        check_patience(queued=queued, running=running)
        await self._until(lambda: self.done or self.state not in _UNBEGUN, queued, "queued")
        await self._until(lambda: self.done, running, "running")
        return await self._wait()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self.events()

    async def events(self) -> AsyncIterator[Event]:
        """The events of every attempt, in order; ends with the job. Raises: `Closed`."""
        heard = 0
        while True:
            while not self.done and heard == len(self._inners):
                await self.moved()
            if heard == len(self._inners):
                break
            try:
                async for event in self._inners[heard].events():
                    yield event
            except ComfyError:
                pass  # its session ended, and what follows is the pool's to tell
            heard += 1
        if isinstance(self._error, Closed):
            raise copy.copy(self._error)

    async def previews(self) -> AsyncIterator[Preview]:
        """The pictures in the making; ends with the job."""
        async for event in self.events():
            if isinstance(event, Preview):
                yield event

    async def cancel(self, *, timeout: float = 10.0, force: bool = False) -> bool:
        """Takes it from the pool's queue, or cancels it where it is; whether it ended as cancelled.

        Raises: as `Job.cancel`.
        """
        return await self._pool.cancel(self, timeout=timeout, force=force)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.done:
            await self._pool.cancel_in_courtesy(self)

    # What the pool tells it. Not for users.

    @property
    def error(self) -> ComfyError | None:
        """What awaiting it raises; None while it goes on and after a good end."""
        return self._error

    @property
    def inner(self) -> Job | None:
        """The job at the server where it is now; None until that has accepted it."""
        return self._inners[-1] if self._accepted_at is self.placement is not None else None

    def placed(self, placement: Placement) -> None:
        """It goes to a server."""
        self.placement = placement
        self.sent_id = ""
        self._change()

    def sent(self, prompt_id: str) -> None:
        """It is sent now, as this prompt; or the server calls it so."""
        if self.sending is not None and self.placement is not None:
            try:
                self.sending(prompt_id, self.placement.host)
            except ComfyError:
                raise
            except Exception as error:
                raise CallerError(
                    f"`sending` failed for the job {self.id}: {error!r}.", hint="So it does not run."
                ) from error
        self.sent_id = prompt_id

    def accepted(self, inner: Job) -> None:
        """The server has it."""
        self._inners, self._accepted_at = (*self._inners, inner), self.placement
        self._change()

    def returned(self) -> None:
        """It waits in the pool again."""
        self.placement = None
        self.sent_id = ""
        self._change()

    def ended(self, *, result: Result | None = None, error: ComfyError | None = None) -> None:
        """The outcome stands. The first one."""
        if self.done:
            return
        self._result, self._error = result, error
        self._change()
        waiters, self._waiters = self._waiters, None
        _wake(waiters)
        tell_all, self._on_end = self._on_end, None
        for tell in tell_all or ():
            tell(self)

    def on_end(self, tell: Callable[["PoolJob"], None]) -> None:
        """Calls that once, when the outcome stands."""
        if self.done:
            tell(self)
        else:
            self._on_end = [*(self._on_end or ()), tell]

    def options(self) -> dict[str, Any]:
        """What its POST says besides the prompt: no previews where nobody watches."""
        options: dict[str, Any] = {} if self.keep_events else {"preview_method": "none"}
        if self.targets is not None:
            options["partial_execution_targets"] = list(self.targets)
        return options

    def _change(self) -> None:
        movers, self._movers = self._movers, None
        _wake(movers)

    async def moved(self) -> None:
        """Waits until it is placed, accepted, returned to the queue or ended."""
        if self.done:
            return
        waiter = asyncio.get_running_loop().create_future()
        movers = self._movers = self._movers or []
        movers.append(waiter)
        await _woken(waiter, movers)

    async def settled(self) -> None:
        """Waits until the outcome stands; raises nothing of the job's."""
        if self.done:
            return
        waiter = asyncio.get_running_loop().create_future()
        waiters = self._waiters = self._waiters or []
        waiters.append(waiter)
        await _woken(waiter, waiters)

    async def _wait(self) -> Result:
        await self.settled()
        if self._error is not None:
            raise copy.copy(self._error) from self._error
        assert self._result is not None  # noqa: S101 - done without an error
        return self._result

    async def _until(self, condition: Callable[[], bool], seconds: float | None, phase: str) -> None:
        until = None if seconds is None else time.monotonic() + seconds
        while not condition():
            left = None if until is None else until - time.monotonic()
            with anyio.move_on_after(left):
                await self._moved_on(phase == "queued")
                continue
            if not condition():
                raise TimedOut(
                    f"The job {self.id} was still {phase} after {seconds:g} s.",
                    phase=phase,
                    seconds=seconds or 0.0,
                    hint="It goes on; cancel it or wait longer.",
                    prompt_id=self.prompt_id,
                )

    async def _moved_on(self, watch: bool) -> None:
        """Returns when something changed: with the pool, or (`watch`) at the server."""
        inner = self.inner
        if not watch or inner is None or inner.done:
            await self.moved()
            return
        try:
            async for _ in inner.events():
                if self.state not in _UNBEGUN:
                    return
        except ComfyError:
            pass  # its session ended, and what follows is the pool's to tell
        if not self.done and self.inner is inner:
            await self.moved()


_UNBEGUN = frozenset({"waiting", "submitting", "queued"})


async def _woken(waiter: "asyncio.Future[None]", among: "list[asyncio.Future[None]]") -> None:
    """One waiter that is cancelled cancels nothing but itself."""
    try:
        await waiter
    except BaseException:
        if waiter in among:
            among.remove(waiter)
        raise


def _wake(waiters: "list[asyncio.Future[None]] | None") -> None:
    for waiter in waiters or ():
        if not waiter.done():
            waiter.set_result(None)
