"""`upload`: files into the server's input folder."""

from async_comfy.testing import SimulatedServer
from tests.cli.shell import Shell


def test_each_file_has_a_line_with_its_name_there(shell: Shell) -> None:
    """Under its own name; other bytes of the same name get another."""
    (shell.folder / "fox.png").write_bytes(b"red")
    (shell.folder / "hen.png").write_bytes(b"white")

    assert shell.type("upload", "fox.png", "hen.png").out == "fox.png\nhen.png\n"
    (shell.folder / "fox.png").write_bytes(b"grey")
    assert shell.type("upload", "fox.png").out == "fox (1).png\n"


def test_programs_get_the_parts_of_the_name(shell: Shell) -> None:
    """And the path that LoadImage takes."""
    (shell.folder / "fox.png").write_bytes(b"red")

    assert shell.type("upload", "fox.png", "--subfolder", "zoo", "--json").json == [
        {"file": "fox.png", "path": "zoo/fox.png", "name": "fox.png", "subfolder": "zoo", "folder": "input"}
    ]


def test_nothing_is_sent_where_a_file_is_missing(shell: Shell, comfy_server: SimulatedServer) -> None:
    """Exit code 2, one line."""
    (shell.folder / "fox.png").write_bytes(b"red")

    ended = shell.type("upload", "fox.png", "hen.png")

    assert (ended.code, ended.out) == (2, "")
    assert "Cannot read hen.png: No such file" in ended.err
    assert len(comfy_server.requests) == 0
