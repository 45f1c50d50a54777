"""Which kind of picture a terminal gets, chosen by itself."""

import os
import pty
import termios
from collections.abc import Iterator
from threading import Thread

import pytest

from async_comfy.cli.capability import Answer, Capability, Kind, ask_terminal, capability, cell_size

SIXELS = Answer(frozenset({"62", "4"}), (8, 16))
NONE = Answer(frozenset({"62", "22"}))


def never() -> Answer:
    raise AssertionError("the terminal must not be asked")


@pytest.mark.parametrize(
    ("env", "kind"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-ghostty", "TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "iterm2"),  # over ssh
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "iterm2"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "mintty"}, "iterm2"),
        ({"TERM": "linux"}, "blocks"),
        ({"TERM": "dumb"}, "blocks"),
        ({}, "blocks"),
        ({"TERM": "screen.xterm-256color", "STY": "1.pts"}, "blocks"),
        ({"TERM": "tmux-256color"}, "blocks"),  # a tmux at the other end of ssh
    ],
)
def test_known_by_its_environment(env: dict[str, str], kind: str) -> None:
    """Then it is not asked."""
    assert capability(env, never).kind == kind


@pytest.mark.parametrize(
    "env",
    [
        {"TERM": "xterm-256color"},
        {"TERM": "foot"},
        {"TERM": "xterm-256color", "TERM_PROGRAM": "vscode", "KITTY_WINDOW_ID": "1", "LC_TERMINAL": "iTerm2"},
        {"TERM": "xterm-kitty", "ZELLIJ": "0"},
    ],
)
def test_where_only_the_terminal_knows_it_is_asked(env: dict[str, str]) -> None:
    """Sixels where it says so, else half blocks; variables of a terminal around it do not count."""
    assert capability(env, lambda: SIXELS) == Capability("sixel", cell=(8, 16))
    assert capability(env, lambda: NONE) == Capability("blocks")
    assert capability(env, Answer) == Capability("blocks")


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("on xterm-kitty 256,RGB", Capability("kitty", through=True)),
        ("all xterm-ghostty RGB", Capability("kitty", through=True)),
        ("off xterm-kitty 256,RGB", Capability("blocks")),
        ("off foot 256,sixel", Capability("sixel", cell=(8, 16))),
        ("on xterm-256color 256", Capability("blocks")),
        ("", Capability("blocks")),
    ],
)
def test_in_tmux_tmux_is_asked(said: str, found: Capability) -> None:
    """What is behind it, whether it hands things through, and whether it draws sixels itself."""
    env = {"TMUX": "/tmp/tmux", "TERM": "tmux-256color", "TERM_PROGRAM": "tmux", "LC_TERMINAL": "iTerm2"}
    assert capability(env, lambda: SIXELS, lambda: said) == found


@pytest.mark.parametrize("kind", ["kitty", "iterm2", "sixel", "blocks"])
def test_a_wish_counts_more(kind: Kind) -> None:
    """In tmux what it does not draw itself is handed through."""
    env = {"TERM": "dumb"}
    assert capability(env, Answer, wish=kind).kind == kind
    through = capability({"TMUX": "x", **env}, Answer, wish=kind).through
    assert through == (kind in {"kitty", "iterm2"})


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """Both ends of a terminal: that of whoever shows it, and ours, as if it were in the foreground."""
    theirs, ours = pty.openpty()
    monkeypatch.setattr(os, "tcgetpgrp", lambda fd: os.getpgrp())
    yield theirs, ours
    os.close(theirs)
    os.close(ours)


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (b"\x1b[6;16;8t\x1b[?62;4;22c", Answer(frozenset({"62", "4", "22"}), (8, 16))),
        (b"\x1b[?1;2c", Answer(frozenset({"1", "2"}))),
        (b"ls\n\x1b[?64;4c", Answer(frozenset({"64", "4"}))),  # somebody typed meanwhile
    ],
)
def test_a_terminal_answers(said: bytes, answer: Answer, terminal: tuple[int, int]) -> None:
    """What it says is read, and its modes are as before."""
    theirs, ours = terminal
    before = termios.tcgetattr(ours)
    thread = Thread(target=lambda: (os.read(theirs, 99), os.write(theirs, said)))
    thread.start()
    assert ask_terminal(ours, patience_s=20.0) == answer
    thread.join()
    assert termios.tcgetattr(ours) == before


def test_a_terminal_that_says_nothing_is_not_waited_for(terminal: tuple[int, int]) -> None:
    """An empty answer."""
    assert ask_terminal(terminal[1], patience_s=0.01) == Answer()


def test_who_is_in_the_background_does_not_ask() -> None:
    """It would be stopped; here: a terminal that is not ours at all."""
    theirs, ours = pty.openpty()
    assert ask_terminal(ours, patience_s=20.0) == Answer()
    os.set_blocking(theirs, False)
    with pytest.raises(BlockingIOError):
        os.read(theirs, 1)
    os.close(theirs)
    os.close(ours)


def test_the_system_may_know_the_size_of_a_cell(terminal: tuple[int, int]) -> None:
    """Pixels, as the window says it has; none where it says none."""
    import fcntl
    import struct

    assert cell_size(terminal[1]) is None
    fcntl.ioctl(terminal[0], termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 900, 720))
    assert cell_size(terminal[1]) == (9, 18)
