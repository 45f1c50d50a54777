"""Many servers as one: a session each, one queue on our side, and each prompt placed late."""

import asyncio
import logging
import os
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from itertools import count
from math import isfinite, isnan
from types import TracebackType
from typing import Any, Self

import anyio

from async_comfy._live import discovery, pool_stats, telemetry
from async_comfy._live.discovery import Discovery
from async_comfy._live.dispatch import Dispatch
from async_comfy._live.fleet import GIB, Fleet, Server, as_server
from async_comfy._live.handle import check_patience
from async_comfy._live.member import Member
from async_comfy._live.pool_job import PoolJob, Sending
from async_comfy._live.pool_stats import Stats
from async_comfy._live.rehearsal import rehearsal
from async_comfy._live.roster import Roster
from async_comfy._live.session import COURTESY_S, PERSISTENCE_S, Prompt
from async_comfy._live.tasks import Tasks, to_its_end
from async_comfy._live.telemetry import Telemetry
from async_comfy.errors import CallerError, Closed, ComfyError, Rejected, TimedOut, Unreachable, WorkflowError
from async_comfy.protocol.failover import Retry
from async_comfy.protocol.footprint import Footprint, footprint, of_classes
from async_comfy.protocol.lanes import Lane, Models, Needs, Ticket, boost_s
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
        if isinstance(servers, str):
            raise CallerError("The servers of a pool are a list.", hint=f"Write Pool([{servers!r}]).")
        if depth < 1 or not ahead_s >= 0:
            raise CallerError("depth is at least 1 and ahead_s at least 0.")
        if len({lane.name for lane in lanes}) < len(lanes):
            raise CallerError("Two lanes have the same name.", hint="Give each its own.")
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
        self._closing: asyncio.Task[None] | None = None

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
        """Connects; returns once one server is ready. A pool is opened once.

        Raises: Unreachable, Denied, NotComfyUI: what the first server said, where none is to be had.
        """
        if self._opened:
            raise Closed("This pool was opened before.", hint="Make a new one.")
        if self._discover is not None and not self._first:
            found = await self._discover()
            self._first = [as_server(server, self._options) for server in discovery.named(found).values()]
            if not self._first:
                raise Unreachable("The discovery found no server.", hint="Open the pool when there is one.")
            if isinstance(found, Fleet):
                self._scheduler.limit(found.lanes, found.depth, found.ahead_s)
                self._roster.limit(found)
        self._opened = True
        if telemetry.listening():
            self._dispatch.telemetry = Telemetry(self._states, self._waiting)
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

        Whoever waits for one gets `Closed`. Takes at most five seconds, and cancelling it does not stop it.
        """
        self._closed = True
        self._closing = self._closing or asyncio.get_running_loop().create_task(self._close())
        await to_its_end(self._closing)

    async def _close(self) -> None:
        with anyio.move_on_after(CLOSE_S):
            # Together: who cancels a prompt in courtesy gives up when its session is closed.
            await asyncio.gather(self._dispatch.close(), self._tasks.stop(), self._roster.close())
        self._dispatch.telemetry = None  # what is closed has no queue and no servers

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
        prompt id and the server's name, right before it is sent there (see `Session.attach`); what it raises
        ends the job.

        Raises: WorkflowError; CallerError for an unknown lane or server and for odd values; Closed;
            Unreachable where no server is up to find the seeds of a workflow in the editor's format
        """
        self._check()
        if labels or vram_gb or retry != "never" or priority or deadline is not None:
            _check_wishes(labels, vram_gb, retry, priority, deadline)
        found = await self._resolve(workflow)
        if seed != "fixed" and found.format != "api":
            raise Unreachable(
                "No server is up to tell the seeds of a workflow in the editor's format.",
                hint="Try again when one is, or give it the API format.",
            )
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
        (``contextlib.aclosing``), or leave the pool. What `workflows` or `submit` raises, this raises, and
        cancels them, too.
        """
        if not limit >= 1:
            raise CallerError(f"limit cannot be {limit!r}.", hint="Give it 1 or more.")
        ended: asyncio.Queue[PoolJob | None] = asyncio.Queue()  # None: there are no more workflows
        open_jobs: set[PoolJob] = set()
        room = asyncio.Event()
        trouble: Exception | None = None

        async def feed() -> None:
            nonlocal trouble
            try:
                async for workflow in _each(workflows):
                    job = await self.submit(workflow, **{"keep_events": False, **options})
                    open_jobs.add(job)
                    job.on_end(ended.put_nowait)
                    while len(open_jobs) >= limit:
                        room.clear()
                        await room.wait()
            except Exception as error:  # noqa: BLE001  # raised where the jobs are taken
                trouble = error
            finally:
                ended.put_nowait(None)

        self._check()
        feeding, more = self._tasks.start(feed()), True
        try:
            while more or open_jobs:
                job = await ended.get()
                if job is not None:
                    open_jobs.discard(job)
                    room.set()
                    yield job
                elif trouble is not None:
                    raise trouble
                else:
                    self._check()
                    more = False
        finally:
            feeding.cancel()
            for job in [job for job in open_jobs if not job.done]:
                self._tasks.start(self._cancel_quietly(job))

    async def cancel(self, job: PoolJob, *, timeout: float = 10.0, force: bool = False) -> bool:
        """Cancels this job and no other. See `PoolJob.cancel`."""
        check_patience(timeout=timeout)
        self._check()
        job.withdrawn = True
        if self._dispatch.withdraw(job):
            return True
        with anyio.move_on_after(timeout):
            while not job.done:
                inner = job.inner
                if inner is not None and not inner.done:
                    try:
                        await inner.cancel(timeout=timeout, force=force)
                    except Closed:
                        pass  # its server is gone, and what follows is ours to decide
                    except CallerError as error:
                        job.withdrawn = isinstance(error, TimedOut)  # else it was not even asked to stop
                        raise
                if job.inner is inner:
                    await job.moved()
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
        before = job.attempts[:-1] if job.done and job.placement is not None else job.attempts
        past = [f"  before: {one.server}: {one.ending}{' after it began' * one.begun}" for one in before]
        return "\n".join([str(job.placement or job.state), *past])

    # Servers

    async def add(self, server: Server | str) -> str:
        """One more server, from now on; its name. Raises: CallerError where that name is taken."""
        self._check()
        return self._roster.join(server)

    async def drain(self, server: str) -> None:
        """Gives it nothing new, and returns when what it has of ours has ended. `resume` undoes it."""
        self._check()
        await self._roster.drain(self._roster.name(server))

    def resume(self, server: str) -> None:
        """It takes jobs again after a `drain`."""
        self._check()
        self._roster.resume(self._roster.name(server))

    async def remove(self, server: str, *, drain: bool = True) -> None:
        """Takes a server out: after draining, or at once; then what is there is stopped and counts as lost.

        What does not stop within ten seconds is `Ambiguous`.
        """
        self._check()
        await self._roster.remove(self._roster.name(server), drain=drain)

    async def discover(self, look: Discovery) -> None:
        """One look, now: servers join, change, and those that are gone are drained and taken out."""
        self._check()
        await self._roster.discover(look)

    async def free(self, server: str) -> None:
        """Unloads its models once the running prompt is through (POST /free)."""
        self._check()
        await self._roster.free(self._roster.name(server))

    async def warm(self, workflow: Prompt, *, servers: int = 1) -> list[str]:
        """Sees that so many servers hold the workflow's models; the names of those that do.

        Where too few do, others run it once, with one step, its pictures shown instead of saved. Those that
        lack something are passed over, so it may be fewer. Raises: as `run`; Rejected where none could.
        """
        self._check()
        found = await self._resolve(workflow)
        print_ = _footprint(found)
        needs = Needs(classes=print_.classes)
        if not print_.models:
            return self._scheduler.coldest(needs, (), time.monotonic())[:servers]  # there is nothing to load
        short = rehearsal(found)
        refusal: Rejected | None = None
        tried: set[str] = set()
        while chosen := self._to_warm(needs, print_.models, servers, tried):
            tried.update(chosen)
            runs = [self._rehearse(short, name) for name in chosen]
            for name, ended in zip(chosen, await asyncio.gather(*runs, return_exceptions=True), strict=True):
                if isinstance(ended, Rejected) and self._lacks_some(name, needs, print_.models):
                    refusal = ended  # it lacks something; the next one may have it
                elif isinstance(ended, BaseException):
                    raise ended
        holders = self._scheduler.holders(print_.models)
        if refusal is not None and not holders:
            raise refusal
        return holders

    # Numbers

    def stats(self) -> Stats:
        """What it did and does."""
        return pool_stats.stats(self._scheduler, self._dispatch, self._roster, time.monotonic())

    def metrics(self) -> str:
        """The same as Prometheus reads it (text format 0.0.4)."""
        return pool_stats.exposition(self.stats(), self._scheduler, self._dispatch.ledger)

    # What follows keeps the books; nobody outside calls it.

    def _waiting(self) -> dict[str, int]:
        # Like the next one called from whatever thread collects metrics, while servers and lanes come and go.
        return {name: queue.count for name, queue in list(self._scheduler.lanes.items())}

    def _states(self) -> list[str]:
        now = time.monotonic()
        return [str(host.health.condition(now)) for host in list(self._scheduler.hosts.values())]

    def _to_warm(self, needs: Needs, models: Models, servers: int, tried: Collection[str]) -> list[str]:
        """The servers that should take these models in next, so that so many hold them."""
        holders = self._scheduler.holders(models)
        cold = self._scheduler.coldest(needs, models, time.monotonic())
        able = [name for name in cold if name not in holders and name not in tried and self._lane_at(name)]
        return able[: max(servers - len(holders), 0)]

    def _lane_at(self, server: str) -> str | None:
        """The first lane that this server takes."""
        taken = self._scheduler.hosts[server].lanes
        return next((lane for lane in self._scheduler.lanes if taken is None or lane in taken), None)

    async def _rehearse(self, short: Workflow, server: str) -> Result:
        """Runs it at this server, in a lane that it takes. Raises: CallerError where it was taken out."""
        lane = self._lane_at(self._roster.name(server))
        async with await self.submit(short, server=server, lane=lane, keep_events=False) as job:
            job.rehearsal = True
            return await job

    def _lacks_some(self, name: str, needs: Needs, models: Models) -> bool:
        return name not in self._scheduler.coldest(needs, models, time.monotonic())

    def _check(self) -> None:
        if self._closed:
            raise Closed("The pool was closed.", hint="Make a new one.")
        if not self._opened:
            raise Closed("This pool is not open.", hint="Use it inside `async with Pool(...)`.")

    async def _resolve(self, workflow: Prompt) -> Workflow:
        """The editor's format is converted with the nodes of a server that knows them all.

        Where none can be asked, it stays as it is: the server that it is sent to is asked then.
        """
        found = workflow if isinstance(workflow, Workflow) else Workflow.load(workflow)
        if found.format == "api":
            return found
        trouble: WorkflowError | None = None
        for member in list(self._roster.members.values()):
            if not member.up or member.session is None:
                continue
            try:
                nodes = await member.session.nodes.some(sorted(found.class_types))
                found, trouble = found.resolve(nodes), None
                break
            except WorkflowError as error:
                trouble = trouble or error
            except ComfyError as error:
                _log.info("%s does not tell its nodes: %s", member.name, error)
        self._check()  # it may be closed by now
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
        except Closed:
            return  # what closed it is what everybody hears
        except ComfyError as error:
            _log.warning("could not cancel %s: %s", job.id, error)


def _check_wishes(labels: object, vram_gb: object, retry: object, priority: object, deadline: object) -> None:
    """Raises: CallerError for what is no list, no policy and no number."""
    if isinstance(labels, str):
        raise CallerError("labels are a list of names.", hint=f"Write labels=[{labels!r}].")
    if retry not in ("never", "if_lost") and not (isinstance(retry, int) and retry >= 0):
        hint = 'Give it "never", "if_lost", or how often it may run again.'
        raise CallerError(f"retry cannot be {retry!r}.", hint=hint)
    for name, value in (("priority", priority), ("vram_gb", vram_gb)):
        if not (isinstance(value, int | float) and isfinite(value)):
            raise CallerError(f"{name} cannot be {value!r}.", hint="Give it a number.")
    if deadline is not None and not (isinstance(deadline, int | float) and not isnan(deadline)):
        raise CallerError(f"deadline cannot be {deadline!r}.", hint="Give it seconds from now, or None.")


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
