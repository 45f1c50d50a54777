"""How far a prompt is, told from what its events left behind.

Every node of the prompt weighs as many units as it has steps (its literal `steps` input), others one.
A unit is what moves the bar; it is no promise of time. The pace comes from the current node's own
steps, which are all alike, and never from loading.
"""

from async_comfy.events import Progress, ProgressState
from async_comfy.protocol import frames
from async_comfy.protocol.job import Life, Run, Shape, State
from async_comfy.results import JobProgress

MOST_STEPS = 1e9  # nobody waits for more


def measure(life: Life, now: float, ahead: int | None = None) -> JobProgress:
    """Where the prompt is at `now`. `ahead`: prompts before it in the queue, where known."""
    run = life.run
    if run is None or life.over:
        return JobProgress(
            state=str(life.state),
            fraction=1.0 if life.state is State.COMPLETED else 0.0,
            ahead=ahead if life.state is State.QUEUED else None,
        )
    step, steps = _steps(run)
    done, total = _units(life.shape, run, step, steps)
    shape = life.shape.get(run.node) if run.node is not None else None
    return JobProgress(
        state=str(life.state),
        fraction=1.0 if life.state is State.SUCCEEDING else min(done / total, 1.0) if total else 0.0,
        node=run.node,
        title=shape.title if shape else None,
        class_type=shape.class_type if shape else None,
        step=step,
        steps=steps,
        steps_per_s=(pace := _pace(run)),
        eta_s=_steps_left(life.shape, run, step, steps) / pace if pace else None,
    )


def _units(shape: Shape, run: Run, step: float, steps: float) -> tuple[float, float]:
    passed = run.done.union(run.cached)
    total = sum(node.steps for node in shape.values())
    done: float = sum(node.steps for key, node in shape.items() if key in passed)
    current = shape.get(run.node) if run.node is not None else None
    if current is not None and run.node not in passed and steps > 0:
        done += current.steps * min(max(step / steps, 0.0), 1.0)
    return done, total


def _steps_left(shape: Shape, run: Run, step: float, steps: float) -> float:
    """The current node's own, and those of nodes that have not begun."""
    begun = run.done.union(run.cached, (run.node,))
    return max(steps - step, 0.0) + sum(node.steps for key, node in shape.items() if key not in begun)


def _steps(run: Run) -> tuple[float, float]:
    """Value and max of the current node. V3 nodes send no `progress`, so the snapshot is asked too."""
    event = frames.read_gauge(run.step)
    if isinstance(event, Progress):
        return _count(event.value), _count(event.max)
    state = frames.read_gauge(run.snapshot)
    node = state.nodes.get(run.node or "") if isinstance(state, ProgressState) else None
    return (_count(node.value), _count(node.max)) if node else (0, 0)


def _count(steps: float) -> float:
    """A number that can be divided by: nodes send NaN, infinities and worse."""
    return steps if 0 <= steps <= MOST_STEPS else 0


def _pace(run: Run) -> float | None:
    """Steps a second of the current node; None before two of them were seen."""
    first, last = frames.read_gauge(run.step_first), frames.read_gauge(run.step)
    if not isinstance(first, Progress) or not isinstance(last, Progress):
        return None
    seconds = run.step_at - run.step_first_at
    steps = _count(last.value) - _count(first.value)
    return steps / seconds if seconds > 0 and steps > 0 else None
