"""One socket, many prompts: each hears its own events and nobody else's."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_comfy import events
from async_comfy.protocol import frames
from async_comfy.protocol.job import Fact, Life, State
from async_comfy.protocol.router import EARLY_EVENTS, Router
from tests.protocol import wire
from tests.protocol.wire import Frame, Node

SMALL: wire.Shape = {"3": Node("KSampler", steps=3), "9": Node("SaveImage", leaf=True)}


@given(st.lists(st.binary(max_size=60)))
def test_nothing_that_arrives_raises_and_all_of_it_is_counted(arrived: list[bytes]) -> None:
    router = Router()
    for raw in arrived:
        router.take_text(raw, 1.0)
        router.take_binary(raw, 1.0)
    assert router.counts.frames == 2 * len(arrived)


@given(st.data(), st.integers(1, 4), st.integers(0, 2))
def test_however_prompts_interleave_each_hears_exactly_its_own_events_in_order(
    data: st.DataObject, ours: int, others: int
) -> None:
    router = Router()
    mine = [listen(router) for _ in range(ours)]
    runs = {life.prompt_id: list(wire.run(life.prompt_id, SMALL, previews=False)) for life, _ in mine}
    sent = {prompt_id: list(run) for prompt_id, run in runs.items()}
    for _ in range(others):
        stranger = wire.new_id()
        runs[stranger] = list(wire.run(stranger, SMALL, previews=False))
    while any(runs.values()):
        name = data.draw(st.sampled_from(sorted(key for key, run in runs.items() if run)))
        runs[name].pop(0).into(router)
    for life, ear in mine:
        assert ear.events == [frame.event for frame in sent[life.prompt_id]]
        assert ear.ends == 1
        assert life.state is State.COMPLETED


def listen(router: Router) -> tuple[Life, wire.Ear]:
    return wire.listened(router, wire.new_id(), SMALL)


def anonymous(prompt_id: str) -> Iterator[Frame]:
    """What everybody hears of a prompt that was sent without a client id."""
    for frame in wire.run(prompt_id, SMALL):
        if isinstance(frame.event, events.ProgressState | events.Progress):
            yield frame
        elif isinstance(frame.event, events.Preview):
            yield wire.picture(b"a stranger's")
    yield wire.line_of("3", "a stranger's")


@given(st.lists(st.sampled_from(["ours", "anonymous", "foreign"]), max_size=6), st.integers(-1, 60))
def test_a_preview_without_an_id_is_never_credited_to_the_wrong_prompt(runs: list[str], missing: int) -> None:
    """One after the other, as a server runs them; one frame, anywhere, may go missing."""
    router = Router()
    ears: list[wire.Ear] = []
    stream: list[Frame] = []
    for kind in runs:
        if kind == "ours":
            life, ear = listen(router)
            ears.append(ear)
            stream += wire.run(life.prompt_id, SMALL)
        stream += anonymous(wire.new_id()) if kind == "anonymous" else [wire.status(1)]
    for index, frame in enumerate(stream):
        if index != missing:
            frame.into(router)
    for ear in ears:
        pictures = [event for event in ear.events if isinstance(event, events.Preview)]
        assert all(picture.data != b"a stranger's" for picture in pictures)
        assert len(pictures) >= 3 - (missing >= 0) * 3
        assert not any(isinstance(event, events.ProgressText) for event in ear.events)


def test_a_credited_preview_names_the_prompt_and_the_node_that_runs() -> None:
    router = Router()
    life, ear = listen(router)
    wire.executing(life.prompt_id, "3").into(router)
    wire.picture(b"x").into(router)
    wire.line_of("3", "words").into(router)
    assert ear.events[1:] == [
        events.Preview(prompt_id=life.prompt_id, node="3", data=b"x"),
        events.ProgressText(prompt_id=life.prompt_id, node="3", text="words"),
    ]


@pytest.mark.parametrize(
    "doubt", ["before it runs", "after its end", "after a stranger", "after a disconnect"]
)
def test_a_preview_without_an_id_is_credited_only_while_it_is_certain(doubt: str) -> None:
    router = Router()
    life, ear = listen(router)
    other, _ = listen(router)
    if doubt != "before it runs":
        wire.executing(life.prompt_id, "3").into(router)
    if doubt == "after its end":
        wire.executing(life.prompt_id, None).into(router)
    if doubt == "after a stranger":
        wire.snapshot(wire.new_id(), {"1": (0, 1, "running")}).into(router)
    if doubt == "after a disconnect":
        router.disconnected()
    wire.picture().into(router)
    assert not any(isinstance(event, events.Preview) for event in ear.events)
    assert router.counts.unclaimed == 1
    assert other.state is State.SUBMITTING


def test_an_unwatched_prompts_gauges_are_never_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    router = Router()
    life, ear = listen(router)
    life.watched = False
    decode, decoded = frames.decode_text, list[str]()

    def counted(raw: bytes) -> events.Event:
        event = decode(raw)
        decoded.append(event.type)
        return event

    monkeypatch.setattr(frames, "decode_text", counted)
    for frame in wire.run(life.prompt_id, SMALL):
        frame.into(router)
    assert life.state is State.COMPLETED
    assert "executing" in decoded
    assert not {"progress", "progress_state"} & set(decoded)
    assert not any(isinstance(item, bytes) for item in ear.heard_items)


def test_a_strangers_events_reach_nobody_and_are_counted() -> None:
    router = Router()
    _, ear = listen(router)
    stranger = list(wire.run(wire.new_id(), SMALL, previews=False))
    for frame in stranger:
        assert frame.into(router) is None
    assert ear.heard_items == []
    assert router.counts.strangers == len(stranger)


def test_after_its_end_a_prompts_events_are_a_strangers() -> None:
    router = Router()
    life, ear = listen(router)
    for frame in [
        *wire.run(life.prompt_id, SMALL),
        wire.executed(life.prompt_id, "9", wire.image("late.png")),
    ]:
        frame.into(router)
    assert router.lives == {}
    assert router.counts.strangers == 1
    assert isinstance(ear.events[-1], events.Executing)


def test_an_executing_without_a_prompt_id_is_nobodys() -> None:
    """A server says so to a socket that came back: who runs it does not say."""
    router = Router()
    _, ear = listen(router)
    assert wire.text("executing", node="2").into(router) is None
    assert ear.heard_items == []


def test_the_events_that_came_before_the_answer_told_the_id_are_heard_in_order() -> None:
    router = Router()
    life, ear = listen(router)
    made_by_server, stranger = wire.new_id(), wire.new_id()
    router.posting = 1
    early = list(wire.run(made_by_server, SMALL, previews=False))
    for frame in early:
        frame.into(router)
        wire.executed(stranger, "9", {}).into(router)
    router.rename(life, made_by_server, 1.0)
    facts = [frame.event for frame in early if frames.gauge_owner(frame.raw) is None]
    assert ear.events == facts
    assert life.state is State.COMPLETED
    assert ear.ends == 1


def test_pictures_that_came_before_the_answer_are_heard_where_they_belong() -> None:
    """They name no prompt: whose they are, the executing before them tells. A stranger's are nobody's."""
    router = Router()
    life, ear = listen(router)
    made_by_server, stranger = wire.new_id(), wire.new_id()
    router.posting = 1
    for frame in (
        wire.executing(stranger, "7"),
        wire.picture(b"\xff\xd8\xff of the stranger"),
        wire.executing(stranger, None),
        wire.executing(made_by_server, "3"),
        wire.picture(b"\xff\xd8\xff ours"),
    ):
        frame.into(router)
    router.rename(life, made_by_server, 1.0)
    wire.picture(b"\xff\xd8\xff ours, after the answer").into(router)
    pictures = [event for event in ear.events if isinstance(event, events.Preview)]
    assert [bytes(one.data[4:]) for one in pictures] == [b"ours", b"ours, after the answer"]
    assert {(one.prompt_id, one.node) for one in pictures} == {(made_by_server, "3")}


def test_who_runs_since_is_not_forgotten_over_what_came_before_the_answer() -> None:
    """A prompt whose answer is late ran before the one that runs now."""
    router = Router()
    late, _ = listen(router)
    running, ear = listen(router)
    made_by_server = wire.new_id()
    router.posting = 1
    wire.executing(made_by_server, "3").into(router)
    wire.executing(running.prompt_id, "3").into(router)
    router.rename(late, made_by_server, 1.0)
    assert wire.picture().into(router) is running
    assert isinstance(ear.events[-1], events.Preview)


def test_nothing_is_kept_once_every_prompt_is_answered() -> None:
    """Pictures are large."""
    router = Router()
    life, ear = listen(router)
    made_by_server = wire.new_id()
    router.posting = 1
    wire.executing(made_by_server, "3").into(router)
    wire.picture().into(router)
    router.posting = 0
    router.rename(life, made_by_server, 1.0)
    assert ear.heard_items == []


def test_of_the_events_before_the_answer_the_newest_are_kept_and_no_more() -> None:
    router = Router()
    life, ear = listen(router)
    made_by_server = wire.new_id()
    router.posting = 1
    for index in range(EARLY_EVENTS * 3):
        wire.executed(made_by_server, str(index), {}).into(router)
    router.rename(life, made_by_server, 1.0)
    kept = [event.node for event in ear.events if isinstance(event, events.Executed)]
    assert kept == [str(index) for index in range(EARLY_EVENTS * 2, EARLY_EVENTS * 3)]


def test_the_answer_that_renames_a_prompt_may_come_after_its_end() -> None:
    router = Router()
    life, _ = listen(router)
    life.learn(Fact.SEEN_CANCELLED, 1.0)
    router.close(life)
    router.rename(life, wire.new_id(), 2.0)
    assert router.lives == {}


def test_nothing_is_kept_of_unknown_prompts_while_no_post_is_unanswered() -> None:
    router = Router()
    life, ear = listen(router)
    made_by_server = wire.new_id()
    wire.executing(made_by_server, "3").into(router)
    router.rename(life, made_by_server, 1.0)
    assert ear.heard_items == []


def test_a_lost_connection_is_a_gap_for_every_open_prompt() -> None:
    router = Router()
    first, _ = listen(router)
    router.disconnected()
    assert first.gap
    assert router.queue_remaining is None


def test_a_prompt_sent_while_the_connection_is_away_has_a_gap_too() -> None:
    """It may run to its end before the socket is back."""
    router = Router()
    router.disconnected()
    life, _ = listen(router)
    assert life.gap


def test_the_queue_is_what_the_last_status_said() -> None:
    router = Router()
    wire.status(3).into(router, 5.0)
    assert (router.queue_remaining, router.status_at, router.heard_at) == (3, 5.0, 5.0)


def queued(router: Router, at: float) -> Life:
    life, _ = wire.listened(router, wire.new_id(), SMALL, at)
    life.learn(Fact.ACCEPTED, at)
    return life


def test_at_most_so_many_run_before_it_as_the_server_counts_less_ours_after_it() -> None:
    router = Router()
    first, second = queued(router, 1.0), queued(router, 2.0)
    assert router.ahead(first) is None
    wire.status(5).into(router)
    assert (router.ahead(first), router.ahead(second)) == (3, 4)
    wire.executing(first.prompt_id, "3").into(router)
    assert router.ahead(first) is None


def test_what_was_not_yet_accepted_is_not_in_the_queue_that_the_server_counts() -> None:
    router = Router()
    first = queued(router, 1.0)
    wire.status(3).into(router)
    for at in (2.0, 3.0):
        wire.listened(router, wire.new_id(), SMALL, at)
    assert router.ahead(first) == 2
