"""One prompt on a server, and a session that follows it, both without a clock: time is a number."""

import json
from dataclasses import dataclass, field

from async_comfy.protocol.job import Life
from async_comfy.protocol.recovery import HistoryEntry, Look, Queued, Recovery, Verdict, adopt, read_history
from async_comfy.protocol.router import Router
from tests.protocol import wire
from tests.protocol.wire import Frame

TICK_S = 0.5  # how often a session checks what it should have heard
END_OF_TIME_S = 1e9


@dataclass(frozen=True)
class Prompt:
    """Where a prompt is at which time. `kept`: the body that GET /history/{id} gives from `kept_at` on."""

    id: str
    queued_at: float = 0.0
    starts_at: float = 0.0
    ends_at: float = 1.0
    kept_at: float = 1.0
    kept: bytes = b"{}"

    def queue(self, now: float) -> Queued:
        """GET /queue, answered at `now`."""
        me, nobody = frozenset({self.id}), frozenset[str]()
        return Queued(
            me if self.starts_at <= now < self.ends_at else nobody,
            me if self.queued_at <= now < self.starts_at else nobody,
        )

    def history(self, now: float) -> HistoryEntry | None:
        """GET /history/{id}, answered at `now`."""
        return read_history(self.kept if now >= self.kept_at else b"{}", self.id)


@dataclass
class Follower:
    """Does what a session does between two awaits. `delays`: seconds that a look's two answers take."""

    life: Life
    prompt: Prompt
    arrivals: list[tuple[float, Frame]]
    delays: tuple[float, float] = (0.01, 0.01)
    router: Router = field(default_factory=Router)
    recovery: Recovery = field(default_factory=Recovery)
    now: float = 0.0
    looks: list[float] = field(default_factory=list)
    renewals: list[float] = field(default_factory=list)

    def go_on(self, until: float) -> None:
        """Lives until then, or until the life is over."""
        while self.now < until and not self.life.over:
            self._hear(self.now)
            if self.recovery.watch(self.router, self.now):
                self.renewals.append(self.now)
            if self.recovery.due(self.now):
                self._look()
            self.now = min(until, self.now + max(self.recovery.pause_s(self.now, TICK_S), 0.001))

    def _hear(self, now: float) -> None:
        while self.arrivals and self.arrivals[0][0] <= now:
            at, frame = self.arrivals.pop(0)
            frame.into(self.router, at)

    def _look(self) -> None:
        asked_at, (queue_s, history_s) = self.now, self.delays
        self.looks.append(asked_at)
        queue = self.prompt.queue(asked_at + queue_s)
        self.now = asked_at + queue_s + history_s
        absent = self.prompt.id not in queue.running | queue.pending
        history = {self.prompt.id: self.prompt.history(self.now)} if absent else {}
        self._hear(self.now)
        for verdict in self.recovery.take(Look(asked_at, queue, history), self.now):
            self._tell(verdict)

    def _tell(self, verdict: Verdict) -> None:
        if verdict.fact is None:
            return
        if verdict.entry is not None:
            adopt(self.life, verdict.entry, self.router, self.now)
        if self.life.learn(verdict.fact, self.now) and self.life.over:
            self.life.evidence = verdict.evidence
            self.router.close(self.life)


def kept(prompt_id: str, how: str, *frames: Frame, shape: wire.Shape = wire.TEXT_TO_IMAGE) -> bytes:
    """A history body: how it ended, with what those frames told."""
    told = [json.loads(frame.raw) for frame in frames]
    messages = [
        [message["type"], message["data"]] for message in told if message["type"].startswith("execution_")
    ]
    outputs = {
        message["data"]["node"]: message["data"]["output"]
        for message in told
        if message["type"] == "executed"
    }
    status = {"status_str": how, "completed": how == "success", "messages": messages}
    return json.dumps({prompt_id: {"outputs": outputs, "status": status}}).encode()
