"""Brings jobs to servers: sends what is due, follows it to its end, and does what has to follow."""

import asyncio
import logging
import time
from dataclasses import dataclass, replace

import anyio

from async_comfy._live import endings
from async_comfy._live.handle import Job
from async_comfy._live.member import Member, unload
from async_comfy._live.pool_job import PoolJob
from async_comfy._live.session import Session
from async_comfy._live.telemetry import Telemetry
from async_comfy.errors import Ambiguous, Cancelled, Closed, ComfyError, Failed, Rejected
from async_comfy.protocol.failover import LACKS, Again, Attempt, Ending, after, without_a_bigger_card
from async_comfy.protocol.host import Host, Placement
from async_comfy.protocol.lanes import Needs, Ticket
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

_TOLD = (Cancelled, Failed, Rejected, Ambiguous)  # also to who cancelled it: it may have run, or may yet

Found = Result | ComfyError | None

_log = logging.getLogger("async_comfy")


@dataclass(frozen=True, slots=True)
class _Why:
    """Why an attempt was taken from its server, with what was seen. `alive`: unless stopped, it goes on."""

    ending: Ending
    seen: str
    alive: bool = True


_DEAD = _Why(Ending.LOST, "nobody listens there any more", alive=False)
_SILENT = _Why(Ending.STALLED, "it gave no sign, and was stopped")
_TAKEN_OUT = _Why(Ending.LOST, "the server was taken out, and it was stopped there")


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
        self._stopped: dict[Ticket, _Why] = {}
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
        """Returns when the server has nothing of ours. Raises: Closed."""
        while name in self._scheduler.hosts and self._scheduler.hosts[name].hand:
            self._emptied.clear()
            await self._emptied.wait()
            if self.closed:
                raise Closed("The pool was closed.", hint="What is at the server goes on there.")

    def gone(self, member: Member) -> None:
        """Its process is gone, with its queue."""
        if (host := self._scheduler.hosts.get(member.name)) is not None:
            self._scheduler.left(member.name)
            self._take_all(host, _DEAD)
            self.release(member.name)

    async def recall(self, name: str) -> None:
        """Stops what the server has of ours, and returns when it has nothing. Raises: Closed."""
        host = self._scheduler.hosts[name]
        await asyncio.sleep(0)  # an attempt that was just placed begins first
        with anyio.move_on_after(STOP_S):
            for job in [self._jobs[ticket] for ticket in host.hand if ticket in self._jobs]:
                while job.sent_id and job.inner is None and not job.done:
                    await job.moved()  # only the answer to its POST tells what there is to stop
        self._take_all(host, _TAKEN_OUT)
        await self.empty(name)

    def release(self, name: str) -> None:
        """The server takes nothing: what we, not its caller, want to run there once more may go anywhere."""
        for job in list(self._jobs.values()):
            needs = job.ticket.needs
            if job.ticket.shelf is not None and needs.server == name and job.needs.server is None:
                self._scheduler.withdraw(job.ticket)
                self._requeue(job, replace(needs, server=None))

    def unpin(self, name: str) -> None:
        """The server was taken out: what waits for it alone is lost."""
        for job in [job for job in self._jobs.values() if job.needs.server == name and job.ticket.shelf]:
            self._scheduler.withdraw(job.ticket)
            self._end(job, error=endings.never_began(job, name))

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
                self._take_all(host, _SILENT)

    async def close(self) -> None:
        """Whoever waits for a job gets `Closed`; what is at servers goes on there."""
        self.closed = True
        for job in list(self._jobs.values()):
            self._scheduler.withdraw(job.ticket)
            job.ended(error=Closed("The pool was closed.", hint="Jobs at a server go on there."))
        self._jobs.clear()
        self._emptied.set()
        attending = list(self._attending.values())
        for task in attending:
            task.cancel()
        await asyncio.gather(*attending, return_exceptions=True)

    # One attempt

    async def _attend(self, job: PoolJob, placement: Placement) -> None:
        """One attempt, from its placement to what follows it."""
        try:
            ending, found = await self._attempt(job, placement)
        except asyncio.CancelledError:
            # The pool was closed, or the event loop ends. Nothing is sent any more.
            self._scheduler.ended(placement.ticket, placement.host, time.monotonic())
            self._end(job, error=Closed("The pool was stopped.", hint="Jobs at a server go on there."))
            raise
        except Exception as trouble:  # noqa: BLE001  # told below, and by the log
            # A bug of ours must not leave a job without an outcome, nor a server with a job for ever.
            _log.exception("a pool failed at the job %s", job.id)
            ending = Ending.AMBIGUOUS
            found = Ambiguous(
                f"The pool failed at the job {job.id}.", evidence=[repr(trouble)], hint="The log says where."
            )
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
            if job.free_first or (self._free_between and placement.foreign and not placement.others):
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
                await session.cancel_in_courtesy(inner)
            return Ending.COMPLETED, await inner
        except ComfyError as error:
            return endings.ending(error, job, accepted=inner is not None), error
        except asyncio.CancelledError:
            if placement.ticket not in self._stopped:
                raise
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - this is one
            task.uncancel()
            return await self._stop(job, placement)

    async def _free_before(self, job: PoolJob, placement: Placement, session: Session) -> None:
        """Unloads first, unless somebody else's prompt is there: it would lose its models half-way.

        What runs is through before a server unloads (main.py, prompt_worker), so ours do not suffer.
        """
        host = self._scheduler.hosts[placement.host]
        if not job.free_first and (len(host.hand) > 1 or not host.warmth.crowded):
            return
        if await session.queue.remaining() < len(host.hand):  # this one is not there yet
            pause_s = await unload(session)
            self._scheduler.freed(placement.host, keeping=job.ticket.footprint.models)
            await anyio.sleep(pause_s)

    async def _stop(self, job: PoolJob, placement: Placement) -> tuple[Ending, Found]:
        """An attempt was taken from its server: it is stopped there, if there is anybody to run it."""
        inner = job.inner
        if inner is not None and not inner.done and self._stopped[placement.ticket].alive:
            try:
                with anyio.move_on_after(STOP_S):
                    await inner.cancel(timeout=STOP_S)
            except ComfyError as error:
                _log.warning("%s: %s could not be stopped: %s", placement.host, job.id, error)
        why = self._stopped[placement.ticket]  # it may have died meanwhile
        if inner is not None and inner.done:
            try:
                return Ending.COMPLETED, await inner  # it made it just before
            except ComfyError as error:
                if not (why.alive and isinstance(error, Cancelled)):
                    return endings.ending(error, job, accepted=True), error
        elif why.alive and job.sent_id:
            if inner is not None:
                inner.give_up()
            return Ending.AMBIGUOUS, endings.unstopped(job, placement.host, STOP_S)
        return why.ending, endings.lost(job, placement.host, why.seen)

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
        footprint = placement.ticket.footprint
        ran_s, kept = None, None
        if isinstance(found, Result) and len(found.cached) < len(found.titles):
            ran_s = found.ran_s
            whole = ran_s is not None and footprint.loaders and job.targets is None
            kept = footprint.loaders <= found.cached if whole else None
        if ending in _WELL:
            scheduler.worked(placement.host)
        else:
            scheduler.failed(placement.host, now)
        if ending is Ending.STALLED and begun:
            scheduler.recovered(placement.host, now)
        if ending in _NEVER_RAN:
            scheduler.never_ran(placement)
        loaded_s = scheduler.ended(placement.ticket, placement.host, now, ran_s=ran_s, kept=kept)
        if job.rehearsal and ran_s is not None and kept is False:
            loaded_s = ran_s  # nearly all of it
            scheduler.costs.loaded(footprint.models, loaded_s, placement.host)
        if ending in _BLAMED and (begun or ending is not Ending.LOST):
            scheduler.failed_with(placement, now, died=ending is Ending.LOST)
        self.ledger.ended(ending, job.lane, footprint.models, placement.host, ran_s=ran_s, loaded_s=loaded_s)
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
        chances = [after(job.attempts, job.retry)]
        if chances[0] is not None and chances[0].above_bytes:
            chances.append(without_a_bigger_card(job.attempts, job.retry))
        if job.withdrawn or not any(again is not None and self._again(job, again) for again in chances):
            self._end(job, error=endings.last_word(job, error))

    def _again(self, job: PoolJob, again: Again) -> bool:
        """Puts it back into the queue; whether there is a server that could take it."""
        models = job.ticket.footprint.models
        there = self._scheduler.hosts.get(again.server or "")
        stays = there is not None and there.health.connected and not there.health.draining
        needs = replace(
            job.needs,
            server=again.server if stays else job.needs.server,
            vram_bytes=max(job.needs.vram_bytes, again.above_bytes + 1 if again.above_bytes else 0),
            without=job.needs.without | again.without,
        )
        if (
            not self._scheduler.can_ever(needs, models, job.lane)
            and not again.above_bytes
            and again.why != LACKS
        ):
            needs = replace(needs, without=job.needs.without)  # better there once more than nowhere
        if job.lane not in self._scheduler.lanes or not self._scheduler.can_ever(needs, models, job.lane):
            return False
        _log.info("placing %s again: %s", job.id, again.why)
        self._requeue(job, needs, free_first=again.free and stays)
        return True

    def _requeue(self, job: PoolJob, needs: Needs, *, free_first: bool = False) -> None:
        job.free_first = free_first
        job.ticket.needs = needs
        job.returned()
        self._scheduler.submit(job.ticket, time.monotonic())

    def _end(self, job: PoolJob, *, result: Result | None = None, error: ComfyError | None = None) -> None:
        self._jobs.pop(job.ticket, None)
        if job.withdrawn and error is not None and not isinstance(error, _TOLD):
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

    def _take_all(self, host: Host, why: _Why) -> None:
        """All that the server has. A task is cancelled once it has begun; before, it would end unseen."""
        for ticket in host.hand:
            if (attending := self._attending.get(ticket)) is None:
                continue
            if ticket not in self._stopped:
                asyncio.get_running_loop().call_soon(attending.cancel)
            if ticket not in self._stopped or not why.alive:
                self._stopped[ticket] = why
