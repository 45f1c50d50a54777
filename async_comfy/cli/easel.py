"""Where pictures in the making are shown: of the kind that this terminal can, redrawn in place."""

import base64
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from math import ceil
from random import SystemRandom
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import ControlType, Segment

from async_comfy import CallerError
from async_comfy.cli.capability import Capability, Kind, ask_terminal, capability, cell_size
from async_comfy.cli.thumbnail import LEAST_HEIGHT, ROWS, can_read, reading, showable, thumbnail

if TYPE_CHECKING:
    from PIL import Image

USUAL_CELL = (10, 20)  # pixels; where the terminal itself fits the picture into its cells
SMALL_CELL = (7, 14)  # where nobody says and it does not: rather a small picture than one that runs over
MOST_PIXELS = 320  # of a side; beyond, a preview takes long to send and looks no better
CHUNK = 4096  # characters of one kitty message (the protocol's limit)
PLACEHOLDER = "\U0010eeee"
LINES = "\u0305\u030d\u030e\u0310\u0312\u033d\u033e\u033f\u0346\u034a\u034b\u034c"
"""The marks that number the lines of placeholders: the first of kitty's rowcolumn-diacritics.txt."""
_NO_CONTROL = [(ControlType.CURSOR_FORWARD, 0)]  # tells rich that a segment takes no room
_SAVE, _RESTORE = "\x1b7", "\x1b8"  # the cursor, DECSC and DECRC


@dataclass(slots=True)
class Painting:
    """A picture over `height` empty lines. `each` draws it from their top left, `once` goes before once."""

    height: int
    each: str
    once: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Empty lines, and on the last one what draws over them."""
        once, self.once = self.once, ""
        up = f"\x1b[{self.height - 1}A" if self.height > 1 else ""
        for line in range(self.height):
            yield Segment(" ")
            if line == self.height - 1:
                yield Segment(f"{once}{_SAVE}\r{up}{self.each}{_RESTORE}", control=_NO_CONTROL)
            yield Segment.line()


class Easel:
    """Draws pictures in one terminal."""

    rows = ROWS

    def __init__(self, found: Capability) -> None:
        self.kind = found.kind
        self.through = found.through
        self.cell = found.cell or (SMALL_CELL if found.kind == "sixel" else USUAL_CELL)
        self.number = SystemRandom().randint(16, 255)  # of a kitty image, told as a colour of the palette
        self._shown: tuple[bytes, int, RenderableType | None] = (b"", 0, None)

    def draw(self, data: bytes, columns: int) -> RenderableType | None:
        """The picture, in at most that room; None where it is none that Pillow reads."""
        if self._shown[0] is not data or self._shown[1] != columns:
            self._shown = (data, columns, self._drawn(data, columns))
        return self._shown[2]

    def wiped(self) -> str:
        """What is to be written once no picture is shown any more."""
        return self._handed(f"\x1b_Ga=d,d=I,i={self.number},q=2\x1b\\") if self.kind == "kitty" else ""

    def _drawn(self, data: bytes, columns: int) -> RenderableType | None:
        if self.kind == "blocks":
            return thumbnail(data, columns, self.rows)
        wide, high = (side * cells for side, cells in zip(self.cell, (columns, self.rows), strict=True))
        picture = reading(data, (min(wide, MOST_PIXELS), min(high, MOST_PIXELS)), grow=True)
        if picture is None:
            return None
        width, height = (ceil(side / cell) for side, cell in zip(picture.size, self.cell, strict=True))
        if self.kind == "kitty":
            return Painting(height, self._placed(width, height), "".join(self._sent(picture, width, height)))
        if self.kind == "iterm2":
            return Painting(height, self._handed(_inline(picture, width, height)))
        from async_comfy.cli.sixel import encoded

        return Painting(height, encoded(picture))

    def _sent(self, picture: "Image.Image", width: int, height: int) -> Iterator[str]:
        """The picture as PNG to kitty, to be shown where placeholders are."""
        from async_comfy.cli.sixel import reduced

        text = base64.b64encode(_file(reduced(picture, 256), "PNG")).decode()  # a third of the bytes
        head = f"a=T,U=1,i={self.number},f=100,c={width},r={height},q=2,"
        for at in range(0, len(text), CHUNK):
            more = int(at + CHUNK < len(text))
            yield self._handed(f"\x1b_G{head}m={more};{text[at : at + CHUNK]}\x1b\\")
            head = ""

    def _placed(self, width: int, height: int) -> str:
        """Placeholders: their colour is the image's number, the mark of a line's first its line."""
        lines = (f"{PLACEHOLDER}{mark}{PLACEHOLDER * (width - 1)}" for mark in LINES[:height])
        down = f"\x1b[1B\x1b[{width}D"
        return f"\x1b[38;5;{self.number}m{down.join(lines)}\x1b[39m"

    def _handed(self, sequence: str) -> str:
        """Through tmux, where that is in between."""
        escaped = sequence.replace("\x1b", "\x1b\x1b")
        return f"\x1bPtmux;{escaped}\x1b\\" if self.through else sequence


def _inline(picture: "Image.Image", width: int, height: int) -> str:
    data = _file(picture, "JPEG")
    size = f"size={len(data)};width={width};height={height};preserveAspectRatio=1"
    text = base64.b64encode(data).decode()
    return f"\x1b]1337;File=inline=1;{size};doNotMoveCursor=1:{text}\x07"


def _file(picture: "Image.Image", kind: str) -> bytes:
    data = io.BytesIO()
    picture.save(data, kind)
    return data.getvalue()


def easel(console: Console, wish: Kind | None = None) -> Easel | None:
    """The one for the terminal of a console; None where it shows no pictures, or they have no room.

    Raises: CallerError where one is wished for and Pillow is missing
    """
    if wish is not None and not can_read():
        raise CallerError("Previews need Pillow.", hint="Install it: pip install pillow")
    fit = console.is_terminal and not console.is_dumb_terminal and console.height >= LEAST_HEIGHT
    if not fit or not can_read() or (console.no_color and wish is None):
        return None
    terminal = console.file.fileno()
    found = capability(os.environ, partial(ask_terminal, terminal), wish=wish)
    if found.kind == "blocks" and not showable(console):
        return None
    return Easel(Capability(found.kind, found.through, cell_size(terminal) or found.cell))
