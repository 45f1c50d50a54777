"""One server of a fleet, watched from outside: by what it broadcasts, and by a look where that changes."""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import anyio

from async_comfy import ComfyError, Job, JobProgress, NotComfyUI, Server, Session, Workflow, WorkflowError
from async_comfy.cli.ended import read

GLANCE_S = 0.25  # between glances at what the events told; costs nothing
LONG_QUEUE = 50  # prompts; a longer one is looked at less often, since the server shows it whole
LONG_PAUSE_S = 10.0
SHORT_PAUSE_S = 0.5
MEMORY_S = 5.0  # between questions for free VRAM
AGAIN_S = 2.0  # before it is tried again to connect
LOOKS = 12  # for the history of a prompt that left the queue, half a second apart: it was seen five late


@dataclass(frozen=True, slots=True)
class Sight:
    """A server as it was seen last; None where nobody can say.

    `state`: "connecting", "idle", "busy", "draining", "drained" or "away". `queue`: prompts that run and
    wait, of whoever. `running`: a prompt id, for `running_s`; `fraction` and `doing` where its events are
    heard, of the node that runs. `models`: of the prompt that ran last. `vram_free`, `vram_total`: bytes.
    `ms_per_step`: now, or of the last run as a whole. `done`, `failed`: since it is watched.
    """

    server: str
    url: str
    state: str = "connecting"
    lanes: tuple[str, ...] = ()
    queue: int | None = None
    running: str | None = None
    running_s: float | None = None
    fraction: float | None = None
    doing: str | None = None
    models: tuple[str, ...] = ()
    vram_free: int | None = None
    vram_total: int | None = None
    ms_per_step: float | None = None
    done: int = 0
    failed: int = 0
    trouble: str | None = None


@dataclass(slots=True)
class Run:
    """The prompt that runs. `steps`: those that its samplers will take together."""

    prompt_id: str
    workflow: Workflow | None
    since: float
    steps: float = 0.0
    strangers: int = 0
    job: Job | None = None
    looks: int = 0


class Observer:
    """Watches one server until cancelled. It sends nothing, and touches no job."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.seen = Sight(server.name, server.url, lanes=tuple(sorted(server.lanes or ())))
        self.looked = anyio.Event()
        self._session: Session | None = None
        self._run: Run | None = None
        self._left: list[Run] = []
        self._asked_at = float("-inf")
        self._looked_at = self._measured_at = float("-inf")
        self._known: int | None = None

    async def watch(self) -> None:
        """Connects, and connects again."""
        while True:
            try:
                async with Session(self.server.url, **self.server.options) as session:
                    self._session = session
                    while session.failure is None:
                        await self._glance(session)
                        await anyio.sleep(GLANCE_S)
            except ComfyError as error:
                self._lose(error.message)
            finally:
                self._session = None
            await anyio.sleep(AGAIN_S)

    def change(self, server: Server) -> None:
        """The file says something else of it now; who is connected stays so."""
        self.server = server
        drained = {"busy": "draining", "idle": "drained"}
        states = drained if server.drain else {there: here for here, there in drained.items()}
        state = states.get(self.seen.state, self.seen.state)
        self.seen = replace(self.seen, state=state, lanes=tuple(sorted(server.lanes or ())))

    def sight(self) -> Sight:
        """What is known now."""
        return replace(self.seen, **self._now())

    def _now(self) -> dict[str, Any]:
        run = self._run
        if run is None or self.seen.state == "away":
            return {}
        told: dict[str, Any] = {"running_s": round(time.monotonic() - run.since, 1)}
        progress = run.job.progress if run.job is not None and not run.job.done else None
        if progress is not None and (progress.node is not None or progress.steps):
            told |= {"fraction": round(_fraction(progress), 3), "doing": _doing(progress)}
            if progress.steps_per_s:
                told["ms_per_step"] = round(1000 / progress.steps_per_s, 1)
        return told

    def _lose(self, why: str) -> None:
        self._run, self._left = None, []
        self._known = None
        self._looked_at = self._measured_at = float("-inf")
        self.seen = replace(
            self.seen, state="away", queue=None, running=None, vram_free=None, trouble=why, models=()
        )
        self.looked.set()

    async def _glance(self, session: Session) -> None:
        told = session.statistics()
        if not told.connected:
            if self.seen.state != "away":
                self._lose("the connection was lost, trying again")
            return
        now = time.monotonic()
        try:
            if self._is_due(told.queue_remaining, now):
                self._looked_at, self._known = now, told.queue_remaining
                await self._look(session)
            if now - self._measured_at > MEMORY_S:
                self._measured_at = now
                self._measure(await session.system.stats())
            if self._left and now - self._asked_at > SHORT_PAUSE_S:
                self._asked_at = now
                await self._ask(session, self._left[0])
            await self._listen(session, told.strangers)
        except NotComfyUI as error:
            self._lose(error.message)
        self.looked.set()

    def _is_due(self, remaining: int | None, now: float) -> bool:
        """Whether to look at the queue: it changed, or the one that runs may have ended unheard."""
        pause = LONG_PAUSE_S if (remaining or 0) > LONG_QUEUE else SHORT_PAUSE_S
        changed = remaining != self._known or self.seen.queue is None
        stale = bool(remaining) and now - self._looked_at > 2 * AGAIN_S
        return (changed or stale) and now - self._looked_at > pause

    async def _look(self, session: Session) -> None:
        queue = await session.queue.items()
        running = [item for item in _items(queue, "queue_running") if len(item) > 2]
        count = len(running) + len(_items(queue, "queue_pending"))
        prompt_id = str(running[0][1]) if running else None
        before = self._run
        if before is not None and before.prompt_id != prompt_id:
            self._run = None
            self._left.append(before)
        if prompt_id is not None and (before is None or before.prompt_id != prompt_id):
            self._begin(prompt_id, running[0][2], session.statistics().strangers)
        drain = self.server.drain
        state = ("draining" if drain else "busy") if count else ("drained" if drain else "idle")
        self.seen = replace(self.seen, state=state, queue=count, running=prompt_id, trouble=None)

    def _begin(self, prompt_id: str, prompt: Any, strangers: int) -> None:
        self._run = Run(prompt_id, None, time.monotonic(), strangers=strangers)
        try:
            workflow = Workflow.load(prompt)
        except WorkflowError:
            return
        self._run.workflow = workflow
        self._run.steps = sum(_steps(node.inputs.get("steps")) for node in workflow)
        models = [str(one.default) for one in workflow.parameters() if one.kind == "model"]
        self.seen = replace(self.seen, models=tuple(dict.fromkeys(models)))

    async def _ask(self, session: Session, run: Run) -> None:
        """What became of a prompt that left the queue; asked again while its history is being written."""
        entry = await session.history.get(run.prompt_id)
        run.looks += 1
        if entry is None and run.looks < LOOKS:
            return
        self._left.remove(run)
        if entry is None:
            return  # it was taken out before it ran
        ended = read(run.prompt_id, entry)
        if ended.state == "failed":
            self.seen = replace(self.seen, failed=self.seen.failed + 1)
            return
        self.seen = replace(self.seen, done=self.seen.done + 1)
        if ended.ran_s and run.steps:
            self.seen = replace(self.seen, ms_per_step=round(1000 * ended.ran_s / run.steps, 1))

    async def _listen(self, session: Session, strangers: int) -> None:
        """Events of prompts without a client id go to everybody: where some come, they are this one's."""
        run = self._run
        if run is None or run.job is not None or run.workflow is None or strangers == run.strangers:
            return
        with suppress(ComfyError):
            run.job = await session.attach(run.prompt_id, run.workflow)

    def _measure(self, stats: Mapping[str, Any]) -> None:
        devices = stats.get("devices")
        found = [one for one in devices if isinstance(one, dict)] if isinstance(devices, list) else []
        free = [one["vram_free"] for one in found if isinstance(one.get("vram_free"), int)]
        total = [one["vram_total"] for one in found if isinstance(one.get("vram_total"), int)]
        self.seen = replace(self.seen, vram_free=sum(free) or None, vram_total=sum(total) or None)


def _items(queue: Mapping[str, Any], key: str) -> list[Any]:
    found = queue.get(key)
    return [item for item in found if isinstance(item, list)] if isinstance(found, list) else []


def _steps(value: Any) -> float:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _fraction(now: JobProgress) -> float:
    """Of the whole, where it is known which node runs; else of that node."""
    return now.fraction if now.node is not None else min(now.step / now.steps, 1.0)


def _doing(now: JobProgress) -> str:
    name = now.title or now.class_type or "step"
    return f"{name} {now.step:g}/{now.steps:g}" if now.steps > 1 else name
