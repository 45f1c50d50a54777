"""One socket, many jobs: whose event this is, who runs now, and how long nobody spoke.

The server sends us our own prompts' events, everybody's `status`, and, of prompts that were submitted
without a client id, their progress, previews and interruptions: so a prompt id that is not ours is a
stranger's, and a preview without one is credited to a job only while that job is known to run (the
server runs one prompt at a time).
"""

from collections import deque
from dataclasses import dataclass
from typing import Protocol

import msgspec

from async_comfy import events
from async_comfy.events import Event
from async_comfy.protocol import frames
from async_comfy.protocol.job import Life, State

EARLY_EVENTS = 256  # of prompts not known here, kept while a POST of ours is unanswered

_COUNTED = frozenset({State.QUEUED, State.RUNNING})  # what the server's queue_remaining counts of ours


@dataclass(slots=True)
class Counts:
    """What passed through: frames of all kinds, and those that reached no job."""

    frames: int = 0
    strangers: int = 0  # of prompts not known here, when they came
    broken: int = 0
    unknown: int = 0
    unclaimed: int = 0  # previews and texts without a prompt id that no job could be credited with


class Attendant(Protocol):
    """Who acts on what the router notices beside events."""

    def arrived(self, life: Life) -> None:
        """Something was heard of this prompt while a POST was unanswered: perhaps its own."""
        ...

    def unsettled(self, life: Life) -> None:
        """It ended, and how was not heard."""
        ...


class Router:
    """Takes frames, brings the lives up to date, and says whom each concerns."""

    def __init__(self, now: float = 0.0, attendant: Attendant | None = None) -> None:
        self.lives: dict[str, Life] = {}
        self.counts = Counts()
        self.heard_at = now
        self.status_at = now
        self.queue_remaining: int | None = None
        self.mute: set[str] = set()  # classes of leaf nodes that were found to show nothing
        self._posting = 0
        self._early: deque[Event] = deque(maxlen=EARLY_EVENTS)
        self._attendant = attendant
        self._runs: Life | None = None
        self._snapshot_head = self._step_mark = frames.NOTHING  # by which its gauges are told
        self._away = False

    def __repr__(self) -> str:
        return f"<Router {len(self.lives)} jobs, {self.counts.frames} frames>"

    @property
    def runs(self) -> Life | None:
        """The job of ours that is known to run now."""
        return self._runs

    def register(self, life: Life) -> None:
        """From now on this prompt's events are its own. To be called before the POST is sent."""
        life.gap = life.gap or self._away
        self.lives[life.prompt_id] = life

    @property
    def posting(self) -> int:
        """How many prompts were sent and not yet answered. With the last answer, all ids are known."""
        return self._posting

    @posting.setter
    def posting(self, count: int) -> None:
        self._posting = count
        if not count:
            self.counts.unclaimed += sum(event.prompt_id is None for event in self._early)
            self._early.clear()

    def forget(self, life: Life) -> None:
        """Its later events are a stranger's."""
        self.lives.pop(life.prompt_id, None)
        if self._runs is life:
            self._follow(None)

    def rename(self, life: Life, prompt_id: str, now: float) -> None:
        """The server made its own id for this prompt (before client-made ids).

        Its first events may have come before the answer that told the id: now they are its own.
        """
        known = self.lives.pop(life.prompt_id, None)
        if self._runs is life:
            self._follow(None)
        life.prompt_id = prompt_id
        if known is None:
            return  # it was over before the answer came
        self.lives[prompt_id] = life
        early, self._early = self._early, deque(maxlen=EARLY_EVENTS)
        since = self._runs
        self._follow(None)
        for event in early:
            if event.prompt_id == prompt_id or (event.prompt_id is None and self._runs is life):
                self._take(event, now)
                continue
            self._early.append(event)
            if event.prompt_id is not None:
                self._follow(None)
        self._follow(since or self._runs)  # what was heard to run since then is newer

    def connected(self) -> None:
        """What is sent from now on misses nothing."""
        self._away = False

    def disconnected(self) -> None:
        """Events may be missed from now on: no preview is certain, every open job has a gap."""
        self._away = True
        self._follow(None)
        self.queue_remaining = None
        for life in self.lives.values():
            life.gap = True

    def take_text(self, raw: bytes, now: float) -> Life | None:
        """Takes a text frame; the life it concerned, None where it was nobody's. Never raises."""
        self.counts.frames += 1
        self.heard_at = now
        # Three of four frames are gauges: these go the short way, and nobody decodes them here. Nearly all
        # are of the job that is known to run, so that is asked first.
        life = self._runs
        if life is not None and raw.startswith(self._snapshot_head):
            life.take_snapshot(raw, now)
        elif life is not None and frames.is_step_of(raw, self._step_mark):
            life.take_step(raw, now)
        elif (owner := frames.gauge_owner(raw)) is not None:
            life = self.lives.get(owner)
            if life is None:
                self._meet_stranger(None)
                return None
            (life.take_step if frames.is_step(raw) else life.take_snapshot)(raw, now)
        else:
            return self._take_decoded(raw, now)
        if life.watched and life.listener is not None:
            life.listener.heard_gauge(raw)
        return life

    def _take_decoded(self, raw: bytes, now: float) -> Life | None:
        try:
            event = frames.decode_text(raw)
        except frames.BrokenFrame:
            self.counts.broken += 1
            return None
        return self._take(event, now)

    def take_binary(self, raw: bytes, now: float) -> Life | None:
        """Takes a binary frame; the life it concerned, None where it was nobody's. Never raises."""
        self.counts.frames += 1
        self.heard_at = now
        try:
            event = frames.decode_binary(raw)
        except frames.BrokenFrame:
            self.counts.broken += 1
            return None
        return self._take(event, now)

    def ahead(self, life: Life) -> int | None:
        """At most so many prompts run before this one; None where the server has not said.

        The server counts everybody's prompts; of ours we know which came after.
        """
        if self.queue_remaining is None or life.state is not State.QUEUED:
            return None
        ours_after = sum(
            1
            for other in self.lives.values()
            if other.state in _COUNTED and other is not life and other.queued_at > life.queued_at
        )
        return max(self.queue_remaining - 1 - ours_after, 0)

    def open(self) -> list[Life]:
        """The lives that have not ended."""
        return [life for life in self.lives.values() if not life.over]

    def _follow(self, life: Life | None) -> None:
        """This job is known to run, or none of ours is."""
        if life is not self._runs:
            self._runs = life
            self._snapshot_head, self._step_mark = frames.gauge_marks(life.prompt_id if life else "")

    def _take(self, event: Event, now: float) -> Life | None:
        life = self.lives.get(event.prompt_id) if event.prompt_id is not None else None
        if life is None:
            life = self._take_unowned(event, now)
            if life is None:
                return None
            event = _credited(event, life)
        elif isinstance(event, events.Executing):
            self._follow(None if event.node is None else life)
        elif isinstance(event, events.ExecutionStart):
            self._follow(life)
        ended = life.apply(event, now, self.mute)
        if life.listener is not None:
            life.listener.heard(event)
        if ended:
            self.close(life)
        if self._attendant is not None:
            if self._posting:
                self._attendant.arrived(life)
            if life.state is State.UNSETTLED:
                self._attendant.unsettled(life)
        return life

    def close(self, life: Life) -> None:
        """The life is over: whoever listens is told, and its later events are a stranger's."""
        self.forget(life)
        if life.listener is not None:
            life.listener.ended()

    def _take_unowned(self, event: Event, now: float) -> Life | None:
        """A stranger's event, everybody's, or one that only the running job can have sent."""
        if event.prompt_id is not None:
            self._meet_stranger(event)
            return None
        match event:
            case events.Status():
                self.status_at = now
                self.queue_remaining = event.queue_remaining
            case events.Preview() | events.ProgressText():
                if self._runs is None and self._posting and self._early:
                    self._early.append(event)  # the stranger that runs may turn out to be ours
                else:
                    self.counts.unclaimed += self._runs is None
                return self._runs
            case events.Unknown():
                self.counts.unknown += 1
            case _:
                pass
        return None

    def _meet_stranger(self, event: Event | None) -> None:
        # A stranger's prompt runs, so none of ours does, whatever we heard last.
        self.counts.strangers += 1
        self._follow(None)
        if self._posting and event is not None:
            self._early.append(event)


def _credited(event: Event, life: Life) -> Event:
    """A preview or text that names no prompt, as the running job's own."""
    node = life.run.node if life.run else None
    if isinstance(event, events.Preview):
        return msgspec.structs.replace(event, prompt_id=life.prompt_id, node=node)
    return msgspec.structs.replace(event, prompt_id=life.prompt_id)
