"""What kind of picture a terminal can show. Where only the terminal itself knows, it is asked, shortly.

Sources: the kitty graphics protocol (Unicode placeholders, which kitty and Ghostty know), iTerm2's inline
images, and the attribute 4 in the primary device attributes that a terminal with sixels reports (xterm's
control sequences, DA1).
"""

import atexit
import os
import re
import select
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["kitty", "iterm2", "sixel", "blocks"]
KINDS: tuple[Kind, ...] = get_args(Kind)

PATIENCE_S = 0.3  # for an answer; every terminal of use answers DA1 at once, some over a slow line
TMUX_PATIENCE_S = 1.0
KITTY_TERMS = {"xterm-kitty", "xterm-ghostty"}
INLINE_PROGRAMS = {"iTerm.app", "WezTerm", "mintty"}
SILENT_TERMS = {"", "dumb", "linux", "unknown"}  # they may show the question itself

_QUESTION = b"\x1b[16t\x1b[c"  # the size of a cell, then DA1, which is answered last
_ATTRIBUTES = re.compile(rb"\x1b\[\?([\d;]*)c")
_CELL = re.compile(rb"\x1b\[6;(\d{1,4});(\d{1,4})t")
_TMUX_FORMAT = "#{allow-passthrough} #{client_termname} #{client_termfeatures}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the terminal said: its attributes, and the pixels of a cell, width and height."""

    attributes: frozenset[str] = frozenset()
    cell: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Capability:
    """A kind of picture. `through`: it has to be handed through tmux. `cell`: pixels, None where unknown."""

    kind: Kind
    through: bool = False
    cell: tuple[int, int] | None = None


def capability(
    env: Mapping[str, str],
    ask: Callable[[], Answer],
    tmux: Callable[[], str] | None = None,
    wish: Kind | None = None,
) -> Capability:
    """What to show. `ask` questions the terminal, `tmux` gives what tmux says of itself and of its client."""
    inside = "TMUX" in env
    if wish is not None:
        cell = ask().cell if wish == "sixel" else None
        return Capability(wish, inside and wish in {"kitty", "iterm2"}, cell)
    if inside:
        return _in_tmux((tmux or ask_tmux)(), ask)
    term, program = env.get("TERM", ""), env.get("TERM_PROGRAM") or env.get("LC_TERMINAL", "")
    if "STY" in env or term.startswith(("screen", "tmux")):
        return Capability("blocks")  # of screen, and of a tmux far away, nobody knows what is behind
    if "ZELLIJ" not in env:  # which keeps the variables of the terminal around it
        if term in KITTY_TERMS:
            return Capability("kitty")
        if program in INLINE_PROGRAMS or program == "iTerm2":
            return Capability("iterm2")
    if term in SILENT_TERMS:
        return Capability("blocks")
    return _asked(ask())


def _in_tmux(said: str, ask: Callable[[], Answer]) -> Capability:
    passes, _, rest = said.strip().partition(" ")
    term, _, features = rest.partition(" ")
    if term in KITTY_TERMS and passes in {"on", "all"}:
        return Capability("kitty", through=True)
    if "sixel" in features.split(","):  # tmux draws them itself, since 3.4
        return _asked(ask())
    return Capability("blocks")


def _asked(answer: Answer) -> Capability:
    return Capability("sixel", cell=answer.cell) if "4" in answer.attributes else Capability("blocks")


def ask_tmux() -> str:
    """Whether it hands sequences through, and its client's terminal and features; else ""."""
    try:
        asked = ["tmux", "display-message", "-p", _TMUX_FORMAT]
        return subprocess.run(  # noqa: S603 - constant words
            asked, capture_output=True, text=True, timeout=TMUX_PATIENCE_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def ask_terminal(terminal: int, patience_s: float = PATIENCE_S) -> Answer:
    """Asks the terminal behind a descriptor; an empty answer where none comes in time, or one must not ask.

    What is typed meanwhile is lost. An answer that comes too late is thrown away at the end of the process.
    """
    try:
        import termios
        import tty
    except ImportError:  # Windows
        return Answer()
    with suppress(OSError, termios.error):
        if os.tcgetpgrp(terminal) != os.getpgrp():
            return Answer()  # in the background: who reads there is stopped
        fd = os.open(os.ttyname(terminal), os.O_RDWR | os.O_NOCTTY)
        before = termios.tcgetattr(fd)
        try:
            tty.setcbreak(fd, termios.TCSANOW)
            os.write(fd, _QUESTION)
            answer = _heard(fd, time.monotonic() + patience_s)
            if not answer.attributes:
                atexit.register(_forget, terminal)
            return answer
        finally:
            termios.tcsetattr(fd, termios.TCSANOW, before)
            os.close(fd)
    return Answer()


def _heard(fd: int, until: float) -> Answer:
    said = b""
    while (left := until - time.monotonic()) > 0 and select.select([fd], [], [], left)[0]:
        said += os.read(fd, 1024)
        if found := _ATTRIBUTES.search(said):
            size = _CELL.search(said)
            cell = (int(size[2]), int(size[1])) if size else None
            return Answer(frozenset(found[1].decode().split(";")), cell)
    return Answer()


def _forget(terminal: int) -> None:
    """Throws away what nobody read: an answer that was late would look like typed."""
    import termios

    with suppress(OSError, termios.error):
        termios.tcflush(terminal, termios.TCIFLUSH)


def cell_size(terminal: int) -> tuple[int, int] | None:
    """Pixels of a cell, width and height, where the system knows."""
    with suppress(ImportError):
        import fcntl
        import struct
        import termios

        with suppress(OSError):
            raw = fcntl.ioctl(terminal, termios.TIOCGWINSZ, bytes(8))
            rows, columns, width, height = struct.unpack("HHHH", raw)
            if rows and columns and width >= columns and height >= rows:
                return width // columns, height // rows
    return None
