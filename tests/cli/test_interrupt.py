"""`interrupt`: what runs stops, what waits stays."""

from collections.abc import Callable

import pytest

from async_comfy import Workflow
from async_comfy.testing import SimulatedServer
from tests.cli.shell import Shell
from tests.cli.test_queue import submit
from tests.live.pictures import diffusion

WriteFile = Callable[[Workflow], str]


def busy(shell: Shell, file: str, server: SimulatedServer) -> list[str]:
    """The ids of two jobs; the first one runs, the second one waits."""
    server.hold("step")
    ids = submit(shell, file, 2)
    server.wait(lambda: server.at == "step")
    return ids


def test_the_running_job_is_stopped_and_the_next_one_runs(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """By its id, and no other."""
    running, waiting = busy(shell, workflow_file(diffusion()), comfy_server)

    ended = shell.type("interrupt", running)

    assert (ended.code, ended.out) == (0, f"{running} asked to stop\n")
    comfy_server.wait(lambda: comfy_server.running == [waiting])


def test_a_waiting_job_is_left_alone(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """It is said that `cancel` would take it out."""
    running, waiting = busy(shell, workflow_file(diffusion()), comfy_server)

    ended = shell.type("interrupt", waiting)

    assert (ended.code, ended.out) == (1, "")
    assert f"{waiting} does not run" in ended.err
    assert "cancel" in ended.err
    assert comfy_server.running == [running]


def test_anybody_is_asked_for(shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer) -> None:
    """Where nobody can answer, only --yes goes on."""
    running, waiting = busy(shell, workflow_file(diffusion()), comfy_server)

    refused = shell.type("interrupt", "--anybody")
    assert refused.code == 2
    assert "--yes" in refused.err
    assert comfy_server.running == [running]
    assert shell.type("interrupt", "--anybody", "--yes", "--json").json == [
        {"prompt_id": running, "asked": True}
    ]
    comfy_server.wait(lambda: comfy_server.running == [waiting])


def test_where_nothing_runs_nothing_is_stopped(shell: Shell) -> None:
    """That is no error: nothing runs afterwards, as was wished."""
    ended = shell.type("interrupt", "--anybody", "--yes")
    assert (ended.code, ended.out, ended.err) == (0, "", "Nothing runs.\n")


@pytest.mark.parametrize("words", [[], ["some-id", "--anybody"]], ids=["neither", "both"])
def test_it_is_one_job_or_anybodys(words: list[str], shell: Shell, comfy_server: SimulatedServer) -> None:
    """Exit code 2, and no server is asked."""
    ended = shell.type("interrupt", *words)
    assert ended.code == 2
    assert "either a PROMPT_ID or --anybody" in ended.err
    assert len(comfy_server.requests) == 0


def test_an_old_server_is_not_told_to_stop_whatever_runs(
    shell: Shell, workflow_file: WriteFile, comfy_server_factory: Callable[..., SimulatedServer]
) -> None:
    """Before 0.3.60 an interrupt names no job."""
    server = comfy_server_factory(profile="0.3.40")
    shell = Shell(shell.folder, server.url)
    running, waiting = busy(shell, workflow_file(diffusion()), server)

    refused = shell.type("interrupt", running)
    assert refused.code == 2
    assert "--force" in refused.err
    assert server.running == [running]
    assert shell.type("interrupt", running, "--force").code == 0
    server.wait(lambda: server.running == [waiting])
