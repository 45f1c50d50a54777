"""Every bad input: one line with the reason, one with what to do, its exit code, and nothing left behind."""

import json
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from threading import Thread

import pytest

from async_comfy import Workflow
from async_comfy.testing import SimulatedServer
from tests.cli.shell import PATIENCE_S, Ended, Shell, started
from tests.live.pictures import diffusion, picture

WriteFile = Callable[[Workflow], str]


def assert_clear(ended: Ended, code: int, *words: str) -> None:
    """One "error:" line, no traceback, nothing on stdout, the reason and the way out in the text."""
    assert ended.code == code, ended.err
    assert ended.out == ""
    assert ended.err.count("error:") == 1
    assert "Traceback" not in ended.err
    assert len(ended.err.splitlines()) <= 3
    for word in words:
        assert word in ended.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run", "fix.json"], 2, ["fix.json: no such file", "fox.json"]),
        (["run", "."], 2, ["text.json", "not JSON"]),
        (["run", "none"], 2, ["none", "no such file"]),
        (["run", "text.json"], 2, ["not JSON", "line 1"]),
        (["run", "fox.json", "--set", "99.text=a"], 2, ["no node '99'"]),
        (["run", "fox.json", "--set", "2.txt=a"], 2, ["no input 'txt'", "'text'"]),
        (["run", "fox.json", "--set", "text=a"], 2, ["NODE.INPUT=VALUE", "--help"]),
        (["run", "fox.json", "--seed", "often"], 2, ["'often' is no seed", "random"]),
        (["run", "paper.json", "--seed", "random"], 2, ["no seed", "--seed"]),
        (["run", "fox.json", "--name", "{colour}"], 2, ["{colour}", "{workflow}"]),
        (["run", "fox.json", "--name", "{seed"], 2, ["{seed", "{workflow}"]),
        (["run", "fox.json", "--name", "{title.__class__}"], 2, ["{workflow}"]),
        (["run", "fox.json", "--name", ""], 2, ["names no file", "{workflow}"]),
        (["run", "fox.json", "--name", "{date}/"], 2, ["names no file", "{workflow}"]),
        (["run", "fox.json", "--seed", "18446744073709551616"], 2, ["18446744073709551615"]),
        (["run", "fox.json", "--seed", "+" + "9" * 5000], 2, ["18446744073709551615"]),
        (["rerun", "fox.json", "--seed", "9" * 5000], 2, ["18446744073709551615"]),
        (["run", "fox.json", "--timeout", "nan"], 2, ["--timeout", "nan"]),
        (["run", "fox.json", "--priority", "nan"], 2, ["--priority", "nan"]),
        (["run", "fox.json", "--deadline", "inf"], 2, ["--deadline", "inf"]),
        (["rerun", "fox.json", "--timeout", "nan"], 2, ["--timeout", "nan"]),
        (["cancel", "id", "--timeout", "inf"], 2, ["--timeout", "inf"]),
        (["fleet", "--json", "--every", "nan"], 2, ["--every", "nan"]),
        (["simulate", "--step-ms", "nan"], 2, ["--step-ms", "nan"]),
        (["run", "fox.json", "--count", "0"], 2, ["--count"]),
        (["run", "fox.json", "-o", "text.json/out"], 2, ["text.json is a file", "--output"]),
        (["run", "fox.json", "--header", "secret"], 2, ["Name: value"]),
        (["run", "fox.json", "--set", "Fox.ckpt_name=a"], 2, ["no node 'Fox'"]),
        (["run", "fox.json", "--set", "1.ckpt_name=big.ckpt"], 4, ["big.ckpt", "sd_xl_base_1.0.safetensors"]),
        (["run", "unknown.json"], 4, ["KSamplr"]),
        (["rum", "fox.json"], 2, ["rum", "--help"]),
        (["cancel"], 2, ["PROMPT_ID", "--help"]),
        (["simulate", "--profile", "0.1"], 2, ["0.1", "0.33"]),
        (["simulate", "--object-info", "text.json"], 2, ["text.json"]),
        (["simulate", "--object-info", "nothing.json"], 2, ["nothing.json"]),
        (["demo", "--output", "text.json"], 2, ["text.json is a file", "--output"]),
        (["demo", "--workflow", "nothing.json"], 2, ["nothing.json"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_explained(words: list[str], code: int, said: list[str], shell: Shell) -> None:
    """The reason and what to do; no folder is made."""
    write_samples(shell.folder)

    assert_clear(shell.type(*words), code, *said)
    assert shell.files() == []
    assert not (shell.folder / "output").exists()


@pytest.mark.parametrize("option", ["--set", "--seed", "--retry"])
def test_a_long_value_is_not_echoed_whole(option: str, shell: Shell) -> None:
    """Prompts have thousands of letters; their beginning says which one is meant."""
    write_samples(shell.folder)
    ended = shell.type("run", "fox.json", option, f"a red fox {'in snow ' * 500}")

    assert_clear(ended, 2, option, "'a red fox in snow", "…'")
    assert len(ended.err) < 300


def write_samples(folder: Path) -> None:
    (folder / "fox.json").write_text(json.dumps(diffusion().to_api()))
    (folder / "paper.json").write_text(json.dumps(picture().to_api()))
    unknown = diffusion().to_api()
    unknown["5"]["class_type"] = "KSamplr"
    (folder / "unknown.json").write_text(json.dumps(unknown))
    (folder / "text.json").write_text("a red fox in snow")


def test_a_server_that_is_down_is_unreachable(shell: Shell, workflow_file: WriteFile) -> None:
    """Exit code 3, and the usual port is named."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        ended = shell.type("run", workflow_file(picture()), "--server", url)

    assert_clear(ended, 3, url, "8188")
    assert not (shell.folder / "output").exists()


def test_the_editors_format_without_a_server_is_explained(shell: Shell) -> None:
    """Converting needs a server; the way without is named."""
    (shell.folder / "ui.json").write_text('{"version": 0.4, "nodes": [], "links": []}')
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        ended = shell.type("run", "ui.json", "--server", f"127.0.0.1:{nobody.getsockname()[1]}")

    assert_clear(ended, 3, "editor's format", "Export (API)")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        return


@pytest.fixture
def web_server() -> Iterator[str]:
    """An HTTP server that is no ComfyUI."""
    with HTTPServer(("127.0.0.1", 0), _Quiet) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "command",
    [
        ["run", "fox.json"],
        ["queue"],
        ["watch"],
        ["history"],
        ["history", "some-id"],
        ["cancel", "some-id"],
        ["interrupt", "some-id"],
        ["free"],
        ["stats"],
        ["upload", "fox.json"],
        ["download", "fox.png"],
        ["models"],
        ["logs"],
        ["templates"],
    ],
    ids=" ".join,
)
def test_a_wrong_port_is_no_comfyui(
    command: list[str], web_server: str, shell: Shell, workflow_file: WriteFile
) -> None:
    """Another program answers there: exit code 3."""
    workflow_file(picture())

    assert_clear(shell.type(*command, "--server", web_server), 3, "port")
    assert not (shell.folder / "output").exists()


def test_denied_access_names_the_options(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """Exit code 4, in the words of the command line."""
    comfy_server.faults.deny(401)

    assert_clear(shell.type("run", workflow_file(picture())), 4, "401", "--api-key", "ASYNC_COMFY_API_KEY")


def test_a_login_page_is_no_comfyui(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """Exit code 3."""
    comfy_server.faults.demand_login()

    assert_clear(shell.type("run", workflow_file(picture())), 3)


def test_an_unwritable_folder_costs_no_gpu_time(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """It is found out before anything is submitted."""
    (shell.folder / "wall").write_text("")
    ended = shell.type("run", workflow_file(picture()), "--output", "wall")

    assert_clear(ended, 2, "wall is a file", "--output")
    assert len(comfy_server.requests) == 0


def test_what_befalls_all_runs_ends_the_batch(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """Access is denied: one POST, one error."""
    comfy_server.faults.answer(("POST", "/prompt"), 403, "no", times=9)
    ended = shell.type("run", workflow_file(diffusion()), "--count", "9", "--jobs", "1")

    assert_clear(ended, 4, "403")
    assert comfy_server.requests.count("POST", "/prompt") == 1


def test_what_is_in_flight_is_cancelled_when_the_batch_ends(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """The second submission is denied; the first, which waits at the server, does not stay there."""
    comfy_server.hold("prompt")
    comfy_server.faults.answer(
        lambda request: request.path == "/prompt" and comfy_server.requests.count("POST", "/prompt") > 1, 403
    )
    with started(shell, "run", workflow_file(diffusion()), "--count", "2", "--jobs", "2") as process:
        _, err = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 4
    assert "error: The server refused access (403)." in err
    assert comfy_server.queue_remaining == 0


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("async-comfy fleet --json --every 0.1 | head -n 1 >&-; exit ${PIPESTATUS[0]}", 1),
        ("async-comfy stats >/dev/full", 1),
        ("async-comfy run fox.json >/dev/full", 1),
        ("async-comfy run fox.json >&-", 0),
        ("async-comfy profiles add g http://g && async-comfy profiles remove g <&-", 2),
        ("async-comfy queue 2>&-", 0),
        ("PYTHONIOENCODING=ascii async-comfy run fox.json --output Bäume", 0),
    ],
)
def test_who_reads_along_leaves_or_was_never_there(
    line: str, code: int, shell: Shell, comfy_server: SimulatedServer
) -> None:
    """A pipe that breaks, a full disk, a stream that the shell closed: at most one line, no traceback."""
    write_samples(shell.folder)
    (shell.folder / "fleet.toml").write_text(f'[[server]]\nurl = "{comfy_server.url}"\n')
    command = line.replace("async-comfy", f"{shlex.quote(sys.executable)} -m async_comfy")
    ended = subprocess.run(
        ["bash", "-c", command],
        check=False,
        cwd=shell.folder,
        env={**os.environ, **shell.own},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )

    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stderr.count("error:") <= 1
    assert "No space left" in ended.stderr or "/dev/full" not in line
