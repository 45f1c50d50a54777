"""`run --each` and `run folder/`: many parameters, checked before anything is sent, and never run twice."""

import errno
import json
import os
import re
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from async_comfy import Workflow
from async_comfy.cli.each import Sheet
from async_comfy.cli.manifest import NAME, Manifest, unusable
from async_comfy.testing import SimulatedServer
from tests.cli.shell import PATIENCE_S, Shell, started
from tests.cli.test_bad_input import assert_clear
from tests.cli.test_run import EDITOR, failing, seeds_posted
from tests.live.pictures import diffusion, picture

WriteFile = Callable[[Workflow], str]


def posted(server: SimulatedServer) -> list[dict[str, Any]]:
    """The inputs of the sampler and of the positive prompt, prompt by prompt."""
    prompts = [request.json["prompt"] for request in server.requests if request.method == "POST"]
    return [{**prompt["5"]["inputs"], "text": prompt["2"]["inputs"]["text"]} for prompt in prompts]


def manifest(shell: Shell, folder: str = "output") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (shell.folder / folder / NAME).read_text().splitlines()]


def ended(shell: Shell, folder: str = "output") -> list[dict[str, Any]]:
    return [line for line in manifest(shell, folder) if line.get("state") in {"done", "failed"}]


def write(shell: Shell, name: str, text: str) -> str:
    (shell.folder / name).write_text(text)
    return name


CSV = 'positive_prompt,steps,seed\n"a fox, red",2,7\na hare,3,\n\n"two\nlines",,9\n'


def test_each_row_is_a_run(shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer) -> None:
    """Cells are read as the parameter's type; an empty one leaves what the workflow says."""
    file = workflow_file(diffusion(seed=42, steps=4))
    ended = shell.type("run", file, "--each", write(shell, "params.csv", CSV), "-j", "1", "--name", "{index}")

    assert ended.code == 0
    assert ended.out.split() == ["output/1.png", "output/2.png", "output/3.png"]
    assert "3 done" in ended.err.splitlines()[-1]
    assert [(one["text"], one["steps"], one["seed"]) for one in posted(comfy_server)] == [
        ("a fox, red", 2, 7),
        ("a hare", 3, 42),
        ("two\nlines", 4, 9),
    ]


def test_rows_of_json_and_paths_as_names(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """A row need not name what others name, and an empty text is one; NODE.INPUT works as with --set."""
    rows = '{"positive_prompt": ""}\n\n{"KSampler.cfg": 3.5, "5.steps": 2}\n'
    ended = shell.type(
        "run", workflow_file(diffusion()), "--each", write(shell, "rows.jsonl", rows), "-j", "1"
    )

    assert ended.code == 0
    first, second = posted(comfy_server)
    assert (first["text"], first["cfg"]) == ("", 7.0)
    assert (second["text"], second["cfg"], second["steps"]) == ("a red fox in snow", 3.5, 2)


def test_the_editors_format_has_columns_too(shell: Shell) -> None:
    """It is converted with the server's nodes first."""
    (shell.folder / "ui.json").write_text(json.dumps(EDITOR))
    ended = shell.type(
        "run", "ui.json", "--each", write(shell, "p.csv", "width\n16\n32\n"), "--name", "{index}"
    )

    assert (ended.code, sorted(ended.out.split())) == (0, ["output/1.png", "output/2.png"])


def test_each_row_with_seeds_of_its_own(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """--count runs each row so often; a seed in the row counts more than the rule."""
    rows = write(shell, "rows.csv", "steps,seed\n2,\n3,5\n")
    ended = shell.type("run", workflow_file(diffusion()), "--each", rows, "--count", "2", "-j", "1")

    assert ended.code == 0
    seeds = [(one["steps"], one["seed"]) for one in posted(comfy_server)]
    assert [steps for steps, _ in seeds] == [2, 2, 3, 3]
    assert seeds[0][1] != seeds[1][1]
    assert [seed for _, seed in seeds[2:]] == [5, 5]


def test_the_manifest_tells_what_became_of_each_row(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """Row, seeds, prompt id, server, files; of one that failed the reason."""
    rows = write(shell, "rows.csv", "seed\n1\n2\n")
    shell.type("run", workflow_file(failing()), "--each", rows, "-j", "1")
    shell.type("run", workflow_file(diffusion()), "--each", rows, "-j", "1", "-o", "good", "--name", "{seed}")

    assert [(line["row"], line["seeds"], line["files"]) for line in ended(shell, "good")] == [
        (1, {"5.seed": 1}, ["1.png"]),
        (2, {"5.seed": 2}, ["2.png"]),
    ]
    assert all(line["server"] == comfy_server.url for line in ended(shell, "good"))
    assert all(comfy_server.history(line["prompt_id"]) for line in ended(shell) + ended(shell, "good"))
    assert all("boom" in line["error"]["message"] for line in ended(shell))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("p.csv", "stpes\n1\n", ["p.csv, row 1", "'stpes'", "'steps'"]),
        ("p.csv", "steps\n2\nmany\n", ["p.csv, row 2", "'steps'", "whole number", "'many'"]),
        ("p.csv", "steps\n2\n0\n", ["p.csv, row 2", "'steps'", "1 at least"]),
        ("p.csv", "sampler_name\neuler\neulr\n", ["p.csv, row 2", "'sampler_name'", "euler"]),
        ("p.csv", "steps,cfg\n2,1\n3\n", ["p.csv, row 2", "1 cells", "double quotes"]),
        ("p.csv", "steps,steps\n2,1\n", ["p.csv", "named twice"]),
        ("p.csv", "steps\n", ["p.csv has no rows"]),
        ("p.csv", "", ["p.csv has no header"]),
        ("p.csv", 'positive_prompt\n"a"b\n', ["p.csv, row 1", "double quote"]),
        ("p.csv", "9.width\n2\n", ["p.csv, row 1", "no node '9'"]),
        ("p.csv", "5.stpes\n2\n", ["p.csv, row 1", "no input 'stpes'", "'steps'"]),
        ("p.csv", "steps,5.steps\n2,3\n", ["p.csv, row 1", "two of its columns are 5.steps"]),
        ("p.csv", "steps;cfg\n2;7,5\n", ["p.csv has semicolons", "commas"]),
        ("p.csv", "steps\tcfg\n2\t7\n", ["p.csv has tabs", ".tsv"]),
        ("p.csv", f"seed\n{'9' * 5000}\n", ["p.csv, row 1", "'seed'", "whole number"]),
        ("p.jsonl", '{"steps": 2}\n[1]\n', ["p.jsonl, row 2", "no JSON object"]),
        ("p.jsonl", '{"steps": "2"}\n', ["p.jsonl, row 1", "whole number"]),
        ("p.jsonl", '{"steps": true}\n', ["p.jsonl, row 1", "whole number"]),
        ("p.txt", "steps\n2\n", ["p.txt", ".csv, .tsv or .jsonl"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_row_is_named_before_anything_is_sent(
    name: str,
    text: str,
    said: list[str],
    shell: Shell,
    workflow_file: WriteFile,
    comfy_server: SimulatedServer,
) -> None:
    """One line with file and row and what is allowed; no prompt, no folder."""
    ended = shell.type("run", workflow_file(diffusion()), "--each", write(shell, name, text))

    assert_clear(ended, 2, *said)
    assert comfy_server.requests.count("POST", "/prompt") == 0
    assert not (shell.folder / "output").exists()


def test_rows_that_go_wrong_after_they_were_checked(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """Somebody edits the file meanwhile: what was sent is saved, then the row is named."""
    rows = "".join(f"{'fox ' * 5000},{seed:04}\n" for seed in range(10))  # each more than is read at a time
    text = f"positive_prompt,seed\n{rows}"
    file = shell.folder / write(shell, "rows.csv", text)
    comfy_server.hold("prompt")
    with started(shell, "run", workflow_file(diffusion()), "--each", "rows.csv", "-j", "1") as process:
        comfy_server.wait(lambda: comfy_server.queue_remaining == 1)
        file.write_text(re.sub(r"\d{4}", "many", text))
        comfy_server.release()
        out, err = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 2
    assert "rows.csv, row " in err
    assert "Traceback" not in err
    assert len(out.splitlines()) == len(ended(shell)) == comfy_server.requests.count("POST", "/prompt")


def test_a_file_that_is_no_text(shell: Shell, workflow_file: WriteFile) -> None:
    (shell.folder / "p.csv").write_bytes(b"steps\n\xff\n")

    assert_clear(shell.type("run", workflow_file(diffusion()), "--each", "p.csv"), 2, "p.csv", "UTF-8")
    assert_clear(shell.type("run", workflow_file(diffusion()), "--each", "q.csv"), 2, "q.csv", "no such file")


def test_a_folder_is_every_workflow_in_it(shell: Shell, comfy_server: SimulatedServer) -> None:
    """By name; each file's results under its own name."""
    flows = shell.folder / "flows"
    flows.mkdir()
    for color, name in enumerate(("b", "a")):
        (flows / f"{name}.json").write_text(json.dumps(picture(color).to_api()))
    ended = shell.type("run", "flows", "--name", "{workflow}-{index}", "-j", "1")

    assert (ended.code, ended.out.split()) == (0, ["output/a-1.png", "output/b-2.png"])
    assert "2 done" in ended.err
    (shell.folder / "empty").mkdir()
    assert_clear(shell.type("run", "empty"), 2, "empty", "no workflow")
    (flows / "c.json").write_text("{}")
    assert_clear(shell.type("run", "flows"), 2, "c.json", "empty workflow")


def test_what_is_done_stays_done(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """Rows that were added or changed are run, others are not; --limit does so many at a time."""
    rows = write(shell, "p.csv", "seed\n1\n2\n3\n")
    words = ("run", workflow_file(diffusion()), "--each", rows, "-j", "1")
    first = shell.type(*words, "--limit", "2")
    assert first.code == 0
    assert "2 done, 1 left to do; the same command goes on" in first.err
    assert seeds_posted(comfy_server) == [1, 2]

    second = shell.type(*words)
    assert "2 of 3 were done before" in second.err
    assert seeds_posted(comfy_server) == [1, 2, 3]

    third = shell.type(*words)
    assert (third.code, third.out) == (0, "")
    assert "3 done; all were done before, another --output makes them anew" in third.err

    write(shell, "p.csv", "seed\n1\n20\n3\n4\n")
    assert shell.type(*words).code == 0
    assert seeds_posted(comfy_server) == [1, 2, 3, 20, 4]


def test_failed_rows_are_tried_again_when_asked(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """Exit code 1 as long as any failed."""
    rows = write(shell, "p.csv", "1.width\n16\n17\n18\n")
    words = ("run", workflow_file(failing()), "--each", rows, "-j", "1")
    first = shell.type(*words)
    assert first.code == 1
    assert "0 done, 3 failed; --retry-failed runs those again" in first.err

    again = shell.type(*words)
    assert again.code == 1
    assert comfy_server.requests.count("POST", "/prompt") == 3

    file = workflow_file(picture())
    assert file == words[1]
    retried = shell.type(*words, "--retry-failed")
    assert retried.code == 0
    assert comfy_server.requests.count("POST", "/prompt") == 6


@pytest.fixture
def mirror(shell: Shell, workflow_file: WriteFile) -> str:
    """A workflow that saves the picture that it loads; in.png is one."""
    made = shell.type("run", workflow_file(picture()), "-o", "made", "--name", "in").out.strip()
    (shell.folder / made).rename(shell.folder / "in.png")
    workflow = Workflow()
    image = workflow.add("LoadImage", image="nowhere.png")
    workflow.add("SaveImage", images=image[0], filename_prefix="x")
    return workflow_file(workflow)


def test_a_local_file_in_a_cell_is_uploaded(shell: Shell, mirror: str, comfy_server: SimulatedServer) -> None:
    """By its path from the file of rows; what is no file here is a name at the server."""
    (shell.folder / "rows").mkdir()
    write(shell, "rows/p.csv", "image\n../in.png\n")
    ended = shell.type("run", mirror, "--each", "rows/p.csv", "--name", "{index}")

    assert (ended.code, ended.out) == (0, "output/1.png\n")
    assert comfy_server.requests.count("POST", "/upload/image") == 1


def test_a_refused_row_fails_alone(shell: Shell, mirror: str) -> None:
    """The others go on."""
    rows = write(shell, "p.csv", "image\nin.png\nnone.png\nin.png\n")
    answer = shell.type("run", mirror, "--each", rows, "-j", "1")

    assert answer.code == 1
    assert "2 done, 1 failed" in answer.err
    assert [(line["row"], line["state"]) for line in ended(shell)] == [
        (1, "done"),
        (2, "failed"),
        (3, "done"),
    ]
    assert shell.type("run", mirror, "--each", rows).code == 1


def test_ten_refused_rows_in_a_row_end_it(shell: Shell, mirror: str, comfy_server: SimulatedServer) -> None:
    """Nobody will take the other thousand."""
    before = comfy_server.requests.count("POST", "/prompt")
    rows = write(shell, "p.csv", "image\n" + "none.png\n" * 1000)
    answer = shell.type("run", mirror, "--each", rows, "-j", "1")

    assert answer.code == 4
    assert "error: Prompt outputs failed validation." in answer.err.splitlines()
    assert comfy_server.requests.count("POST", "/prompt") == before + 10


def test_a_crash_costs_nothing_and_runs_nothing_twice(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """Kill -9 in the middle: what ran is saved by the next call, what waited is waited for."""
    rows = write(shell, "p.csv", "seed\n" + "".join(f"{seed}\n" for seed in range(1, 9)))
    words = ("run", workflow_file(diffusion()), "--each", rows, "-j", "3", "--name", "{seed}")
    comfy_server.hold("prompt")
    with started(shell, *words) as process:
        for _ in range(2):
            comfy_server.wait(lambda: comfy_server.queue_remaining == 3)
            comfy_server.advance()
        comfy_server.wait(lambda: comfy_server.queue_remaining == 3)
        assert process.stdout is not None
        saved = [process.stdout.readline().strip() for _ in range(2)]
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE_S)
    comfy_server.advance()  # one ends while nobody listens
    comfy_server.wait(lambda: comfy_server.queue_remaining == 2)

    with started(shell, *words) as process:
        assert process.stderr is not None
        assert "2 of 8 were done before" in process.stderr.readline()
        assert "was sent before" in process.stderr.readline()
        comfy_server.release()
        out, err = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 0, err
    assert saved == ["output/1.png", "output/2.png"]
    assert sorted(out.split()) == [f"output/{seed}.png" for seed in range(3, 9)]
    assert Counter(seeds_posted(comfy_server)) == dict.fromkeys(range(1, 9), 1)
    assert sum(comfy_server.executions.values()) == 8
    assert sorted(line["row"] for line in ended(shell)) == list(range(1, 9))
    assert all(line["seeds"] == {"5.seed": line["row"]} for line in ended(shell))


def test_what_a_restarted_server_forgot_is_run_again(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """Crash of this process, then of the server: its queue is gone, and so is what was in it."""
    rows = write(shell, "p.csv", "seed\n1\n2\n")
    words = ("run", workflow_file(diffusion()), "--each", rows, "-j", "2")
    comfy_server.hold("prompt")
    with started(shell, *words) as process:
        comfy_server.wait(lambda: comfy_server.queue_remaining == 2)
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE_S)
    comfy_server.call(comfy_server.crash())
    comfy_server.call(comfy_server.restart())
    comfy_server.release()
    again = shell.type(*words)

    assert again.code == 0
    assert again.err.count("is run again") == 2
    assert Counter(seeds_posted(comfy_server)) == {1: 2, 2: 2}
    assert len(again.out.split()) == 2


def test_what_could_not_be_saved_is_not_made_again(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """The disk was full, say: the server still has it for the next call."""
    rows = write(shell, "p.csv", "seed\n1\n2\n")
    words = ("run", workflow_file(diffusion()), "--each", rows, "-j", "1", "--name", "here/{seed}")
    (shell.folder / "output").mkdir()
    (shell.folder / "output/here").write_text("in the way")
    assert_clear(shell.type(*words), 2, "Cannot write to output")
    (shell.folder / "output/here").unlink()
    again = shell.type(*words)

    assert (again.code, again.out.split()) == (0, ["output/here/1.png", "output/here/2.png"])
    assert "was sent before" in again.err
    assert Counter(seeds_posted(comfy_server)) == {1: 1, 2: 1}


@pytest.mark.parametrize("line", ["failed", "withdrawn"])
def test_a_manifest_that_takes_no_more_lines(
    line: str,
    shell: Shell,
    workflow_file: WriteFile,
    comfy_server: SimulatedServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a failure that cannot be kept it is told, and it ends the batch; a withdrawal may be missing."""
    comfy_server.faults.answer(("POST", "/prompt"), 403, "no", times=1 if line == "withdrawn" else 0)
    append = Manifest._append

    def full(self: Manifest, said: dict[str, Any]) -> None:
        if said.get("state") == line:
            raise unusable(self.path, OSError(errno.ENOSPC, "No space left on device"))
        append(self, said)

    monkeypatch.setattr(Manifest, "_append", full)
    words = ("run", workflow_file(failing()), "--each", write(shell, "p.csv", "1.width\n16\n17\n"), "-j", "1")
    told = (4, "403") if line == "withdrawn" else (2, "async-comfy.jsonl: No space left on device")
    assert_clear(shell.type(*words), *told)
    assert comfy_server.requests.count("POST", "/prompt") == 1


def test_rows_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    """The first one of a sheet that never ends."""
    pipe = tmp_path / "endless.csv"
    os.mkfifo(pipe)

    def feed() -> None:
        end = os.open(pipe, os.O_WRONLY)
        with suppress(BrokenPipeError):
            os.write(end, b"steps\n")
            while True:
                os.write(end, b"1\n" * 1000)
        os.close(end)

    feeder = Thread(target=feed)
    feeder.start()
    rows = iter(Sheet(pipe))
    assert next(rows).cells == {"steps": "1"}
    del rows
    feeder.join(PATIENCE_S)
    assert not feeder.is_alive()
