"""The life of one prompt: total over every history, and the first ending stands."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_comfy import errors, events
from async_comfy.events import Event
from async_comfy.protocol.job import ENDING, TABLE, TERMINAL, Fact, Life, State, after
from tests.protocol import wire
from tests.protocol.odd import values
from tests.protocol.wire import TEXT_TO_IMAGE, Node

P = "5f3f6a0e-5a0b-4c88-9d1c-0d6a4d1f7a11"
SENDS: wire.Shape = {**TEXT_TO_IMAGE, "5": Node("SaveImageWebsocket", leaf=True)}
nodes = st.sampled_from([*SENDS, "7:0", None])
outputs = st.none() | st.dictionaries(st.sampled_from(["images", "text", "odd"]), values, max_size=2)
history: st.SearchStrategy[Event] = st.one_of(
    st.builds(events.ExecutionStart, prompt_id=st.just(P)),
    st.builds(
        events.ExecutionCached, prompt_id=st.just(P), nodes=st.lists(st.sampled_from(list(TEXT_TO_IMAGE)))
    ),
    st.builds(events.Executing, prompt_id=st.just(P), node=nodes),
    st.builds(events.Executing, prompt_id=st.just(P), node=st.none()),
    st.builds(events.Progress, prompt_id=st.just(P), node=nodes, value=st.floats(), max=st.floats()),
    st.builds(events.ProgressState, prompt_id=st.just(P)),
    st.builds(events.Executed, prompt_id=st.just(P), node=nodes, output=outputs),
    st.builds(events.ExecutionSuccess, prompt_id=st.just(P)),
    st.builds(events.ExecutionInterrupted, prompt_id=st.just(P)),
    st.builds(events.ExecutionError, prompt_id=st.just(P), node_id=nodes),
    st.builds(events.Preview, prompt_id=st.just(P), node=nodes, data=st.binary(max_size=4)),
    st.builds(events.ProgressText, prompt_id=st.just(P), node=nodes),
    st.builds(events.Unknown, prompt_id=st.just(P), name=st.just("x"), data=values),
)


def lived(*frames: wire.Frame, shape: wire.Shape = TEXT_TO_IMAGE, gap: bool = False) -> Life:
    life = Life(P, shape, 0.0)
    life.learn(Fact.ACCEPTED, 0.0)
    life.gap = gap
    for now, frame in enumerate(frames):
        life.apply(frame.event, float(now))
    return life


def made(life: Life) -> tuple[Any, ...]:
    """All that the outcome rests on."""
    run = life.run
    seen = (dict(run.outputs), list(run.errors), list(run.images), run.cached, set(run.done)) if run else ()
    return life.state, life.ended_at, seen


def test_the_table_answers_for_every_state_and_fact() -> None:
    assert set(TABLE) == set(State)
    for state in State:
        for fact in Fact:
            assert after(state, fact) in State


def test_the_terminal_states_are_the_six_outcomes_and_lead_nowhere() -> None:
    assert {str(state) for state in TERMINAL} == set(errors.OUTCOMES)
    assert all(after(state, fact) is state for state in TERMINAL for fact in Fact)


@pytest.mark.parametrize("state", [state for state in State if state not in TERMINAL])
def test_from_every_open_state_what_history_says_is_the_end(state: State) -> None:
    assert after(state, Fact.SEEN_COMPLETED) is State.COMPLETED
    assert after(state, Fact.SEEN_FAILED) is State.FAILED
    assert after(state, Fact.SEEN_CANCELLED) is State.CANCELLED


@pytest.mark.parametrize("state", [state for state in State if state not in TERMINAL])
def test_nothing_leads_back_from_a_run_to_the_queue(state: State) -> None:
    begun = {State.RUNNING, *ENDING}
    assert state not in begun or all(
        after(state, fact) not in {State.QUEUED, State.SUBMITTING} for fact in Fact
    )


@pytest.mark.parametrize("fact", [Fact.ERRED, Fact.INTERRUPTED, Fact.SUCCEEDED])
def test_no_word_of_a_run_is_its_end_before_the_end_mark(fact: Fact) -> None:
    assert all(after(state, fact) not in TERMINAL for state in State if state not in TERMINAL)


@given(st.lists(st.sampled_from(Fact)))
def test_over_any_facts_the_first_ending_stands(facts: list[Fact]) -> None:
    life = Life(P, TEXT_TO_IMAGE, 0.0)
    first: tuple[State, float | None] | None = None
    for now, fact in enumerate(facts):
        before = life.state
        assert life.learn(fact, float(now)) is (life.state is not before)
        if life.over and first is None:
            first = life.state, float(now)
    assert first is None or first == (life.state, life.ended_at)


@given(st.lists(history | st.sampled_from(Fact), max_size=30), st.booleans())
def test_over_any_history_nothing_raises_and_nothing_changes_after_the_end(
    happened: list[Event | Fact], gap: bool
) -> None:
    life = Life(P, SENDS, 0.0)
    life.gap = gap
    end: tuple[Any, ...] | None = None
    for now, item in enumerate(happened):
        if isinstance(item, Fact):
            life.learn(item, float(now))
        else:
            assert life.apply(item, float(now)) is life.over
        if end is None and life.over:
            end = made(life)
    assert end is None or made(life) == end


def test_a_run_from_its_start_to_its_end_mark_is_completed_with_its_outputs() -> None:
    life = lived(*wire.run(P))
    assert life.state is State.COMPLETED
    assert life.run is not None
    assert life.run.outputs == wire.outputs(P)


@pytest.mark.parametrize("kind", ["execution_success", "execution_interrupted", "execution_error"])
def test_what_comes_twice_or_after_the_end_changes_nothing(kind: str) -> None:
    life = lived(*wire.run(P))
    before = made(life)
    for frame in (wire.text(kind, prompt_id=P), wire.executed(P, "9", wire.image("late.png")), *wire.run(P)):
        life.apply(frame.event, 99.0)
    assert made(life) == before


def test_an_error_in_mid_run_is_not_the_end() -> None:
    frames = list(wire.run(P))
    frames.insert(5, wire.failure(P, "6", exception_type="ExecutionBlocked"))
    life = lived(*frames)
    assert life.state is State.COMPLETED
    assert life.run is not None
    assert [error.exception_type for error in life.run.errors] == ["ExecutionBlocked"]


def begun(*rest: wire.Frame) -> list[wire.Frame]:
    """A run up to its sampler, and then so."""
    return [wire.text("execution_start", prompt_id=P), wire.executing(P, "4"), wire.executing(P, "3"), *rest]


def test_an_error_and_then_the_end_mark_is_failed() -> None:
    assert lived(*begun(wire.failure(P, "3"))).state is State.FAILING
    assert lived(*begun(wire.failure(P, "3"), wire.executing(P, None))).state is State.FAILED


def test_an_interruption_and_then_the_end_mark_is_cancelled() -> None:
    said = wire.text("execution_interrupted", prompt_id=P, node_id="3")
    assert lived(*begun(said)).state is State.STOPPING
    assert lived(*begun(said, wire.executing(P, None))).state is State.CANCELLED


def test_an_error_after_which_the_run_went_on_is_not_its_end_even_where_the_success_went_missing() -> None:
    frames = [frame for frame in wire.run(P) if not isinstance(frame.event, events.ExecutionSuccess)]
    frames.insert(5, wire.failure(P, "6", exception_type="ExecutionBlocked"))
    assert lived(*frames).state is State.UNSETTLED


def test_an_end_mark_without_a_word_before_it_is_no_outcome() -> None:
    assert lived(*begun(wire.executing(P, None))).state is State.UNSETTLED


@pytest.mark.parametrize("said", ["execution_success", "execution_error"])
def test_an_end_mark_after_a_gap_is_no_outcome(said: str) -> None:
    frames = begun(wire.text(said, prompt_id=P), wire.executing(P, None))
    assert lived(*frames, gap=True).state is State.UNSETTLED


def test_a_leaf_that_ran_and_showed_nothing_is_worth_a_look_until_its_class_is_known_for_it() -> None:
    frames = [frame for frame in wire.run(P) if not isinstance(frame.event, events.Executed)]
    assert lived(*frames).state is State.UNSETTLED
    life = Life(P, TEXT_TO_IMAGE, 0.0)
    for frame in frames:
        life.apply(frame.event, 0.0, {"SaveImage"})
    assert life.state is State.COMPLETED


def test_a_leaf_of_which_nothing_at_all_was_heard_is_worth_a_look_too() -> None:
    """Its `executing` and its `executed` may both have gone missing."""
    frames = [frame for frame in wire.run(P) if getattr(frame.event, "node", None) != "9"]
    assert lived(*frames).state is State.UNSETTLED


def test_pictures_of_save_image_websocket_are_kept_and_previews_of_others_are_not() -> None:
    shape = {"3": Node("KSampler", steps=4), "5": Node("SaveImageWebsocket", leaf=True)}
    life = lived(
        wire.executing(P, "3"),
        wire.picture_of(P, "3", b"preview"),
        wire.executing(P, "5"),
        wire.picture_of(P, "5", b"one"),
        wire.picture_of(P, "5", b"two"),
        wire.text("execution_success", prompt_id=P),
        wire.executing(P, None),
        shape=shape,
    )
    assert life.state is State.COMPLETED
    assert life.run is not None
    assert [picture.data for picture in life.run.images] == [b"one", b"two"]


@pytest.mark.parametrize("most", [float("nan"), float("inf"), -1, 10**400])
def test_an_odd_number_of_pictures_announced_raises_nothing(most: float) -> None:
    shape = {"5": Node("SaveImageWebsocket", leaf=True)}
    said = wire.text("execution_success", prompt_id=P)
    life = lived(
        wire.executing(P, "5"), wire.step(P, "5", 1, most), said, wire.executing(P, None), shape=shape
    )
    assert life.state in {State.UNSETTLED, State.COMPLETED}


def test_any_sign_of_work_means_that_it_runs_even_where_its_start_went_missing() -> None:
    for frame in (
        wire.step(P, "3", 1, 4),
        wire.executing(P, "3"),
        wire.snapshot(P, {}),
        wire.executed(P, "9", {}),
    ):
        assert lived(frame).state is State.RUNNING
