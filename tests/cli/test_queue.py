"""`queue` and `cancel`: what a server has to do, and stopping one job of it."""

from collections.abc import Callable

import pytest

from async_comfy import Workflow
from async_comfy.testing import SimulatedServer
from tests.cli.shell import Shell
from tests.live.pictures import diffusion

WriteFile = Callable[[Workflow], str]


def submit(shell: Shell, file: str, count: int) -> list[str]:
    return shell.type("run", file, "--count", str(count), "--no-wait").out.split()


def test_the_queue_in_the_order_in_which_it_runs(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """The running one first, then those that wait; for people and for programs."""
    comfy_server.hold("step")
    ids = submit(shell, workflow_file(diffusion()), 3)
    comfy_server.wait(lambda: comfy_server.at == "step")

    assert [line.split()[:2] for line in shell.type("queue").out.splitlines()] == [
        ["running", ids[0]],
        ["waiting", ids[1]],
        ["waiting", ids[2]],
    ]
    assert [line["prompt_id"] for line in shell.type("queue", "--json").json] == ids


def test_an_empty_queue_says_so(shell: Shell) -> None:
    """On stderr: stdout lists jobs alone."""
    assert (shell.type("queue").out, shell.type("queue").err) == ("", "Nothing runs, nothing waits.\n")


@pytest.mark.parametrize("which", [0, 1], ids=["running", "waiting"])
@pytest.mark.parametrize("profile", ["0.33", "next"])
def test_cancel_stops_that_job_and_no_other(
    which: int,
    profile: str,
    shell: Shell,
    workflow_file: WriteFile,
    comfy_server_factory: Callable[..., SimulatedServer],
) -> None:
    """Whether it runs or waits, whoever submitted it."""
    server = comfy_server_factory(profile=profile)
    shell = Shell(shell.folder, server.url)
    server.hold("step")
    ids = submit(shell, workflow_file(diffusion()), 3)
    server.wait(lambda: server.at == "step")

    ended = shell.type("cancel", ids[which])

    assert (ended.code, ended.out) == (0, f"{ids[which]} cancelled\n")
    left = [line["prompt_id"] for line in shell.type("queue", "--json").json]
    assert left == [prompt_id for prompt_id in ids if prompt_id != ids[which]]


def test_an_old_server_is_not_told_to_stop_whatever_runs(
    shell: Shell, workflow_file: WriteFile, comfy_server_factory: Callable[..., SimulatedServer]
) -> None:
    """Before 0.3.60 an interrupt names no job: without --force only waiting ones are taken out."""
    server = comfy_server_factory(profile="0.3.40")
    shell = Shell(shell.folder, server.url)
    server.hold("step")
    running, waiting = submit(shell, workflow_file(diffusion()), 2)
    server.wait(lambda: server.at == "step")

    assert shell.type("cancel", waiting).code == 0
    refused = shell.type("cancel", running)
    assert (refused.code, server.running) == (2, [running])
    assert "--force" in refused.err
    assert shell.type("cancel", running, "--force").code == 0
    assert server.running == []


def test_a_job_that_is_not_there_is_no_success(shell: Shell) -> None:
    """Exit code 1, and where to look."""
    ended = shell.type("cancel", "0b5c1d5e")

    assert ended.code == 1
    assert "0b5c1d5e: neither runs nor waits" in ended.err


def test_cancel_says_when_a_node_does_not_look_up(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """The request stands, but nothing is claimed that is not so."""
    comfy_server.faults.ignores_interrupts = True
    comfy_server.hold("step")
    (prompt_id,) = submit(shell, workflow_file(diffusion()), 1)
    comfy_server.wait(lambda: comfy_server.at == "step")

    ended = shell.type("cancel", prompt_id, "--timeout", "0.1")

    assert (ended.code, ended.out) == (1, "")
    assert "not stopped within 0.1 s" in ended.err
