"""Pictures from a seed and a text: landscapes in layers of haze, with what the text names in them.

The same seed, text and size give the same bytes, on every machine with the same Pillow.
"""

import hashlib
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageDraw, ImageFilter

Colour = tuple[int, int, int]

FINER = 1.5  # painted larger by this and scaled down: smooth edges
LARGEST = 1400  # pixels of the longest side painted; larger pictures are scaled up, which suits haze
EDGE = 178  # what Pillow's radial gradient has come to in the middle of a side; its corners are at 255
COARSE = 48  # pixels of the noise that a picture emerges from


@dataclass(frozen=True)
class Mood:
    """The colours of a picture: the sky from top to horizon, the light, the nearest land."""

    sky: tuple[Colour, Colour, Colour]
    light: Colour
    land: Colour


MOODS = {
    "dawn": Mood(((66, 86, 140), (214, 140, 148), (255, 214, 170)), (255, 236, 200), (38, 40, 66)),
    "noon": Mood(((58, 124, 190), (140, 192, 224), (232, 240, 232)), (255, 250, 226), (30, 66, 62)),
    "dusk": Mood(((44, 34, 84), (182, 74, 106), (255, 166, 92)), (255, 208, 128), (34, 22, 50)),
    "night": Mood(((8, 12, 34), (22, 38, 82), (72, 98, 148)), (226, 234, 255), (6, 10, 24)),
    "mint": Mood(((32, 84, 96), (112, 178, 160), (240, 236, 200)), (255, 246, 214), (18, 48, 54)),
    "rose": Mood(((92, 62, 120), (222, 142, 172), (255, 222, 214)), (255, 240, 232), (62, 34, 74)),
    "snow": Mood(((104, 132, 170), (176, 198, 220), (242, 244, 248)), (255, 252, 244), (70, 92, 122)),
    "ember": Mood(((58, 24, 28), (178, 62, 36), (255, 178, 76)), (255, 226, 150), (36, 14, 18)),
}

HINTS = {
    "night": "night moon star stars midnight dark space galaxy",
    "dusk": "sunset dusk evening golden sunrise autumn",
    "dawn": "dawn morning mist misty fog pastel dream dreamy",
    "snow": "snow snowy winter ice frozen arctic",
    "ember": "fire lava volcano desert dragon red mars",
    "mint": "forest jungle green tree trees garden meadow spring",
    "rose": "pink flower flowers cherry blossom love fantasy purple",
    "noon": "sea ocean beach lake sky blue summer day island",
}
"""Words that set a mood; the first that the text names wins."""

COLOURS: dict[str, Colour] = {
    "red": (206, 60, 48),
    "orange": (236, 134, 52),
    "yellow": (242, 206, 82),
    "green": (74, 150, 92),
    "blue": (62, 110, 196),
    "purple": (132, 84, 180),
    "pink": (232, 132, 172),
    "gold": (226, 178, 84),
    "teal": (52, 146, 148),
    "white": (240, 240, 244),
}


def paint(text: str, seed: int, width: int, height: int) -> Image.Image:
    """The picture that this text and seed make, in RGB."""
    return Painting(text, seed, width, height).whole()


def glimpse(picture: Image.Image, clarity: float, seed: int) -> Image.Image:
    """A picture on its way out of the noise: `clarity` 0 is noise, 1 the picture."""
    hidden = (1.0 - min(1.0, max(0.0, clarity))) ** 1.5
    if hidden == 0:
        return picture
    small = (COARSE, max(1, COARSE * picture.height // picture.width))
    grains = random.Random(seed).randbytes(small[0] * small[1] * 3)  # noqa: S311 - a picture, no secret
    noise = Image.frombytes("RGB", small, grains).resize(picture.size, Image.Resampling.BILINEAR)
    blurred = picture.filter(ImageFilter.GaussianBlur(hidden * picture.width / 24))
    return Image.blend(blurred, noise, 0.85 * hidden)


class Painting:
    """One picture in the making, from the sky down to the foreground."""

    def __init__(self, text: str, seed: int, width: int, height: int) -> None:
        self.words = set(re.findall(r"[a-z]+", text.lower()))
        digest = hashlib.sha256(f"{seed}\n{text}".encode()).digest()
        self.chance = random.Random(digest)  # noqa: S311 - a picture, no secret
        self.size = (width, height)
        factor = min(FINER, LARGEST / max(width, height))
        self.width, self.height = max(2, round(width * factor)), max(2, round(height * factor))
        self.mood = self._mood()
        self.horizon = self.height * self.chance.uniform(0.46, 0.6)
        self.sun = (
            self.width * self.chance.uniform(0.18, 0.82),
            self.horizon * self.chance.uniform(0.35, 0.8),
        )

    def whole(self) -> Image.Image:
        """Paints everything, in the size that was asked for."""
        picture = self._sky()
        self._lights(picture)
        dry = bool(self.words & {"desert", "dune", "dunes", "mars", "space", "city", "cyberpunk", "forest"})
        water = bool(self.words & {"sea", "ocean", "lake", "river", "water", "beach", "island"})
        if water or (not dry and self.chance.random() < 0.3):
            self._ridges(picture, 3, self.horizon * 0.98)
            self._water(picture)
            self._ridges(picture, 1, self.height * 0.9)
        else:
            self._ridges(picture, self.chance.choice((5, 6, 7)), self.height * 0.94)
        if self.words & {"snow", "snowy", "winter"}:
            self._flakes(picture)
        return picture.resize(self.size, Image.Resampling.LANCZOS)

    def _mood(self) -> Mood:
        named = [name for name, hints in HINTS.items() if self.words & set(hints.split())]
        mood = MOODS[named[0] if named else self.chance.choice(sorted(MOODS))]
        tint = next((COLOURS[word] for word in sorted(self.words) if word in COLOURS), None)
        turn = self.chance.uniform(-0.06, 0.06)
        sky = tuple(shift(colour if tint is None else mix(colour, tint, 0.22), turn) for colour in mood.sky)
        land = mood.land if tint is None else mix(mood.land, tint, 0.18)
        return Mood((sky[0], sky[1], sky[2]), mood.light, shift(land, turn))

    def _sky(self) -> Image.Image:
        top, middle, bottom = self.mood.sky
        rows = [mix(top, middle, step / 40) for step in range(40)] + [
            mix(middle, bottom, step / 40) for step in range(40)
        ]
        band = Image.new("RGB", (1, 80))
        band.putdata(rows)
        sky = Image.new("RGB", (self.width, self.height), bottom)
        sky.paste(band.resize((self.width, max(2, int(self.horizon * 1.1))), Image.Resampling.BICUBIC))
        return sky

    def _lights(self, picture: Image.Image) -> None:
        if self.mood.sky[0][2] < 60 and sum(self.mood.sky[0]) < 120:
            self._stars(picture)
        for stretch, strength in ((2.6, 0.55), (0.9, 0.6)):
            self._glow(picture, self.sun, self.height * stretch * 0.5, strength)
        radius = self.height * self.chance.uniform(0.035, 0.06)
        disc = Image.new("L", picture.size)
        x, y = self.sun
        ImageDraw.Draw(disc).ellipse((x - radius, y - radius, x + radius, y + radius), fill=235)
        picture.paste(self.mood.light, mask=disc)
        for _ in range(self.chance.choice((3, 5, 7))):
            self._cloud(picture)

    def _glow(self, picture: Image.Image, at: tuple[float, float], radius: float, strength: float) -> None:
        fall = [int(max(0.0, 1 - v / EDGE) ** 2 * 255 * strength) for v in range(256)]
        halo = Image.radial_gradient("L").point(fall)
        side = max(2, int(radius * 2))
        mask = Image.new("L", picture.size)
        mask.paste(
            halo.resize((side, side), Image.Resampling.BILINEAR), (int(at[0] - radius), int(at[1] - radius))
        )
        picture.paste(self.mood.light, mask=mask)

    def _stars(self, picture: Image.Image) -> None:
        draw = ImageDraw.Draw(picture)
        for _ in range(self.width // 5):
            x, y = self.chance.uniform(0, self.width), self.chance.uniform(0, self.horizon)
            size = self.chance.choice((0.6, 0.8, 1.2, 1.9)) * self.height / 700
            fade = mix(
                self.mood.sky[0], (255, 255, 255), self.chance.uniform(0.3, 1) * (1 - y / self.horizon / 1.4)
            )
            draw.ellipse((x - size, y - size, x + size, y + size), fill=fade)

    def _cloud(self, picture: Image.Image) -> None:
        """A streak of soft ellipses near one height, lit from the sun's side."""
        mask = Image.new("L", (self.width // 4 + 1, self.height // 4 + 1))
        draw = ImageDraw.Draw(mask)
        x, y = self.chance.uniform(-0.1, 1.0) * mask.width, self.chance.uniform(0.06, 0.9) * self.horizon / 4
        for _ in range(self.chance.randrange(8, 22)):
            wide, tall = (
                self.chance.uniform(0.04, 0.2) * mask.width,
                self.chance.uniform(0.004, 0.018) * mask.height,
            )
            px, py = (
                x + self.chance.gauss(0, mask.width * 0.12),
                y + self.chance.gauss(0, mask.height * 0.012),
            )
            draw.ellipse((px - wide, py - tall, px + wide, py + tall), fill=self.chance.randrange(70, 150))
        mask = mask.filter(ImageFilter.GaussianBlur(mask.height * 0.012)).resize(
            picture.size, Image.Resampling.BICUBIC
        )
        picture.paste(mix(self.mood.sky[2], self.mood.light, self.chance.uniform(0.2, 0.8)), mask=mask)

    def _ridges(self, picture: Image.Image, count: int, lowest: float) -> None:
        """Hills from far to near: the farther, the more they take the colour of the haze."""
        haze = mix(self.mood.sky[2], self.mood.light, 0.25)
        top = min(self.horizon * 0.92, lowest)
        for index in range(count):
            depth = (index + 1) / count
            base = top + (lowest - top) * depth**1.25
            colour = mix(haze, self.mood.land, 0.12 + 0.88 * depth**1.1)
            outline = self._outline(base, self.height * (0.05 + 0.11 * (1 - depth * 0.5)), depth)
            self._ridge(picture, outline, colour, mix(colour, haze, 0.42 * (1.15 - depth)))
            if depth > 0.55:
                self._growth(picture, outline, colour, depth)

    def _ridge(
        self, picture: Image.Image, outline: Sequence[tuple[float, float]], near: Colour, mist: Colour
    ) -> None:
        shape = Image.new("L", picture.size)
        ImageDraw.Draw(shape).polygon([(0, self.height), *outline, (self.width, self.height)], fill=255)
        top = min(y for _, y in outline)
        shade = Image.linear_gradient("L").resize((self.width, max(2, int((self.height - top) * 0.8))))
        filled = Image.new("RGB", picture.size, mist)
        body = Image.new("RGB", shade.size, near)
        filled.paste(Image.composite(Image.new("RGB", shade.size, mist), body, shade), (0, int(top)))
        picture.paste(filled, mask=shape)

    def _outline(self, base: float, swing: float, depth: float) -> list[tuple[float, float]]:
        """A line of hills: waves upon waves, each half as high and about twice as fast."""
        calm = bool(self.words & {"desert", "dune", "dunes", "beach", "meadow"})
        waves = [
            (
                swing * 0.55**octave,
                (1.1 + depth) * 2.03**octave * self.chance.uniform(0.8, 1.25),
                self.chance.uniform(0, math.tau),
            )
            for octave in range(3 if calm else 7)
        ]
        step = max(2, self.width // 360)
        points = []
        for x in range(0, self.width + step, step):
            t = x / self.width * math.tau
            height = sum(size * (abs(math.sin(t * rate / 2 + phase)) * 2 - 1) for size, rate, phase in waves)
            points.append((float(x), base - height))
        return points

    def _growth(
        self, picture: Image.Image, outline: Sequence[tuple[float, float]], colour: Colour, depth: float
    ) -> None:
        """What stands on a hill: houses in a city, firs elsewhere, fewer where it is bare."""
        draw = ImageDraw.Draw(picture)
        city = bool(self.words & {"city", "town", "cyberpunk", "street", "skyline"})
        bare = bool(self.words & {"desert", "dune", "dunes", "beach", "sea", "ocean", "mars", "space"})
        wooded = bool(
            self.words & {"forest", "tree", "trees", "jungle", "fox", "wolf", "deer", "bear", "cabin"}
        )
        share = 0.35 if city or wooded else 0.02 if bare else 0.12
        for x, y in outline:
            if self.chance.random() > share:
                continue
            tall = self.height * self.chance.uniform(0.02, 0.055) * depth**2 * (1.8 if city else 1.0)
            (self._house if city else self._fir)(draw, x, y, tall, colour)

    def _fir(self, draw: ImageDraw.ImageDraw, x: float, y: float, tall: float, colour: Colour) -> None:
        for tier in range(3):
            foot, tip, half = (
                y - tall * (tier * 0.28 - 0.06),
                y - tall * (tier * 0.28 + 0.45),
                tall * (0.24 - tier * 0.06),
            )
            draw.polygon([(x - half, foot), (x, tip), (x + half, foot)], fill=colour)

    def _house(self, draw: ImageDraw.ImageDraw, x: float, y: float, tall: float, colour: Colour) -> None:
        half = tall * self.chance.uniform(0.14, 0.3)
        draw.rectangle((x - half, y - tall, x + half, y + tall), fill=colour)
        lit = mix(colour, self.mood.light, 0.75)
        pane = max(1.0, tall * 0.05)
        for row in range(int(tall / pane / 3)):
            if self.chance.random() < 0.45:
                px, py = x + half * self.chance.choice((-0.5, 0.0, 0.5)), y - tall + pane * (1 + row * 3)
                draw.rectangle((px - pane / 2, py, px + pane / 2, py + pane), fill=lit)

    def _water(self, picture: Image.Image) -> None:
        """Mirrors what is above the shore, a little darker and rippled, with the sun's path on it."""
        shore = int(self.horizon * 1.04)
        deep = self.height - shore
        mirror = picture.crop((0, max(0, shore - deep), self.width, shore)).transpose(
            Image.Transpose.FLIP_TOP_BOTTOM
        )
        mirror = mirror.resize((self.width, deep)).filter(ImageFilter.GaussianBlur(self.height / 300))
        mirror = Image.blend(
            mirror, Image.new("RGB", mirror.size, mix(self.mood.sky[0], self.mood.land, 0.3)), 0.28
        )
        for y in range(0, deep, 3):
            reach = 1 + y / deep * self.width / 110
            row = mirror.crop((0, y, self.width, y + 3))
            mirror.paste(ImageChops.offset(row, int(self.chance.gauss(0, reach)), 0), (0, y))
        draw = ImageDraw.Draw(mirror)
        for _ in range(90):
            y = self.chance.random() ** 1.4 * deep
            half = self.width * (0.004 + 0.03 * y / deep) * self.chance.uniform(0.4, 1.6)
            x = self.sun[0] + self.chance.gauss(0, self.width * (0.012 + 0.05 * y / deep))
            draw.line(
                (x - half, y, x + half, y),
                fill=mix(self.mood.sky[2], self.mood.light, 0.8),
                width=max(1, self.height // 500),
            )
        picture.paste(mirror, (0, shore))

    def _flakes(self, picture: Image.Image) -> None:
        flakes = Image.new("L", picture.size)
        draw = ImageDraw.Draw(flakes)
        for _ in range(self.width // 3):
            x, y = self.chance.uniform(0, self.width), self.chance.uniform(0, self.height)
            size = self.chance.choice((1, 1, 1.5, 2.5)) * self.height / 500
            draw.ellipse((x - size, y - size, x + size, y + size), fill=self.chance.randrange(110, 230))
        picture.paste((255, 255, 255), mask=flakes.filter(ImageFilter.GaussianBlur(self.height / 900)))


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """A colour between two; `share` 1 is the other."""
    share = min(1.0, max(0.0, share))
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def shift(colour: Colour, turn: float) -> Colour:
    """A colour a little warmer (`turn` > 0) or cooler."""
    red, green, blue = colour
    return min(255, max(0, round(red * (1 + turn)))), green, min(255, max(0, round(blue * (1 - turn))))
