"""Ctrl-C, and the same command again."""

import json
import signal
from collections.abc import Callable
from threading import Event

import pytest
from aiohttp.web import BaseRequest

from async_comfy import Workflow
from async_comfy.cli.manifest import NAME
from async_comfy.testing import ServerProcess, SimulatedServer
from tests.cli.shell import PATIENCE_S, Shell, started
from tests.cli.test_run import seeds_posted
from tests.live.pictures import diffusion

WriteFile = Callable[[Workflow], str]


def test_ctrl_c_cancels_and_the_same_command_goes_on(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """What is done stays done, nothing runs twice, and random seeds drawn at first are used in the end."""
    words = ("run", workflow_file(diffusion()), "--count", "5", "--jobs", "2", "-o", "foxes")
    comfy_server.hold("prompt")
    with started(shell, *words) as process:
        comfy_server.wait(lambda: comfy_server.queue_remaining == 2)
        comfy_server.advance(2)
        assert process.stderr is not None
        assert all("submitted" in process.stderr.readline() for _ in range(4))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 130
    assert len(out.splitlines()) == 2
    assert "cancelling 2 jobs on the server" in err
    assert "2 cancelled; the same command goes on" in err
    assert comfy_server.queue_remaining == 0
    first = seeds_posted(comfy_server)

    comfy_server.release()
    comfy_server.requests.clear()
    again = shell.type(*words)

    assert again.code == 0
    assert "2 of 5 were done before" in again.err
    assert "was sent before" not in again.err
    second = seeds_posted(comfy_server)
    assert len(first) == 4
    assert set(second[:2]) == set(first[2:]), "the two that were cancelled"
    drawn = {*first, *second}
    assert len(second) == 3
    assert len(drawn) == 5
    assert sum(comfy_server.executions.values()) == 5
    assert len(shell.files("foxes/**/*.png")) == 5
    assert {path.rpartition("_")[2] for path in shell.files("foxes/**/*.png")} == {f"{s}.png" for s in drawn}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_stops_the_job_that_runs(
    number: signal.Signals, code: int, shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """The one that is in the middle of its steps is interrupted on the server; SIGTERM is as good."""
    comfy_server.hold("step")
    with started(shell, "run", workflow_file(diffusion())) as process:
        comfy_server.wait(lambda: comfy_server.at == "step")
        prompt_id = comfy_server.running[0]
        process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == code
    assert "cancelling 1 job on the server" in err
    history = comfy_server.history(prompt_id)
    assert history is not None
    assert history["status"]["status_str"] == "error"
    assert shell.files("**/*.png") == []


def test_a_job_that_does_not_stop_is_told_once(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """Its cancels are lost: it is named, and that the session was closed upon it is nobody's concern."""
    comfy_server.faults.lost_cancels = 10**9
    comfy_server.hold("step")
    with started(shell, "run", workflow_file(diffusion())) as process:
        comfy_server.wait(lambda: comfy_server.at == "step")
        prompt_id = comfy_server.running[0]
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 143
    assert err.splitlines()[-1].startswith(f"0 cancelled, asked but not stopped yet: {prompt_id};")


def test_ctrl_c_while_a_picture_is_saved_keeps_it(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """What the server has made already is not thrown away, and counts as done."""
    comfy_server.faults.slow(("GET", "/view"), 0.5)
    words = ("run", workflow_file(diffusion()), "--count", "2", "--jobs", "1")
    with started(shell, *words) as process:
        comfy_server.wait(lambda: comfy_server.requests.count("GET", "/view"))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 130
    assert len(shell.files("**/*.png")) == 1
    assert shell.type(*words).code == 0
    assert sum(comfy_server.executions.values()) == len(shell.files("**/*.png")) == 2


def test_a_batch_stays_in_the_folder_of_its_first_day(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """Going on after midnight does not spread it over two folders."""
    words = ("run", workflow_file(diffusion()), "--count", "2", "--jobs", "1", "--name", "{date}/{index}")
    only_the_first_succeeds(comfy_server, shell, words)
    manifest = shell.folder / "output" / NAME
    line = json.loads(manifest.read_text().splitlines()[0])
    manifest.write_text(manifest.read_text().replace(line["began"], "2001-02-03"))

    assert shell.type(*words).out == "output/2001-02-03/2.png\n"


def test_a_second_ctrl_c_leaves_at_once(shell: Shell, workflow_file: WriteFile) -> None:
    """Also while the server does not answer."""
    with ServerProcess(step_s=60) as server:
        words = ("run", workflow_file(diffusion()), "--server", server.url)
        with started(shell, *words) as process:
            assert process.stderr is not None
            assert "submitted" in process.stderr.readline()
            server.stop()
            process.send_signal(signal.SIGINT)
            assert "Ctrl-C again leaves at once" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE_S)
            assert process.stderr.read() == ""

    assert process.returncode == 130


def test_ctrl_c_before_anything_is_submitted(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """While it connects there is nothing to cancel and nothing to write."""
    asked = Event()

    def handshake(request: BaseRequest) -> bool:
        asked.set()
        return request.path == "/ws"

    comfy_server.faults.slow(handshake, 60)
    with started(shell, "run", workflow_file(diffusion())) as process:
        assert asked.wait(PATIENCE_S)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 130
    assert not (shell.folder / "output").exists()


def test_a_finished_batch_begins_anew(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """Nothing is left to go on with, so new seeds are drawn."""
    words = ("run", workflow_file(diffusion()), "--count", "2")
    shell.type(*words)
    shell.type(*words)

    assert len(set(seeds_posted(comfy_server))) == 4


@pytest.mark.parametrize("change", [["--set", "KSampler.steps=5"], ["--name", "{index}"], ["--seed", "9"]])
def test_another_command_is_another_batch(
    change: list[str], shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """Other settings, names or seeds do not go on with somebody else's work."""
    words = ("run", workflow_file(diffusion()), "--count", "2", "--jobs", "1")
    only_the_first_succeeds(comfy_server, shell, words)

    comfy_server.requests.clear()
    shell.type(*words, *change)

    assert comfy_server.requests.count("POST", "/prompt") == 2


def test_a_torn_manifest_is_read_as_far_as_it_goes(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """A line cut off by a crash, and lines that are not ours, cost nothing."""
    words = ("run", workflow_file(diffusion()), "--count", "3", "--jobs", "1", "-o", "foxes")
    only_the_first_succeeds(comfy_server, shell, words)
    manifest = shell.folder / "foxes" / NAME
    with manifest.open("a") as file:
        file.write('[1]\n{"batch": 7}\n{"batch": "x", "seeds": 3}\n\x00\n{"batch": "to')

    comfy_server.requests.clear()
    again = shell.type(*words)

    assert again.code == 0
    assert comfy_server.requests.count("POST", "/prompt") == 2
    shell.type(*words)
    assert comfy_server.requests.count("POST", "/prompt") == 5, "complete, so the third call began anew"


def only_the_first_succeeds(server: SimulatedServer, shell: Shell, words: tuple[str, ...]) -> None:
    """One run of the batch is done, then the server refuses."""
    server.requests.clear()
    server.faults.answer(
        lambda request: request.path.endswith("/prompt") and server.requests.count("POST", "/prompt") > 1, 403
    )
    assert shell.type(*words).code == 4
    server.faults.clear()
