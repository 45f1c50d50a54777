"""What a life amounts to: results with every file, and errors that people can read."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_comfy import errors
from async_comfy.protocol import outcome
from async_comfy.protocol.job import Fact, Life, State
from async_comfy.results import OutputFile
from tests.protocol import wire
from tests.protocol.odd import objects, scalars, values
from tests.protocol.wire import TEXT_TO_IMAGE, Node, shape_of
from tests.recording import Answer, Post, read

P = "1d9f6a0e-5a0b-4c88-9d1c-0d6a4d1f7a55"
SHOWS: wire.Shape = {"9": Node("SaveImage", "keep it", leaf=True)}


def ended(output: dict[str, Any], *, cached: bool = False, shape: wire.Shape = SHOWS) -> Life:
    life = Life(P, shape, 0.0)
    frames = [
        wire.text("execution_start", prompt_id=P),
        wire.text("execution_cached", prompt_id=P, nodes=["9"] if cached else []),
        wire.executed(P, "9", output),
        wire.text("execution_success", prompt_id=P),
        wire.executing(P, None),
    ]
    for now, frame in enumerate(frames, 1):
        life.apply(frame.event, float(now))
    assert life.state is State.COMPLETED
    return life


def files(output: dict[str, Any]) -> tuple[OutputFile, ...]:
    return outcome.result(ended(output), None, "http://here", {}).files


def nested(depth: int) -> Any:
    value: Any = {"filename": "deep.png"}
    for level in range(depth):
        value = [value] if level % 2 else {"inner": value}
    return value


@given(st.integers(0, 6))
def test_a_file_is_found_however_a_custom_node_nests_it(depth: int) -> None:
    assert [file.filename for file in files({"odd": nested(depth)})] == ["deep.png"]


def test_a_bottomless_output_ends_the_walk_and_not_the_program() -> None:
    assert files({"odd": nested(400)}) == ()


def test_all_keys_are_walked_in_order_and_what_names_no_file_is_none() -> None:
    output = {
        "images": [{"filename": "a.png", "subfolder": "s", "type": "temp"}],
        "animated": [True],
        "gifs": [{"filename": "b.mp4", "format": "video/h264-mp4", "frame_rate": 8}],
        "text": ["words"],
        "result": [["c.glb"], {"filename": ""}, {"filename": 5}, None],
    }
    first, second = files(output)
    assert (first.node, first.kind, first.filename, first.subfolder, first.folder, first.title) == (
        "9",
        "images",
        "a.png",
        "s",
        "temp",
        "keep it",
    )
    assert (second.kind, second.folder, second.media_type) == ("gifs", "output", "video/mp4")
    assert second.more == {"format": "video/h264-mp4", "frame_rate": 8}


@given(objects(values))
def test_whatever_a_node_shows_a_result_can_be_made_of_it(output: dict[str, Any]) -> None:
    life = Life(P, SHOWS, 0.0)
    life.apply(wire.executed(P, "9", output).event, 1.0)
    life.learn(Fact.SEEN_COMPLETED, 2.0)
    made = outcome.result(life, None, "", {})
    assert all(file.filename for file in made)


@pytest.mark.parametrize(
    ("filename", "media"),
    [
        ("a.png", "image/png"),
        ("a.b.JPG", "image/jpeg"),
        ("a.webp", "image/webp"),
        ("a.mp4", "video/mp4"),
        ("a.webm", "video/webm"),
        ("a.flac", "audio/flac"),
        ("a.glb", "model/gltf-binary"),
        ("a.latent", "application/x-latent"),
        ("a", "application/octet-stream"),
        ("webp", "application/octet-stream"),
        ("", "application/octet-stream"),
        ("a.nonsense", "application/octet-stream"),
        ("//[x", "application/octet-stream"),
        ("http://[x", "application/octet-stream"),
    ],
)
def test_the_media_type_is_told_by_the_suffix(filename: str, media: str) -> None:
    assert outcome.media_type(filename) == media


@given(st.text())
def test_any_name_has_a_media_type(filename: str) -> None:
    assert "/" in outcome.media_type(filename)


def test_a_cached_node_says_that_its_files_are_of_an_earlier_run() -> None:
    made = outcome.result(ended(wire.image("a.png"), cached=True), None, "", {})
    assert made.cached == {"9"}
    assert made.files[0].cached


def test_a_result_tells_how_long_it_waited_and_ran_and_nothing_after_a_gap() -> None:
    life = ended(wire.image("a.png"))
    made = outcome.result(life, None, "http://here", {"3.seed": 5})
    assert (made.queued_s, made.ran_s, made.server, made.seeds) == (1.0, 4.0, "http://here", {"3.seed": 5})
    life.gap = True
    made = outcome.result(life, None, "", {})
    assert (made.queued_s, made.ran_s) == (None, None)


def test_pictures_that_came_over_the_socket_are_files_with_their_bytes() -> None:
    life = Life(P, {"5:1": Node("SaveImageWebsocket", "send it", leaf=True)}, 0.0)
    for frame in (
        wire.executing(P, "5:1"),
        wire.picture_of(P, "5:1", b"one"),
        wire.picture_of(P, "5:1", b"two"),
    ):
        life.apply(frame.event, 1.0)
    life.learn(Fact.SEEN_COMPLETED, 2.0)
    made = outcome.result(life, None, "", {})
    assert [(file.node, file.title, file.data) for file in made] == [
        ("5:1", "send it", b"one"),
        ("5:1", "send it", b"two"),
    ]
    assert len({file.filename for file in made}) == 2
    assert all(":" not in file.filename for file in made)


@pytest.mark.parametrize(
    "state", [State.FAILED, State.CANCELLED, State.LOST, State.AMBIGUOUS, State.REJECTED]
)
def test_every_other_ending_has_its_own_error_and_a_fresh_one_each_time(state: State) -> None:
    life = Life(P, SHOWS, 0.0)
    life.state = state
    first, second = outcome.error(life, ("seen",)), outcome.error(life, ("seen",))
    assert type(first) is errors.OUTCOMES[str(state)]
    assert first is not second
    assert first.prompt_id == P
    assert str(first).endswith((".", "!", "?")) or state is State.FAILED


def test_what_was_seen_stands_in_the_error_of_a_lost_prompt() -> None:
    life = Life(P, SHOWS, 0.0)
    life.state = State.LOST
    error = outcome.error(life, ("no event for 10 s", "in neither queue nor history"))
    assert isinstance(error, errors.Lost)
    assert "no event for 10 s; in neither queue nor history" in str(error)


def failed(**told: Any) -> errors.Failed:
    life = Life(P, TEXT_TO_IMAGE, 0.0)
    for frame in (wire.executing(P, "3"), wire.failure(P, "3", **told)):
        life.apply(frame.event, 1.0)
    life.learn(Fact.SEEN_FAILED, 2.0)
    error = outcome.error(life, ())
    assert isinstance(error, errors.Failed)
    return error


def test_a_failure_names_node_title_class_and_reason() -> None:
    error = failed(
        node_type="KSampler", exception_message="no such sampler\n", traceback=["line 1\n", "line 2\n"]
    )
    assert str(error) == "Node 3 the sampler (KSampler) failed: ValueError: no such sampler"
    assert (error.node, error.title, error.class_type) == ("3", "the sampler", "KSampler")
    assert error.remote_traceback == ("line 1\n", "line 2\n")


@pytest.mark.parametrize(
    ("kind", "message", "memory"),
    [
        ("torch.OutOfMemoryError", "Allocation on device", True),
        ("torch.cuda.OutOfMemoryError", "", True),
        ("RuntimeError", "CUDA out of memory. Tried to allocate", True),
        ("RuntimeError", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED", True),
        ("RuntimeError", "shapes do not fit", False),
    ],
)
def test_running_out_of_memory_is_an_error_of_its_own(kind: str, message: str, *, memory: bool) -> None:
    assert isinstance(failed(exception_type=kind, exception_message=message), errors.OutOfMemory) is memory


def test_the_recorded_out_of_memory_is_one() -> None:
    recording = read("09_oom")
    (post,) = [step for step in recording.steps if isinstance(step, Post)]
    life = Life(post.prompt_id or "", shape_of(post.prompt), 0.0)
    for frame in recording.frames():
        event = wire.Frame(frame.raw, frame.binary).event
        if event.prompt_id == life.prompt_id:
            life.apply(event, 1.0)
    life.learn(Fact.SEEN_FAILED, 2.0)
    error = outcome.error(life, ())
    assert isinstance(error, errors.OutOfMemory)
    assert error.node is not None
    assert error.hint


REFUSALS = [
    (post, answer)
    for post in read("12_validation").steps
    if isinstance(post, Post)
    for answer in read("12_validation").steps
    if isinstance(answer, Answer) and answer.number == post.number and answer.status == 400
]


def test_there_are_refusals_of_every_kind_on_record() -> None:
    kinds = {
        problem.kind
        for post, answer in REFUSALS
        for problem in outcome.rejected(answer.body, shape_of(post.prompt), 400, None).problems
    }
    assert kinds >= {
        "required_input_missing",
        "invalid_input_type",
        "value_smaller_than_min",
        "value_bigger_than_max",
        "value_not_in_list",
        "bad_linked_input",
        "return_type_mismatch",
    }


@pytest.mark.parametrize(("post", "answer"), REFUSALS, ids=lambda step: str(step.number))
def test_a_recorded_refusal_is_readable(post: Post, answer: Answer) -> None:
    error = outcome.rejected(answer.body, shape_of(post.prompt), 400, "p")
    text = str(error)
    assert error.kind == answer.body["error"]["type"]
    assert "Traceback" not in text
    assert "{'" not in text.partition("given")[0]
    listed = sum(len(found["errors"]) for found in (answer.body.get("node_errors") or {}).values())
    assert len(error.problems) == listed
    for problem in error.problems:
        assert f"node {problem.node} (" in text
        assert problem.class_type
        assert problem.message in text
        assert len(str(problem)) < 600


def test_a_choice_that_is_not_there_says_what_was_given_and_what_is_allowed() -> None:
    extra = {
        "input_name": "sampler_name",
        "received_value": "eulr",
        "input_config": [["euler", "dpmpp_2m"], {}],
    }
    body = refusal({"type": "value_not_in_list", "message": "Value not in list", "extra_info": extra})
    (problem,) = outcome.rejected(body, TEXT_TO_IMAGE, 400, None).problems
    assert (problem.given, problem.allowed) == ("eulr", ["euler", "dpmpp_2m"])
    text = str(problem)
    assert text.startswith("node 3 (the sampler, KSampler), input 'sampler_name': Value not in list")
    assert all(word in text for word in ("eulr", "euler", "dpmpp_2m"))


def test_a_number_out_of_range_says_the_range() -> None:
    extra = {"input_name": "steps", "received_value": 0, "input_config": ["INT", {"min": 1, "max": 10000}]}
    body = refusal(
        {"type": "value_smaller_than_min", "message": "Value 0 smaller than min of 1", "extra_info": extra}
    )
    (problem,) = outcome.rejected(body, TEXT_TO_IMAGE, 400, None).problems
    assert (problem.given, problem.allowed) == (0, "INT from 1 to 10000")


def refusal(*found: dict[str, Any]) -> dict[str, Any]:
    nodes = {"3": {"errors": list(found), "class_type": "KSampler", "dependent_outputs": ["9"]}}
    error = {"type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation"}
    return {"error": error, "node_errors": nodes}


@pytest.mark.parametrize(
    "body",
    [None, [], "no", {}, {"error": "no"}, {"error": None}, {"error": {"message": None}}, {"node_errors": 5}],
)
def test_a_refusal_of_another_shape_is_a_refusal_all_the_same(body: object) -> None:
    error = outcome.rejected(body, {}, 400, None)
    assert str(error).strip()
    assert error.problems == ()


words = st.sampled_from(
    ["error", "node_errors", "errors", "extra_info", "input_config", "message", "type", "details"]
)
bodies = st.recursive(
    scalars,
    lambda inner: st.dictionaries(words | st.just("3"), inner | st.lists(inner, max_size=2), max_size=4),
    max_leaves=8,
)


@given(bodies)
def test_no_refusal_however_odd_raises_anything(body: object) -> None:
    assert isinstance(str(outcome.rejected(json.loads(json.dumps(body)), TEXT_TO_IMAGE, 400, None)), str)


@given(bodies)
def test_no_problem_of_a_node_however_odd_raises_anything(found: object) -> None:
    for body in ({"3": {"errors": found}}, {"3": {"errors": [{"extra_info": found}]}}, {"3": found}):
        assert all(str(problem) for problem in outcome.node_problems(body, TEXT_TO_IMAGE))
