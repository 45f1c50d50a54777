"""A picture in a terminal: two pixels in each character, the upper its colour, the lower its ground."""

import io
from importlib.util import find_spec
from typing import TYPE_CHECKING

from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

if TYPE_CHECKING:
    from PIL import Image

ROWS = 12  # of the terminal, two pixels each: enough to see what becomes of a picture
LEAST_HEIGHT = 24  # a lower terminal is left to the bars
MOST_BYTES = 8 << 20  # a preview has some kilobytes

_HALF = "\N{UPPER HALF BLOCK}"


def can_read() -> bool:
    """Whether Pillow is there to read pictures."""
    return find_spec("PIL") is not None


def showable(console: Console) -> bool:
    """Whether this terminal has the colours and the room, and pictures can be read."""
    colours = console.color_system in {"truecolor", "256"} and not console.no_color
    return colours and console.height >= LEAST_HEIGHT and can_read()


def reading(data: bytes, box: tuple[int, int], *, grow: bool = False) -> "Image.Image | None":
    """The picture as RGB, its sides in proportion, in at most that many pixels; None where it is none.

    `grow`: a smaller one is made as large as there is room.
    """
    from PIL import Image, ImageOps

    if len(data) > MOST_BYTES:
        return None
    try:
        with Image.open(io.BytesIO(data)) as picture:
            picture.draft("RGB", box)  # a JPEG is then read small: a tenth of the time
            small = picture.convert("RGB")
            if grow:
                return ImageOps.contain(small, box)
            small.thumbnail(box)
            return small
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # as Pillow says: it is broken
        return None


def thumbnail(data: bytes, columns: int, rows: int = ROWS) -> Text | None:
    """The picture as half blocks, in at most that room; None where it is none that Pillow reads."""
    small = reading(data, (columns, rows * 2))
    if small is None:
        return None
    return Text("\n").join([_row(small.tobytes(), small.width, y) for y in range(0, small.height - 1, 2)])


def _row(pixels: bytes, width: int, y: int) -> Text:
    text = Text()
    for x in range(width):
        upper, lower = ((line * width + x) * 3 for line in (y, y + 1))
        text.append(_HALF, Style(color=_color(pixels, upper), bgcolor=_color(pixels, lower)))
    return text


def _color(pixels: bytes, at: int) -> Color:
    return Color.from_rgb(*pixels[at : at + 3])
