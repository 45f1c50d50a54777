"""What a terminal that shows pictures makes of escape sequences: kitty's, iTerm2's and sixels."""

import base64
import io
import os
import pty
import re
import select
import signal
import sys
import termios
import time
from collections.abc import Mapping, Sequence

from PIL import Image

PATIENCE_S = 20.0

KITTY = re.compile(r"\x1b_G([^;\x1b]*);?([^\x1b]*)\x1b\\")
INLINE = re.compile(r"\x1b\]1337;File=([^:]*):([^\x07]*)\x07")
SIXEL = re.compile(r"\x1bP[\d;]*q(.*?)\x1b\\", re.DOTALL)
THROUGH_TMUX = re.compile(r"\x1bPtmux;((?:[^\x1b]|\x1b\x1b)*)\x1b\\")
_WORD = re.compile(r'"[\d;]*|#\d+(?:;\d+){4}|#\d+|![\d]+[?-~]|[?-~]|\$|-')


def keys(head: str, separator: str = ",") -> dict[str, str]:
    """The "key=value" pairs of a head."""
    return dict(pair.split("=", 1) for pair in head.split(separator) if pair)


def kitty(text: str) -> tuple[dict[str, str], Image.Image]:
    """The first message's keys, and the picture that all of them carry, up to the one that is the last."""
    heads, parts = [], []
    for head, part in KITTY.findall(text):
        heads.append(keys(head))
        parts.append(part)
        assert len(part) <= 4096
        if heads[-1].get("m") == "0":
            break
    return heads[0], Image.open(io.BytesIO(base64.b64decode("".join(parts))))


def inline(text: str) -> tuple[dict[str, str], Image.Image]:
    """What iTerm2 is told, and the picture."""
    match = INLINE.search(text)
    assert match is not None
    said, data = keys(match[1], ";"), base64.b64decode(match[2])
    assert int(said["size"]) == len(data)
    return said, Image.open(io.BytesIO(data))


def sixel(text: str) -> Image.Image:
    """The picture, drawn as a VT340 would. Pixels that nobody drew stay magenta."""
    match = SIXEL.search(text)
    assert match is not None
    words = _WORD.findall(match[1])
    assert "".join(words) == match[1]  # nothing that a terminal would not understand
    width, height = (int(number) for number in words[0].split(";")[2:])
    picture = Image.new("RGB", (width, height), "magenta")
    colours: dict[str, tuple[int, ...]] = {}
    pen, x, band = "", 0, 0
    for word in words[1:]:
        if word.startswith("#") and ";" in word:
            number, _, *rgb = word[1:].split(";")
            colours[number] = tuple(round(int(percent) * 255 / 100) for percent in rgb)
        elif word.startswith("#"):
            pen = word[1:]
        elif word == "$":
            x = 0
        elif word == "-":
            x, band = 0, band + 1
        else:
            times, bits = int(word[1:-1] or 1) if word[0] == "!" else 1, ord(word[-1]) - 63
            for column in range(x, x + times):
                for row in range(6):
                    if bits >> row & 1:
                        picture.putpixel((column, band * 6 + row), colours[pen])
            x += times
    return picture


def environment(own: Mapping[str, str], **named: str) -> dict[str, str]:
    """Variables for a command in a terminal: none of the terminal in which the tests run."""
    ours = {"NO_COLOR", "TMUX", "STY", "ZELLIJ", "TERM_PROGRAM", "LC_TERMINAL", "FORCE_COLOR"}
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return {**kept, **own, "TERM": "xterm-256color", "COLORTERM": "truecolor", **named}


def typed(words: Sequence[str], env: Mapping[str, str], *replies: tuple[bytes, bytes]) -> tuple[int, str]:
    """A command in a terminal of its own, 100 by 40: its exit code, and all that it wrote there.

    `replies`: one after the other, what is typed (or what the terminal says) once something was written.
    """
    pid, terminal = pty.fork()
    if pid == 0:
        try:
            os.execvpe(words[0], list(words), env)  # noqa: S606 - no shell is wanted
        finally:
            os._exit(127)
    termios.tcsetwinsize(terminal, (40, 100))
    said, heard, left, until = b"", 0, list(replies), time.monotonic() + PATIENCE_S
    while select.select([terminal], [], [], max(until - time.monotonic(), 0))[0]:
        try:
            more = os.read(terminal, 1 << 16)
        except OSError:  # as Linux says that nobody writes any more
            break
        if not more:
            break
        said += more
        if left and (at := said.find(left[0][0], heard)) >= 0:
            heard = at + len(left[0][0])
            os.write(terminal, left.pop(0)[1])
    else:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), said.decode(errors="replace")


def python(*words: str) -> list[str]:
    """A command of ours."""
    return [sys.executable, "-m", "async_comfy", *words]
