"""Stopping one job and no other, until it is over.

A server can lose a cancel that comes right after the POST (27 of 600 that said true were lost), so the
request is repeated. Before 0.3.60 a server stops whatever runs, whoever asks: such a one is asked only
when the caller insists, and only while our prompt is the one that runs.
"""

import logging
import time
from collections.abc import Callable

import anyio

from async_comfy._live.api import Jobs, Queue, System
from async_comfy._live.handle import Job, check_patience
from async_comfy._live.inquiry import Inquiry
from async_comfy.errors import CallerError, NetworkError, NotFound, TimedOut
from async_comfy.protocol.job import Fact, State

INTERRUPTS_BY_ID = (0, 3, 60)  # ComfyUI pull request 9607 (August 2025); 0.3.40 lacks it, 0.3.64 has it
PAUSES_S = (0.2, 0.4, 0.8, 1.6)  # between requests; a node looks at the flag at each step

_log = logging.getLogger("async_comfy")


class Cancellation:
    """Cancels the jobs of one session."""

    def __init__(
        self, queue: Queue, jobs: Jobs, system: System, inquiry: Inquiry, check: Callable[[], None]
    ) -> None:
        self._queue = queue
        self._jobs = jobs
        self._system = system
        self._inquiry = inquiry
        self._check = check  # raises what ended the session
        self._has_jobs_api = True
        self._version: tuple[int, ...] | None = None

    async def cancel(self, job: Job, *, timeout: float, force: bool) -> bool:
        """See `Job.cancel`."""
        check_patience(timeout=timeout)
        attempt, trouble = 0, None
        with anyio.move_on_after(timeout):
            while not job.done:
                job.life.withdrawn = True
                trouble = await self._try(job, force)
                self._inquiry.suspect(job.life, "we cancelled it")
                with anyio.move_on_after(PAUSES_S[min(attempt, len(PAUSES_S) - 1)]):
                    await job.settled()
                    if not job.done:
                        self._check()
                attempt += 1
        if not job.done and trouble is not None:
            raise trouble
        if not job.done:
            raise TimedOut(
                f"The job {job.id} has not stopped within {timeout:g} s.",
                phase=job.state,
                seconds=timeout,
                hint="The request stands: the server stops it at its next step.",
                prompt_id=job.id,
            )
        return job.life.state is State.CANCELLED

    async def _try(self, job: Job, force: bool) -> NetworkError | None:
        """A request that does not get through is made again; only the last one's trouble counts."""
        try:
            await self._request(job, force)
        except NetworkError as error:
            return error
        return None

    async def _request(self, job: Job, force: bool) -> None:
        if self._has_jobs_api:
            try:
                if await self._jobs.cancel(job.id):
                    job.life.learn(Fact.ACCEPTED, time.monotonic())  # it was there, answer or not
            except NotFound:
                self._has_jobs_api = False
            else:
                return
        await self._queue.delete([job.id])
        if job.id in (await self._queue.ids()).running:
            await self._interrupt(job, force)

    async def _interrupt(self, job: Job, force: bool) -> None:
        if self._version is None:
            self._version = await self._system.version()
        if self._version < INTERRUPTS_BY_ID and not force:
            raise CallerError(
                "This server is too old to interrupt one prompt: it would stop whatever runs.",
                hint="Update it, or cancel with force=True if nobody else uses it.",
            )
        await self._system.interrupt(job.id)
