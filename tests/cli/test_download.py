"""`download`: what a job made, or a file by its name."""

from collections.abc import Callable
from pathlib import Path

from async_comfy import Workflow
from async_comfy.testing import SimulatedServer
from tests.cli.shell import Shell
from tests.cli.test_history import ran
from tests.live.pictures import diffusion, picture

WriteFile = Callable[[Workflow], str]
PNG = b"\x89PNG"


def test_all_files_of_a_job(shell: Shell, workflow_file: WriteFile) -> None:
    """Under the names that they have there; a path each on stdout."""
    prompt_id = ran(shell, workflow_file(picture(batch=2)))

    ended = shell.type("download", prompt_id, "-o", "got")

    assert (ended.code, ended.out) == (0, "got/picture_00001_.png\ngot/picture_00002_.png\n")
    assert all(Path(line).read_bytes().startswith(PNG) for line in ended.out.splitlines())


def test_a_file_by_its_name(shell: Shell) -> None:
    """Out of the folder that it begins with."""
    (shell.folder / "fox.png").write_bytes(b"red")
    shell.type("upload", "fox.png", "--subfolder", "zoo")

    (told,) = shell.type("download", "input/zoo/fox.png", "-o", "got", "--json").json
    assert told == {
        "path": "got/fox.png",
        "node": "",
        "kind": "",
        "filename": "fox.png",
        "subfolder": "zoo",
        "folder": "input",
    }
    assert (shell.folder / "got/fox.png").read_bytes() == b"red"


def test_what_is_here_is_kept(shell: Shell, workflow_file: WriteFile) -> None:
    """The new file gets a number."""
    ran(shell, workflow_file(picture()))
    (shell.folder / "picture_00001_.png").write_bytes(b"mine")

    outs = [shell.type("download", "picture_00001_.png", "-o", ".").out for _ in range(2)]

    assert outs == ["picture_00001_ (1).png\n", "picture_00001_ (2).png\n"]
    assert (shell.folder / "picture_00001_.png").read_bytes() == b"mine"


def test_a_file_that_is_not_there_leaves_nothing(shell: Shell) -> None:
    """Exit code 1."""
    ended = shell.type("download", "fox.png", "-o", "got")

    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("error: The server has no")
    assert not (shell.folder / "got").exists()


def test_a_folder_that_cannot_be_written_is_found_out_first(
    shell: Shell, comfy_server: SimulatedServer
) -> None:
    """Exit code 2, and no request."""
    (shell.folder / "wall").write_text("")

    ended = shell.type("download", "fox.png", "-o", "wall")
    assert ended.code == 2
    assert "wall is a file" in ended.err
    assert len(comfy_server.requests) == 0


def test_a_folder_is_no_file(shell: Shell) -> None:
    """Exit code 2, and where names are listed."""
    ended = shell.type("download", "input/")
    assert ended.code == 2
    assert "history PROMPT_ID" in ended.err


def test_a_job_that_has_not_ended_has_no_files(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """Exit code 1, and where it is."""
    comfy_server.hold("step")
    prompt_id = shell.type("run", workflow_file(diffusion()), "--no-wait").out.strip()

    ended = shell.type("download", prompt_id)
    assert ended.code == 1
    assert "has not ended yet" in ended.err
