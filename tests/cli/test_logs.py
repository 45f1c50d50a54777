"""`logs`: what a server writes to its log."""

import json
import signal

from async_comfy.testing import SimulatedServer
from tests.cli.shell import PATIENCE_S, Shell, started


def test_what_the_server_remembers(shell: Shell, comfy_server: SimulatedServer) -> None:
    """For people without what steers a terminal, for programs as it is, with its time."""
    comfy_server.log("a \x1b[31mred\x1b[0m fox\x07")

    assert shell.type("logs").out.splitlines()[-1] == "a red fox\N{REPLACEMENT CHARACTER}"
    told = shell.type("logs", "--json").json[-1]
    assert told["text"] == "a \x1b[31mred\x1b[0m fox\x07\n"
    assert told["time"]


def test_what_comes_is_followed(shell: Shell, comfy_server: SimulatedServer) -> None:
    """Until Ctrl-C, which is how it is meant to end."""
    with started(shell, "logs", "--follow", "--json") as process:
        assert process.stdout is not None
        comfy_server.wait(lambda: bool(comfy_server.logs.listeners))
        comfy_server.log("a fox came by")
        lines = iter(process.stdout.readline, "")
        seen = next(entry for entry in map(json.loads, lines) if entry["text"] == "a fox came by\n")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_S)

    assert seen["time"]
    assert process.returncode == 0


def test_a_server_that_is_away_has_no_log(shell: Shell, comfy_server: SimulatedServer) -> None:
    """A proxy that passes /internal not on: exit code 1, one line."""
    comfy_server.faults.answer(("GET", "/internal/logs/raw"), 404)

    ended = shell.type("logs")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("error: The server has no /internal/logs/raw")
