"""One server, one client id, one WebSocket; any number of jobs."""

import asyncio
import logging
import os
import ssl as tls
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Literal, Self

import anyio
import msgspec

from async_comfy._live import telemetry
from async_comfy._live.access import access
from async_comfy._live.api import (
    Assets,
    Files,
    History,
    Jobs,
    Logs,
    Models,
    Nodes,
    Queue,
    Settings,
    Subgraphs,
    System,
    Templates,
    UserData,
    Users,
)
from async_comfy._live.cancellation import Cancellation
from async_comfy._live.download import Downloads
from async_comfy._live.handle import Job, check_patience
from async_comfy._live.http import CONNECTIONS, Http
from async_comfy._live.journal import Journal, Kept
from async_comfy._live.link import Link
from async_comfy._live.switchboard import Switchboard
from async_comfy._live.tasks import to_its_end
from async_comfy._live.upload import Uploaded, Uploads
from async_comfy.errors import Ambiguous, CallerError, Closed, ComfyError, NodeProblem, Rejected
from async_comfy.protocol import outcome
from async_comfy.protocol.job import Fact, Life
from async_comfy.results import Result
from async_comfy.workflow import SeedRule, Workflow

DEFAULT_URL = "http://127.0.0.1:8188"
COURTESY_S = 5.0  # to wait for a job to stop before its caller goes on; longer would look like hanging
PERSISTENCE_S = 60.0  # to go on cancelling after that: a node looks up from its work at each step
CLOSE_S = 5.0  # closing takes at most so long; a socket that does not say goodbye is cut
GOODBYE_S = 1.0  # of it, to close idle HTTP connections

PreviewMethod = Literal["auto", "latent2rgb", "taesd", "none"]
Prompt = Workflow | Mapping[str, Any] | str | os.PathLike[str]
"""What can be run: a `Workflow`, a decoded prompt, or the path of a file that holds one."""
Sending = Callable[[str], None]
"""Is told a prompt id right before the prompt is sent. What it raises keeps the prompt from being sent.

Of an id that the server made itself it is told once the prompt is there; what it raises then cancels it.
"""

_log = logging.getLogger("async_comfy")


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a session did so far. Counts, from when it was opened.

    `frames`: of the event socket; `strangers`, `broken`, `unknown`, `unclaimed`: those that reached no
    job, and why. `requests`: HTTP; `looks`: at queue and history, in doubt; `connections`: sockets opened.
    `open_jobs`: not ended. `queue_remaining`: everybody's, as the server last said.
    """

    connected: bool
    connections: int
    frames: int
    strangers: int
    broken: int
    unknown: int
    unclaimed: int
    requests: int
    looks: int
    open_jobs: int
    queue_remaining: int | None


class Session:
    """Drives one ComfyUI server.

    `url`: as you would type it, a path prefix included. Who you are: `headers`, `bearer`, `basic`,
    `cookies`, `api_key` (sent as X-API-Key, as Comfy Cloud wants it); none of it is ever shown.
    `partner_key` pays for partner nodes (``api_key_comfy_org``). `ssl`, `proxy`: as aiohttp takes them.
    `compress`: ask for compressed events; costs the server much more than it saves on a fast network.
    `give_up_s`: how long to try to come back after the connection was lost; None: for ever.
    `journal`: a file that keeps the open jobs, for `resume` after a crash of this process.

    Use it in ``async with``, or call `open` and `close`.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        client_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        bearer: str | None = None,
        basic: tuple[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        api_key: str | None = None,
        partner_key: str | None = None,
        ssl: tls.SSLContext | None = None,
        proxy: str | None = None,
        compress: bool = False,
        connections: int = CONNECTIONS,
        give_up_s: float | None = None,
        journal: str | os.PathLike[str] | None = None,
    ) -> None:
        check_patience(give_up_s=give_up_s)
        if not connections >= 1:
            raise CallerError(f"connections cannot be {connections!r}.", hint="Give it 1 or more.")
        self._access = access(
            url,
            headers=headers,
            bearer=bearer,
            basic=basic,
            cookies=cookies,
            api_key=api_key,
            ssl=ssl,
            proxy=proxy,
        )
        self._client_id = client_id or str(uuid.uuid4())
        self._ids = prompt_ids()
        self._partner_key = partner_key
        self._compress = compress
        self._give_up_s = give_up_s
        self._journal = Journal(journal, self.url) if journal is not None else None
        self._http = Http(self._access, connections=connections)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing: asyncio.Task[None] | None = None
        self._traced = False
        self.queue = Queue(self._http)
        self.history = History(self._http)
        self.jobs = Jobs(self._http)
        self.nodes = Nodes(self._http)
        self.system = System(self._http)
        self.models = Models(self._http)
        self.files = Files(self._http)
        self.assets = Assets(self._http)
        self.userdata = UserData(self._http)
        self.settings = Settings(self._http)
        self.users = Users(self._http)
        self.templates = Templates(self._http)
        self.subgraphs = Subgraphs(self._http)
        self.logs = Logs(self._http)
        self._downloads = Downloads(self._http)
        self._uploads = Uploads(self._http)
        self._board = Switchboard(
            self._http, self.queue, self.history, self.nodes, self._downloads, self._journal, self._answers
        )
        self._router, self._inquiry = self._board.router, self._board.inquiry
        self._submissions = self._board.submissions
        self._cancellation = Cancellation(
            self.queue, self.jobs, self.system, self._inquiry, self._board.check
        )
        self._link = Link(self._access, self._client_id, self._router, self._board, compress=compress)

    def __repr__(self) -> str:
        state = "closed" if self.failure is not None else "connected" if self._link.up else "not connected"
        return f"<Session {self.url} {state}, {len(self._router.lives)} jobs>"

    @property
    def url(self) -> str:
        """The server's address, without credentials."""
        return str(self._access)

    @property
    def failure(self) -> ComfyError | None:
        """What ended this session, `Closed` where it was you; None while it lives."""
        return self._board.failure

    @property
    def client_id(self) -> str:
        """The client id as the server knows it."""
        return self._link.client_id

    def statistics(self) -> Statistics:
        """What it did so far."""
        counts = self._router.counts
        return Statistics(
            connected=self._link.up,
            connections=self._link.connections,
            frames=counts.frames,
            strangers=counts.strangers,
            broken=counts.broken,
            unknown=counts.unknown,
            unclaimed=counts.unclaimed,
            requests=self._http.requests,
            looks=self._inquiry.recovery.looks,
            open_jobs=len(self._router.lives),
            queue_remaining=self._router.queue_remaining,
        )

    async def open(self) -> Self:
        """Connects.

        Raises: Unreachable, Denied, NotComfyUI; CallerError where the journal cannot be used
        """
        await self._http.__aenter__()
        try:
            if self._journal is not None:
                await self._journal.open()
            await self._link.connect()
        except BaseException:
            if self._journal is not None:
                await self._journal.close()
            await self._http.__aexit__(None, None, None)
            raise
        self._board.opened = True
        self._traced = telemetry.listening()
        self._spawn(self._link.run(self._is_alive, give_up_s=self._give_up_s))
        self._spawn(self._inquiry.run(self._link.renew))
        return self

    async def close(self) -> None:
        """Ends the connection, not the jobs: they live on at the server. Takes at most five seconds.

        Whoever waits for one gets `Closed`. Cancelling it does not stop it: it is short, and half of it
        would leave a socket behind.
        """
        if self.failure is None:
            self._board.link_failed(Closed("The session was closed.", hint="Its jobs go on at the server."))
        self._closing = self._closing or asyncio.get_running_loop().create_task(self._close())
        await to_its_end(self._closing)

    async def _close(self) -> None:
        try:
            with anyio.move_on_after(CLOSE_S - GOODBYE_S):
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)
                await self._link.close()
        finally:
            with anyio.move_on_after(GOODBYE_S):
                if self._journal is not None:
                    await self._journal.close()
                await self._http.__aexit__(None, None, None)
            self._submissions.end()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def submit(
        self,
        workflow: Prompt,
        *,
        front: bool = False,
        number: float | None = None,
        partial: bool = False,
        targets: Sequence[str] | None = None,
        preview: PreviewMethod | None = None,
        seed: SeedRule = "fixed",
        extra_data: Mapping[str, Any] | None = None,
        sending: Sending | None = None,
    ) -> Job:
        """Sends a workflow; returns once the server accepted it.

        Files in it are uploaded first, and the editor's format is converted with the server's node
        declarations. `front`: before all that wait; `number`: lower runs first. `partial`: go on with the
        rest where the server drops outputs that it finds wrong. `targets`: run only these output nodes.
        `preview`: how previews are made. `seed`: for every seed input: "fixed" (as they are), "random", a
        number, or "+1" (see `Workflow.with_seed`); what was sent is in the result. `extra_data`: whatever
        else the server should keep with it. `sending`: called with the prompt id right before it is sent, to
        write it down for `attach`; and once more where the server makes an id of its own.

        Raises: WorkflowError, CallerError where `extra_data` is no JSON, Rejected, Unreachable, Denied,
            Ambiguous, UnexpectedAnswer, Closed
        """
        options = _options(front, number, targets, preview)
        return await self._submit(
            workflow, options, extra_data, seed, partial=partial, keep_events=True, sending=sending
        )

    async def run(
        self,
        workflow: Prompt,
        *,
        queued: float | None = None,
        running: float | None = None,
        front: bool = False,
        number: float | None = None,
        partial: bool = False,
        targets: Sequence[str] | None = None,
        seed: SeedRule = "fixed",
        extra_data: Mapping[str, Any] | None = None,
    ) -> Result:
        """Sends a workflow and waits for what it makes; cancelling this cancels the job at the server.

        `queued`, `running`: patience in seconds in either phase; when it is over, the job is cancelled.

        Raises: what `submit` raises; Failed, OutOfMemory, Cancelled, Lost, TimedOut
        """
        check_patience(queued=queued, running=running)
        options = _options(front, number, targets, "none")
        job = await self._submit(workflow, options, extra_data, seed, partial=partial, keep_events=False)
        try:
            if queued is None and running is None:
                return await job
            return await job.wait(queued=queued, running=running)
        except BaseException:
            if not job.done and self.failure is None:
                await self.cancel_in_courtesy(job)
            raise

    async def resume(self) -> list[Job]:
        """The jobs that earlier sessions with this journal left open at this server, oldest first.

        Open is what nobody was told the outcome of, by awaiting it or by cancelling it.
        Nothing is sent again: each is looked at until it ends, and none of its events will come. A job of
        which the server knows nothing is `Lost`, or `Ambiguous` where it may never have been sent.

        Raises: CallerError where there is no journal, or where it cannot be read; Closed
        """
        self._board.check()
        if self._journal is None:
            raise CallerError("This session keeps no journal.", hint="Open it with journal=<path>.")
        kept = await self._journal.kept()
        return self._adopted(
            [job for job in kept if job.prompt_id not in self._router.lives], "it was found in the journal"
        )

    async def attach(self, prompt_id: str, workflow: Prompt | None = None) -> Job:
        """The job of a prompt that was sent before, by this process or by anybody.

        Nothing is sent: the server is asked about it until it ends, queue first and history then. Of its
        events come those that everybody is sent: those of prompts without a client id. `workflow`: what was
        sent, for titles, seeds and progress. A job of which the server knows nothing is `Ambiguous`: it may
        never have come there, or be forgotten.

        Raises: WorkflowError, Closed; CallerError where this session has that prompt open
        """
        self._board.check()
        found = await self._resolve(workflow) if workflow is not None else None
        if prompt_id in self._router.lives:  # asked last: while node declarations came, somebody may have
            raise CallerError(f"The prompt {prompt_id} is open here already.", hint="Keep its job.")
        shape, seeds = (found.shape, found.seeds()) if found is not None else ({}, {})
        kept = Kept(prompt_id, time.time(), accepted=False, shape=shape, seeds=seeds)
        return self._adopted([kept], "it was sent before")[0]

    def _adopted(self, kept: Sequence[Kept], why: str) -> list[Job]:
        jobs = [self._resumed(job) for job in kept]
        self._inquiry.recovery.orphan([job.life for job in jobs], why, time.monotonic())
        self._inquiry.poke()
        return jobs

    def _resumed(self, kept: Kept) -> Job:
        now = time.monotonic()
        life = Life(kept.prompt_id, kept.shape, now)
        life.gap = True
        if kept.accepted:
            life.learn(Fact.ACCEPTED, now)
        job = Job(self, self._board, life, dict(kept.seeds), keep_events=True)
        self._router.register(life)
        return job

    async def upload(self, source: Any, *, mask_of: Uploaded | None = None) -> Uploaded:
        """Sends a file to the server unless it is there; where it lies then.

        `source`: a path, bytes, an http(s) URL, a Pillow picture, an async iterator of bytes, or a `File`
        that says name and folder. `mask_of`: it is the mask of that picture.

        Raises: CallerError where it cannot be read; Unreachable, Denied, UnexpectedAnswer
        """
        self._board.check()
        return await self._uploads.send(source, mask_of=mask_of)

    async def cancel(self, job: Job, *, timeout: float = 10.0, force: bool = False) -> bool:
        """Cancels this job and no other. See `Job.cancel`."""
        self._board.check()
        cancelled = await self._cancellation.cancel(job, timeout=timeout, force=force)
        self._board.told(job.life)
        return cancelled

    async def cancel_in_courtesy(self, job: Job) -> None:
        """Cancels, also while the caller is being cancelled; goes on behind its back after five seconds."""
        cancelling = self._spawn(self._cancel_quietly(job))
        with anyio.CancelScope(shield=True):
            await asyncio.wait({cancelling}, timeout=COURTESY_S)

    async def _cancel_quietly(self, job: Job) -> None:
        try:
            await self.cancel(job, timeout=PERSISTENCE_S)
        except Closed:
            return  # what closed it is what everybody hears
        except ComfyError as error:
            _log.warning("could not cancel %s: %s", job.id, error)

    async def _submit(
        self,
        workflow: Prompt,
        options: dict[str, Any],
        extra_data: Mapping[str, Any] | None,
        seed: SeedRule = "fixed",
        *,
        partial: bool,
        keep_events: bool,
        sending: Sending | None = None,
    ) -> Job:
        delivering = self._deliver(workflow, options, extra_data, seed, partial, keep_events, sending)
        if not self._traced:
            return await delivering
        return await telemetry.followed(self.url, workflow, delivering, self._spawn)

    async def _deliver(
        self,
        workflow: Prompt,
        options: dict[str, Any],
        extra_data: Mapping[str, Any] | None,
        seed: SeedRule,
        partial: bool,
        keep_events: bool,
        sending: Sending | None,
    ) -> Job:
        self._board.check()
        ready = await self._resolve(workflow)
        if seed != "fixed":
            ready = ready.with_seed(seed)
        prompt = ready.encode(files=await self._send_files(ready))
        life = Life(next(self._ids), ready.shape, time.monotonic())
        job = Job(self, self._board, life, ready.literal_seeds, keep_events=keep_events)
        try:
            if self._journal is not None:
                await self._journal.write(life, ready.literal_seeds)
            if sending is not None:
                sending(life.prompt_id)
            # From here on nothing is awaited: the client id in the body is the one that is connected.
            written_as = life.prompt_id
            body = self._body(prompt, life.prompt_id, options, self._extra_data(ready, extra_data))
        except BaseException:
            self._board.told(life)  # it was never sent: the journal has nothing to ask about
            raise
        self._router.register(life)
        if len(self._router.lives) == 1:
            self._inquiry.poke()
        try:
            await self._submissions.send(life, body)
        except Rejected as refusal:
            self._router.forget(life)
            self._board.told(life)
            raise await self._explained(refusal) from None
        except Ambiguous:
            self._router.forget(life)  # and it stays in the journal: somebody may yet learn what became of it
            raise
        except ComfyError:
            self._router.forget(life)
            self._board.told(life)
            raise
        except BaseException:
            await self.cancel_in_courtesy(job)
            raise
        if self._journal is not None:
            self._journal.accepted(written_as, life.prompt_id)
        if sending is not None and life.prompt_id != written_as:
            try:
                sending(life.prompt_id)
            except BaseException:
                await self.cancel_in_courtesy(job)  # nobody will have its handle
                raise
        if life.problems and not partial:
            await self.cancel_in_courtesy(job)
            raise _dropped(life)
        return job

    async def _explained(self, refusal: Rejected) -> Rejected:
        """With the choices that an input has, which the server leaves out where they are many."""
        try:
            refusal.problems = tuple([await self._with_choices(problem) for problem in refusal.problems])
        except ComfyError as error:
            _log.info("could not ask for the choices of a refused input: %s", error)
        return refusal

    async def _with_choices(self, problem: NodeProblem) -> NodeProblem:
        if problem.kind != "value_not_in_list" or problem.allowed is not None or problem.class_type is None:
            return problem
        declaration = await self.nodes.get(problem.class_type)
        return replace(problem, allowed=outcome.choices(declaration, problem.input))

    async def _resolve(self, workflow: Prompt) -> Workflow:
        found = workflow if isinstance(workflow, Workflow) else Workflow.load(workflow)
        if found.format == "api":
            return found
        return found.resolve(await self.nodes.some(sorted(found.class_types)))

    async def _send_files(self, workflow: Workflow) -> dict[tuple[str, str], str]:
        waiting = workflow.files()
        return {(item.node, item.input): (await self._uploads.send(item.file)).path for item in waiting}

    def _extra_data(self, workflow: Workflow, more: Mapping[str, Any] | None) -> dict[str, Any]:
        data: dict[str, Any] = {}
        if workflow.ui is not None:
            data["extra_pnginfo"] = {"workflow": workflow.ui}
        if self._partner_key is not None:
            data["api_key_comfy_org"] = self._partner_key
        return {**data, **(more or {})}

    def _body(
        self, prompt: bytes, prompt_id: str, options: dict[str, Any], extra_data: dict[str, Any]
    ) -> bytes:
        preview = options.pop("preview_method", None)
        if preview is not None:
            extra_data["preview_method"] = preview
        body = {
            "prompt": msgspec.Raw(prompt),
            "client_id": self.client_id,
            "prompt_id": prompt_id,
            **({"extra_data": extra_data} if extra_data else {}),
            **options,
        }
        try:
            return msgspec.json.encode(body)
        except (TypeError, ValueError, RecursionError) as error:
            raise CallerError(f"`extra_data` is no JSON: {error}", hint="Give it plain values.") from None

    async def _answers(self) -> bool:
        return await self._link.answers()

    async def _is_alive(self) -> bool:
        try:
            await self.queue.remaining()
        except ComfyError:
            return False
        return True

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._reap)
        return task

    def _reap(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("a session's task failed", exc_info=task.exception())
            if self.failure is None:
                self._board.link_failed(
                    ComfyError("This session stopped because of an error of its own (see the log).")
                )


def prompt_ids() -> Iterator[str]:
    """Prompt ids without end, in the one form that servers accept: canonical UUIDs (RFC 9562, version 4).

    The system's randomness is asked for a hundred at a time: one at a time it is the dearest part of a
    submission.
    """
    while True:
        digits = os.urandom(16 * 100).hex()
        for at in range(0, len(digits), 32):
            one = digits[at : at + 32]
            variant = "89ab"[int(one[16], 16) & 3]
            yield f"{one[:8]}-{one[8:12]}-4{one[13:16]}-{variant}{one[17:20]}-{one[20:]}"


def _options(
    front: bool, number: float | None, targets: Sequence[str] | None, preview: PreviewMethod | None
) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if front:
        options["front"] = True
    if number is not None:
        options["number"] = number
    if targets is not None:
        options["partial_execution_targets"] = list(targets)
    if preview is not None:
        options["preview_method"] = preview
    return options


def _dropped(life: Life) -> Rejected:
    return Rejected(
        "The server would run only a part of this prompt.",
        kind="prompt_outputs_failed_validation",
        problems=life.problems,
        status=200,
        hint="Mend the nodes, or pass partial=True to have the rest.",
        prompt_id=life.prompt_id,
    )
