"""`run`: from a file to pictures in well-ordered folders."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from async_comfy import Workflow
from async_comfy.testing import SimulatedServer
from tests.cli.shell import Shell, started
from tests.live.pictures import diffusion, picture

WriteFile = Callable[[Workflow], str]


def seeds_posted(server: SimulatedServer) -> list[int]:
    posts = [request for request in server.requests if request.path == "/prompt" and request.method == "POST"]
    return [post.json["prompt"]["5"]["inputs"]["seed"] for post in posts]


EDITOR = {
    "version": 0.4,
    "nodes": [
        {"id": 1, "type": "EmptyImage", "widgets_values": [16, 16, 1, 0],
         "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}]},
        {"id": 2, "type": "SaveImage", "widgets_values": ["x"],
         "inputs": [{"name": "images", "type": "IMAGE", "link": 1}]},
    ],
    "links": [[1, 1, 0, 2, 0, "IMAGE"]],
}  # fmt: skip


def test_one_run_saves_one_picture_and_prints_its_path(shell: Shell, workflow_file: WriteFile) -> None:
    """Stdout is the path alone; the file is there under the default name."""
    today = date.today()  # noqa: DTZ011 - the folder of the user's own day
    ended = shell.type("run", workflow_file(diffusion(seed=42)))

    assert (ended.code, ended.out) == (0, f"output/fox/{today}/0001_42.png\n")
    assert (shell.folder / ended.out.strip()).read_bytes().startswith(b"\x89PNG")


def test_many_runs_with_random_seeds_are_one_line(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """Each has a seed of its own, and its file is called after it."""
    ended = shell.type(
        "run", workflow_file(diffusion()), "--count", "6", "-o", "foxes", "--name", "{index}-{seed}"
    )

    seeds = seeds_posted(comfy_server)
    assert ended.code == 0
    assert len(set(seeds)) == 6
    assert {Path(line).stem.split("-")[1] for line in ended.out.splitlines()} == {str(seed) for seed in seeds}
    assert [name.split("-")[0] for name in shell.files("foxes/*.png")] == [f"foxes/{n}" for n in range(1, 7)]


def test_of_many_runs_the_last_words_say_how_many(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """Of one workflow, too, and above all where --limit leaves some."""
    words = ("run", workflow_file(diffusion()), "--count", "2")
    assert shell.type(*words, "--limit", "1").err.splitlines()[-1] == (
        "1 done, 1 left to do; the same command goes on"
    )
    assert shell.type(*words).err.splitlines()[-1] == "2 done"
    assert len(seeds_posted(comfy_server)) == 2
    assert "done" not in shell.type("run", "fox.json").err


@pytest.mark.parametrize(
    ("rule", "seeds"),
    [("7", [7, 8, 9]), ("+1", [100, 101, 102]), ("+10", [100, 110, 120]), ("fixed", [100, 100, 100])],
)
def test_seed_rules(
    rule: str, seeds: list[int], shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """A number counts up from itself, +N from the workflow's own seed, "fixed" keeps it."""
    file = workflow_file(diffusion(seed=100))
    ended = shell.type("run", file, "--count", "3", "--seed", rule, "--jobs", "1")

    assert ended.code == 0
    assert seeds_posted(comfy_server) == seeds


def test_set_changes_inputs_by_id_title_and_class(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """Text stays text where the input holds text, else JSON is read."""
    file = workflow_file(diffusion())
    words = ["--set", "2.text=42", "--set", "Negative Prompt.text=a = b", "--set", "KSampler.steps=2"]

    assert shell.type("run", file, *words).code == 0

    prompt = next(request.json for request in comfy_server.requests if request.path == "/prompt")["prompt"]
    assert prompt["2"]["inputs"]["text"] == "42"
    assert prompt["3"]["inputs"]["text"] == "a = b"
    assert prompt["5"]["inputs"]["steps"] == 2


def test_several_files_of_one_run_are_numbered(shell: Shell, workflow_file: WriteFile) -> None:
    """A batch of pictures gets a name each."""
    ended = shell.type("run", workflow_file(picture(batch=3)), "--name", "p{index}")

    assert ended.out.split() == ["output/p1_00.png", "output/p1_01.png", "output/p1_02.png"]


@pytest.mark.parametrize("name", ["../../{title}", "/abs/{title}", "{title}/../../../x", "..\\{stem}"])
def test_names_stay_inside_the_output_folder(name: str, shell: Shell, workflow_file: WriteFile) -> None:
    """Neither a template nor a title in an untrusted workflow leads out of it."""
    workflow = picture()
    workflow["Out"].title = "../../../evil"
    ended = shell.type("run", workflow_file(workflow), "--name", name, "-o", "in/here")

    assert ended.code == 0
    assert len(shell.files("**/*.png")) == 1
    assert shell.files("**/*.png")[0].startswith("in/here/")


def test_existing_files_are_never_replaced(shell: Shell, workflow_file: WriteFile) -> None:
    """The same name again gets a number."""
    file = workflow_file(picture())
    for _ in range(2):
        shell.type("run", file, "--name", "p")

    assert shell.files("**/*.png") == ["output/p (1).png", "output/p.png"]


def test_a_failed_job_does_not_stop_the_others(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """Exit code 1, the reason on stderr; the rest is done, and the same command makes what is missing."""
    file = workflow_file(failing())
    words = ("run", file, "--count", "3", "--seed", "1", "--set", "Save.filename_prefix=x")
    first = shell.type(*words)

    assert first.code == 1
    assert first.out == ""
    assert first.err.count("boom") == 3
    assert first.err.splitlines()[-1] == "0 done, 3 failed; the same command goes on"
    assert "Traceback" not in first.err
    assert comfy_server.requests.count("POST", "/prompt") == 3
    again = shell.type(*words)
    assert again.err.splitlines()[-1] == "0 done, 3 failed; the same command goes on"
    assert comfy_server.requests.count("POST", "/prompt") == 6


def failing() -> Workflow:
    workflow = Workflow()
    paper = workflow.add("EmptyImage", width=16, height=16, batch_size=1, color=0)
    bad = workflow.add("ProbeFail", image=paper[0], message="boom", kind="ValueError", seed=1)
    workflow.add("SaveImage", title="Save", images=bad[0], filename_prefix="x")
    return workflow


def test_text_that_a_workflow_shows_is_printed(shell: Shell, workflow_file: WriteFile) -> None:
    """A run without files may have something to say; what steers a terminal is taken out."""
    workflow = Workflow()
    workflow.add("ProbeText", text="hello \x1b[31mred")

    assert shell.type("run", workflow_file(workflow)).out == "hello \N{REPLACEMENT CHARACTER}[31mred\n"


def test_no_wait_prints_prompt_ids_and_leaves_the_jobs(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """The jobs go on without us; nothing is downloaded and no folder made."""
    comfy_server.hold("prompt")
    ended = shell.type("run", workflow_file(diffusion()), "--count", "2", "--no-wait")

    assert ended.code == 0
    assert len(ended.out.split()) == comfy_server.queue_remaining == 2
    assert shell.files() == []
    comfy_server.release()
    comfy_server.wait(lambda: not comfy_server.queue_remaining)
    assert all(comfy_server.history(prompt_id) for prompt_id in ended.out.split())


@pytest.mark.parametrize("display", [[], ["--json"]], ids=["lines", "json"])
def test_timeout_cancels_the_job(
    display: list[str], shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """A job that runs too long is stopped on the server, and the exit code is 1."""
    comfy_server.hold("step")
    ended = shell.type("run", workflow_file(diffusion()), "--timeout", "0.2", *display)

    assert ended.code == 1
    assert "cancelled; --timeout" in ended.out + ended.err
    assert comfy_server.queue_remaining == 0


def test_partial_goes_on_without_refused_outputs(shell: Shell, workflow_file: WriteFile) -> None:
    """Without --partial nothing runs; with it the sound output is saved and the other one named."""
    workflow = picture()
    workflow.add("SaveImage", title="Bad", filename_prefix="bad")
    file = workflow_file(workflow)

    assert shell.type("run", file).code == 4
    assert shell.files("**/*.png") == []
    ended = shell.type("run", file, "--partial")
    assert ended.code == 0
    assert "Bad" in ended.err
    assert len(shell.files("**/*.png")) == 1


def test_front_jumps_the_queue(shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer) -> None:
    """--front is passed on as the server wants it."""
    shell.type("run", workflow_file(picture()), "--front")

    post = next(request for request in comfy_server.requests if request.path == "/prompt")
    assert post.json["front"] is True


def test_a_reader_that_leaves_does_not_end_the_run(shell: Shell, workflow_file: WriteFile) -> None:
    """As in `async-comfy run ... --json | head -1`: the pictures are saved all the same."""
    with shell.start("run", workflow_file(diffusion()), "--count", "2", "--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""

    assert process.returncode == 0
    assert len(shell.files("**/*.png")) == 2


def test_the_editors_format_is_converted_with_the_servers_nodes(shell: Shell) -> None:
    """A file saved in the editor runs as it is, and --set works on what it becomes."""
    (shell.folder / "ui.json").write_text(json.dumps(EDITOR))
    ended = shell.type("run", "ui.json", "--set", "1.width=32", "--name", "p")

    assert (ended.code, ended.out) == (0, "output/p.png\n")


def test_a_lost_connection_is_told(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """Plain lines, too, say that the server is away, and that it is back."""
    comfy_server.hold("step")
    with started(shell, "run", workflow_file(diffusion())) as process:
        assert process.stderr is not None
        comfy_server.wait(lambda: comfy_server.at == "step")
        comfy_server.call(comfy_server.crash())
        away = [process.stderr.readline() for _ in range(2)][1]
        comfy_server.call(comfy_server.restart())
        back = process.stderr.readline()

    assert away == f"connection to {comfy_server.url} lost, trying again\n"
    assert back == f"connected to {comfy_server.url} again\n"


def test_credentials_come_from_the_environment_and_are_never_shown(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """Every request carries them; output and errors do not."""
    ended = shell.type(
        "-vv",
        "run",
        workflow_file(picture()),
        "--header",
        "X-Extra: seven",
        "--json",
        ASYNC_COMFY_API_KEY="s3cret",
    )

    assert ended.code == 0
    assert all(request.headers["X-API-Key"] == "s3cret" for request in comfy_server.requests)
    assert all(request.headers["X-Extra"] == "seven" for request in comfy_server.requests)
    assert "s3cret" not in ended.out + ended.err
