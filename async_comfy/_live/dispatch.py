"""Brings jobs to servers: sends what is due, follows it to its end, and does what has to follow."""

import asyncio
import logging
import time
from dataclasses import replace

import anyio

from async_comfy._live import endings
from async_comfy._live.handle import Job
from async_comfy._live.member import Member
from async_comfy._live.pool_job import PoolJob
from async_comfy._live.session import Session
from async_comfy._live.telemetry import Telemetry
from async_comfy.errors import Ambiguous, Cancelled, Closed, ComfyError, Rejected
from async_comfy.protocol.failover import LACKS, Again, Attempt, Ending, after
from async_comfy.protocol.host import Host, Placement
from async_comfy.protocol.lanes import Ticket
from async_comfy.protocol.ledger import Ledger
from async_comfy.protocol.scheduler import Scheduler
from async_comfy.results import Result

STOP_S = 10.0  # for a silent job to stop, until nobody can say what became of it

_WELL = frozenset(
    {
        *(Ending.COMPLETED, Ending.FAILED, Ending.OUT_OF_MEMORY),
        *(Ending.REJECTED, Ending.LACKING, Ending.CANCELLED),
    }
)
_RAN = frozenset({Ending.COMPLETED, Ending.FAILED, Ending.OUT_OF_MEMORY, Ending.CANCELLED})
_DOUBTFUL = frozenset({Ending.LOST, Ending.STALLED, Ending.AMBIGUOUS})
_BLAMED = frozenset({Ending.FAILED, Ending.OUT_OF_MEMORY, Ending.LOST})  # on the server and the models
_NEVER_RAN = frozenset({Ending.REJECTED, Ending.LACKING, Ending.UNREACHED})

Found = Result | ComfyError | None

_log = logging.getLogger("async_comfy")


class Dispatch:
    """The jobs of a pool, those that wait and those at servers. `members`: the servers by name."""

    def __init__(self, scheduler: Scheduler, members: dict[str, Member], *, free_between: bool) -> None:
        self.ledger = Ledger()
        self.closed = False
        self.telemetry: Telemetry | None = None
        self._scheduler = scheduler
        self._members = members
        self._free_between = free_between
        self._jobs: dict[Ticket, PoolJob] = {}
        self._attending: dict[Ticket, asyncio.Task[None]] = {}
        self._stopped: dict[Ticket, Ending] = {}  # why an attempt was taken from its server
        self._emptied = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Dispatch {self._scheduler.waiting} waiting, {self.running} at servers>"

    @property
    def running(self) -> int:
        """How many jobs are at servers, or on their way."""
        return len(self._attending)

    # What the pool says

    def enqueue(self, job: PoolJob) -> None:
        """It waits from now on, and goes to a server when one has room."""
        self._jobs[job.ticket] = job
        if self.telemetry is not None:
            self.telemetry.submitted(job)
        self._scheduler.submit(job.ticket, time.monotonic())
        self.decide()

    def withdraw(self, job: PoolJob) -> bool:
        """Takes a job from the queue; whether it was there."""
        if not self._scheduler.withdraw(job.ticket):
            return False
        self._end(job, error=Cancelled(f"The job {job.id} was cancelled.", prompt_id=job.prompt_id))
        return True

    def decide(self) -> None:
        """Sends what is due."""
        if self.closed or not self._scheduler.due:
            return
        loop = asyncio.get_running_loop()
        for placement in self._scheduler.decide(time.monotonic()):
            job = self._jobs[placement.ticket]
            job.placed(placement)
            models = placement.ticket.footprint.models
            self.ledger.waited(placement.waited_s, job.lane, models, placement.host)
            if self.telemetry is not None and job.span is not None:
                self.telemetry.placed(job, placement)
            attending = self._attend(job, placement)
            self._attending[placement.ticket] = loop.create_task(attending, context=job.context)

    async def empty(self, name: str) -> None:
        """Returns when the server has nothing of ours."""
        while name in self._scheduler.hosts and self._scheduler.hosts[name].hand:
            self._emptied.clear()
            await self._emptied.wait()

    def gone(self, member: Member) -> None:
        """Its process is gone, with its queue."""
        if (host := self._scheduler.hosts.get(member.name)) is not None:
            self._scheduler.left(member.name)
            for ticket in list(host.hand):
                self._take_away(ticket, Ending.LOST)

    def unpin(self, name: str) -> None:
        """The server was taken out: what waits for it alone is lost."""
        for job in [job for job in self._jobs.values() if job.needs.server == name and job.ticket.shelf]:
            self._scheduler.withdraw(job.ticket)
            self._end(job, error=endings.lost(job, name, "it was taken out before the job began"))

    def watch_silence(self, now: float) -> None:
        """A server whose job gives no sign for too long is quarantined, and given up with all it has."""
        for ticket in list(self._attending):
            job = self._jobs.get(ticket)
            host = self._scheduler.hosts.get(job.server or "") if job is not None else None
            if job is None or host is None or host.health.stuck or ticket in self._stopped:
                continue
            print_ = ticket.footprint
            silent_s = self._silent_s(job, host, now)
            if silent_s > self._scheduler.costs.stall_s(print_.shape, print_.models):
                _log.warning("%s: no sign of %s for %.0f s", host.name, job.id, silent_s)
                self._scheduler.stalled(host.name)
                for one in list(host.hand):
                    self._take_away(one, Ending.STALLED)

    async def close(self) -> None:
        """Whoever waits for a job gets `Closed`; what is at servers goes on there."""
        self.closed = True
        for job in list(self._jobs.values()):
            job.ended(error=Closed("The pool was closed.", hint="Jobs at a server go on there."))
        self._jobs.clear()
        attending = list(self._attending.values())
        for task in attending:
            task.cancel()
        await asyncio.gather(*attending, return_exceptions=True)

    # One attempt

    async def _attend(self, job: PoolJob, placement: Placement) -> None:
        """One attempt, from its placement to what follows it."""
        ending: Ending = Ending.UNREACHED
        found: Found = None
        try:
            ending, found = await self._attempt(job, placement)
        except asyncio.CancelledError:
            if placement.ticket not in self._stopped:
                raise
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - this is one
            task.uncancel()
            ending, found = await self._stop(job, placement)
        except Exception as trouble:  # noqa: BLE001  # told below, and by the log
            # A bug of ours must not leave a job without an outcome, nor a server with a job for ever.
            _log.exception("a pool failed at the job %s", job.id)
            ending = Ending.AMBIGUOUS
            found = Ambiguous(f"The pool failed at the job {job.id}.", evidence=[repr(trouble)])
        finally:
            self._attending.pop(placement.ticket, None)
            self._stopped.pop(placement.ticket, None)
            if not self.closed:
                begun = self._has_begun(job, placement, ending)
                self._settle(job, placement, ending, found, begun)
                self._go_on(job, placement, ending, found, begun)
                self.decide()

    async def _attempt(self, job: PoolJob, placement: Placement) -> tuple[Ending, Found]:
        member = self._members.get(placement.host)
        session = member.session if member is not None else None
        if member is None or session is None:
            return Ending.UNREACHED, member.trouble if member is not None else None
        inner: Job | None = None
        try:
            if job.free_first or (self._free_between and placement.cold and not placement.others):
                await self._free_before(job, placement, session)
            inner = await session._submit(
                job.workflow,
                job.options(),
                job.extra_data,
                partial=job.partial,
                keep_events=job.keep_events,
                sending=job.sent,
            )
            job.accepted(inner)
            if job.withdrawn:
                await inner.cancel()
            return Ending.COMPLETED, await inner
        except ComfyError as error:
            return endings.ending(error, job, accepted=inner is not None), error

    async def _free_before(self, job: PoolJob, placement: Placement, session: Session) -> None:
        """Unloads first, unless somebody else's prompt is there: it would lose its models half-way.

        What runs is through before a server unloads (main.py, prompt_worker), so ours do not suffer.
        """
        host = self._scheduler.hosts[placement.host]
        if not job.free_first and (len(host.hand) > 1 or not host.warmth.crowded):
            return
        if await session.queue.remaining() < len(host.hand):  # this one is not there yet
            await session.system.free()
            self._scheduler.freed(placement.host, keeping=job.ticket.footprint.models)

    async def _stop(self, job: PoolJob, placement: Placement) -> tuple[Ending, Found]:
        """An attempt was taken from its server: its process is gone, or it gave no sign for too long."""
        why = self._stopped[placement.ticket]
        inner = job.inner
        if inner is not None and inner.done and inner.state == "completed":
            return Ending.COMPLETED, await inner  # it made it just before
        if why is Ending.LOST or inner is None:
            return why, endings.lost(job, placement.host, "nobody listens there any more")
        with anyio.move_on_after(STOP_S):
            try:
                await inner.cancel(timeout=STOP_S)
                return Ending.COMPLETED, await inner
            except Cancelled:
                return Ending.STALLED, endings.lost(job, placement.host, "it gave no sign, and was stopped")
            except ComfyError as error:
                _log.warning("%s: a silent job could not be stopped: %s", placement.host, error)
        return Ending.AMBIGUOUS, Ambiguous(
            f"The job {job.id} gives no sign on {placement.host} and does not stop.",
            evidence=["no event for too long", f"asked to stop for {STOP_S:.0f} s"],
            hint="Look at that server before sending it again.",
            prompt_id=inner.id,
        )

    # What follows

    def _has_begun(self, job: PoolJob, placement: Placement, ending: Ending) -> bool:
        """Whether this attempt ran, or may have run."""
        if ending in _DOUBTFUL:
            return endings.may_have_begun(job, self._members.get(placement.host))
        return ending in _RAN

    def _settle(self, job: PoolJob, placement: Placement, ending: Ending, found: Found, begun: bool) -> None:
        """The server is free of it, and what it cost is learned."""
        now = time.monotonic()
        scheduler = self._scheduler
        ran_s = found.ran_s if isinstance(found, Result) and len(found.cached) < len(found.titles) else None
        if ending in _WELL:
            scheduler.worked(placement.host)
        else:
            scheduler.failed(placement.host, now)
        if ending is Ending.STALLED and begun:
            scheduler.recovered(placement.host, now)
        if ending in _NEVER_RAN:
            scheduler.never_ran(placement)
        loaded_s = scheduler.ended(placement.ticket, placement.host, now, ran_s=ran_s)
        if ending in _BLAMED and (begun or ending is not Ending.LOST):
            scheduler.failed_with(placement, now, died=ending is Ending.LOST)
        models = placement.ticket.footprint.models
        self.ledger.ended(ending, job.lane, models, placement.host, ran_s=ran_s, loaded_s=loaded_s)
        if self.telemetry is not None and job.span is not None:
            self.telemetry.attempted(job, placement.host, ending, ran_s, loaded_s)
        self._emptied.set()

    def _go_on(self, job: PoolJob, placement: Placement, ending: Ending, found: Found, begun: bool) -> None:
        """The outcome, or another attempt."""
        member = self._members.get(placement.host)
        vram_bytes = member.vram_bytes if member is not None else 0
        job.attempts.append(Attempt(placement.host, ending, begun, vram_bytes, job.sent_id))
        if isinstance(found, Result):
            self._end(job, result=found)
            return
        error = found or endings.lost(job, placement.host, "it never got there")
        if ending is Ending.LACKING and isinstance(error, Rejected):
            self._scheduler.lacks(placement.host, endings.lacking(error, job), time.monotonic())
        again = None if job.withdrawn else after(job.attempts, job.retry)
        if again is None or not self._again(job, again):
            self._end(job, error=endings.last_word(job, error))

    def _again(self, job: PoolJob, again: Again) -> bool:
        """Puts it back into the queue; whether there is a server that could take it."""
        models = job.ticket.footprint.models
        needs = replace(
            job.needs,
            server=again.server or job.needs.server,
            vram_bytes=max(job.needs.vram_bytes, again.above_bytes + 1 if again.above_bytes else 0),
            without=job.needs.without | again.without,
        )
        if not self._scheduler.can_ever(needs, models) and not again.above_bytes and again.why != LACKS:
            needs = replace(needs, without=job.needs.without)  # better there once more than nowhere
        if not self._scheduler.can_ever(needs, models):
            return False
        _log.info("placing %s again: %s", job.id, again.why)
        job.free_first = again.free
        job.ticket.needs = needs
        job.returned()
        self._scheduler.submit(job.ticket, time.monotonic())
        return True

    def _end(self, job: PoolJob, *, result: Result | None = None, error: ComfyError | None = None) -> None:
        self._jobs.pop(job.ticket, None)
        if job.withdrawn and error is not None and not isinstance(error, Cancelled):
            error = Cancelled(f"The job {job.id} was cancelled.", hint=str(error), prompt_id=job.prompt_id)
        job.ended(result=result, error=error)

    def _silent_s(self, job: PoolJob, host: Host, now: float) -> float:
        """Seconds since the last sign of it, or since its turn to begin came."""
        inner = job.inner
        if inner is None or inner.done:
            return 0.0
        first = next(iter(host.hand.items()), None)
        turn_at = first[1].since if first is not None and first[0] is job.ticket and not host.others else now
        return endings.silent_s(inner, turn_at, now)

    def _take_away(self, ticket: Ticket, why: Ending) -> None:
        if ticket in self._attending and ticket not in self._stopped:
            self._stopped[ticket] = why
            self._attending[ticket].cancel()
