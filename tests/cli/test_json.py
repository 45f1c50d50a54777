"""`--json`: lines for programs."""

from collections.abc import Callable

from async_comfy import Workflow
from async_comfy.events import EVENTS
from async_comfy.testing import SimulatedServer
from tests.cli.shell import Shell
from tests.cli.test_run import failing
from tests.live.pictures import diffusion, picture

WriteFile = Callable[[Workflow], str]


def test_a_run_tells_its_whole_story(shell: Shell, workflow_file: WriteFile) -> None:
    """From "begin" over the server's events to "result", which is the last line; stderr stays silent."""
    ended = shell.type("run", workflow_file(diffusion(seed=7, steps=4)), "--json")
    lines = ended.json

    assert (ended.code, ended.err) == (0, "")
    assert lines[0] == {"type": "begin", "workflow": "fox", "total": 1, "done": 0}
    assert lines[1].keys() == {"type", "index", "prompt_id", "number", "server"}
    assert lines[-1]["type"] == "result"
    assert lines[-1]["seeds"] == {"5.seed": 7}
    assert (shell.folder / lines[-1]["paths"][0]).is_file()
    assert {line["type"] for line in lines[2:-1]} >= {"execution_start", "progress", "executed", "preview"}
    assert {line["prompt_id"] for line in lines[2:]} == {lines[1]["prompt_id"]}


def test_events_have_the_fields_of_the_library(shell: Shell, workflow_file: WriteFile) -> None:
    """An event line is the event's fields, and the number of the run; previews tell their size alone."""
    ended = shell.type("run", workflow_file(diffusion()), "--json")
    events = [line for line in ended.json if line["type"] in EVENTS]

    assert events
    for line in events:
        assert line.keys() == {"type", "index", *EVENTS[line["type"]].__struct_fields__}
    previews = [line["data"]["bytes"] for line in events if line["type"] == "preview"]
    assert previews
    assert all(size > 0 for size in previews)


def test_the_same_again_is_told_as_cached(shell: Shell, workflow_file: WriteFile) -> None:
    """`cached` names the nodes that did not run."""
    file = workflow_file(picture())
    first, second = (shell.type("run", file, "--json").json[-1] for _ in range(2))

    assert first["cached"] == []
    assert second["cached"] == ["1", "2"]


def test_each_run_has_a_result(shell: Shell, workflow_file: WriteFile) -> None:
    """Lines of runs that are in flight together are told apart by "index"; the last one is of all."""
    lines = shell.type("run", workflow_file(diffusion()), "--count", "3", "--json").json

    assert sorted(line["index"] for line in lines if line["type"] == "result") == [1, 2, 3]
    assert lines[-1] == {"type": "end", "done": 3, "failed": 0, "left": 0}


def test_a_failed_run_is_a_line(shell: Shell, workflow_file: WriteFile) -> None:
    """With the class of the error, the reason, and the exit code that a run of its own would have."""
    ended = shell.type("run", workflow_file(failing()), "--json")

    assert ended.code == 1
    assert ended.json[-1]["type"] == "failed"
    assert ended.json[-1]["error"] == "Failed"
    assert ended.json[-1]["exit"] == 1
    assert "boom" in ended.json[-1]["message"]


def test_giving_up_is_a_line(shell: Shell, workflow_file: WriteFile) -> None:
    """A refusal names each problem by node and input."""
    ended = shell.type("run", workflow_file(diffusion()), "--set", "1.ckpt_name=no.ckpt", "--json")

    assert ended.code == 4
    assert ended.json[-1]["type"] == "error"
    assert ended.json[-1]["exit"] == 4
    assert [(problem["node"], problem["input"]) for problem in ended.json[-1]["problems"]] == [
        ("1", "ckpt_name")
    ]


def test_no_wait_tells_the_prompt_ids(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """One "submitted" line for each."""
    lines = shell.type("run", workflow_file(diffusion()), "--count", "2", "--no-wait", "--json").json

    assert [(line["type"], line["index"]) for line in lines] == [("submitted", 1), ("submitted", 2)]
