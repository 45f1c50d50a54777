"""Many runs: some in flight at a time, each saved as soon as it is made, on one server or on a pool."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from async_comfy import (
    Ambiguous,
    Cancelled,
    ComfyError,
    Job,
    Lost,
    Rejected,
    Result,
    ServerError,
    Session,
    TimedOut,
)
from async_comfy.cli.album import Album
from async_comfy.cli.exits import DONE, FAILED, JOB_ENDS
from async_comfy.cli.manifest import Sent
from async_comfy.cli.order import Variant
from async_comfy.cli.report import Place, PlacedJob, Report, server_of

REFUSALS = 10  # in a row before the batch is given up: no server will take the next one either
_GONE = (Lost, Ambiguous, Cancelled)  # of a prompt of an earlier call: it made nothing that could be had


@dataclass(slots=True)
class Batch:
    """Runs variants and keeps what they make. `timeout`: seconds that one may run, the queue not counted.

    `options` go to `submit`. `picked`: prompts of an earlier call that were at a server when it ended, by
    run, and where to ask for them. `hardy`: a run that a server refuses fails alone, as the others differ
    from it. `jobs`: those not saved yet. `last`: the run begun last. `failed`: runs that ended badly, while
    the others went on; `refused`: those in a row that no server took.
    """

    variants: Iterator[Variant]
    album: Album
    report: Report
    timeout: float | None = None
    options: dict[str, Any] = field(default_factory=dict)
    picked: dict[int, tuple[Session, Sent]] = field(default_factory=dict)
    hardy: bool = False
    jobs: dict[int, PlacedJob] = field(default_factory=dict)
    last: Variant | None = None
    made: int = 0
    failed: int = 0
    refused: int = 0
    fatal: ComfyError | None = None

    async def run(self, places: Sequence[Place], in_flight: int) -> int:
        """All of them, `in_flight` at a time at each place; the exit code.

        Raises: what would befall every other run as well: the server is away, refuses, the disk is full.
        """
        try:
            async with anyio.create_task_group() as watch:
                watch.start_soon(self.report.watch)
                await self._all(places, in_flight)
                watch.cancel_scope.cancel()
        except anyio.get_cancelled_exc_class():
            self.report.note(self._stopped())
            raise
        finally:
            self.album.close()
        if self.fatal is not None:
            raise self.fatal
        return FAILED if self.failed else DONE

    def interrupted(self) -> None:
        """Ctrl-C: says what happens now."""
        count = len(self._open())
        cancelling = f": cancelling {count} {'job' if count == 1 else 'jobs'} on the server" if count else ""
        self.report.note(f"interrupted{cancelling}; Ctrl-C again leaves at once")

    def _stopped(self) -> str:
        """What became of the jobs that an interrupt met."""
        said = f"{sum(job.state == 'cancelled' for job in self.jobs.values())} cancelled"
        if left := self._open():
            said += f", asked but not stopped yet: {', '.join(left)}"
        return f"{said}; the same command goes on where this one stopped" if self.album.remembers else said

    def _open(self) -> list[str]:
        """Those that have not ended, by the ids that their servers know."""
        left = [job for job in self.jobs.values() if not job.done]
        return [job.id if isinstance(job, Job) else job.prompt_id or job.id for job in left]

    async def _all(self, places: Sequence[Place], in_flight: int) -> None:
        async with anyio.create_task_group() as workers:
            for place in [place for _ in range(in_flight) for place in places]:
                workers.start_soon(self._work, place, workers.cancel_scope)

    async def _work(self, place: Place, all_workers: anyio.CancelScope) -> None:
        while (variant := self._next()) is not None:
            await checkpoint()  # Ctrl-C may have come while the last one was saved: begin nothing new then
            self.last = variant
            try:
                await self._one(place, variant)
            except ComfyError as error:
                self.fatal = self.fatal or error
                all_workers.cancel()
                return

    async def _one(self, place: Place, variant: Variant) -> None:
        """One run, to its end or its failure. Raises: ComfyError, what befalls the others as well."""
        try:
            if not await self._picked_up(variant):
                job = await place.submit(variant.workflow, **self._options(place, variant))
                await self._land(place, variant, job)
        except ComfyError as error:
            if self._is_its_own(error):
                self._fail(place, variant, error)
                return
            if not self._may_be_had(variant, error):
                self.album.withdrawn(variant)
            raise

    def _may_be_had(self, variant: Variant, error: ComfyError) -> bool:
        """Whether the server may have what the run made, so that the next call is to ask for it."""
        job = self.jobs.get(variant.index)
        unsaved = job is not None and job.state == "completed" and not isinstance(error, ServerError)
        return unsaved or isinstance(error, Ambiguous)

    def _next(self) -> Variant | None:
        """The next run; None after the last, or where the rows went wrong since they were checked."""
        try:
            return next(self.variants, None)
        except ComfyError as error:
            self.fatal = self.fatal or error  # those in flight end well: they are paid for
            return None

    def _is_its_own(self, error: ComfyError) -> bool:
        """Whether the other runs may go well all the same."""
        self.refused = self.refused + 1 if isinstance(error, Rejected) else 0
        if isinstance(error, Rejected):
            return self.hardy and self.refused < REFUSALS
        return isinstance(error, JOB_ENDS)

    def _fail(self, place: Place, variant: Variant, error: ComfyError) -> None:
        job = self.jobs.pop(variant.index, None)
        self.failed += 1
        self.album.failed(variant, error, server_of(job, place))
        self.report.failed(variant.index, error)

    async def _picked_up(self, variant: Variant) -> bool:
        """Whether an earlier call had sent it, and what came of that is saved now."""
        session, sent = self.picked.pop(variant.index, (None, None))
        if session is None or sent is None or sent.digest != variant.digest:
            return False
        job = await session.attach(sent.prompt_id, variant.workflow)
        self.report.note(f"{variant.index:04} was sent before as {job.id}, waiting for it")
        try:
            await self._land(session, variant, job, sent.server)
        except _GONE as error:
            self.jobs.pop(variant.index, None)
            self.report.note(f"{variant.index:04} is run again: {error.message}")
            return False
        return True

    async def _land(self, place: Place, variant: Variant, job: PlacedJob, server: str = "") -> None:
        """Sees a job to its end, and saves what it made. Leaving early cancels it."""
        self.jobs[variant.index] = job
        try:
            async with job:
                self.report.submitted(variant.index, job, place)
                result = await self._outcome(variant.index, job)
                # What is made is also saved when Ctrl-C comes now; the second Ctrl-C ends that.
                with anyio.CancelScope(shield=True):
                    paths = await self.album.keep(variant, result, server or server_of(job, place))
        finally:
            self.album.accepted = self.album.accepted or isinstance(job, Job) or job.prompt_id is not None
            if job.state == "cancelled":
                self.album.withdrawn(variant)
        del self.jobs[variant.index]
        self.made += 1
        self.refused = 0
        self.report.saved(variant.index, result, paths)

    def _options(self, place: Place, variant: Variant) -> dict[str, Any]:
        sending: Any = partial(self.album.sending, variant)
        if isinstance(place, Session):
            return {**self.options, "sending": partial(sending, server=place.url)}

        def placed(prompt_id: str, server: str) -> None:
            sending(prompt_id, server)
            self.report.placed(variant.index, prompt_id, server)

        return {**self.options, "sending": placed}

    async def _outcome(self, index: int, job: PlacedJob) -> Result:
        """Its result, told only after all its events. Raises: what `Job.wait` does."""
        ended: Result | ComfyError
        async with anyio.create_task_group() as following:
            following.start_soon(self.report.follow, index, job)
            ended = await _end(job, self.timeout)
            if isinstance(ended, TimedOut):
                following.cancel_scope.cancel()  # its events have no end yet; leaving the job cancels it
        if isinstance(ended, ComfyError):
            raise ended
        return ended


async def _end(job: PlacedJob, timeout: float | None) -> Result | ComfyError:
    try:
        return await job.wait(running=timeout)
    except TimedOut as error:
        late = "It was cancelled; --timeout allows more."
        return TimedOut(error.message, phase=error.phase, seconds=error.seconds, hint=late, prompt_id=job.id)
    except ComfyError as error:
        return error
