"""Previews while jobs run: a terminal that can show them gets them, and nothing else does."""

import json
import shlex
from collections.abc import Callable

import pytest

from async_comfy import Workflow
from async_comfy.testing import SimulatedServer
from tests.cli import screen
from tests.cli.shell import Shell
from tests.live.pictures import diffusion

WriteFile = Callable[[Workflow], str]
SIXELS = (b"\x1b[c", b"\x1b[6;16;8t\x1b[?62;4;22c")
NO_SIXELS = (b"\x1b[c", b"\x1b[?62;22c")
SIGNS = {"kitty": "\x1b_G", "iterm2": "\x1b]1337;File=", "sixel": "\x1bP0;1q", "blocks": "▀"}


def shown(said: str) -> set[str]:
    """The kinds of pictures in it."""
    return {kind for kind, sign in SIGNS.items() if sign in said}


def run(shell: Shell, file: str, *words: str, reply: tuple[bytes, bytes] | None = None, **env: str) -> str:
    """What `run` writes to a terminal that says `reply` when it is asked."""
    replies = [] if reply is None else [reply]
    code, said = screen.typed(
        screen.python("run", file, *words), screen.environment(shell.own, **env), *replies
    )
    assert code == 0, said
    return said


@pytest.fixture
def comfy_server(comfy_server_factory: Callable[..., SimulatedServer]) -> SimulatedServer:
    """Slow enough for previews to be seen."""
    return comfy_server_factory(step_s=0.1)


@pytest.mark.parametrize(
    ("env", "reply", "kind"),
    [
        ({"TERM": "xterm-kitty"}, None, "kitty"),
        ({"TERM_PROGRAM": "iTerm.app"}, None, "iterm2"),
        ({}, SIXELS, "sixel"),
        ({}, NO_SIXELS, "blocks"),
        ({}, None, "blocks"),  # it does not answer
        ({"TERM": "tmux-256color"}, None, "blocks"),
    ],
)
def test_a_terminal_gets_what_it_can_show(
    env: dict[str, str],
    reply: tuple[bytes, bytes] | None,
    kind: str,
    shell: Shell,
    workflow_file: WriteFile,
) -> None:
    """One kind, chosen without being told; the bars are drawn as ever, the path is the last word."""
    said = run(shell, workflow_file(diffusion(steps=8)), reply=reply, **env)

    assert shown(said) == {kind}
    assert "1 of 1 done" in said
    assert shell.files("output/**/*.png")[0] in said


@pytest.mark.parametrize("kind", SIGNS)
def test_a_wish_is_followed(kind: str, shell: Shell, workflow_file: WriteFile) -> None:
    """--preview counts more than what the terminal seems to be."""
    assert shown(run(shell, workflow_file(diffusion(steps=8)), "--preview", kind)) == {kind}


def test_no_preview_shows_none_and_asks_nobody(shell: Shell, workflow_file: WriteFile) -> None:
    """Neither the server nor the terminal."""
    said = run(shell, workflow_file(diffusion(steps=4)), "--no-preview", TERM="xterm-kitty")
    assert shown(said) == set()
    assert "\x1b[c" not in said


def test_json_is_not_mixed_with_pictures(shell: Shell, workflow_file: WriteFile) -> None:
    """Whatever the terminal can."""
    said = run(shell, workflow_file(diffusion(steps=4)), "--json", TERM="xterm-kitty")
    assert shown(said) == set()
    assert all(json.loads(line) for line in said.splitlines())


def test_rerun_shows_them_too(shell: Shell, workflow_file: WriteFile) -> None:
    """As `run` does."""
    assert shell.type("run", workflow_file(diffusion(steps=8))).code == 0
    words = screen.python("rerun", shell.files("output/**/*.png")[0], "--seed", "random")
    code, said = screen.typed(words, screen.environment(shell.own, TERM="xterm-kitty"))
    assert code == 0
    assert shown(said) == {"kitty"}


def test_both_options_contradict_each_other(shell: Shell, workflow_file: WriteFile) -> None:
    """Exit code 2."""
    ended = shell.type("run", workflow_file(diffusion()), "--no-preview", "--preview", "kitty")
    assert ended.code == 2
    assert "either --preview or --no-preview" in ended.err


def test_an_answer_that_is_late_does_not_look_typed(shell: Shell, workflow_file: WriteFile) -> None:
    """The shell that comes after gets a clean line."""
    command = shlex.join(screen.python("run", workflow_file(diffusion(steps=8))))
    code, said = screen.typed(
        ["bash", "--norc", "--noprofile", "-i"],
        screen.environment(shell.own, PS1="ready> "),
        (b"ready> ", f"{command}\n".encode()),
        (b"0 of 1 done", b"\x1b[?62;4c"),
        (b"ready> ", b"exit\n"),
    )

    assert code == 0
    assert "1 of 1 done" in said
    assert "62;4c" not in said.split("ready> ")[-1]
