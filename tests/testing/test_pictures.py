"""The pictures are the same for the same words and seed, and of the size that was asked for."""

import pytest
from PIL import Image

from async_comfy.testing.pictures import glimpse, paint


@pytest.mark.parametrize("text", ["", "a red fox in snow", "city at night", "ocean", "desert dunes", "🦊"])
def test_a_picture_depends_on_its_text_and_seed_alone(text: str) -> None:
    one = paint(text, 7, 96, 64)
    assert one.size == (96, 64)
    assert one.mode == "RGB"
    assert one.tobytes() == paint(text, 7, 96, 64).tobytes()
    assert one.tobytes() != paint(text, 8, 96, 64).tobytes()


@pytest.mark.parametrize("size", [(1, 1), (16, 400), (400, 16), (8, 8)])
def test_any_size_will_do(size: tuple[int, int]) -> None:
    assert paint("a forest", 1, *size).size == size


def test_a_picture_has_many_colours() -> None:
    colours = paint("sunset over the sea", 1, 128, 128).getcolors(1 << 20)
    assert colours is not None
    assert len(colours) > 1000


def test_a_glimpse_of_full_clarity_is_the_picture() -> None:
    picture = Image.new("RGB", (64, 64), "teal")
    assert glimpse(picture, 1.0, 1) is picture
    assert glimpse(picture, 0.0, 1).tobytes() != picture.tobytes()
