"""Doubt: when to look, what a look tells, and that absence is no proof until it lasts."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_comfy import events
from async_comfy.protocol import outcome, recovery
from async_comfy.protocol.job import Fact, Life, State
from async_comfy.protocol.recovery import (
    HistoryEntry,
    Look,
    Queued,
    Recovery,
    adopt,
    read_history,
    read_queue,
)
from async_comfy.protocol.router import Router
from tests.protocol import wire
from tests.protocol.odd import values
from tests.protocol.server import END_OF_TIME_S, Follower, Prompt, kept
from tests.protocol.wire import Frame, Node

P = "7a9f6a0e-5a0b-4c88-9d1c-0d6a4d1f7a22"
SMALL: wire.Shape = {"3": Node("KSampler", steps=2), "9": Node("SaveImage", leaf=True)}
NOWHERE = Queued(frozenset(), frozenset())
RUNNING = Queued(frozenset({P}), frozenset())
PENDING = Queued(frozenset(), frozenset({P}))
ABSENT: dict[str, HistoryEntry | None] = {P: None}


def played(how: str) -> list[Frame]:
    """A whole run that ends so."""
    frames = list(wire.run(P, SMALL, previews=False))
    if how == "completed":
        return frames
    if how == "blocked":
        return [*frames[:8], wire.failure(P, "3", exception_type="ExecutionBlocked"), *frames[8:]]
    said = {
        "failed": wire.failure(P, "3"),
        "cancelled": wire.text("execution_interrupted", prompt_id=P, node_id="3"),
    }
    return [*frames[:8], said[how], wire.executing(P, None)]


STATES = {
    "completed": State.COMPLETED,
    "blocked": State.COMPLETED,
    "failed": State.FAILED,
    "cancelled": State.CANCELLED,
}


def accepted(at: float = 0.0, router: Router | None = None) -> tuple[Router, Life]:
    router = router or Router(at)
    life = Life(P, SMALL, at)
    router.register(life)
    life.learn(Fact.ACCEPTED, at)
    return router, life


def follower(how: str, arrivals: list[tuple[float, Frame]], *, kept_at: float = 2.0) -> Follower:
    status_str = "success" if STATES[how] is State.COMPLETED else "error"
    prompt = Prompt(P, 0.0, 0.5, 2.0, kept_at, kept(P, status_str, *played(how)))
    router, life = accepted()
    watching = Follower(life, prompt, arrivals, router=router)
    watching.recovery.accepted(0.0)
    return watching


def on_time(frames: list[Frame]) -> list[tuple[float, Frame]]:
    """Between start and end, evenly, with the statuses around them."""
    step = 1.5 / len(frames)
    run = [(0.5 + index * step, frame) for index, frame in enumerate(frames)]
    return [
        (0.01, wire.status(1)),
        (0.5, wire.status(1)),
        *run[:-1],
        (1.99, wire.status(0)),
        (2.0, frames[-1]),
    ]


@pytest.mark.parametrize("how", STATES)
@given(st.data())
def test_whatever_frames_go_missing_the_outcome_is_the_undisturbed_one(how: str, data: st.DataObject) -> None:
    arrivals = on_time(played(how))
    missing = data.draw(st.sets(st.integers(0, len(arrivals) - 1)))
    watching = follower(how, [item for index, item in enumerate(arrivals) if index not in missing])
    watching.go_on(30.0)
    assert watching.life.state is STATES[how]
    if STATES[how] is State.COMPLETED:
        made = outcome.result(watching.life, None, "", {}).outputs
        assert made == wire.outputs(P, SMALL)


@pytest.mark.parametrize("how", STATES)
def test_with_every_single_frame_and_every_pair_missing_the_outcome_is_the_same(how: str) -> None:
    arrivals = on_time(played(how))
    wrong = []
    for first in range(len(arrivals)):
        for second in range(first, len(arrivals)):
            left = [item for index, item in enumerate(arrivals) if index not in {first, second}]
            watching = follower(how, left)
            watching.go_on(30.0)
            made = outcome.result(watching.life, None, "", {}).outputs
            complete = STATES[how] is not State.COMPLETED or made == wire.outputs(P, SMALL)
            if watching.life.state is not STATES[how] or not complete:
                wrong.append((arrivals[first][1].event, arrivals[second][1].event, watching.life.state, made))
    assert wrong == []


@pytest.mark.parametrize("how", STATES)
@given(cut=st.integers(0, 30), late=st.floats(0, 5), queue_s=st.floats(0, 12), history_s=st.floats(0, 12))
def test_a_finished_prompt_that_history_will_show_is_never_given_up(
    how: str, cut: int, late: float, queue_s: float, history_s: float
) -> None:
    """However slow the answers are, and though history is written up to five seconds late."""
    watching = follower(how, on_time(played(how))[:cut], kept_at=2.0 + late)
    watching.delays = queue_s, history_s
    watching.go_on(120.0)
    assert watching.life.state is STATES[how]


@given(vanishes=st.floats(0.6, 60.0), queue_s=st.floats(0, 12), history_s=st.floats(0, 12))
def test_a_prompt_that_is_nowhere_is_lost_after_the_settle_window_and_never_before(
    vanishes: float, queue_s: float, history_s: float
) -> None:
    router, life = accepted()
    prompt = Prompt(P, 0.0, 0.5, vanishes, END_OF_TIME_S)
    watching = Follower(life, prompt, [(0.01, wire.status(1))], (queue_s, history_s), router)
    watching.go_on(200.0)
    assert life.state is State.LOST
    assert life.ended_at is not None
    assert life.ended_at - vanishes >= recovery.SETTLE_S
    assert any("in neither queue nor history" in seen for seen in life.evidence)


def test_a_single_look_however_slow_gives_nobody_up() -> None:
    _, life = accepted()
    doubts = Recovery()
    doubts.suspect(life, "a test", 1.0)
    assert doubts.take(Look(1.0, NOWHERE, ABSENT), 100.0) == []


@given(
    idle=st.floats(0, 100_000),
    post_s=st.floats(0.0, 3.0),
    status_s=st.floats(0.0, 0.5),
    answer_s=st.floats(0.0, 0.5),
    wait_s=st.floats(0.0, 9.0),
    pauses=st.lists(st.floats(0.0, 9.0), min_size=1, max_size=4),
    end_mark_s=st.floats(0.0, 0.4),
    phase=st.floats(0.0, 0.5),
)
def test_a_healthy_run_is_never_looked_at(
    idle: float,
    post_s: float,
    status_s: float,
    answer_s: float,
    wait_s: float,
    pauses: list[float],
    end_mark_s: float,
    phase: float,
) -> None:
    """After any idle time, behind others, and with nodes that are silent for seconds.

    The status that our own prompt caused and the answer to its POST are read in either order.
    """
    router = Router()
    wire.status(0, "me").into(router, 0.0)
    wire.status(1).into(router, 0.0)  # somebody else's prompt
    life = Life(P, SMALL, idle)
    router.register(life)
    queued = idle + post_s
    at = queued + status_s
    arrivals = [(at, wire.status(2))]
    at += wait_s
    arrivals += [(at, wire.status(1)), (at, wire.status(1))]
    frames = list(wire.run(P, SMALL, previews=False))
    for index, frame in enumerate(frames[:-1]):
        arrivals.append((at, frame))
        at += pauses[index % len(pauses)] if isinstance(frame.event, events.Executing) else 0.0
    arrivals += [(at, wire.status(0)), (at + end_mark_s, frames[-1])]
    prompt = Prompt(P, queued, queued + wait_s, at, at + end_mark_s, kept(P, "success", *frames))
    watching = Follower(life, prompt, arrivals, router=router, now=idle + phase)
    answered = queued + answer_s
    watching.go_on(answered)
    watching.now = max(watching.now, answered)
    if life.learn(Fact.ACCEPTED, watching.now):
        life.queued_at = watching.now
    watching.recovery.accepted(watching.now, sent_at=idle)
    watching.go_on(at + 2.0)
    assert (watching.looks, watching.renewals) == ([], [])
    assert life.state is State.COMPLETED


def test_a_prompt_that_waits_behind_a_long_one_is_not_suspected_for_want_of_a_second_status() -> None:
    """The one status that our own prompt caused may be read before the answer to its POST."""
    router, life = accepted(5.0)
    wire.status(2).into(router, 4.999)
    doubts = Recovery()
    doubts.accepted(5.0)
    assert not any(doubts.watch(router, 5.0 + seconds) for seconds in (1.0, 2.5, 5.0, 9.0))
    assert doubts.due(14.0) == []
    assert life.state is State.QUEUED


def test_silence_is_counted_from_when_the_prompt_was_sent_and_not_from_before() -> None:
    """A session that was idle for an hour has heard nothing for an hour."""
    router, _ = accepted(3600.0, Router(0.0))
    doubts = Recovery()
    doubts.watch(router, 3600.1)
    assert doubts.due(3600.1) == []


@pytest.mark.parametrize(
    ("frames", "at", "reason"),
    [
        ([wire.status(1)], 10.1, "no event for 10 s"),
        ([], 2.1, "a prompt was accepted and no status followed"),
        ([wire.status(1), wire.status(0)], 1.5, "the server's queue is empty"),
        (
            [wire.status(1), wire.text("execution_success", prompt_id=P)],
            1.5,
            "succeeding, but no end mark came",
        ),
        ([wire.status(1), wire.failure(P, "3")], 1.5, "failing, but no end mark came"),
        ([wire.status(1), wire.executing(P, None)], 0.5, "it ended, and how was not heard"),
    ],
)
def test_what_should_have_been_heard_and_was_not_is_a_doubt(
    frames: list[Frame], at: float, reason: str
) -> None:
    router, life = accepted(router=Router(-1.0))
    doubts = Recovery()
    doubts.accepted(0.0)
    for frame in frames:
        frame.into(router, 0.1)
    dead = doubts.watch(router, at)
    assert doubts.due(at) == [life]
    assert doubts.doubts[P].reasons == [reason]
    assert dead is ("no status" in reason)


@pytest.mark.parametrize("at", [0.3, 0.9])
def test_before_its_time_nothing_is_a_doubt(at: float) -> None:
    router, _ = accepted()
    doubts = Recovery()
    doubts.accepted(0.0)
    for frame in (wire.status(1), wire.status(0), wire.text("execution_success", prompt_id=P)):
        frame.into(router, 0.1)
    assert not doubts.watch(router, at)
    assert doubts.due(at) == []


def test_a_prompt_whose_post_is_unanswered_is_not_suspected_of_silence() -> None:
    router = Router()
    router.register(Life(P, SMALL, 0.0))
    doubts = Recovery()
    doubts.watch(router, 60.0)
    assert doubts.due(60.0) == []


@pytest.mark.parametrize("how", STATES)
@given(gone_at=st.floats(0.0, 2.0), away_s=st.floats(0.1, 60.0))
def test_a_prompt_that_ended_while_the_socket_was_away_resolves_within_two_seconds_of_its_return(
    how: str, gone_at: float, away_s: float
) -> None:
    back_at = max(gone_at + away_s, 2.5)
    watching = follower(how, [(at, frame) for at, frame in on_time(played(how)) if at < gone_at])
    watching.go_on(gone_at)
    watching.router.disconnected()
    watching.now = back_at
    wire.status(0, "me").into(watching.router, back_at)
    watching.recovery.suspect(watching.life, recovery.AWAY, back_at)
    watching.go_on(back_at + 2.0)
    assert watching.life.state is STATES[how]


def test_an_open_run_is_asked_about_once_in_a_silence_and_not_at_every_tick() -> None:
    """A node may be silent for an hour: the server is asked now and then."""
    router, life = accepted()
    prompt = Prompt(P, 0.0, 0.5, 3600.0, END_OF_TIME_S)
    watching = Follower(life, prompt, [(0.01, wire.status(1)), (0.5, wire.executing(P, "3"))], router=router)
    watching.go_on(600.0)
    assert len(watching.looks) <= 600 / recovery.SILENCE_S


def test_a_status_that_went_missing_does_not_make_the_server_be_asked_at_every_tick() -> None:
    """It said that nobody waits, and the one that would have told of us was lost: yet it runs."""
    router, life = accepted()
    prompt = Prompt(P, 0.0, 0.5, 3600.0, END_OF_TIME_S)
    pulse = [(float(at), wire.step(P, "3", at, 600)) for at in range(1, 120)]
    watching = Follower(life, prompt, [(0.01, wire.status(0)), *pulse], router=router)
    watching.go_on(100.0)
    assert len(watching.looks) <= 60


@pytest.mark.parametrize(
    ("queue", "history", "fact"),
    [
        (RUNNING, {}, Fact.SEEN_RUNNING),
        (PENDING, {}, Fact.SEEN_PENDING),
        (NOWHERE, {P: HistoryEntry()}, Fact.SEEN_COMPLETED),
    ],
)
def test_a_look_says_where_a_prompt_is_and_settles_the_doubt(
    queue: Queued, history: dict[str, HistoryEntry | None], fact: Fact
) -> None:
    _, life = accepted()
    doubts = Recovery()
    doubts.suspect(life, "a test", 1.0)
    (verdict,) = doubts.take(Look(1.0, queue, history), 1.1)
    assert (verdict.life, verdict.fact) == (life, fact)
    assert doubts.due(99.0) == []


def test_a_prompt_whose_end_was_heard_is_asked_about_until_history_shows_it() -> None:
    router, life = accepted()
    wire.executing(P, None).into(router, 1.0)
    doubts = Recovery()
    doubts.suspect(life, "a test", 1.0)
    assert doubts.take(Look(1.0, RUNNING, {}), 1.1)[0].fact is Fact.SEEN_RUNNING
    assert doubts.due(60.0) == [life]


def test_a_look_tells_nothing_of_a_prompt_that_was_queued_after_it() -> None:
    _, life = accepted(5.0)
    doubts = Recovery()
    doubts.suspect(life, "a test", 5.0)
    assert doubts.take(Look(4.0, NOWHERE, ABSENT), 99.0) == []
    assert doubts.due(99.0) == [life]


def test_a_doubt_that_arose_after_the_question_outlives_its_answer() -> None:
    _, life = accepted()
    doubts = Recovery()
    doubts.suspect(life, "the event socket was away", 2.0)
    doubts.take(Look(1.0, RUNNING, {}), 2.1)
    assert doubts.due(60.0) == [life]


def test_a_look_that_failed_proves_no_absence() -> None:
    _, life = accepted()
    doubts = Recovery()
    doubts.suspect(life, "a test", 1.0)
    doubts.take(Look(1.0, NOWHERE, ABSENT), 1.1)
    doubts.failed(5.0)
    assert doubts.take(Look(10.0, NOWHERE, ABSENT), 10.1) == []


def test_looks_at_one_doubt_come_ever_more_slowly() -> None:
    _, life = accepted()
    doubts = Recovery()
    doubts.suspect(life, "a test", 0.0)
    now, pauses = 0.0, list[float]()
    for _ in range(7):
        doubts.failed(now)
        pauses.append(doubts.pause_s(now, 60.0))
        now += pauses[-1]
    assert pauses == pytest.approx([*recovery.LOOKS_S, recovery.LOOKS_S[-1], recovery.LOOKS_S[-1]])


def gone(life: Life, doubts: Recovery) -> Fact | None:
    """The verdict when it is nowhere for as long as it takes."""
    doubts.suspect(life, "a test", 10.0)
    found = [doubts.take(Look(at, NOWHERE, ABSENT), at) for at in (10.0, 15.0, 20.0, 25.0)]
    (verdict,) = [verdict for verdicts in found for verdict in verdicts]
    return verdict.fact


def test_a_prompt_that_we_took_from_the_queue_and_that_is_gone_is_cancelled_soon() -> None:
    _, life = accepted()
    life.withdrawn = True
    doubts = Recovery()
    doubts.suspect(life, "we cancelled it", 10.0)
    assert doubts.take(Look(10.0, NOWHERE, ABSENT), 10.0) == []
    (verdict,) = doubts.take(Look(11.0, NOWHERE, ABSENT), 11.0)
    assert verdict.fact is Fact.SEEN_CANCELLED


def test_a_prompt_that_never_arrived_is_no_outcome() -> None:
    assert gone(Life(P, SMALL, 0.0), Recovery()) is None


@pytest.mark.parametrize(
    ("said", "fact"),
    [
        ([], Fact.SEEN_REMOVED),
        ([wire.failure(P, "3"), wire.executing(P, "9")], Fact.SEEN_REMOVED),
        ([wire.text("execution_interrupted", prompt_id=P)], Fact.SEEN_CANCELLED),
    ],
    ids=["nothing", "an error after which it went on", "an interruption"],
)
def test_where_history_was_cleared_the_servers_last_word_counts(said: list[Frame], fact: Fact) -> None:
    router, life = accepted()
    for frame in said:
        frame.into(router, 1.0)
    assert gone(life, Recovery()) is fact


def test_a_success_with_all_its_outputs_stands_though_history_was_cleared() -> None:
    router, life = accepted()
    for frame in list(wire.run(P, SMALL))[:-1]:
        frame.into(router, 1.0)
    assert gone(life, Recovery()) is Fact.SEEN_COMPLETED


def test_a_success_after_a_gap_is_not_complete_where_history_was_cleared() -> None:
    """What was made during the gap is not known, and never will be."""
    router, life = accepted()
    frames = list(wire.run(P, SMALL, previews=False))
    for frame in frames[:6]:
        frame.into(router, 1.0)
    router.disconnected()
    for frame in frames[-2:]:
        frame.into(router, 1.5)
    assert gone(life, Recovery()) is Fact.SEEN_REMOVED


def test_history_completes_what_was_heard() -> None:
    router, life = accepted()
    frames = list(wire.run(P, SMALL, previews=False))
    entry = read_history(kept(P, "success", *frames), P)
    assert entry is not None
    adopt(life, entry, router, 2.0)
    life.learn(entry.fact, 2.0)
    made = outcome.result(life, None, "", {})
    assert made.outputs == wire.outputs(P, SMALL)
    assert (made.queued_s, made.ran_s) == (None, None)


def test_a_class_that_shows_nothing_when_it_ran_is_remembered() -> None:
    router, life = accepted()
    life.shape = {"3": Node("KSampler"), "9": Node("UploadToCloud", leaf=True)}
    adopt(life, HistoryEntry(), router, 2.0)
    assert router.mute == {"UploadToCloud"}


def test_a_class_that_has_shown_something_is_never_taken_for_one_that_shows_nothing() -> None:
    """One output was dropped, blocked or no target of this prompt: its class shows things all the same."""
    router, life = accepted()
    life.shape = {"9": Node("SaveImage", leaf=True), "10": Node("SaveImage", leaf=True)}
    adopt(life, HistoryEntry(outputs={"9": wire.image("a.png")}), router, 2.0)
    assert router.mute == set()


def test_a_queue_is_read_without_its_prompts() -> None:
    body = {"queue_running": [[0, "a", {"1": {}}, {}, []]], "queue_pending": [[1, "b"], [2, "c"]]}
    assert read_queue(json.dumps(body).encode()) == Queued(frozenset("a"), frozenset("bc"))


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), "\ud800", 10**400])
def test_a_strangers_odd_prompt_in_the_queue_or_history_hides_nobody(odd: object) -> None:
    prompt = {"1": {"class_type": "X", "inputs": {"v": odd}}}
    queue = {"queue_running": [[0, P, prompt, {}, []]], "queue_pending": []}
    assert read_queue(json.dumps(queue).encode()) == RUNNING
    entry = {"prompt": [0, P, prompt, {}, []], "outputs": {"9": {"text": [odd]}}, "status": None}
    assert read_history(json.dumps({P: entry}).encode(), P) is not None


@pytest.mark.parametrize("depth", [900, 50_000])
def test_a_bottomless_body_is_read_or_a_value_error(depth: int) -> None:
    nested = b"[" * depth + b"]" * depth
    for read, body in (
        (read_queue, b'{"queue_running": [[0, "%s", %s]]}' % (P.encode(), nested)),
        (lambda raw: read_history(raw, P), b'{"%s": {"outputs": {"9": {"x": %s}}}}' % (P.encode(), nested)),
    ):
        try:
            assert read(body) is not None
        except ValueError:
            assert depth > 900


def test_history_without_the_prompt_is_none() -> None:
    assert read_history(b"{}", P) is None


@given(values)
def test_a_body_of_another_shape_is_a_value_error_and_nothing_else(body: object) -> None:
    raw = json.dumps(body).encode()
    for read in (read_queue, lambda raw: read_history(raw, P)):
        try:
            read(raw)
        except ValueError:
            continue


@pytest.mark.parametrize("kind", ["execution_error", "execution_interrupted", "execution_cached"])
@given(data=values)
def test_odd_messages_within_a_history_entry_cost_neither_the_entry_nor_the_verdict(
    kind: str, data: object
) -> None:
    entry = {"outputs": {}, "status": {"status_str": "error", "completed": False, "messages": [[kind, data]]}}
    found = read_history(json.dumps({P: entry}).encode(), P)
    assert found is not None
    router, life = accepted()
    doubts = Recovery()
    doubts.suspect(life, "a test", 1.0)
    (verdict,) = doubts.take(Look(1.0, NOWHERE, {P: found}), 1.1)
    adopt(life, found, router, 1.1)
    assert verdict.fact in {Fact.SEEN_FAILED, Fact.SEEN_CANCELLED}


@pytest.mark.parametrize(
    ("status_str", "messages", "fact"),
    [
        ("success", [], Fact.SEEN_COMPLETED),
        ("success", [["execution_error", {"node_id": "3"}]], Fact.SEEN_COMPLETED),
        ("error", [["execution_error", {"node_id": "3"}]], Fact.SEEN_FAILED),
        ("error", [["execution_interrupted", {"node_id": "3"}]], Fact.SEEN_CANCELLED),
    ],
)
def test_an_entry_says_how_it_ended(status_str: str, messages: list[object], fact: Fact) -> None:
    body = {P: {"outputs": {}, "status": {"status_str": status_str, "completed": True, "messages": messages}}}
    entry = read_history(json.dumps(body).encode(), P)
    assert entry is not None
    assert entry.fact is fact
