"""What the user holds: a job on a server, to await, to watch, to cancel.

The job lives on the server. Dropping the handle leaves it running; `async with` ties it to the block.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Generator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

import anyio

from async_comfy._live.mailbox import Item, Mailbox
from async_comfy.errors import CallerError, TimedOut
from async_comfy.events import Event, Preview
from async_comfy.protocol.job import Life, State
from async_comfy.results import JobProgress, Result

if TYPE_CHECKING:
    from async_comfy._live.session import Session
    from async_comfy._live.switchboard import Switchboard

T = TypeVar("T")

_WAITING = frozenset({State.SUBMITTING, State.QUEUED})


class Job:
    """One prompt on a server.

    `await job` gives its `Result` or raises what went wrong, as often and from as many tasks as you
    like; a waiter that is cancelled cancels nothing but itself. `async for event in job` gives its
    events from the first on and ends with the job; each loop is a watcher of its own.
    """

    __slots__ = (
        "_board",
        "_keeps",
        "_life",
        "_log",
        "_mailboxes",
        "_result",
        "_seeds",
        "_session",
        "_waiters",
    )

    def __init__(
        self,
        session: "Session",
        board: "Switchboard",
        life: Life,
        seeds: Mapping[str, int],
        *,
        keep_events: bool,
    ) -> None:
        self._session = session
        self._board = board
        self._life = life
        self._seeds = seeds
        self._keeps = keep_events
        self._log: Mailbox | None = None  # made by the first event: thousands may be waiting in a queue
        self._mailboxes: list[Mailbox] | None = None
        self._waiters: list[asyncio.Future[None]] | None = None
        self._result: Result | None = None
        life.listener = self
        life.watched = keep_events

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.state} on {self._session.url}>"

    @property
    def id(self) -> str:
        """The prompt id."""
        return self._life.prompt_id

    @property
    def number(self) -> float | None:
        """The server's queue number; lower runs first."""
        return self._life.number

    @property
    def state(self) -> str:
        """Where it is: "queued", "running", ... and in the end one of the six outcomes."""
        return str(self._life.state)

    @property
    def done(self) -> bool:
        """Whether the outcome stands. It never changes then."""
        return self._life.over

    @property
    def dropped(self) -> int:
        """How many gauges and previews were left out because watchers did not keep up."""
        boxes = [*(self._mailboxes or ()), *([self._log] if self._log is not None else ())]
        return sum(box.dropped for box in boxes)

    @property
    def progress(self) -> JobProgress:
        """How far it is right now. Costs nothing when nobody asks."""
        return self._board.measure(self._life)

    def __await__(self) -> Generator[None, None, Result]:
        """Waits for the end. Raises: `Failed`, `Cancelled`, `Lost`, `Ambiguous`, `Closed`."""
        return self._wait().__await__()

    async def wait(self, *, queued: float | None = None, running: float | None = None) -> Result:
        """Waits with patience of `queued` seconds in the queue and `running` seconds of running.

        Raises: TimedOut, with the phase in which it was; the job itself goes on. CallerError for a patience
        that is no number of seconds. Else as `await job`.
        """
        check_patience(queued=queued, running=running)
        await self._within(self._left_queue(), "queued", queued)
        return await self._within(self._wait(), "running", running)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self.events()

    async def events(self) -> AsyncGenerator[Event, None]:
        """Its events from the first on, in order; ends with the job. Raises: `Closed`, `NetworkError`."""
        box = self._watch()
        try:
            while not box.closed or box:
                while (event := box.take()) is not None:
                    yield event
                await box.wait()
            if not self.done:
                self._board.check()
        finally:
            self._unwatch(box)

    async def previews(self) -> AsyncGenerator[Preview, None]:
        """The pictures in the making, the newest where the reader is slow; ends with the job."""
        async for event in self.events():
            if isinstance(event, Preview):
                yield event

    async def cancel(self, *, timeout: float = 10.0, force: bool = False) -> bool:
        """Takes it from the queue or stops it, and no other job; whether it ended as cancelled.

        Repeats the request until the job is over, for at most `timeout` seconds. A server too old to
        interrupt by id would stop whatever runs: it is asked only with `force=True`.

        Raises: TimedOut; the request stands, the node just has not looked yet. CallerError for a server
        that is too old. NetworkError.
        """
        return await self._session.cancel(self, timeout=timeout, force=force)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.done:
            await self._session.cancel_in_courtesy(self)

    def heard(self, event: Event) -> None:
        """Listener: an event of this job. Not for users."""
        for box in self._mailboxes or ():
            box.put(event)
        if self._keeps:
            self._keep(event)

    def heard_gauge(self, raw: bytes) -> None:
        """Listener: a gauge of this job; kept only until there is a watcher to take it. Not for users."""
        boxes = self._mailboxes
        if boxes:
            for box in boxes:
                box.put(raw)
        elif self._keeps:
            self._keep(raw)

    def _keep(self, item: Item) -> None:
        if self._log is None:
            self._log = Mailbox()
        self._log.put(item)

    def ended(self) -> None:
        """Listener: the outcome stands, or the session does not. Not for users."""
        for box in [*(self._mailboxes or ()), *([self._log] if self._log is not None else ())]:
            box.close()
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    def give_up(self) -> None:
        """It is followed no more, since nobody can say how it will end. Not for users."""
        self._board.give_up(self._life)

    @property
    def life(self) -> Life:
        """The pure life behind it. Not for users."""
        return self._life

    async def settled(self) -> None:
        """Waits until the outcome stands or the session does not; raises nothing of the job's."""
        if self.done or self._board.failure is not None:
            return
        waiter = asyncio.get_running_loop().create_future()
        waiters = self._waiters = self._waiters or []
        waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in waiters:
                waiters.remove(waiter)

    async def _wait(self) -> Result:
        await self.settled()
        if self._life.over:
            self._board.told(self._life)
        if self._life.state is State.COMPLETED:
            self._result = self._result or self._board.result(self._life, self._seeds)
            return self._result
        if self._life.over:
            raise self._board.error(self._life)
        self._board.check()
        raise AssertionError("a waiter woke although nothing ended")

    async def _left_queue(self) -> None:
        if self._life.state not in _WAITING:
            return
        async for _ in self.events():
            if self._life.state not in _WAITING:
                return

    async def _within(self, wait: Coroutine[None, None, T], phase: str, seconds: float | None) -> T:
        try:
            with anyio.fail_after(seconds):
                return await wait
        except TimedOut:
            raise
        except TimeoutError:
            raise TimedOut(
                f"The job {self.id} was still {phase} after {seconds:g} s.",
                phase=phase,
                seconds=seconds or 0.0,
                hint="It goes on at the server; cancel it or wait longer.",
                prompt_id=self.id,
            ) from None

    def _watch(self) -> Mailbox:
        box = self._log.copy() if self._log is not None else Mailbox()
        if self.done or self._board.failure is not None:
            box.close()
        self._mailboxes = self._mailboxes or []
        self._mailboxes.append(box)
        self._life.watched = True
        return box

    def _unwatch(self, box: Mailbox) -> None:
        if self._mailboxes is not None and box in self._mailboxes:
            self._mailboxes.remove(box)
        self._life.watched = bool(self._mailboxes) or self._keeps


def check_patience(**given: object) -> None:
    """Raises: CallerError for what is neither None nor a number of seconds; it names which."""
    for name, seconds in given.items():
        if seconds is not None and not (isinstance(seconds, int | float) and seconds >= 0):  # NaN is neither
            raise CallerError(f"{name} cannot be {seconds!r}.", hint="Give it seconds, or None for ever.")
