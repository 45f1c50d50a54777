"""The examples of the help: copied into a shell, each of them works."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from async_comfy.testing import SimulatedServer
from tests.cli.stage import GROUPS, LEAVES, Stage, all_examples, examples

PATIENCE_S = 60.0
LASTING = ("watch", "logs -f", "simulate", "fleet --json")  # until Ctrl-C
HELD = ("cancel", "interrupt", "queue |")  # need a job that runs
NAMED = ("profiles remove", "profiles default", "queue --server gpu1", "profiles list", "profiles")


@pytest.fixture
def stage(
    comfy_server_factory: Callable[..., SimulatedServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Stage:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("async_comfy.cli.demo.STEP_S", 0.0)  # it takes its time to be watched
    monkeypatch.setattr("async_comfy.cli.demo.LOAD_S", 0.0)
    monkeypatch.setattr("async_comfy.cli.drain.SETTLE_S", 0.0)
    made = Stage(tmp_path, comfy_server_factory(), comfy_server_factory())
    made.set()
    return made


@pytest.mark.parametrize("name", [*LEAVES, *GROUPS])
def test_every_command_has_an_example_of_itself(name: str) -> None:
    """In its help."""
    command = LEAVES.get(name) or GROUPS[name]
    assert any(line.startswith(f"async-comfy {name}") for line in examples(command))


def is_one(line: str, kinds: tuple[str, ...]) -> bool:
    """Whether it calls one of these commands."""
    words = line.removeprefix("async-comfy ")
    return any(words == kind or words.startswith(f"{kind} ") for kind in kinds)


@pytest.mark.parametrize(("name", "line"), all_examples())
def test_an_example_copied_into_a_shell_works(name: str, line: str, stage: Stage) -> None:
    """Exit code 0 and no error. Those that last until Ctrl-C have said something before it, or asked."""
    if is_one(line, HELD):
        stage.hold_a_job()
    else:
        stage.finish_a_job()
    if is_one(line, NAMED) and "profiles add" not in line:
        stage.name_a_server()
    if "z_image.json" in line and not line.startswith("async-comfy templates"):
        (stage.folder / "z_image.json").write_bytes((stage.folder / "workflow.json").read_bytes())
    lasts = is_one(line, LASTING)
    if not lasts and not set(line) & set("|<>$~"):
        ended = stage.type(line)
        assert (ended.code, "error" in ended.err.lower()) == (0, False), ended.err
        return
    asked = len(stage.server.requests)
    with stage.play(line) as process:
        try:
            if lasts and line.startswith("async-comfy watch"):
                stage.server.wait(lambda: len(stage.server.requests) > asked + 1)
            elif lasts:
                assert process.stdout is not None
                assert process.stdout.readline()
            if lasts:
                os.killpg(process.pid, signal.SIGINT)
            _, err = process.communicate(timeout=PATIENCE_S)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)

    ends = {0, 1, -signal.SIGINT, 130} if lasts and "|" in line else {0}
    assert process.returncode in ends, err
    assert "error" not in err.lower()
    assert "Traceback" not in err
