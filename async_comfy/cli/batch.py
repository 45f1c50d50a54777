"""Many runs of one workflow: some in flight at a time, each saved as soon as it is made."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from async_comfy import ComfyError, Job, Result, Session, TimedOut, Workflow
from async_comfy.cli.album import Album
from async_comfy.cli.exits import DONE, FAILED, JOB_ENDS
from async_comfy.cli.report import Report


@dataclass(frozen=True, slots=True)
class Variant:
    """Run number `index`, from 1: the workflow with that run's seeds."""

    index: int
    workflow: Workflow


@dataclass(slots=True)
class Batch:
    """Runs variants and keeps what they make. `timeout`: seconds that one may run, the queue not counted.

    `options` go to `Session.submit`. `jobs`: those not saved yet, by the number of their run. `failed`
    counts the runs that ended badly, the others went on.
    """

    variants: Sequence[Variant]
    album: Album
    report: Report
    timeout: float | None = None
    options: dict[str, Any] = field(default_factory=dict)
    jobs: dict[int, Job] = field(default_factory=dict)
    failed: int = 0
    fatal: ComfyError | None = None

    async def run(self, sessions: Sequence[Session], in_flight: int) -> int:
        """All of them, `in_flight` at a time on each session; the exit code.

        Raises: what would befall every other run as well: the server is away, refuses, the disk is full.
        """
        try:
            async with anyio.create_task_group() as watch:
                watch.start_soon(self.report.watch)
                await self._all(sessions, in_flight)
                watch.cancel_scope.cancel()
        except anyio.get_cancelled_exc_class():
            self.report.note(self._stopped())
            raise
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
        return [job.id for job in self.jobs.values() if not job.done]

    async def _all(self, sessions: Sequence[Session], in_flight: int) -> None:
        waiting = iter(self.variants)
        async with anyio.create_task_group() as workers:
            for session in [session for _ in range(in_flight) for session in sessions]:
                workers.start_soon(self._work, session, waiting, workers.cancel_scope)

    async def _work(
        self, session: Session, waiting: Iterator[Variant], all_workers: anyio.CancelScope
    ) -> None:
        for variant in waiting:
            await checkpoint()  # Ctrl-C may have come while the last one was saved: begin nothing new then
            try:
                await self._one(session, variant)
            except JOB_ENDS as error:
                self.jobs.pop(variant.index, None)
                self.failed += 1
                self.report.failed(variant.index, error)
            except ComfyError as error:
                self.fatal = self.fatal or error
                all_workers.cancel()
                return

    async def _one(self, session: Session, variant: Variant) -> None:
        async with await session.submit(variant.workflow, **self.options) as job:
            self.jobs[variant.index] = job
            self.album.begin()
            self.report.submitted(variant.index, job, session)
            result = await self._outcome(variant.index, job)
            # What the server has made is also saved when Ctrl-C comes now; the second Ctrl-C ends that.
            with anyio.CancelScope(shield=True):
                paths = await self.album.keep(variant.index, result)
        del self.jobs[variant.index]
        self.report.saved(variant.index, result, paths)

    async def _outcome(self, index: int, job: Job) -> Result:
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


async def _end(job: Job, timeout: float | None) -> Result | ComfyError:
    try:
        return await job.wait(running=timeout)
    except TimedOut as error:
        late = "It was cancelled; --timeout allows more."
        return TimedOut(error.message, phase=error.phase, seconds=error.seconds, hint=late, prompt_id=job.id)
    except ComfyError as error:
        return error
