"""`check`, `convert` and `params`: about a workflow, with a server's list of nodes or a file of it."""

import asyncio
import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from async_comfy import Session, Workflow
from async_comfy.testing import SimulatedServer
from tests.cli.shell import Shell
from tests.cli.test_run import EDITOR
from tests.live.pictures import diffusion

WriteFile = Callable[[Workflow], str]
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def object_info(comfy_server: SimulatedServer, tmp_path: Path) -> str:
    """The server's /object_info, saved to a file."""
    file = tmp_path / "object_info.json"
    file.write_bytes(asyncio.run(_every_class(comfy_server.url)))
    return file.name


async def _every_class(url: str) -> bytes:
    async with Session(url) as session:
        return (await session.nodes.all()).raw


@pytest.fixture
def editor_file(tmp_path: Path) -> str:
    """A workflow as the editor saves it."""
    (tmp_path / "editor.json").write_text(json.dumps(EDITOR))
    return "editor.json"


def test_convert_with_a_server_and_with_a_file_gives_the_same(
    shell: Shell, editor_file: str, object_info: str
) -> None:
    """API format on stdout; with a file no server is asked."""
    online = shell.type("convert", editor_file)
    offline = shell.type("convert", editor_file, "--object-info", object_info, "--server", NOWHERE)

    assert online.code == offline.code == 0
    assert online.out == offline.out
    converted = json.loads(online.out)
    assert converted["2"]["class_type"] == "SaveImage"
    assert converted["2"]["inputs"] == {"filename_prefix": "x", "images": ["1", 0]}


def test_what_was_converted_to_a_file_runs(shell: Shell, editor_file: str) -> None:
    """`-o` writes it, and stdout says where."""
    assert shell.type("convert", editor_file, "-o", "api.json").out == "api.json\n"
    assert shell.type("run", "api.json").code == 0


def test_a_disk_that_takes_no_files_is_named(
    shell: Shell, editor_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read-only one takes none away, either; the file is named that was asked for."""

    def read_only(self: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    shell.type("convert", editor_file, "-o", "api.json")
    monkeypatch.setattr(Path, "unlink", read_only)
    ended = shell.type("convert", "api.json", "-o", "nowhere/api.json")
    assert (ended.code, ended.out) == (2, "")
    assert "nowhere/api.json: cannot be written: No such file or directory." in ended.err
    assert ".part" not in ended.err


def test_an_unknown_class_is_refused_unless_guessing(shell: Shell, object_info: str) -> None:
    """What cannot be converted with certainty is named; --guess goes on."""
    odd = {**EDITOR, "nodes": [*EDITOR["nodes"], {"id": 3, "type": "Odd"}]}  # type: ignore[misc]  # a list
    (shell.folder / "odd.json").write_text(json.dumps(odd))

    refused = shell.type("convert", "odd.json", "--object-info", object_info)
    assert (refused.code, refused.out) == (2, "")
    assert "Odd" in refused.err
    assert shell.type("convert", "odd.json", "--object-info", object_info, "--guess").code == 0


def test_check_finds_what_the_server_would_refuse(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """Exit code 4 with the node and the input, for people and for programs; nothing is submitted."""
    workflow = diffusion()
    workflow.set("KSampler.steps", 0)
    file = workflow_file(workflow)
    ended = shell.type("check", file)

    assert ended.code == 4
    assert "error: node 5 (KSampler), input 'steps'" in ended.out
    found = shell.type("check", file, "--json").json
    assert [(one["node"], one["input"]) for one in found if one["severity"] == "error"] == [("5", "steps")]
    assert comfy_server.requests.count("POST") == 0


def test_check_of_a_sound_workflow(shell: Shell, workflow_file: WriteFile, object_info: str) -> None:
    """Exit code 0, also without a server."""
    ended = shell.type("check", workflow_file(diffusion()), "--object-info", object_info, "--server", NOWHERE)

    assert ended.code == 0
    assert "error" not in ended.out


def test_params_names_what_run_can_set(shell: Shell, workflow_file: WriteFile) -> None:
    """Each line has the path that --set takes, the value, and what it may be."""
    file = workflow_file(diffusion(seed=7))
    rows = {line.split()[0]: line.split() for line in shell.type("params", file).out.splitlines()}

    assert rows["seed"][1:3] == ["5.seed", "7"]
    assert rows["steps"][-3:] == ["1", "to", "10000"]
    assert shell.type("run", file, "--set", f"{rows['steps'][1]}=2").code == 0


def test_params_as_json_schema(shell: Shell, workflow_file: WriteFile, object_info: str) -> None:
    """With the bounds of the node list."""
    words = [
        "params",
        workflow_file(diffusion()),
        "--object-info",
        object_info,
        "--json",
        "--server",
        NOWHERE,
    ]
    schema = json.loads(shell.type(*words).out)

    assert schema["properties"]["steps"]["maximum"] == 10000


def test_params_without_a_server_has_no_bounds_and_says_so(shell: Shell, workflow_file: WriteFile) -> None:
    """The names and values are in the file."""
    ended = shell.type("params", workflow_file(diffusion()), "--server", NOWHERE)

    assert ended.code == 0
    assert "5.steps" in ended.out
    assert "no ranges" in ended.err


@pytest.mark.parametrize("command", ["check", "convert", "params"])
def test_a_file_that_is_no_object_info(command: str, shell: Shell, editor_file: str) -> None:
    """One line, and how to get one."""
    (shell.folder / "text.json").write_text("hello")
    for file in ("text.json", "nothing.json"):
        ended = shell.type(command, editor_file, "--object-info", file)

        assert (ended.code, ended.out) == (2, "")
        assert file in ended.err
        assert "/object_info" in ended.err


@pytest.mark.parametrize("command", ["check", "convert", "params"])
def test_the_editors_format_needs_a_node_list(command: str, shell: Shell, editor_file: str) -> None:
    """Without a server and without a file: exit code 3."""
    ended = shell.type(command, editor_file, "--server", NOWHERE)

    assert (ended.code, ended.out) == (3, "")
    assert "Cannot reach" in ended.err
