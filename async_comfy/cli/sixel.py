"""Pictures as sixels: six rows of pixels to a line of text, one pass for each colour (DEC STD 070).

Written here because Pillow writes none, and what there is of libraries is not kept, or prints to stdout.
"""

import re

from PIL import Image

COLOURS = 64  # terminals promise 256; a preview looks the same with fewer, and is half as long
ROWS = 6  # of pixels in one band

_START = "\x1bP0;1q"  # DCS; 1: pixels that are not drawn keep what is there
_END = "\x1b\\"
_RUN = re.compile(rb"(.)\1{3,}", re.DOTALL)
_MASKS = [
    [bytes(1 << row if index == colour else 0 for index in range(256)) for colour in range(COLOURS)]
    for row in range(ROWS)
]
"""By row and colour: what each pixel adds to its column's character."""


def reduced(picture: Image.Image, colours: int = COLOURS) -> Image.Image:
    """The picture with so many colours at most, in a palette."""
    return picture.quantize(colours, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)


def encoded(picture: Image.Image) -> str:
    """The escape sequence that draws an RGB picture at the cursor, pixel by pixel."""
    drawn = reduced(picture)
    palette = drawn.getpalette() or []
    pixels, width = drawn.tobytes(), drawn.width
    used = sorted(set(pixels))
    colours = "".join(f"#{index};2;{_percents(palette, index)}" for index in used)
    bands = (pixels[at : at + width * ROWS] for at in range(0, len(pixels), width * ROWS))
    lines = "-".join(_band(band, width) for band in bands)
    return f'{_START}"1;1;{drawn.width};{drawn.height}{colours}{lines}{_END}'


def _percents(palette: list[int], index: int) -> str:
    return ";".join(str(round(value * 100 / 255)) for value in palette[index * 3 : index * 3 + 3])


def _band(pixels: bytes, width: int) -> str:
    """One band: for each of its colours where its pixels are; "$" goes back to the left."""
    rows = [pixels[at : at + width] for at in range(0, len(pixels), width)]
    return "$".join(_pass(rows, colour, width) for colour in sorted(set(pixels)))


def _pass(rows: list[bytes], colour: int, width: int) -> str:
    """One colour of a band: a character for each column, its bits are the rows; runs are counted."""
    bits = int.from_bytes(b"?" * width)  # no row set
    for row, pixels in enumerate(rows):
        if colour in pixels:
            bits += int.from_bytes(pixels.translate(_MASKS[row][colour]))  # no carry: 63 + 63 < 256
    line = bits.to_bytes(width).rstrip(b"?")
    return f"#{colour}{_RUN.sub(_counted, line).decode()}"


def _counted(run: re.Match[bytes]) -> bytes:
    return b"!%d%c" % (run.end() - run.start(), run[0][0])
