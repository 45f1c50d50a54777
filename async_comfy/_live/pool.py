"""Many servers as one: a session each, one queue on our side, and each prompt placed late."""

import asyncio
import logging
import os
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from dataclasses import replace
from itertools import count
from types import TracebackType
from typing import Any, Self

import anyio

from async_comfy._live import discovery, endings
from async_comfy._live.access import access
from async_comfy._live.discovery import Discovery
from async_comfy._live.fleet import GIB, Fleet, Server, as_server
from async_comfy._live.handle import Job
from async_comfy._live.member import Member
from async_comfy._live.pool_job import PoolJob
from async_comfy._live.pool_stats import ServerStats, Stats
from async_comfy._live.session import COURTESY_S, PERSISTENCE_S, Prompt, Session
from async_comfy.errors import (
    Ambiguous,
    CallerError,
    Cancelled,
    Closed,
    ComfyError,
    Rejected,
    TimedOut,
    Unreachable,
)
from async_comfy.protocol.failover import Again, Attempt, Ending, Retry, after
from async_comfy.protocol.footprint import Footprint, footprint, of_classes
from async_comfy.protocol.lanes import Lane, Needs, Ticket, boost_s
from async_comfy.protocol.ledger import Figures, Ledger, label
from async_comfy.protocol.placement import AHEAD_S, DEPTH, Host, Placement, Scheduler
from async_comfy.results import Result
from async_comfy.workflow import SeedRule, Workflow

TICK_S = 0.25  # between looks at the members: connected, strangers, silence
CLOSE_S = 5.0  # closing takes at most so long, however many servers
STOP_S = 10.0  # for a silent job to stop, until nobody can say what became of it
LIMIT = 500  # jobs of `map` that are open at once: enough for hundreds of servers, little memory

_log = logging.getLogger("async_comfy")


class Pool:
    """Drives many ComfyUI servers.

    `servers`: URLs or `Server`s. `lanes`: classes of jobs; without, there is one, "default". `discover`:
    asked now and then for the servers that there are. `options`: of every `Session` (credentials, ssl).
    `depth`: prompts at one server; `ahead_s`: how short the work there must be for a second one.
    `free_between`: unload models before those of another family, where nobody else uses the server.

    Use it in ``async with``, or call `open` and `close`.
    """

    def __init__(
        self,
        servers: Iterable[Server | str] = (),
        *,
        lanes: Sequence[Lane] = (),
        discover: Discovery | None = None,
        options: Mapping[str, Any] | None = None,
        depth: int = DEPTH,
        ahead_s: float = AHEAD_S,
        free_between: bool = False,
    ) -> None:
        self._options = dict(options or {})
        self._first = [as_server(server, self._options) for server in servers]
        if not self._first and discover is None:
            raise CallerError("A pool needs a server.", hint='Give URLs: Pool(["http://gpu1:8188"]).')
        self._discover = discover
        self._free_between = free_between
        self._scheduler = Scheduler(tuple(lanes), depth=depth, ahead_s=ahead_s)
        self._ledger = Ledger()
        self._members: dict[str, Member] = {}
        self._jobs: dict[Ticket, PoolJob] = {}
        self._attending: dict[Ticket, asyncio.Task[None]] = {}
        self._stopped: dict[Ticket, Ending] = {}  # why an attempt was taken from its server
        self._numbers = count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._emptied = asyncio.Event()
        self._opened = self._closed = False

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], *, follow: bool = True, **options: Any) -> "Pool":
        """The fleet in a TOML file; with `follow`, servers come and go as the file changes.

        Raises: CallerError, saying which entry and what to do.
        """
        fleet = Fleet.load(path)
        look = discovery.in_file(path) if follow else None
        settings = {"lanes": fleet.lanes, "depth": fleet.depth, "ahead_s": fleet.ahead_s, "discover": look}
        return cls(fleet.servers, **{**settings, **options})

    def __repr__(self) -> str:
        up = sum(member.up for member in self._members.values())
        return f"<Pool {up} of {len(self._members)} servers, {self._scheduler.waiting} jobs wait>"

    async def open(self) -> Self:
        """Connects; returns once one server is ready.

        Raises: Unreachable, Denied, NotComfyUI: what the first server said, where none is to be had.
        """
        if self._discover is not None and not self._first:
            self._first = [as_server(s, self._options) for s in await discovery.servers(self._discover)]
        self._opened = True
        for server in self._first:
            self._join(server)
        try:
            await self._wait_for_the_first()
        except BaseException:
            await self.close()
            raise
        self._spawn(self._keep_looking())
        if self._discover is not None:
            self._spawn(self._keep_discovering(self._discover))
        return self

    async def close(self) -> None:
        """Ends the connections, not the jobs: those at servers live on there, those that wait end.

        Whoever waits for one gets `Closed`. Takes at most five seconds.
        """
        if self._closed:
            return
        self._closed = True
        for job in list(self._jobs.values()):
            job.ended(error=Closed("The pool was closed.", hint="Jobs at a server go on there."))
        self._jobs.clear()
        with anyio.move_on_after(CLOSE_S, shield=True):
            for task in self._tasks:
                task.cancel()
            members = [member.close() for member in self._members.values()]
            await asyncio.gather(*self._tasks, *members, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # Jobs

    async def submit(
        self,
        workflow: Prompt,
        *,
        lane: str | None = None,
        priority: float = 0.0,
        deadline: float | None = None,
        server: str | None = None,
        key: str = "",
        labels: Iterable[str] = (),
        vram_gb: float = 0.0,
        retry: Retry = "never",
        seed: SeedRule = "fixed",
        partial: bool = False,
        targets: Sequence[str] | None = None,
        extra_data: Mapping[str, Any] | None = None,
        keep_events: bool = True,
    ) -> PoolJob:
        """Puts a workflow into the queue; returns at once. It goes to a server when one has room.

        `lane`: its class. `priority`: each point is worth a minute of waiting. `deadline`: seconds from now
        by which it should be done; it orders, it does not cancel. `server`: this one and no other. `key`:
        whose it is: the lane is shared fairly among keys, and a key returns to its server. `labels`,
        `vram_gb`: what the server must have. `retry`: when to run again what had begun: "never", "if_lost",
        or a number of times, whatever failed. `seed`: as `Session.submit` takes it, drawn once for all
        attempts. `keep_events=False`: nobody will iterate late.

        Raises: WorkflowError, CallerError for an unknown lane or server, Closed
        """
        self._check()
        found = await self._resolve(workflow)
        if seed != "fixed":
            found = found.with_seed(seed)
        ticket = self._ticket(found, self._lane(lane), key, priority, deadline)
        asked = frozenset(labels)
        ticket.needs = Needs(
            classes=ticket.footprint.classes,
            labels=asked,
            vram_bytes=int(vram_gb * GIB),
            server=self._server(server),
        )
        self._check_needs(ticket)
        job = PoolJob(
            self,
            found,
            ticket,
            retry=retry,
            partial=partial,
            targets=targets,
            extra_data=extra_data,
            keep_events=keep_events,
        )
        self._enqueue(job)
        return job

    async def run(self, workflow: Prompt, **options: Any) -> Result:
        """Runs a workflow anywhere and waits for what it makes; cancelling this cancels the job.

        Takes what `submit` takes. Raises: what `submit` raises; Rejected, Failed, Cancelled, Lost, Ambiguous
        """
        job = await self.submit(workflow, **{"keep_events": False, **options})
        try:
            return await job
        except BaseException:
            if not job.done and not self._closed:
                await self.cancel_in_courtesy(job)
            raise

    async def map(
        self, workflows: Iterable[Prompt] | AsyncIterable[Prompt], *, limit: int = LIMIT, **options: Any
    ) -> AsyncGenerator[PoolJob, None]:
        """Runs them all and yields each job as it ends, whatever its outcome; await it for the result.

        At most `limit` are taken from `workflows` ahead of what was yielded, so memory is bounded. Takes
        what `submit` takes. Leaving the loop cancels those that are open: close the iterator for that
        (``contextlib.aclosing``), or leave the pool.
        """
        source = _each(workflows)
        finished: asyncio.Queue[PoolJob] = asyncio.Queue()
        open_jobs: set[PoolJob] = set()
        more = True
        try:
            while more or open_jobs:
                while more and len(open_jobs) < limit:
                    try:
                        workflow = await anext(source)
                    except StopAsyncIteration:
                        more = False
                        break
                    job = await self.submit(workflow, **{"keep_events": False, **options})
                    open_jobs.add(job)
                    job.on_end(finished.put_nowait)
                if open_jobs:
                    job = await finished.get()
                    open_jobs.discard(job)
                    yield job
        finally:
            for job in [job for job in open_jobs if not job.done]:
                self._spawn(self._cancel_quietly(job))

    async def cancel(self, job: PoolJob, *, timeout: float = 10.0, force: bool = False) -> bool:
        """Cancels this job and no other. See `PoolJob.cancel`."""
        self._check()
        job.withdrawn = True
        if self._scheduler.withdraw(job.ticket):
            self._end(job, error=Cancelled(f"The job {job.id} was cancelled.", prompt_id=job.prompt_id))
            return True
        with anyio.move_on_after(timeout):
            while not job.done:
                if job.inner is None or job.inner.done:
                    await job.moved()
                    continue
                await job.inner.cancel(timeout=timeout, force=force)
                await job.settled()
        if not job.done:
            raise TimedOut(
                f"The job {job.id} has not stopped within {timeout:g} s.",
                phase=job.state,
                seconds=timeout,
                hint="The request stands.",
                prompt_id=job.prompt_id,
            )
        return job.state == "cancelled"

    async def cancel_in_courtesy(self, job: PoolJob) -> None:
        """Cancels, also while the caller is being cancelled; goes on behind its back after five seconds."""
        cancelling = self._spawn(self._cancel_quietly(job))
        with anyio.CancelScope(shield=True):
            await asyncio.wait({cancelling}, timeout=COURTESY_S)

    def explain(self, job: PoolJob) -> str:
        """Why a job is where it is, or why it still waits, server by server."""
        if job.placement is None and not job.done:
            return self._scheduler.explain(job.ticket, time.monotonic())
        past = [f"{one.server}: {one.ending}{' after it began' if one.begun else ''}" for one in job.attempts]
        return "\n".join([str(job.placement or job.state), *(f"  before: {line}" for line in past[:-1])])

    # Servers

    async def add(self, server: Server | str) -> str:
        """One more server, from now on; its name. Raises: CallerError where that name is taken."""
        self._check()
        found = as_server(server, self._options)
        if found.name in self._members:
            raise CallerError(f"The pool has a server {found.name!r} already.", hint="Give it another name.")
        self._join(found)
        return found.name

    async def drain(self, server: str) -> None:
        """Gives it nothing new, and returns when what it has of ours has ended. `resume` undoes it."""
        name = self._known(server)
        self._scheduler.drain(name, time.monotonic())
        while name in self._scheduler.hosts and self._scheduler.hosts[name].hand:
            self._emptied.clear()
            await self._emptied.wait()

    def resume(self, server: str) -> None:
        """It takes jobs again after a `drain`."""
        self._scheduler.drain(self._known(server), time.monotonic(), draining=False)
        self._decide()

    async def remove(self, server: str, *, drain: bool = True) -> None:
        """Takes a server out: after draining, or at once; then what was there counts as lost."""
        name = self._known(server)
        if drain:
            await self.drain(name)
        member = self._members.pop(name)
        self._dead(member)
        self._scheduler.remove(name)
        for job in [job for job in self._jobs.values() if job.needs.server == name and job.ticket.shelf]:
            self._scheduler.withdraw(job.ticket)
            self._end(job, error=endings.lost(job, name, "it was taken out before the job began"))
        await member.close()

    async def free(self, server: str) -> None:
        """Unloads its models once the running prompt is through (POST /free)."""
        member = self._members[self._known(server)]
        if member.session is None:
            raise Unreachable(f"{member.name} is not connected.", hint="Wait until it is ready.")
        await member.session.system.free()
        self._scheduler.freed(member.name)

    async def warm(self, workflow: Prompt, *, servers: int = 1) -> list[str]:
        """Sees that so many servers hold the workflow's models; the names of those that do.

        Where too few do, others run it once, with one step and without saving. Raises: as `run`.
        """
        self._check()
        found = await self._resolve(workflow)
        print_ = _footprint(found)
        holders = self._scheduler.holders(print_.models)
        needs = Needs(classes=print_.classes)
        cold = self._scheduler.coldest(needs, print_.models, time.monotonic())
        chosen = [name for name in cold if name not in holders][: max(servers - len(holders), 0)]
        rehearsal = _rehearsal(found)
        await asyncio.gather(*(self.run(rehearsal, server=name) for name in chosen))
        return self._scheduler.holders(print_.models)

    def stats(self) -> Stats:
        """What it did and does."""
        counters = self._scheduler.counters
        servers = self._ledger.figures("server")
        return Stats(
            waiting=self._scheduler.waiting,
            running=len(self._attending),
            placed=counters.placed,
            cold_loads=counters.cold,
            ejections=counters.ejected,
            quarantines=counters.quarantined,
            requests=sum(_requests(member) for member in self._members.values()),
            servers=tuple(self._server_stats(m, servers.get(m.name)) for m in self._members.values()),
            lanes=self._ledger.figures("lane"),
            models=self._ledger.figures("models"),
        )

    def metrics(self) -> str:
        """The same as Prometheus reads it (text format 0.0.4)."""
        stats = self.stats()
        return self._ledger.exposition(
            {
                "async_comfy_jobs_waiting": {
                    label("lane", name): queue.count for name, queue in self._scheduler.lanes.items()
                },
                "async_comfy_jobs_placed": {label("server", s.name): s.jobs for s in stats.servers},
                "async_comfy_prompts_of_others": {label("server", s.name): s.others for s in stats.servers},
                "async_comfy_server_ready": {
                    label("server", s.name): float(s.state in {"ready", "probing"}) for s in stats.servers
                },
                "async_comfy_cold_loads": {"": stats.cold_loads},
                "async_comfy_http_requests": {"": stats.requests},
            }
        )

    # What follows keeps the books; nobody outside calls it.

    def _check(self) -> None:
        if self._closed:
            raise Closed("The pool was closed.", hint="Make a new one.")
        if not self._opened:
            raise Closed("This pool is not open.", hint="Use it inside `async with Pool(...)`.")

    async def _resolve(self, workflow: Prompt) -> Workflow:
        """The editor's format is converted with the nodes of a server that knows them all."""
        found = workflow if isinstance(workflow, Workflow) else Workflow.load(workflow)
        trouble: ComfyError | None = None
        for member in list(self._members.values()) if found.format != "api" else ():
            if not member.up or member.session is None:
                continue
            try:
                return found.resolve(await member.session.nodes.some(sorted(found.class_types)))
            except ComfyError as error:
                trouble = trouble or error
        if trouble is not None:
            raise trouble
        return found

    def _lane(self, lane: str | None) -> str:
        lanes = self._scheduler.lanes
        name = lane if lane is not None else next(iter(lanes))
        if name not in lanes:
            raise CallerError(f"There is no lane {name!r}.", hint=f"There are: {', '.join(lanes)}.")
        return name

    def _server(self, server: str | None) -> str | None:
        return self._known(server) if server is not None else None

    def _known(self, server: str) -> str:
        if server in self._members:
            return server
        for name, member in self._members.items():
            if server == member.server.url or name.partition(":")[0] == server:
                return name
        there = ", ".join(list(self._members)[:10]) or "none"
        raise CallerError(f"There is no server {server!r} in this pool.", hint=f"There are: {there}.")

    def _check_needs(self, ticket: Ticket) -> None:
        wanted = ticket.needs.labels
        if wanted and not any(wanted <= host.labels for host in self._scheduler.hosts.values()):
            raise CallerError(
                f"No server of this pool has the labels {', '.join(sorted(wanted))}.",
                hint="Label one, or ask for less.",
            )

    def _ticket(
        self, workflow: Workflow, lane: str, key: str, priority: float, deadline: float | None
    ) -> Ticket:
        print_ = _footprint(workflow)
        expected_s = self._scheduler.costs.run_s(print_.shape)
        return Ticket(
            number=next(self._numbers),
            footprint=print_,
            needs=Needs(),
            came_at=time.monotonic(),
            lane=lane,
            tenant=key,
            boost_s=boost_s(priority, deadline, expected_s),
        )

    def _enqueue(self, job: PoolJob) -> None:
        self._jobs[job.ticket] = job
        self._scheduler.submit(job.ticket, time.monotonic())
        self._decide()

    def _decide(self) -> None:
        if self._closed:
            return
        for placement in self._scheduler.decide(time.monotonic()):
            job = self._jobs[placement.ticket]
            job.placed(placement)
            self._ledger.waited(placement.waited_s, lane=job.lane, **_names(placement))
            self._attending[placement.ticket] = self._spawn(self._attend(job, placement))

    async def _attend(self, job: PoolJob, placement: Placement) -> None:
        """One attempt, from its placement to what follows it."""
        ending, found = Ending.UNREACHED, None
        try:
            ending, found = await self._attempt(job, placement)
        except asyncio.CancelledError:
            if placement.ticket not in self._stopped:
                raise
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - this is one
            task.uncancel()
            ending, found = await self._stop(job, placement)
        except Exception as trouble:
            # A bug of ours must not leave a job without an outcome, nor a server with a job for ever.
            ending = Ending.AMBIGUOUS
            found = Ambiguous(f"The pool failed at the job {job.id}.", evidence=[repr(trouble)])
            raise
        finally:
            self._attending.pop(placement.ticket, None)
            self._stopped.pop(placement.ticket, None)
            if not self._closed:
                self._settle(job, placement, ending, found)
                self._go_on(job, placement, ending, found)
                self._decide()

    async def _attempt(self, job: PoolJob, placement: Placement) -> tuple[Ending, Result | ComfyError | None]:
        member = self._members.get(placement.host)
        session = member.session if member is not None else None
        if member is None or session is None:
            return Ending.UNREACHED, member.trouble if member is not None else None
        inner: Job | None = None
        try:
            if job.free_first or (self._free_between and placement.cold and not placement.others):
                await self._free_before(job, placement, session)
            inner = await self._send(job, session)
            job.accepted(inner)
            if job.withdrawn:
                await inner.cancel()
            return Ending.COMPLETED, await inner
        except ComfyError as error:
            return endings.ending(error, job, accepted=inner is not None), error

    async def _send(self, job: PoolJob, session: Session) -> Job:
        options: dict[str, Any] = {} if job.keep_events else {"preview_method": "none"}
        if job.targets is not None:
            options["partial_execution_targets"] = list(job.targets)
        return await session._submit(
            job.workflow, options, job.extra_data, partial=job.partial, keep_events=job.keep_events
        )

    async def _free_before(self, job: PoolJob, placement: Placement, session: Session) -> None:
        """Unloads first, unless somebody else's prompt is there: it would lose its models half-way."""
        if len(self._scheduler.hosts[placement.host].hand) > 1:
            return
        if not job.free_first and not self._scheduler.hosts[placement.host].warmth.crowded:
            return
        if await session.queue.remaining() == 0:
            await session.system.free()
            self._scheduler.freed(placement.host, keeping=job.ticket.footprint.models)

    async def _stop(self, job: PoolJob, placement: Placement) -> tuple[Ending, Result | ComfyError | None]:
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
            evidence=[f"no event for {endings.silent_s(inner):.0f} s", f"asked to stop for {STOP_S:.0f} s"],
            hint="Look at that server before sending it again.",
            prompt_id=inner.id,
        )

    def _settle(
        self, job: PoolJob, placement: Placement, ending: Ending, found: Result | ComfyError | None
    ) -> None:
        """The server is free of it, and what it cost is learned."""
        now = time.monotonic()
        ran_s = found.ran_s if isinstance(found, Result) and len(found.cached) < len(found.titles) else None
        if ending in _WELL:
            self._scheduler.worked(placement.host)
        else:
            self._scheduler.failed(placement.host, now)
        if ending is Ending.STALLED:
            self._scheduler.recovered(placement.host, now)
        if ending in {Ending.REJECTED, Ending.LACKING, Ending.UNREACHED}:
            self._scheduler.never_ran(placement)
        loaded_s = self._scheduler.ended(placement.ticket, placement.host, now, ran_s=ran_s)
        if ending in {Ending.FAILED, Ending.OUT_OF_MEMORY}:
            self._scheduler.failed_with(placement, now)
        names = _names(placement)
        self._ledger.ended(str(ending), lane=job.lane, ran_s=ran_s, loaded_s=loaded_s, **names)
        self._emptied.set()

    def _go_on(
        self, job: PoolJob, placement: Placement, ending: Ending, found: Result | ComfyError | None
    ) -> None:
        """The outcome, or another attempt."""
        member = self._members.get(placement.host)
        begun = ending in _RAN or (
            ending in {Ending.LOST, Ending.AMBIGUOUS} and endings.may_have_begun(job, member)
        )
        vram_bytes = member.vram_bytes if member is not None else 0
        job.attempts.append(Attempt(placement.host, ending, begun, vram_bytes))
        if isinstance(found, Result):
            self._end(job, result=found)
            return
        error = found or endings.lost(job, placement.host, "it never got there")
        if ending is Ending.LACKING and isinstance(error, Rejected):
            self._scheduler.lacks(placement.host, endings.lacking(error, job))
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
        if not self._scheduler.can_ever(needs, models) and not again.above_bytes and again.why != _LACKS:
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

    async def _cancel_quietly(self, job: PoolJob) -> None:
        try:
            await self.cancel(job, timeout=PERSISTENCE_S)
        except ComfyError as error:
            _log.warning("could not cancel %s: %s", job.id, error)

    # The fleet

    def _join(self, server: Server) -> None:
        member = Member(server, self._dead)
        self._members[server.name] = member
        self._scheduler.add(Host(server.name, labels=server.labels, lanes=server.lanes, room=server.models))
        member.start()

    async def _wait_for_the_first(self) -> None:
        """Returns when one is up. Raises: what the first said, when all were tried in vain."""
        while not any(member.up for member in self._members.values()):
            self._tick()
            waiting = [member for member in self._members.values() if member.trouble is None]
            if not waiting and self._members:
                raise next(m.trouble for m in self._members.values() if m.trouble is not None)
            await anyio.sleep(_FIRST_LOOK_S)

    async def _keep_looking(self) -> None:
        while True:
            await anyio.sleep(TICK_S)
            self._tick()

    async def _keep_discovering(self, look: Discovery) -> None:
        while True:
            await anyio.sleep(discovery.LOOK_S)
            await self.discover(look)

    async def discover(self, look: Discovery) -> None:
        """One look: new servers join, those that are gone are drained and taken out."""
        try:
            found = {server.name: server for server in await discovery.servers(look)}
        except Exception as error:  # noqa: BLE001  # a callable of the user's may raise anything; the fleet stays
            _log.warning("discovery failed, the fleet stays as it is: %s", error)
            return
        if not found:
            _log.warning("discovery found no server, the fleet stays as it is")
            return
        for name, server in found.items():
            if name not in self._members:
                self._join(as_server(server, self._options))
        for name in [name for name in self._members if name not in found]:
            self._spawn(self._remove_quietly(name))

    async def _remove_quietly(self, name: str) -> None:
        if self._scheduler.hosts[name].health.draining:
            return
        try:
            await self.remove(name)
        except CallerError as error:
            _log.info("%s", error)

    def _tick(self) -> None:
        now = time.monotonic()
        for member in self._members.values():
            changed = member.look()
            if changed:
                self._scheduler.hosts[member.name].vram_bytes = member.vram_bytes
                self._scheduler.joined(member.name, now, renewed=member.renewed())
            elif changed is False:
                self._scheduler.left(member.name)
            host = self._scheduler.hosts[member.name]
            host.others = member.strangers_now(len(host.hand))
            if host.health.stuck and member.is_idle():
                self._scheduler.recovered(member.name, now)
        self._watch_silence(now)
        self._scheduler.reconsider(now)
        self._decide()

    def _watch_silence(self, now: float) -> None:
        for ticket in list(self._attending):
            job = self._jobs.get(ticket)
            inner = job.inner if job is not None else None
            if job is None or inner is None or inner.done or ticket in self._stopped:
                continue
            print_ = ticket.footprint
            if endings.silent_s(inner, now) > self._scheduler.costs.stall_s(print_.shape, print_.models):
                self._scheduler.stalled(job.server or "")
                self._take_away(ticket, Ending.STALLED)

    def _dead(self, member: Member) -> None:
        """Its process is gone, with its queue."""
        if (host := self._scheduler.hosts.get(member.name)) is not None:
            self._scheduler.left(member.name)
            for ticket in list(host.hand):
                self._take_away(ticket, Ending.LOST)

    def _take_away(self, ticket: Ticket, why: Ending) -> None:
        if ticket in self._attending and ticket not in self._stopped:
            self._stopped[ticket] = why
            self._attending[ticket].cancel()

    def _server_stats(self, member: Member, figures: Figures | None) -> ServerStats:
        host = self._scheduler.hosts[member.name]
        return ServerStats(
            name=member.name,
            url=str(access(member.server.url)),
            state=str(host.health.condition(time.monotonic())),
            jobs=len(host.hand),
            others=host.others,
            warm=tuple(host.warmth.sets()),
            vram_bytes=member.vram_bytes,
            requests=_requests(member),
            figures=figures,
        )

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._reap)
        return task

    def _reap(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("a pool's task failed", exc_info=task.exception())


_FIRST_LOOK_S = 0.02  # while opening: nobody likes to wait for a tick then
_LACKS = "that server does not have what it needs"
_WELL = frozenset(
    {
        *(Ending.COMPLETED, Ending.FAILED, Ending.OUT_OF_MEMORY),
        *(Ending.REJECTED, Ending.LACKING, Ending.CANCELLED),
    }
)
_RAN = frozenset({Ending.COMPLETED, Ending.FAILED, Ending.OUT_OF_MEMORY, Ending.STALLED, Ending.CANCELLED})


def _names(placement: Placement) -> dict[str, str]:
    models = ", ".join(placement.ticket.footprint.models)
    return {"models": models or "none", "server": placement.host}


def _requests(member: Member) -> int:
    return member.session.statistics().requests if member.session is not None else 0


def _footprint(workflow: Workflow) -> Footprint:
    if workflow.format != "api":
        return of_classes(workflow.class_types)
    return footprint(workflow._nodes)


def _rehearsal(workflow: Workflow) -> Workflow:
    """The same with one step and nothing saved: it loads what the workflow loads."""
    if workflow.format != "api":
        return workflow
    short = workflow.copy()
    for node in short:
        if isinstance(node.inputs.get("steps"), int):
            node.inputs["steps"] = 1
    for node in short.find("SaveImage"):
        images = node.inputs.get("images")
        short.remove(node)
        short.add("PreviewImage", images=images)
    return short


async def _each(workflows: Iterable[Prompt] | AsyncIterable[Prompt]) -> AsyncIterator[Prompt]:
    if isinstance(workflows, AsyncIterable):
        async for workflow in workflows:
            yield workflow
    else:
        for workflow in workflows:
            yield workflow
