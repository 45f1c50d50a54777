"""What a real server said decodes and routes without an error, and every prompt ends as it ended there."""

from collections import Counter

import pytest

from async_comfy import events
from async_comfy.events import Unknown
from async_comfy.protocol import outcome
from async_comfy.protocol.frames import BrokenFrame
from async_comfy.protocol.job import Fact, Life, State
from async_comfy.protocol.recovery import HistoryEntry, Look, Queued, Recovery, adopt, read_history
from async_comfy.protocol.router import Router
from tests.protocol import wire
from tests.recording import NAMES, Answer, Frame, Kept, Open, Post, Recording, Shut, read

NOWHERE = Queued(frozenset(), frozenset())
TORN = {"31_odd_events"}  # there a node sends binary frames that are cut short, on purpose


class Session:
    """What one client id of a recording heard, brought to its prompts."""

    def __init__(self) -> None:
        self.router = Router()
        self.lives: dict[str, Life] = {}
        self.ears: dict[str, wire.Ear] = {}
        self.unanswered: dict[int, Life] = {}

    def post(self, post: Post, now: float) -> None:
        """Registers the prompt, as is done before it is sent."""
        prompt_id = post.prompt_id if isinstance(post.prompt_id, str) else wire.new_id()
        if prompt_id in self.lives:
            return  # the same id twice: not what a session does
        life, ear = wire.listened(self.router, prompt_id, wire.shape_of(post.prompt), now)
        self.router.posting += 1
        self.unanswered[post.number] = life
        self.lives[prompt_id], self.ears[prompt_id] = life, ear

    def answer(self, answer: Answer, now: float) -> None:
        """Takes what came back for a post of this client."""
        life = self.unanswered.pop(answer.number, None)
        if life is None:
            return
        self.router.posting -= 1
        if answer.status != 200:
            life.learn(Fact.REFUSED, now)
            self.router.forget(life)
        else:
            life.problems = tuple(outcome.node_problems(answer.body.get("node_errors"), life.shape))
            self._accept(life, answer.body["prompt_id"], now)

    def _accept(self, life: Life, prompt_id: str, now: float) -> None:
        if prompt_id != life.prompt_id:
            self.lives[prompt_id] = self.lives.pop(life.prompt_id)
            self.ears[prompt_id] = self.ears.pop(life.prompt_id)
            self.router.rename(life, prompt_id, now)
        life.learn(Fact.ACCEPTED, now)


def replay(recording: Recording) -> dict[str | None, Session]:
    """One session for each client id, with all of its sockets, in the order of the recording."""
    sessions: dict[str | None, Session] = {}
    clients: dict[str, str | None] = {}
    for now, step in enumerate(recording.steps):
        match step:
            case Open(conn=conn, client_id=client_id):
                clients[conn] = client_id
                sessions.setdefault(client_id, Session())
            case Shut(conn=conn):
                sessions[clients[conn]].router.disconnected()
            case Frame(conn=conn, raw=raw, binary=binary):
                wire.Frame(raw, binary).into(sessions[clients[conn]].router, float(now))
            case Post(client_id=client_id) if client_id in sessions:
                sessions[client_id].post(step, float(now))
            case Answer():
                for session in sessions.values():
                    session.answer(step, float(now))
    return sessions


def entries(recording: Recording) -> dict[str, HistoryEntry]:
    """What history said in the end of each prompt that was asked for."""
    bodies = {step.prompt_id: step.body for step in recording.steps if isinstance(step, Kept)}
    found = {prompt_id: read_history(body, prompt_id) for prompt_id, body in bodies.items()}
    return {prompt_id: entry for prompt_id, entry in found.items() if entry is not None}


def test_every_situation_is_here() -> None:
    assert len(NAMES) == 41
    assert sum(len(list(read(name).frames())) for name in NAMES) > 4_000
    assert {how for name in NAMES for how in read(name).ends.values()} == {"completed", "failed", "cancelled"}


@pytest.mark.parametrize("name", NAMES)
def test_every_frame_decodes_and_only_custom_nodes_send_what_is_unknown(name: str) -> None:
    broken = 0
    for frame in read(name).frames():
        try:
            event = wire.Frame(frame.raw, frame.binary).event
        except BrokenFrame:
            broken += 1
            continue
        if isinstance(event, Unknown):
            assert event.name not in events.EVENTS
    assert (broken > 0) is (name in TORN)


@pytest.mark.parametrize("name", NAMES)
def test_every_frame_routes_and_each_prompt_hears_only_its_own(name: str) -> None:
    for session in replay(read(name)).values():
        for prompt_id, ear in session.ears.items():
            assert {event.prompt_id for event in ear.events} <= {prompt_id}
            assert ear.ends == int(
                session.lives[prompt_id].state in {State.COMPLETED, State.FAILED, State.CANCELLED}
            )


@pytest.mark.parametrize("name", NAMES)
def test_each_prompt_ends_as_it_ended_there_or_is_asked_about(name: str) -> None:
    recording = read(name)
    for session in replay(recording).values():
        for prompt_id, life in session.lives.items():
            if life.over and prompt_id in recording.ends:
                assert str(life.state) == recording.ends[prompt_id]


@pytest.mark.parametrize("name", NAMES)
def test_where_events_left_a_doubt_history_settles_it(name: str) -> None:
    recording = read(name)
    kept = entries(recording)
    for session in replay(recording).values():
        for prompt_id, life in session.lives.items():
            if life.over or prompt_id not in kept or prompt_id not in recording.ends:
                continue
            doubts = Recovery()
            doubts.suspect(life, "a test", 1e6)
            (verdict,) = doubts.take(Look(1e6, NOWHERE, {prompt_id: kept[prompt_id]}), 1e6)
            assert verdict.fact is not None
            adopt(life, kept[prompt_id], session.router, 1e6)
            life.learn(verdict.fact, 1e6)
            assert str(life.state) == recording.ends[prompt_id]


@pytest.mark.parametrize("name", NAMES)
def test_the_outputs_that_were_heard_are_those_that_history_kept(name: str) -> None:
    recording = read(name)
    kept = entries(recording)
    for session in replay(recording).values():
        for prompt_id, life in session.lives.items():
            if life.state is State.COMPLETED and prompt_id in kept:
                heard = outcome.result(life, None, "", {}).outputs
                assert heard == {node: output for node, output in kept[prompt_id].outputs.items() if output}


def test_most_prompts_need_no_question() -> None:
    """Of the runs on record, which are mostly odd ones, events alone tell the end of nearly all."""
    states = Counter(
        life.state
        for name in NAMES
        for session in replay(read(name)).values()
        for prompt_id, life in session.lives.items()
        if prompt_id in read(name).ends and not life.gap
    )
    assert states[State.COMPLETED] > 100
    assert states[State.FAILED] > 10
    assert states[State.CANCELLED] >= 10
    assert states[State.UNSETTLED] < 0.2 * states.total()
