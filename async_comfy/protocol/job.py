"""The life of one prompt: a table of what may follow what, and what was seen on the way.

`TABLE` is total by one rule: a fact that its row does not name changes nothing. So events may come
twice, late or from before a reconnect, and the first ending stands.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from enum import StrEnum
from typing import Any, Protocol

from async_comfy import events
from async_comfy.errors import NodeProblem
from async_comfy.events import Event
from async_comfy.protocol import frames

MOST_PICTURES = 1_000_000  # that one node announces; what is beyond is no count


class State(StrEnum):
    """Where a prompt is, as far as we know."""

    __hash__ = str.__hash__  # Enum's own is a Python function, and every event asks for one

    SUBMITTING = "submitting"  # registered here; the server has not answered yet
    QUEUED = "queued"  # accepted
    RUNNING = "running"
    FAILING = "failing"  # a node raised; only the end mark tells whether that was the end
    STOPPING = "stopping"  # interrupted; the end mark is on its way
    SUCCEEDING = "succeeding"  # success was said; the end mark is on its way
    UNSETTLED = "unsettled"  # the end mark came, and how it ended was not heard: ask
    COMPLETED = "completed"
    FAILED = "failed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    LOST = "lost"
    AMBIGUOUS = "ambiguous"


class Fact(StrEnum):
    """What can be learned about a prompt."""

    __hash__ = str.__hash__

    ACCEPTED = "accepted"  # POST /prompt: 200
    REFUSED = "refused"  # POST /prompt: 400
    STARTED = "started"  # execution_start
    WORKED = "worked"  # executing(n), executed, progress...: it must be running
    ERRED = "erred"  # execution_error
    INTERRUPTED = "interrupted"  # execution_interrupted
    SUCCEEDED = "succeeded"  # execution_success
    ENDED = "ended"  # executing(null), the end mark
    ENDED_UNHEARD = "ended unheard"  # the end mark, but events before it went missing
    SEEN_PENDING = "seen pending"  # in a snapshot of the queue
    SEEN_RUNNING = "seen running"
    SEEN_COMPLETED = "seen completed"  # in history, or by the jobs API
    SEEN_FAILED = "seen failed"
    SEEN_CANCELLED = "seen cancelled"  # in history; or we deleted it from the queue and it is gone
    SEEN_REMOVED = "seen removed"  # nowhere any more, long enough
    UNKNOWABLE = "unknowable"  # nobody can say whether it was ever taken


_SEEN_ENDED = {
    Fact.SEEN_COMPLETED: State.COMPLETED,
    Fact.SEEN_FAILED: State.FAILED,
    Fact.SEEN_CANCELLED: State.CANCELLED,
    Fact.SEEN_REMOVED: State.LOST,
    Fact.UNKNOWABLE: State.AMBIGUOUS,
}
_BEGINNING = {
    Fact.STARTED: State.RUNNING,
    Fact.WORKED: State.RUNNING,
    Fact.SEEN_RUNNING: State.RUNNING,
    Fact.ERRED: State.FAILING,
    Fact.INTERRUPTED: State.STOPPING,
    Fact.SUCCEEDED: State.SUCCEEDING,
    Fact.ENDED: State.UNSETTLED,
    Fact.ENDED_UNHEARD: State.UNSETTLED,
    **_SEEN_ENDED,
}

TABLE: Mapping[State, Mapping[Fact, State]] = {
    State.SUBMITTING: {
        Fact.ACCEPTED: State.QUEUED,
        Fact.SEEN_PENDING: State.QUEUED,
        Fact.REFUSED: State.REJECTED,
        **_BEGINNING,
    },
    State.QUEUED: _BEGINNING,
    State.RUNNING: {
        Fact.ERRED: State.FAILING,
        Fact.INTERRUPTED: State.STOPPING,
        Fact.SUCCEEDED: State.SUCCEEDING,
        Fact.ENDED: State.UNSETTLED,
        Fact.ENDED_UNHEARD: State.UNSETTLED,
        **_SEEN_ENDED,
    },
    State.FAILING: {
        Fact.INTERRUPTED: State.STOPPING,
        Fact.SUCCEEDED: State.SUCCEEDING,  # the error was a blocked output's; the run went on
        Fact.ENDED: State.FAILED,
        Fact.ENDED_UNHEARD: State.UNSETTLED,  # perhaps the success went missing
        **_SEEN_ENDED,
    },
    State.STOPPING: {
        Fact.ENDED: State.CANCELLED,
        Fact.ENDED_UNHEARD: State.CANCELLED,
        **_SEEN_ENDED,
    },
    State.SUCCEEDING: {
        Fact.ENDED: State.COMPLETED,
        Fact.ENDED_UNHEARD: State.UNSETTLED,  # how is known, what it made is not
        **_SEEN_ENDED,
    },
    State.UNSETTLED: _SEEN_ENDED,
    State.COMPLETED: {},
    State.FAILED: {},
    State.REJECTED: {},
    State.CANCELLED: {},
    State.LOST: {},
    State.AMBIGUOUS: {},
}

TERMINAL = frozenset(state for state, row in TABLE.items() if not row)
"""The six outcomes."""

ENDING = frozenset({State.FAILING, State.STOPPING, State.SUCCEEDING, State.UNSETTLED})
"""The run said how it ends, or that it ended; what is missing is the other half."""


_RUNNING = State.RUNNING  # every gauge asks; a member is looked up by a Python function


def after(state: State, fact: Fact) -> State:
    """The state that follows. Total: what the table does not name changes nothing."""
    return TABLE[state].get(fact, state)


class NodeShape(Protocol):
    """What a prompt's node is, as far as following it needs."""

    @property
    def class_type(self) -> str:
        """The node's class."""
        ...

    @property
    def title(self) -> str:
        """What people call it."""
        ...

    @property
    def steps(self) -> int:
        """Its literal `steps` input, 1 without: how much of the whole it is."""
        ...

    @property
    def leaf(self) -> bool:
        """Whether no other node takes anything from it, as is so for what saves and shows."""
        ...


Shape = Mapping[str, NodeShape]


class Listener(Protocol):
    """Who wants to hear of a prompt, told right after its life was brought up to date."""

    def heard(self, event: Event) -> None:
        """An event. Must not raise and never waits."""
        ...

    def heard_gauge(self, raw: bytes) -> None:
        """A gauge, as it came; only while the life is `watched`. Must not raise and never waits."""
        ...

    def ended(self) -> None:
        """The life reached its one terminal state."""
        ...


Snapshot = bytes | events.ProgressState
Step = bytes | events.Progress
"""How far something is; only the newest counts. Bytes: the frame as it came, for the reader to decode."""


class Run:
    """What was seen of one execution. Gauges are kept as they came and decoded by who reads them."""

    __slots__ = (
        "cached",
        "done",
        "errors",
        "images",
        "node",
        "node_since",
        "outputs",
        "said",
        "said_at",
        "since",
        "snapshot",
        "step",
        "step_at",
        "step_first",
        "step_first_at",
        "steps",
    )

    def __init__(self, now: float) -> None:
        self.since = now
        self.node: str | None = None
        self.node_since = now
        self.done: set[str] = set()
        self.cached: tuple[str, ...] = ()
        self.said: Fact | None = None  # how it ends, by the server's last word on it
        self.said_at = now
        self.outputs: dict[str, dict[str, Any]] = {}
        self.images: list[events.Preview] = []  # what SaveImageWebsocket sent
        self.errors: list[events.ExecutionError] = []
        self.snapshot: Snapshot | None = None  # the newest progress_state
        self.step: Step | None = None  # the newest progress of the current node
        self.step_at = now
        self.step_first: Step | None = None  # its first, to tell the pace
        self.step_first_at = now
        self.steps: dict[str, Step] = {}  # the last progress of each node before the current one

    def enter(self, node: str | None, now: float) -> None:
        """`node` runs now; the one before it is done."""
        if node == self.node:
            return
        if self.node is not None:
            self.done.add(self.node)
            if self.step is not None:
                self.steps[self.node] = self.step
        self.node, self.node_since = node, now
        self.step = self.step_first = None


class Life:
    """One prompt's life: fed with events and facts, asked for its state.

    `over`: its one terminal outcome stands.
    `gap`: events may have been missed, so outputs are to be read from history.
    `watched`: somebody iterates, so gauges are worth passing on.
    `evidence`: why it was given up, where it was.
    `withdrawn`: we took it from the queue ourselves, so its absence means that it is cancelled.
    """

    __slots__ = (
        "ended_at",
        "evidence",
        "gap",
        "listener",
        "number",
        "over",
        "problems",
        "prompt_id",
        "queued_at",
        "run",
        "shape",
        "state",
        "watched",
        "withdrawn",
    )

    def __init__(self, prompt_id: str, shape: Shape, now: float) -> None:
        self.prompt_id = prompt_id
        self.shape = shape
        self.state = State.SUBMITTING
        self.over = False  # as the state says; kept beside it, since every event asks
        self.queued_at = now
        self.ended_at: float | None = None
        self.number: float | None = None
        self.run: Run | None = None
        self.problems: tuple[NodeProblem, ...] = ()
        self.evidence: tuple[str, ...] = ()
        self.gap = False
        self.watched = False
        self.withdrawn = False
        self.listener: Listener | None = None

    def __repr__(self) -> str:
        return f"<Life {self.prompt_id} {self.state}>"

    def learn(self, fact: Fact, now: float) -> bool:
        """Takes a fact; whether the state changed."""
        state = after(self.state, fact)
        if state is self.state:
            return False
        self.state = state
        if state in TERMINAL:
            self.over, self.ended_at = True, now
        return True

    def running(self, now: float) -> Run:
        """What is seen of the execution, from its first sign on."""
        if self.run is None:
            self.run = Run(now)
        return self.run

    def apply(self, event: Event, now: float, mute: AbstractSet[str] = frozenset()) -> bool:
        """Takes an event of this prompt; whether it is over now. After the end nothing changes.

        `mute`: classes of nodes that are known to show nothing when they ran.
        """
        if not self.over:
            self._take(event, now, mute)
        return self.over

    def _take(self, event: Event, now: float, mute: AbstractSet[str]) -> None:
        match event:
            case events.Executing(node=None):
                unheard = self.gap or (self.state is State.SUCCEEDING and not self._heard_all(mute))
                self.learn(Fact.ENDED_UNHEARD if unheard else Fact.ENDED, now)
            case events.Executing(node=node):
                run = self.running(now)
                run.enter(node, now)
                if run.said is Fact.ERRED:
                    run.said = None  # it was not the end
                self.learn(Fact.WORKED, now)
            case events.Executed(node=str(node), output=output):
                if output:
                    self.running(now).outputs[node] = output
                self.learn(Fact.WORKED, now)
            case events.ExecutionStart():
                self.running(now)
                self.learn(Fact.STARTED, now)
            case events.ExecutionCached(nodes=nodes):
                self.running(now).cached = tuple(nodes)
                self.learn(Fact.WORKED, now)
            case events.Progress():
                self.take_step(event, now)
            case events.ProgressState():
                self.take_snapshot(event, now)
            case events.ExecutionSuccess():
                self._hear(Fact.SUCCEEDED, now)
            case events.ExecutionInterrupted():
                self._hear(Fact.INTERRUPTED, now)
            case events.ExecutionError(exception_type="ExecutionBlocked"):
                self.running(now).errors.append(event)  # an output that was blocked; the run goes on
                self.learn(Fact.WORKED, now)
            case events.ExecutionError():
                self.running(now).errors.append(event)
                self._hear(Fact.ERRED, now)
            case events.Preview():
                if self.sends_pictures(event.node):
                    self.running(now).images.append(event)
            case _:
                pass

    def take_snapshot(self, snapshot: Snapshot, now: float) -> None:
        """Takes a `progress_state` of this prompt, decoded or not."""
        if not self.over:
            self._works(now).snapshot = snapshot

    def take_step(self, step: Step, now: float) -> None:
        """Takes a `progress` of this prompt, decoded or not: the newest and the node's first are kept."""
        if not self.over:
            run = self._works(now)
            run.step, run.step_at = step, now
            if run.step_first is None:
                run.step_first, run.step_first_at = step, now

    def _works(self, now: float) -> Run:
        run = self.run
        if run is None or self.state is not _RUNNING:
            run = self.running(now)
            self.learn(Fact.WORKED, now)
        return run

    def _hear(self, fact: Fact, now: float) -> None:
        run = self.running(now)
        run.said, run.said_at = fact, now
        self.learn(fact, now)

    def sends_pictures(self, node: str | None = None) -> bool:
        """Whether the node (by default the current one) gives its pictures as binary frames alone."""
        node = node or (self.run.node if self.run else None)
        shape = self.shape.get(node) if node is not None else None
        return shape is not None and shape.class_type == "SaveImageWebsocket"

    def _heard_all(self, mute: AbstractSet[str]) -> bool:
        return self.silent_leaves() <= mute and self.pictures_gone() is None

    def silent_leaves(self) -> frozenset[str]:
        """Classes of the nodes that nothing else uses and that showed nothing.

        Either such a class never shows anything, or what was said of it went missing: worth one look.
        """
        outputs = self.run.outputs if self.run is not None else {}
        dropped = {problem.node for problem in self.problems}
        return frozenset(
            shape.class_type
            for node, shape in self.shape.items()
            if shape.leaf and node not in outputs and node not in dropped and not self.sends_pictures(node)
        )

    def pictures_gone(self) -> str | None:
        """What is missing of the pictures that came over the socket, where they come just once."""
        for node in self.shape:
            if self.sends_pictures(node):
                heard = sum(image.node == node for image in self.run.images) if self.run else 0
                sent = self._announced(node)
                if heard < sent:
                    return f"of the pictures that node {node} sent over the socket {heard} were heard"
        return None

    def _announced(self, node: str) -> int:
        """How many pictures the node said that it sends; at least one where that went missing."""
        run = self.run
        step = (run.step if run.node == node else run.steps.get(node)) if run is not None else None
        event = frames.read_gauge(step)
        if not isinstance(event, events.Progress):
            return int(self.gap)
        return int(event.max) if 0 <= event.max <= MOST_PICTURES else 0  # NaN and the like too
