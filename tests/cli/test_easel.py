"""Pictures in terminals: what is written is decoded again, as the terminal would."""

import io
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageChops
from rich.console import Console
from rich.live import Live

from async_comfy.cli.capability import Capability, Kind
from async_comfy.cli.easel import LINES, MOST_PIXELS, PLACEHOLDER, SMALL_CELL, Easel
from async_comfy.cli.sixel import encoded, reduced
from async_comfy.cli.thumbnail import ROWS
from tests.cli import screen

CELL = (8, 16)


def picture(size: tuple[int, int] = (64, 64), kind: str = "PNG") -> bytes:
    """Red, and blue below."""
    made = Image.new("RGB", size, "#ff0000")
    made.paste("#0000ff", (0, size[1] // 2, *size))
    data = io.BytesIO()
    made.save(data, kind)
    return data.getvalue()


def shown(easel: Easel, data: bytes, columns: int = 80) -> str:
    """What is written to the terminal for a picture."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=columns, height=40)
    drawn = easel.draw(data, columns)
    assert drawn is not None
    console.print(drawn)
    return file.getvalue()


def assert_red_over_blue(found: Image.Image) -> None:
    found = found.convert("RGB")
    for y, colour in ((0.2, (255, 0, 0)), (0.8, (0, 0, 255))):
        seen = found.getpixel((found.width // 2, int(found.height * y)))
        assert isinstance(seen, tuple)
        assert all(abs(one - other) < 8 for one, other in zip(seen, colour, strict=True))


@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    colours=st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=8),
    chance=st.randoms(use_true_random=False),
)
def test_sixels_draw_every_pixel_in_its_colour(
    size: tuple[int, int], colours: list[tuple[int, int, int]], chance: Random
) -> None:
    """To the percent in which sixels tell colours, and to the few that a picture is reduced to."""
    made = Image.new("RGB", size)
    made.putdata([chance.choice(colours) for _ in range(size[0] * size[1])])
    found = screen.sixel(encoded(made))
    assert found.size == size
    off = ImageChops.difference(found, reduced(made).convert("RGB"))
    assert max(off.tobytes()) <= 2


def test_sixels_count_runs() -> None:
    """A picture of one colour is short."""
    assert len(encoded(Image.new("RGB", (300, 240), "#336699"))) < 600


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_kitty_gets_the_picture_once_and_placeholders_each_time(kind: str) -> None:
    """The number of the image is the colour of the placeholders; each line says which one it is."""
    easel = Easel(Capability("kitty", cell=CELL))
    data = picture((100, 100), kind)
    first, second = shown(easel, data), shown(easel, data)

    head, found = screen.kitty(first)
    assert {name: head[name] for name in "aUfq"} == {"a": "T", "U": "1", "f": "100", "q": "2"}
    assert_red_over_blue(found)
    assert "\x1b_G" not in second
    for text in (first, second):
        lines = [line for line in text.split("\x1b[1B") if PLACEHOLDER in line]
        assert [line.count(PLACEHOLDER) for line in lines] == [int(head["c"])] * int(head["r"])
        assert all(PLACEHOLDER + mark in line for line, mark in zip(lines, LINES, strict=False))
        assert f"\x1b[38;5;{head['i']}m" in text
    assert screen.keys(screen.KITTY.findall(easel.wiped())[0][0]) == {
        "a": "d", "d": "I", "i": head["i"], "q": "2",
    }  # fmt: skip


def test_kitty_takes_a_large_picture_in_pieces() -> None:
    """No message is longer than the protocol allows; the last one says that it is."""
    noise = Image.merge("RGB", [Image.effect_noise((300, 300), 90)] * 3)
    data = io.BytesIO()
    noise.save(data, "PNG")
    text = shown(Easel(Capability("kitty", cell=(20, 40))), data.getvalue())

    assert len(screen.KITTY.findall(text)) > 2
    assert screen.kitty(text)[1].size == (MOST_PIXELS, MOST_PIXELS)


def test_iterm2_gets_it_inline() -> None:
    """With its size in cells, and the cursor stays."""
    said, found = screen.inline(shown(Easel(Capability("iterm2", cell=CELL)), picture()))

    assert (said["inline"], said["height"], said["width"]) == ("1", str(ROWS), str(ROWS * 2))
    assert said["doNotMoveCursor"] == "1"
    assert_red_over_blue(found)


def test_sixels_fill_the_cells_that_are_kept_for_them() -> None:
    """And not a pixel more, or the terminal would scroll."""
    found = screen.sixel(shown(Easel(Capability("sixel", cell=CELL)), picture()))

    assert found.size == (CELL[1] * ROWS, CELL[1] * ROWS)
    assert_red_over_blue(found)


def test_sixels_are_small_where_nobody_knows_the_cells() -> None:
    """Rather small than over the edge."""
    found = screen.sixel(shown(Easel(Capability("sixel")), picture()))
    assert found.height == SMALL_CELL[1] * ROWS


@pytest.mark.parametrize("kind", ["kitty", "iterm2"])
def test_tmux_hands_it_through(kind: Kind) -> None:
    """Each sequence in an envelope, its escapes doubled; the placeholders stay text."""
    text = shown(Easel(Capability(kind, through=True, cell=CELL)), picture())
    envelopes = screen.THROUGH_TMUX.findall(text)
    inner = "".join(envelope.replace("\x1b\x1b", "\x1b") for envelope in envelopes)

    assert envelopes
    assert_red_over_blue((screen.kitty if kind == "kitty" else screen.inline)(inner)[1])
    assert "\x1b_G" not in screen.THROUGH_TMUX.sub("", text)
    if kind == "kitty":
        assert PLACEHOLDER in screen.THROUGH_TMUX.sub("", text)


@pytest.mark.parametrize("kind", ["kitty", "iterm2", "sixel", "blocks"])
@pytest.mark.parametrize("size", [(512, 512), (2000, 100), (100, 2000), (3, 3)])
def test_it_takes_as_many_lines_as_it_says(kind: Kind, size: tuple[int, int]) -> None:
    """So that what is below and above stays where it is: rich counts them when it draws again."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, color_system="truecolor", width=60, height=40)
    live = Live(console=console, auto_refresh=False, transient=True)
    drawn = Easel(Capability(kind, cell=CELL)).draw(picture(size), 60)
    assert drawn is not None
    lines = console.render_lines(drawn, pad=False)

    assert 1 <= len(lines) <= ROWS
    assert all(sum(segment.cell_length for segment in line) <= 60 for line in lines)
    with live:
        live.update(drawn, refresh=True)
    assert file.getvalue().count("\x1b[1A") >= len(lines)


@pytest.mark.parametrize("kind", ["kitty", "iterm2", "sixel", "blocks"])
@pytest.mark.parametrize("data", [b"", b"a red fox", picture()[:-30], b"\xff\xd8\xff", b"\x1b]0;steered\x07"])
def test_what_is_no_picture_is_not_shown(kind: Kind, data: bytes) -> None:
    """Servers send what they like; nothing of it goes to the terminal as it came."""
    assert Easel(Capability(kind)).draw(data, 80) is None
