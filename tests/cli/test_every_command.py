"""What holds for every command: each has to be in these tables, or a test fails."""

import json
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from async_comfy.testing import SimulatedServer
from tests.cli import screen
from tests.cli.shell import Ended
from tests.cli.stage import GROUPS, LEAVES, PROMPT_ID, TEMPLATE, Stage

WORKING = {
    "run": "workflow.json",
    "rerun": "picture.png",
    "queue": "",
    "watch": "",
    "history": "",
    "cancel": PROMPT_ID,
    "interrupt": PROMPT_ID,
    "free": "",
    "fleet": "--once",
    "drain": "gpu2 --no-wait",
    "warm": "workflow.json --fleet fleet.toml",
    "stats": "",
    "upload": "fox.png",
    "download": "foxes/fox_00001_.png",
    "doctor": "",
    "check": "workflow.json",
    "convert": "workflow.json",
    "params": "workflow.json",
    "nodes": "KSampler",
    "models": "checkpoints",
    "logs": "",
    "templates list": "",
    "templates show": TEMPLATE,
    "templates run": TEMPLATE,
    "profiles list": "",
    "profiles add": "gpu9 http://gpu9:8188",
    "profiles remove": "gpu1 --yes",
    "profiles default": "gpu1",
    "simulate": "--port 0",
    "demo": "--workflow workflow.json",
    "completion": "bash",
}
"""How each is called when all is well."""

HELD = {"cancel", "interrupt", "queue"}  # need a job that runs
SILENT = {"check"}  # where it finds nothing; test_workflow_commands reads its lines
LASTING = {"watch", "simulate"}  # until Ctrl-C

NO_JSON = {
    "drain": "its answer is its exit code",
    "convert": "its output is JSON, or Python",
    "profiles add": "its answer is its exit code; `profiles --json` has what there is",
    "profiles remove": "as for add",
    "profiles default": "as for add",
    "completion": "its output is a script",
}
"""Those that have no --json, and why."""

ASKING = {name for name, command in LEAVES.items() if any("--server" in one.opts for one in command.params)}
"""Those that speak to a server."""

BAD = {
    "run": ("nothing.json", 2, "nothing.json: no such file"),
    "rerun": ("fox.png", 2, "fox.png"),
    "queue": ("--server ftp://fox", 2, "address"),
    "watch": ("--preview ascii", 2, "'ascii'"),
    "history": ("no-such-id", 1, "no-such-id"),
    "cancel": ("", 2, "PROMPT_ID"),
    "interrupt": ("", 2, "--anybody"),
    "free": ("--fleet nothing.toml", 2, "nothing.toml"),
    "fleet": ("nothing.toml --once", 2, "nothing.toml"),
    "drain": ("gpu9", 2, "'gpu9'"),
    "warm": ("nothing.json --fleet fleet.toml", 2, "nothing.json"),
    "stats": ("--header secret", 2, "Name: value"),
    "upload": ("nothing.png", 2, "nothing.png"),
    "download": ("no/such.png", 1, "such.png"),
    "doctor": ("walrus", 2, "walrus"),
    "check": ("nothing.json", 2, "nothing.json"),
    "convert": ("key.txt", 2, "key.txt"),
    "params": ("workflow.json --rules nothing.toml", 2, "nothing.toml"),
    "nodes": ("walrus", 2, "'walrus'"),
    "models": ("walruses", 1, "'walruses'"),
    "logs": ("walrus", 2, "walrus"),
    "templates list": ("walrus", 2, "'walrus'"),
    "templates show": ("walrus", 1, "walrus"),
    "templates run": ("walrus", 1, "walrus"),
    "profiles list": ("walrus", 2, "walrus"),
    "profiles add": ("gpu1:8188 http://gpu1:8188", 2, "could be an address"),
    "profiles remove": ("gpu7 --yes", 2, "'gpu7'"),
    "profiles default": ("gpu7", 2, "'gpu7'"),
    "simulate": ("--profile 0.1", 2, "0.1"),
    "demo": ("--output key.txt", 2, "key.txt"),
    "completion": ("csh", 2, "'csh'"),
}
"""A mistake for each, its exit code, and what the error names."""


@pytest.fixture
def stage(
    comfy_server_factory: Callable[..., SimulatedServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Stage:
    monkeypatch.chdir(tmp_path)
    made = Stage(tmp_path, comfy_server_factory(), comfy_server_factory())
    made.set()
    made.name_a_server()
    return made


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def ready(stage: Stage, name: str) -> None:
    if name in HELD:
        stage.hold_a_job()
    else:
        stage.finish_a_job()


def assert_one_error(ended: Ended, code: int, *words: str) -> None:
    """One line with the reason, at most two with what to do, no traceback, nothing on stdout."""
    assert ended.code == code, ended.err
    assert ended.out == ""
    assert ended.err.startswith("error: ")
    assert ended.err.count("error:") == 1
    assert len(ended.err.splitlines()) <= 3
    assert "Traceback" not in ended.err
    for word in words:
        assert word in ended.err


def test_the_tables_name_every_command() -> None:
    """A new command belongs into each of them."""
    assert set(WORKING) == set(BAD) == set(LEAVES)


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_one_line(name: str, stage: Stage) -> None:
    """What was wrong, what to do, and the exit code."""
    words, code, said = BAD[name]
    assert_one_error(stage.type(f"async-comfy {name} {words}"), code, said)


@pytest.mark.parametrize("name", [*LEAVES, *GROUPS])
def test_an_unknown_option_is_one_line(name: str, stage: Stage) -> None:
    """Exit code 2, and where the options are listed."""
    ended = stage.type(f"async-comfy {name} {WORKING.get(name, '')} --walrus")
    assert_one_error(ended, 2, "--walrus", f"`async-comfy {name}", "--help`")


@pytest.mark.parametrize("name", sorted(ASKING - {"doctor"}))
def test_a_server_that_is_away_is_one_line(name: str, stage: Stage, nobody: str) -> None:
    """Exit code 3, and what to look at."""
    stage.finish_a_job()
    ended = stage.type(f"async-comfy {name} {WORKING[name]} --server {nobody}")
    if name == "params":  # which does without, and says so
        assert (ended.code, nobody in ended.err) == (0, True)
    elif name == "convert":  # API format needs none
        assert ended.code == 0
    else:
        assert_one_error(ended, 3, nobody)


@pytest.mark.parametrize("name", sorted(LEAVES.keys() - NO_JSON.keys()))
def test_json_is_json(name: str, stage: Stage) -> None:
    """With --json stdout is objects, one a line, or one document; stderr has no word of trouble."""
    ready(stage, name)
    line = f"async-comfy {name} {WORKING[name]} --json"
    if name in LASTING:
        said = first_line(stage, line, ask=name == "watch")
    else:
        ended = stage.type(line)
        assert (ended.code, "error" in ended.err) == (0, False), ended.err
        said = ended.out
    try:
        found = [json.loads(said)]
    except json.JSONDecodeError:
        found = [json.loads(one) for one in said.splitlines()]
    assert found or name in SILENT
    assert all(isinstance(one, dict) for one in found)


def first_line(stage: Stage, line: str, *, ask: bool) -> str:
    """What a command says first that goes on until Ctrl-C."""
    with stage.play(line) as process:
        assert process.stdout is not None
        try:
            if ask:
                stage.server.wait(lambda: stage.server.requests.count("GET", "/queue") > 0)
                stage.hold_a_job()
            return process.stdout.readline()
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.communicate()


def test_who_has_no_json_has_a_reason() -> None:
    """And nobody else lacks it."""
    options = {name: [o for one in command.params for o in one.opts] for name, command in LEAVES.items()}
    assert {name for name, opts in options.items() if "--json" not in opts} == set(NO_JSON)


@pytest.mark.parametrize("name", sorted(LEAVES.keys() - LASTING))
def test_no_colours_where_nobody_sees_them(name: str, stage: Stage) -> None:
    """Nothing that steers a terminal goes to a file or a pipe."""
    ready(stage, name)
    ended = stage.type(f"async-comfy {name} {WORKING[name]}")
    assert ended.code == 0, ended.err
    assert "\x1b" not in ended.out + ended.err


COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;\d+)*m")


@pytest.mark.parametrize("line", ["run workflow.json", "fleet fleet.toml", "watch", "run --help"])
def test_no_color_is_heard_in_a_terminal(line: str, stage: Stage) -> None:
    """Bars and tables are drawn without colours, and no pictures."""
    env = screen.environment(stage.env, NO_COLOR="1", TERM="xterm-kitty")
    stops = [] if line.startswith("run") else [(b"\x1b[?25l", b"\x03")]
    code, said = screen.typed(screen.python(*line.split()), env, *stops)

    assert code in {0, 130}, said
    assert said
    assert not COLOUR.search(said)
    assert "\x1b_G" not in said


@pytest.mark.parametrize(
    ("key", "code", "stopped"), [(b"n\n", 1, False), (b"\n", 1, False), (b"y\n", 0, True)]
)
def test_interrupting_anybody_asks_first(key: bytes, code: int, stopped: bool, stage: Stage) -> None:
    """In a terminal; Enter is no."""
    stage.hold_a_job()
    env = screen.environment(stage.env)
    ended, said = screen.typed(screen.python("interrupt", "--anybody"), env, (b"[y/N]: ", key))

    assert ended == code
    assert PROMPT_ID in said
    assert (stage.server.requests.count("POST", "/interrupt") == 1) == stopped


def test_nobody_is_asked_where_nobody_is(stage: Stage) -> None:
    """Exit code 2, and the option that does it unasked."""
    stage.hold_a_job()
    assert_one_error(stage.type("async-comfy interrupt --anybody"), 2, "--yes")
    assert_one_error(stage.type("async-comfy profiles remove gpu1"), 2, "--yes")
