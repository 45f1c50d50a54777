"""When to doubt, and what a look at the server tells.

Events are the normal way to learn; this room is for when they may have failed us. `Recovery` collects
doubts (about which job, since when, why), says when a look is due, and judges what the look found.
The look itself is somebody else's: first GET /queue, then GET /history/{id} for what the queue does
not hold. In that order a job is never missed; in the other it can slip through between the two.

Absence is evidence only when it lasts: history may be written late, so a job is given up only after
`SETTLE_S` of looks that all found nothing. And a look that finds what an event should have told is
evidence against the events themselves.
"""

import json  # what Python's json.dumps wrote, it reads: NaN, lone surrogates
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import msgspec

from async_comfy import events
from async_comfy.protocol.job import ENDING, Fact, Life, State, after
from async_comfy.protocol.router import Router

SILENCE_S = 10.0  # no frame at all while jobs are open; a healthy long node can be as silent
CANARY_S = 2.0  # every change of the queue is broadcast at once; this late, the event path is dead
EARLY_S = 0.75  # that `status` may be read before the answer, which travels another way
IDLE_S = 1.0  # the server said that its queue is empty, yet a job of ours is open
END_MARK_S = 1.0  # after how it ends was said; measured 0.0 to 0.4 s in a healthy run
SETTLE_S = 8.0  # history was seen up to 5 s late; a job absent for longer is gone
WITHDRAWN_S = 0.5  # the same for a prompt that we took from the queue ourselves
LOOKS_S = (0.1, 0.25, 0.5, 1.0, 2.0)  # from one look at a doubt to the next; the last one for ever

AWAY = "the event socket was away"

_TOLD = frozenset({Fact.SEEN_RUNNING, Fact.SEEN_COMPLETED, Fact.SEEN_FAILED, Fact.SEEN_CANCELLED})

E = TypeVar("E", bound=events.Event)


class HistoryStatus(msgspec.Struct):
    """How a prompt ended, "success" or "error", and the messages that were sent on the way: type, data."""

    status_str: str | None = None
    messages: list[tuple[str, Any]] = []


class HistoryEntry(msgspec.Struct):
    """One prompt in the server's history: what it made and how it ended."""

    outputs: dict[str, dict[str, Any] | None] = {}
    status: HistoryStatus | None = None

    @property
    def fact(self) -> Fact:
        """How it ended. Where no status was written, the entry itself says that the run is over."""
        if self.status is None or self.status.status_str != "error":
            return Fact.SEEN_COMPLETED
        return Fact.SEEN_CANCELLED if self.told(events.ExecutionInterrupted) else Fact.SEEN_FAILED

    def told(self, kind: type[E]) -> list[E]:
        """The messages of this kind that the server kept with the entry."""
        messages = self.status.messages if self.status else []
        found = [_converted(data, kind) for name, data in messages if name == kind.type]
        return [message for message in found if message is not None]


def _converted(data: Any, kind: type[E]) -> E | None:
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError:
        return None  # an odd message costs itself, not its entry


class Queued(NamedTuple):
    """GET /queue: who runs and who waits."""

    running: frozenset[str]
    pending: frozenset[str]


class _Queue(msgspec.Struct):
    queue_running: list[list[msgspec.Raw]] = []
    queue_pending: list[list[msgspec.Raw]] = []


_QUEUE = msgspec.json.Decoder(_Queue)
_HISTORY = msgspec.json.Decoder(dict[str, HistoryEntry])


def read_queue(body: bytes) -> Queued:
    """The ids in an answer to GET /queue; the prompts beside them are not decoded.

    Raises: ValueError where the body is no queue.
    """
    try:
        queue = _QUEUE.decode(body)
    except (msgspec.DecodeError, UnicodeError):
        return _read_odd_queue(body)
    except RecursionError:
        raise ValueError("a queue without a bottom") from None
    return Queued(_ids(queue.queue_running), _ids(queue.queue_pending))


def read_history(body: bytes, prompt_id: str) -> HistoryEntry | None:
    """The entry of this prompt in an answer to GET /history/{id}; None where there is none (yet).

    Raises: ValueError where the body is no history.
    """
    try:
        return _HISTORY.decode(body).get(prompt_id)
    except (msgspec.DecodeError, UnicodeError):
        return msgspec.convert(json.loads(body), dict[str, HistoryEntry]).get(prompt_id)
    except RecursionError:
        raise ValueError("a history without a bottom") from None


def _read_odd_queue(body: bytes) -> Queued:
    """A queue in which somebody's prompt holds what only Python writes."""
    found = msgspec.convert(json.loads(body), dict[str, list[list[Any]]])
    return Queued(*(frozenset(_odd_ids(found.get(key, []))) for key in _Queue.__struct_fields__))


def _odd_ids(items: list[list[Any]]) -> Iterator[str]:
    return (item[1] for item in items if len(item) > 1 and isinstance(item[1], str))


def _ids(items: Iterable[list[msgspec.Raw]]) -> frozenset[str]:
    return frozenset(msgspec.json.decode(item[1], type=str) for item in items if len(item) > 1)


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found. `asked_at`: when the queue was asked, before which it knows nothing.

    `history` holds an entry or None for every job that was not in the queue and was asked for.
    `heard_at`: when the last event came, of whatever job.
    """

    asked_at: float
    queue: Queued
    history: Mapping[str, HistoryEntry | None]
    heard_at: float = float("inf")


@dataclass(slots=True)
class Doubt:
    """Somebody should ask about this job."""

    life: Life
    since: float
    reasons: list[str]
    next_at: float
    looks: int = 0
    absent_since: float | None = None

    def postpone(self, now: float) -> None:
        """The next look comes later than the last one did."""
        self.next_at = now + LOOKS_S[min(self.looks, len(LOOKS_S) - 1)]
        self.looks += 1

    def hurry(self, now: float) -> None:
        """The next look comes now."""
        self.looks, self.next_at = 0, min(self.next_at, now)

    def evidence(self, now: float) -> tuple[str, ...]:
        """What was seen, in order, for people."""
        seen = [*self.reasons]
        if self.absent_since is not None:
            seconds = now - self.absent_since
            seen.append(f"in neither queue nor history for {seconds:.1f} s ({self.looks + 1} looks)")
        return tuple(seen)


class Owed(NamedTuple):
    """The server must have broadcast something: a frame heard at `since` or later would prove it."""

    reason: str
    since: float
    known_at: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to tell a job. `fact` is None for a prompt that never arrived, as far as can be seen."""

    life: Life
    fact: Fact | None
    entry: HistoryEntry | None = None
    evidence: tuple[str, ...] = ()


class Recovery:
    """The open doubts of one session."""

    def __init__(self) -> None:
        self.doubts: dict[str, Doubt] = {}
        self.looks = 0
        self._orphans: set[Life] = set()  # their events go to a client id that nobody listens to
        self._owed: Owed | None = None
        self._silence_at = float("-inf")  # when we last asked because of it
        self._idle_at = float("-inf")

    def __repr__(self) -> str:
        return f"<Recovery {len(self.doubts)} doubts, {self.looks} looks>"

    def suspect(self, life: Life, reason: str, now: float) -> None:
        """Something may have been missed of this job: it is to be looked at, now."""
        if life.over:
            return
        doubt = self.doubts.get(life.prompt_id)
        if doubt is None:
            self.doubts[life.prompt_id] = Doubt(life, now, [reason], now)
        elif reason not in doubt.reasons:
            doubt.reasons.append(reason)
            doubt.since = now
            doubt.hurry(now)

    def hurry(self, now: float) -> None:
        """The server is back: whatever is in doubt is to be looked at now."""
        for doubt in self.doubts.values():
            doubt.hurry(now)

    def orphan(self, lives: Iterable[Life], reason: str, now: float) -> None:
        """No event of these will come any more: they are looked at until they end."""
        for life in lives:
            self._orphans.add(life)
            self.suspect(life, reason, now)

    def hears(self, life: Life) -> bool:
        """Whether events of it can come."""
        return life not in self._orphans

    def accepted(self, now: float, sent_at: float | None = None) -> None:
        """The server took a prompt of ours: its `status` follows at once, if it did not overtake the answer.

        `sent_at`: when it was sent, where that is known; whatever was heard since then will do.
        """
        since = now - EARLY_S if sent_at is None else sent_at
        self._owe("a prompt was accepted and no status followed", since, now)

    def watch(self, router: Router, now: float) -> bool:
        """Turns what should have been heard and was not into doubts.

        True where the event path itself looks dead: what must have been broadcast was not heard.
        """
        waiting = [life for life in router.open() if life.state is not State.SUBMITTING]
        for life in waiting:
            self._watch_end(life, now)
            self._watch_turn(life, router, now)
        self._watch_idleness(router, waiting, now)
        self._watch_silence(router, waiting, now)
        return self._watch_canary(router, waiting, now)

    def pause_s(self, now: float, longest_s: float) -> float:
        """Seconds until the next look is due, at most `longest_s`."""
        return max(0.0, min([longest_s, *(doubt.next_at - now for doubt in self.doubts.values())]))

    def due(self, now: float) -> list[Life]:
        """The jobs that a look should cover now."""
        self._sort_out()
        return [doubt.life for doubt in self.doubts.values() if doubt.next_at <= now]

    def failed(self, now: float) -> None:
        """The look itself failed: nothing was learned, absence was not seen."""
        for doubt in self.doubts.values():
            doubt.absent_since = None
            doubt.postpone(now)

    def take(self, look: Look, now: float) -> list[Verdict]:
        """Judges what a look found; jobs of which nothing can be said yet stay in doubt."""
        self.looks += 1
        self._sort_out()
        verdicts = []
        for doubt in list(self.doubts.values()):
            verdict = self._judge(doubt, look, now)
            if verdict is not None:
                verdicts.append(verdict)
                if self._is_news(doubt, verdict):
                    self._owe("a look found what no event had told", look.asked_at, now)
        return verdicts

    def _sort_out(self) -> None:
        """What is over is no doubt; and a server that makes its own ids may have told one meanwhile."""
        open_ones = [doubt for doubt in self.doubts.values() if not doubt.life.over]
        self.doubts = {doubt.life.prompt_id: doubt for doubt in open_ones}
        self._orphans.intersection_update(doubt.life for doubt in open_ones)

    def _owe(self, reason: str, since: float, now: float) -> None:
        if self._owed is None:
            self._owed = Owed(reason, since, now)

    def _is_news(self, doubt: Doubt, verdict: Verdict) -> bool:
        """Whether the server must have told us this, while we were connected, and we did not hear it."""
        state, fact = doubt.life.state, verdict.fact
        if fact not in _TOLD or state is State.SUBMITTING or state in ENDING:
            return False
        if AWAY in doubt.reasons or not self.hears(doubt.life):
            return False
        return after(state, fact) is not state

    def _watch_end(self, life: Life, now: float) -> None:
        if life.state is State.UNSETTLED:
            self.suspect(life, "it ended, and how was not heard", now)
        elif life.state in ENDING and life.run is not None and now - life.run.said_at >= END_MARK_S:
            self.suspect(life, f"{life.state}, but no end mark came", now)

    def _watch_turn(self, life: Life, router: Router, now: float) -> None:
        # A server runs one prompt at a time.
        if life.state is State.RUNNING and router.runs is not None and router.runs is not life:
            self.suspect(life, "another prompt runs now", now)

    def _watch_idleness(self, router: Router, waiting: list[Life], now: float) -> None:
        """Asked once of what the server said, and now and then should what it said next have gone missing."""
        if router.queue_remaining != 0 or now - router.status_at < IDLE_S:
            return
        if self._idle_at <= router.status_at or now - self._idle_at >= SILENCE_S:
            self._idle_at = now
            self._suspect_all(waiting, "the server's queue is empty", router.status_at, now)

    def _watch_silence(self, router: Router, waiting: list[Life], now: float) -> None:
        quiet_since = max(router.heard_at, self._silence_at)
        silent = [life for life in waiting if now - max(quiet_since, life.queued_at) >= SILENCE_S]
        if silent:
            self._silence_at = now
            self._suspect_all(silent, f"no event for {now - router.heard_at:.0f} s", now, now)

    def _watch_canary(self, router: Router, waiting: list[Life], now: float) -> bool:
        owed = self._owed
        if owed is None:
            return False
        if router.heard_at >= owed.since or not waiting:
            self._owed = None
        elif now - owed.known_at >= CANARY_S:
            self._owed = None
            self._suspect_all(waiting, owed.reason, now, now)
            return True
        return False

    def _suspect_all(self, lives: Iterable[Life], reason: str, before: float, now: float) -> None:
        for life in lives:
            if life.queued_at <= before:
                self.suspect(life, reason, now)

    def _judge(self, doubt: Doubt, look: Look, now: float) -> Verdict | None:
        life = doubt.life
        if life.over or life.queued_at > look.asked_at:
            return None
        if life.prompt_id in look.queue.running:
            return self._seen(doubt, Fact.SEEN_RUNNING, look, now)
        if life.prompt_id in look.queue.pending:
            return self._seen(doubt, Fact.SEEN_PENDING, look, now)
        if life.prompt_id not in look.history:
            if doubt.next_at <= look.asked_at:
                doubt.postpone(now)  # it was asked for, and the answer made no sense
            return None
        entry = look.history[life.prompt_id]
        if entry is None:
            return self._absent(doubt, look, now)
        del self.doubts[life.prompt_id]
        if entry.fact is Fact.SEEN_COMPLETED and (gone := life.pictures_gone()):
            return Verdict(life, Fact.SEEN_REMOVED, entry, (*doubt.reasons, gone))
        return Verdict(life, entry.fact, entry)

    def _seen(self, doubt: Doubt, fact: Fact, look: Look, now: float) -> Verdict:
        """It is alive. Where its end was heard, or will never be, only history can close it: keep looking."""
        doubt.absent_since = None
        if doubt.life.state in ENDING or not self.hears(doubt.life):
            doubt.postpone(now)
        elif doubt.since <= look.asked_at:
            del self.doubts[doubt.life.prompt_id]
        return Verdict(doubt.life, fact)

    def _absent(self, doubt: Doubt, look: Look, now: float) -> Verdict | None:
        # From the first look that was answered to the last that was asked: nothing shorter is proof.
        if doubt.absent_since is None:
            doubt.absent_since = now
        if look.asked_at - doubt.absent_since < _patience_s(doubt, look):
            doubt.postpone(now)
            return None
        del self.doubts[doubt.life.prompt_id]
        return Verdict(doubt.life, _last_word(doubt.life), evidence=doubt.evidence(now))


def _patience_s(doubt: Doubt, look: Look) -> float:
    """How long a job must be absent to be gone.

    One that we withdrew while it waited is gone at once: had it begun, we had heard so. That holds neither
    in a gap, nor while no event comes, nor for a prompt whose POST was never answered: it may still arrive.
    """
    life = doubt.life
    if look.heard_at < doubt.since - EARLY_S:  # what our request broadcast may be read before its answer
        return SETTLE_S
    quick = life.withdrawn and life.state is State.QUEUED and not life.gap
    return WITHDRAWN_S if quick else SETTLE_S


def _last_word(life: Life) -> Fact | None:
    """What to make of a job that the server no longer shows: what it said of it before, if anything."""
    if life.state is State.SUBMITTING and life.withdrawn:
        return Fact.SEEN_CANCELLED
    if life.state is State.SUBMITTING:
        # In a gap it may have run, unheard, on a server that has forgotten it since.
        return Fact.UNKNOWABLE if life.gap else None
    said = life.run.said if life.run else None
    if said is Fact.SUCCEEDED and not life.silent_leaves():
        return Fact.SEEN_COMPLETED
    if said is Fact.ERRED:
        return Fact.SEEN_FAILED
    if said is Fact.INTERRUPTED or life.withdrawn:
        return Fact.SEEN_CANCELLED
    return Fact.SEEN_REMOVED


def adopt(life: Life, entry: HistoryEntry, router: Router, now: float) -> None:
    """Completes what was heard of a job with what history tells, and remembers who shows nothing."""
    if life.run is None:
        life.gap = True  # nothing was heard of it, so no time is known either
    run = life.running(now)
    run.outputs = {node: output for node, output in entry.outputs.items() if output}
    run.errors = entry.told(events.ExecutionError) or run.errors
    for cached in entry.told(events.ExecutionCached):
        run.cached = tuple(cached.nodes)
    if entry.fact is Fact.SEEN_COMPLETED:
        run.done.update(life.shape)
        shown = {life.shape[node].class_type for node in run.outputs if node in life.shape}
        router.mute |= life.silent_leaves() - shown
