"""`templates`: the example workflows that a server's custom nodes bring."""

import json

import pytest

from async_comfy.testing import SimulatedServer
from tests.cli.shell import Shell
from tests.live.pictures import picture

NAME = "my_nodes/paper"


@pytest.fixture(autouse=True)
def package(comfy_server: SimulatedServer) -> None:
    """A package of custom nodes with one example."""
    folder = comfy_server.folders.root / "custom_nodes/my_nodes/example_workflows"
    folder.mkdir(parents=True)
    (folder / "paper.json").write_text(json.dumps(picture().to_api()))


def test_they_are_listed_by_package(shell: Shell) -> None:
    """As the command takes them."""
    assert shell.type("templates").out == f"{NAME}\n"
    assert shell.type("templates", "--json").json == [{"package": "my_nodes", "name": "paper"}]


def test_one_is_shown_as_it_is(shell: Shell) -> None:
    """JSON either way, in one line for programs."""
    assert json.loads(shell.type("templates", NAME).out) == picture().to_api()
    assert shell.type("templates", NAME, "--json").json == [picture().to_api()]


def test_one_that_is_saved_runs(shell: Shell) -> None:
    """The path is on stdout; `run` takes it."""
    saved = shell.type("templates", NAME, "--save", "paper.json")

    assert (saved.code, saved.out) == (0, "paper.json\n")
    assert shell.type("run", "paper.json").code == 0


def test_a_file_that_is_there_is_kept(shell: Shell) -> None:
    """Exit code 2."""
    (shell.folder / "paper.json").write_text("mine")

    ended = shell.type("templates", NAME, "--save", "paper.json")
    assert ended.code == 2
    assert "paper.json exists" in ended.err
    assert (shell.folder / "paper.json").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["paper"], 2, "not PACKAGE/NAME"),
        (["my_nodes/pen"], 1, "no template my_nodes/pen"),
        (["../secrets"], 2, ""),
        (["--save", "a.json"], 2, "PACKAGE/NAME"),
    ],
)
def test_what_is_no_template(words: list[str], code: int, said: str, shell: Shell) -> None:
    """One line; nothing is written."""
    ended = shell.type("templates", *words)
    assert (ended.code, ended.out) == (code, "")
    assert said in ended.err
    assert list(shell.folder.glob("*.json")) == []
