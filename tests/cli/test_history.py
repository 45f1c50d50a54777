"""`history`: what ended, for people and for programs."""

from collections.abc import Callable

from async_comfy import Workflow
from async_comfy.cli.ended import read
from async_comfy.testing import SimulatedServer
from tests.cli.shell import Shell
from tests.cli.test_run import failing
from tests.live.pictures import diffusion, picture

WriteFile = Callable[[Workflow], str]


def ran(shell: Shell, file: str) -> str:
    """Runs it; its prompt id."""
    lines = shell.type("run", file, "--json").json
    return str(next(line["prompt_id"] for line in lines if line["type"] == "submitted"))


def test_the_newest_is_first(shell: Shell, workflow_file: WriteFile) -> None:
    """And --max leaves the older ones out."""
    first, second = (ran(shell, workflow_file(picture(color))) for color in (1, 2))

    assert [line.split()[:2] for line in shell.type("history").out.splitlines()] == [
        ["completed", second],
        ["completed", first],
    ]
    assert [line["prompt_id"] for line in shell.type("history", "--max", "1", "--json").json] == [second]


def test_one_job_shows_its_files(shell: Shell, workflow_file: WriteFile) -> None:
    """Where they lie on the server."""
    prompt_id = ran(shell, workflow_file(picture(batch=2)))

    lines = shell.type("history", prompt_id).out.splitlines()
    (told,) = shell.type("history", prompt_id, "--json").json
    assert lines[0].split()[:2] == ["completed", prompt_id]
    assert lines[1:] == ["  output/picture_00001_.png", "  output/picture_00002_.png"]
    assert [file["filename"] for file in told["files"]] == ["picture_00001_.png", "picture_00002_.png"]
    assert told["nodes"] == 2
    assert told["ran_s"] >= 0


def test_a_failed_job_says_why(shell: Shell, workflow_file: WriteFile) -> None:
    """Node, class and the server's own words."""
    prompt_id = ran(shell, workflow_file(failing()))

    (told,) = shell.type("history", prompt_id, "--json").json
    assert told["state"] == "failed"
    assert "boom" in told["reason"]
    assert "boom" in shell.type("history").out


def test_a_job_that_has_not_ended_is_said_to_be_in_the_queue(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """Exit code 1, and where it is."""
    comfy_server.hold("step")
    prompt_id = shell.type("run", workflow_file(diffusion()), "--no-wait").out.strip()

    ended = shell.type("history", prompt_id)
    assert (ended.code, ended.out) == (1, "")
    assert "has not ended yet" in ended.err


def test_an_unknown_job_is_no_success(shell: Shell) -> None:
    """Exit code 1, and where to look."""
    ended = shell.type("history", "0b5c1d5e")
    assert ended.code == 1
    assert "no 0b5c1d5e" in ended.err


def test_an_empty_history_says_so(shell: Shell) -> None:
    """On stderr: stdout lists jobs alone."""
    assert (shell.type("history").out, shell.type("history").err) == ("", "Nothing ended yet.\n")


def test_an_odd_entry_is_read_as_far_as_it_goes() -> None:
    """Custom nodes and other programs write what they like."""
    odd = {
        "prompt": "?",
        "status": {"status_str": "error", "messages": [["execution_interrupted", None], 7]},
        "outputs": {"1": None, "2": {"gifs": [{"filename": "a.gif"}, 5], "text": ["seen", 3]}, "3": []},
    }
    ended = read("x", odd)

    assert (ended.state, ended.nodes, ended.ran_s, ended.texts) == ("cancelled", 0, None, ["seen"])
    assert [file.path for file in ended.files] == ["output/a.gif"]
