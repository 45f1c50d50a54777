"""Many servers as one: a session each, one queue on our side, and each prompt placed late."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from itertools import count
from types import TracebackType
from typing import Any, Self

import anyio

from async_comfy._live import discovery, pool_stats, telemetry
from async_comfy._live.discovery import Discovery
from async_comfy._live.dispatch import Dispatch
from async_comfy._live.fleet import GIB, Fleet, Server, as_server
from async_comfy._live.member import Member
from async_comfy._live.pool_job import PoolJob, Sending
from async_comfy._live.pool_stats import Stats
from async_comfy._live.rehearsal import rehearsal
from async_comfy._live.roster import Roster
from async_comfy._live.session import COURTESY_S, PERSISTENCE_S, Prompt
from async_comfy._live.tasks import Tasks
from async_comfy._live.telemetry import Telemetry
from async_comfy.errors import CallerError, Closed, ComfyError, TimedOut
from async_comfy.protocol.failover import Retry
from async_comfy.protocol.footprint import Footprint, footprint, of_classes
from async_comfy.protocol.lanes import Lane, Needs, Ticket, boost_s
from async_comfy.protocol.scheduler import AHEAD_S, DEPTH, Scheduler
from async_comfy.results import Result
from async_comfy.workflow import SeedRule, Workflow

CLOSE_S = 5.0  # closing takes at most so long, however many servers
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
        members: dict[str, Member] = {}
        self._tasks = Tasks("a pool")
        self._scheduler = Scheduler(tuple(lanes), depth=depth, ahead_s=ahead_s)
        self._dispatch = Dispatch(self._scheduler, members, free_between=free_between)
        self._roster = Roster(self._scheduler, members, self._dispatch, self._tasks, self._options)
        self._numbers = count(1)
        self._opened = self._closed = False

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], *, follow: bool = True, **options: Any) -> "Pool":
        """The fleet in a TOML file; with `follow`, what changes in the file takes effect.

        Servers come and go, `drain` is heeded, labels, lanes and limits change at once; another url or other
        credentials mean a new connection, when what is there has ended.

        Raises: CallerError, saying which entry and what to do.
        """
        fleet = Fleet.load(path)
        look = discovery.in_file(path) if follow else None
        settings = {"lanes": fleet.lanes, "depth": fleet.depth, "ahead_s": fleet.ahead_s, "discover": look}
        pool = cls(fleet.servers, **{**settings, **options})
        pool._roster.limit(fleet)
        return pool

    def __repr__(self) -> str:
        roster = self._roster
        return f"<Pool {roster.up} of {len(roster.members)} servers, {self._scheduler.waiting} jobs wait>"

    async def open(self) -> Self:
        """Connects; returns once one server is ready.

        Raises: Unreachable, Denied, NotComfyUI: what the first server said, where none is to be had.
        """
        if self._discover is not None and not self._first:
            found = await self._discover()
            self._first = [as_server(server, self._options) for server in discovery.named(found).values()]
            if isinstance(found, Fleet):
                self._scheduler.limit(found.lanes, found.depth, found.ahead_s)
                self._roster.limit(found)
        self._opened = True
        if telemetry.listening():
            self._dispatch.telemetry = Telemetry(self.stats, self._waiting)
        try:
            for server in self._first:
                self._roster.join(server)
            await self._roster.wait_for_the_first()
        except BaseException:
            await self.close()
            raise
        self._tasks.start(self._roster.keep_looking())
        if self._discover is not None:
            self._tasks.start(self._roster.keep_discovering(self._discover))
        return self

    async def close(self) -> None:
        """Ends the connections, not the jobs: those at servers live on there, those that wait end.

        Whoever waits for one gets `Closed`. Takes at most five seconds.
        """
        if self._closed:
            return
        self._closed = True
        with anyio.move_on_after(CLOSE_S, shield=True):
            # Together: who cancels a prompt in courtesy gives up when its session is closed.
            await asyncio.gather(self._dispatch.close(), self._tasks.stop(), self._roster.close())

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
        sending: Sending | None = None,
    ) -> PoolJob:
        """Puts a workflow into the queue; returns at once. It goes to a server when one has room.

        `lane`: its class. `priority`: each point is worth a minute of waiting. `deadline`: seconds from now
        by which it should be done; it orders, it does not cancel. `server`: this one and no other. `key`:
        whose it is: the lane is shared fairly among keys, and a key returns to its server. `labels`,
        `vram_gb`: what the server must have. `retry`: when to run again what had begun: "never", "if_lost",
        or a number of times, whatever failed. `seed`: as `Session.submit` takes it, drawn once for all
        attempts. `keep_events=False`: nobody will iterate late. `sending`: called at each attempt with the
        prompt id and the server's name, right before it is sent there (see `Session.attach`).

        Raises: WorkflowError, CallerError for an unknown lane or server, Closed
        """
        self._check()
        found = await self._resolve(workflow)
        if seed != "fixed":
            found = found.with_seed(seed)
        print_ = _footprint(found)
        needs = Needs(
            classes=print_.classes,
            labels=frozenset(labels),
            vram_bytes=int(vram_gb * GIB),
            server=self._roster.name(server) if server is not None else None,
        )
        ticket = Ticket(
            number=next(self._numbers),
            footprint=print_,
            needs=needs,
            came_at=time.monotonic(),
            lane=self._lane(lane),
            tenant=key,
        )
        if priority or deadline is not None:
            ticket.boost_s = boost_s(priority, deadline, self._scheduler.costs.run_s(print_.shape))
        if (nobody := self._scheduler.why_nobody(ticket, ticket.came_at)) is not None:
            raise CallerError(nobody, hint="Ask for less, or give the pool such a server.")
        job = PoolJob(
            self,
            found,
            ticket,
            retry=retry,
            partial=partial,
            targets=targets,
            extra_data=extra_data,
            keep_events=keep_events,
            sending=sending,
        )
        self._dispatch.enqueue(job)
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
                self._tasks.start(self._cancel_quietly(job))

    async def cancel(self, job: PoolJob, *, timeout: float = 10.0, force: bool = False) -> bool:
        """Cancels this job and no other. See `PoolJob.cancel`."""
        self._check()
        job.withdrawn = True
        if self._dispatch.withdraw(job):
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
        cancelling = self._tasks.start(self._cancel_quietly(job))
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
        return self._roster.join(server)

    async def drain(self, server: str) -> None:
        """Gives it nothing new, and returns when what it has of ours has ended. `resume` undoes it."""
        await self._roster.drain(self._roster.name(server))

    def resume(self, server: str) -> None:
        """It takes jobs again after a `drain`."""
        self._roster.resume(self._roster.name(server))

    async def remove(self, server: str, *, drain: bool = True) -> None:
        """Takes a server out: after draining, or at once; then what was there counts as lost."""
        await self._roster.remove(self._roster.name(server), drain=drain)

    async def discover(self, look: Discovery) -> None:
        """One look, now: servers join, change, and those that are gone are drained and taken out."""
        await self._roster.discover(look)

    async def free(self, server: str) -> None:
        """Unloads its models once the running prompt is through (POST /free)."""
        await self._roster.free(self._roster.name(server))

    async def warm(self, workflow: Prompt, *, servers: int = 1) -> list[str]:
        """Sees that so many servers hold the workflow's models; the names of those that do.

        Where too few do, others run it once, with one step, its pictures shown instead of saved. Raises: as
        `run`.
        """
        self._check()
        found = await self._resolve(workflow)
        print_ = _footprint(found)
        holders = self._scheduler.holders(print_.models)
        needs = Needs(classes=print_.classes)
        if not print_.models:
            return self._scheduler.coldest(needs, (), time.monotonic())[:servers]  # there is nothing to load
        cold = self._scheduler.coldest(needs, print_.models, time.monotonic())
        chosen = [name for name in cold if name not in holders][: max(servers - len(holders), 0)]
        short = rehearsal(found)
        await asyncio.gather(*(self.run(short, server=name) for name in chosen))
        return self._scheduler.holders(print_.models)

    # Numbers

    def stats(self) -> Stats:
        """What it did and does."""
        return pool_stats.stats(self._scheduler, self._dispatch, self._roster, time.monotonic())

    def metrics(self) -> str:
        """The same as Prometheus reads it (text format 0.0.4)."""
        return pool_stats.exposition(self.stats(), self._scheduler, self._dispatch.ledger)

    # What follows keeps the books; nobody outside calls it.

    def _waiting(self) -> dict[str, int]:
        return {name: queue.count for name, queue in self._scheduler.lanes.items()}

    def _check(self) -> None:
        if self._closed:
            raise Closed("The pool was closed.", hint="Make a new one.")
        if not self._opened:
            raise Closed("This pool is not open.", hint="Use it inside `async with Pool(...)`.")

    async def _resolve(self, workflow: Prompt) -> Workflow:
        """The editor's format is converted with the nodes of a server that knows them all."""
        found = workflow if isinstance(workflow, Workflow) else Workflow.load(workflow)
        if found.format == "api":
            return found
        trouble: ComfyError | None = None
        for member in list(self._roster.members.values()):
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

    async def _cancel_quietly(self, job: PoolJob) -> None:
        try:
            await self.cancel(job, timeout=PERSISTENCE_S)
        except ComfyError as error:
            _log.warning("could not cancel %s: %s", job.id, error)


def _footprint(workflow: Workflow) -> Footprint:
    if workflow.format != "api":
        return of_classes(workflow.class_types)
    return workflow.derived(footprint)


async def _each(workflows: Iterable[Prompt] | AsyncIterable[Prompt]) -> AsyncIterator[Prompt]:
    if isinstance(workflows, AsyncIterable):
        async for workflow in workflows:
            yield workflow
    else:
        for workflow in workflows:
            yield workflow
