"""How far a prompt is: a fraction that only grows, and an estimate only where one can be made."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from async_comfy.protocol.job import Fact, Life, State
from async_comfy.protocol.progress import measure
from async_comfy.protocol.router import Router
from async_comfy.results import JobProgress
from tests.protocol import wire
from tests.protocol.wire import TEXT_TO_IMAGE, Frame, Node

P = "3c9f6a0e-5a0b-4c88-9d1c-0d6a4d1f7a33"
shapes = st.dictionaries(
    st.sampled_from("123456789"),
    st.builds(Node, class_type=st.just("X"), steps=st.integers(1, 12), leaf=st.booleans()),
    min_size=1,
    max_size=6,
)


def watched(*frames: Frame, shape: wire.Shape = TEXT_TO_IMAGE, decoded: bool = False) -> list[JobProgress]:
    """What is measured after each frame, which come one a second."""
    router = Router()
    life, _ = wire.listened(router, P, shape)
    life.learn(Fact.ACCEPTED, 0.0)
    seen = []
    for now, frame in enumerate(frames):
        if decoded:
            life.apply(frame.event, float(now))
        else:
            frame.into(router, float(now))
        seen.append(measure(life, float(now)))
    return seen


@given(shapes)
def test_over_a_normal_run_the_fraction_grows_from_nothing_to_one(shape: wire.Shape) -> None:
    fractions = [seen.fraction for seen in watched(*wire.run(P, shape, previews=False), shape=shape)]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)


@given(shapes)
def test_gauges_say_the_same_decoded_or_not(shape: wire.Shape) -> None:
    frames = list(wire.run(P, shape, previews=False))
    assert watched(*frames, shape=shape) == watched(*frames, shape=shape, decoded=True)


numbers = st.integers() | st.floats()


@given(st.lists(st.tuples(st.sampled_from(["3", "9", "7:1"]), numbers, numbers, st.booleans()), max_size=8))
@example([("3", float("nan"), 4, True)])
@example([("3", float("inf"), float("inf"), False)])
@example([("3", 10**400, 1, True)])
@example([("3", 1, 10**400, True)])
@example([("3", 0, 5, True), ("3", 10**400, 5, True)])
@example([("3", 0, float("nan"), True), ("3", 1, float("nan"), True)])
@example([("3", 0, float("inf"), True), ("3", 1, float("inf"), True)])
def test_whatever_a_server_says_the_fraction_is_between_nothing_and_one(
    said: list[tuple[str, float, float, bool]],
) -> None:
    frames = []
    for node, value, limit, as_step in said:
        frames.append(wire.executing(P, node))
        frames.append(
            wire.step(P, node, value, limit)
            if as_step
            else wire.snapshot(P, {node: (value, limit, "running")})
        )
    for seen in watched(*frames):
        assert 0.0 <= seen.fraction <= 1.0
        assert seen.eta_s is None or seen.eta_s >= 0.0


def test_in_the_queue_it_says_how_many_are_ahead() -> None:
    life = Life(P, TEXT_TO_IMAGE, 0.0)
    life.learn(Fact.ACCEPTED, 0.0)
    assert measure(life, 1.0, ahead=3) == JobProgress(state="queued", ahead=3)


def test_while_it_runs_it_names_the_node_and_its_steps() -> None:
    seen = watched(wire.executing(P, "3"), wire.step(P, "3", 1, 4))[-1]
    assert (seen.state, seen.node, seen.title, seen.class_type) == ("running", "3", "the sampler", "KSampler")
    assert (seen.step, seen.steps) == (1, 4)
    assert seen.fraction == pytest.approx(1 / 8)


def test_a_node_that_sends_no_progress_is_measured_by_the_snapshot() -> None:
    seen = watched(wire.executing(P, "3"), wire.snapshot(P, {"3": (2, 4, "running")}))[-1]
    assert (seen.step, seen.steps) == (2, 4)
    assert seen.fraction == pytest.approx(2 / 8)


def test_cached_nodes_count_as_done() -> None:
    cached = wire.text("execution_cached", nodes=["4", "6", "3"], prompt_id=P)
    assert watched(cached)[-1].fraction == pytest.approx(6 / 8)


def test_nodes_that_the_server_added_move_nothing_and_break_nothing() -> None:
    seen = watched(wire.executing(P, "3"), wire.executing(P, "3.0.1"), wire.step(P, "3.0.1", 1, 2))[-1]
    assert (seen.node, seen.title, seen.step) == ("3.0.1", None, 1)
    assert seen.fraction == pytest.approx(4 / 8)


def test_how_long_it_takes_is_known_only_after_two_steps_of_the_node_that_runs() -> None:
    first, second, third, fourth = watched(
        wire.executing(P, "3"), wire.step(P, "3", 1, 4), wire.step(P, "3", 2, 4), wire.executing(P, "8")
    )
    assert (first.eta_s, second.eta_s, fourth.eta_s) == (None, None, None)
    assert third.steps_per_s == pytest.approx(1.0)
    assert third.eta_s is not None


def test_the_estimate_is_told_in_the_steps_of_the_node_that_runs() -> None:
    """An upscaler has no `steps` input, and a hundred tiles to go: a hundred steps at their pace."""
    shape = {"1": Node("Upscale", leaf=True)}
    seen = watched(wire.executing(P, "1"), wire.step(P, "1", 1, 101), wire.step(P, "1", 2, 101), shape=shape)[
        -1
    ]
    assert seen.eta_s == pytest.approx(99.0)


def test_a_frame_that_only_begins_like_a_gauge_measures_as_nothing() -> None:
    torn = Frame(wire.step(P, "3", 1, 4).raw[:-1])
    seen = watched(wire.executing(P, "3"), torn)[-1]
    assert (seen.step, seen.steps, seen.eta_s) == (0, 0, None)


@pytest.mark.parametrize(("fact", "fraction"), [(Fact.SEEN_COMPLETED, 1.0), (Fact.SEEN_FAILED, 0.0)])
def test_after_the_end_only_a_completed_prompt_is_whole(fact: Fact, fraction: float) -> None:
    life = Life(P, TEXT_TO_IMAGE, 0.0)
    life.learn(fact, 1.0)
    assert measure(life, 2.0).fraction == fraction
    assert life.state in {State.COMPLETED, State.FAILED}
