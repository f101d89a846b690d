"""The thing a picture is about. Opaque shapes only, so that a subject can also stand on a transparent ground."""

import math
import random
from collections.abc import Callable, Sequence

from emulator.drawing.canvas import Canvas, Point
from emulator.drawing.palettes import Colour, Palette, mix, rotate

Subject = Callable[[Canvas, Point, float, Palette, random.Random], None]

WHITE: Colour = (250, 248, 242)


def _arc(radius: float, start: float, end: float, steps: int = 24) -> list[Point]:
    """Points on a circle, in degrees clockwise from the right."""
    angles = (math.radians(start + (end - start) * step / steps) for step in range(steps + 1))
    return [(radius * math.cos(angle), radius * math.sin(angle)) for angle in angles]


def lighthouse(canvas: Canvas, at: Point, size: float, palette: Palette, rng: random.Random) -> None:
    """A striped tower on a rock; `at` is its middle."""
    rock, stripe = palette.layers[-1], palette.accent
    canvas.shape(at, size, [(-0.75, 1.0), (-0.5, 0.78), (-0.1, 0.7), (0.35, 0.74), (0.8, 1.0)], rock)
    stripes = rng.choice((4, 5, 6))
    for step in range(stripes):
        low, high = 0.74 - 1.24 * step / stripes, 0.74 - 1.24 * (step + 1) / stripes
        wide, narrow = 0.24 - 0.1 * step / stripes, 0.24 - 0.1 * (step + 1) / stripes
        ink = WHITE if step % 2 else stripe
        canvas.shape(at, size, [(-wide, low), (wide, low), (narrow, high), (-narrow, high)], ink)
    canvas.shape(at, size, [(-0.2, -0.5), (0.2, -0.5), (0.2, -0.55), (-0.2, -0.55)], rock)
    canvas.shape(at, size, [(-0.11, -0.55), (0.11, -0.55), (0.11, -0.76), (-0.11, -0.76)], palette.light)
    canvas.shape(at, size, [(-0.15, -0.76), (0.15, -0.76), (0.0, -0.98)], stripe)


def boat(canvas: Canvas, at: Point, size: float, palette: Palette, rng: random.Random) -> None:
    """A boat with two sails."""
    hull, sail = palette.layers[-1], rng.choice((WHITE, palette.light))
    canvas.shape(at, size, [(-0.02, 0.5), (0.02, 0.5), (0.02, -0.9), (-0.02, -0.9)], hull)
    canvas.shape(at, size, [(0.06, -0.85), (0.06, 0.38), (0.72, 0.38)], sail)
    canvas.shape(at, size, [(-0.06, -0.7), (-0.06, 0.38), (-0.55, 0.38)], palette.accent)
    canvas.shape(at, size, [(-0.8, 0.46), (0.9, 0.46), (0.6, 0.8), (-0.5, 0.8)], hull)


def balloon(canvas: Canvas, at: Point, size: float, palette: Palette, rng: random.Random) -> None:
    """A hot-air balloon with coloured panels."""
    colours: Sequence[Colour] = (palette.accent, WHITE, rotate(palette.accent, rng.choice((0.08, 0.5, 0.6))))
    top = [(x, y - 0.3) for x, y in _arc(0.62, 160, 380)]
    canvas.shape(at, size, [*top, (0.13, 0.52), (-0.13, 0.52)], colours[0])
    for index, (left, right) in enumerate(((-0.36, -0.12), (-0.12, 0.12), (0.12, 0.36))):
        edge = [(x, y - 0.3) for x, y in _arc(0.62, 180, 360, 60) if left <= x <= right]
        canvas.shape(at, size, [*edge, (right * 0.3, 0.52), (left * 0.3, 0.52)], colours[1 + index % 2])
    canvas.shape(at, size, [(-0.13, 0.74), (0.13, 0.74), (0.1, 0.96), (-0.1, 0.96)], palette.layers[-1])
    for x in (-0.11, 0.08):
        canvas.shape(at, size, [(x, 0.5), (x + 0.03, 0.5), (x + 0.03, 0.76), (x, 0.76)], palette.layers[-1])


def tree(canvas: Canvas, at: Point, size: float, palette: Palette, rng: random.Random) -> None:
    """A tree with a round crown."""
    trunk = mix(palette.layers[-1], (70, 45, 30), 0.6)
    canvas.shape(at, size, [(-0.09, 1.0), (0.09, 1.0), (0.05, 0.1), (-0.05, 0.1)], trunk)
    leaves = [palette.layers[-2], palette.accent, mix(palette.accent, palette.light, 0.35)]
    for index in range(9):
        angle, reach = rng.uniform(0, math.tau), rng.uniform(0.1, 0.42)
        x, y = reach * math.cos(angle), -0.3 + reach * math.sin(angle)
        centre = (at[0] + x * size * canvas.unit / canvas.width, at[1] + y * size * canvas.unit / canvas.height)
        canvas.disc(centre, size * rng.uniform(0.22, 0.4), leaves[index // 3])


def house(canvas: Canvas, at: Point, size: float, palette: Palette, rng: random.Random) -> None:
    """A house with a pitched roof and a chimney."""
    wall = rng.choice((WHITE, palette.sky[2], palette.light))
    canvas.shape(at, size, [(0.4, -0.75), (0.58, -0.75), (0.58, 0.0), (0.4, 0.0)], palette.layers[-1])
    canvas.shape(at, size, [(-0.7, 0.9), (0.7, 0.9), (0.7, -0.1), (-0.7, -0.1)], wall)
    canvas.shape(at, size, [(-0.9, -0.05), (0.9, -0.05), (0.0, -0.9)], palette.accent)
    canvas.shape(at, size, [(-0.15, 0.9), (0.15, 0.9), (0.15, 0.35), (-0.15, 0.35)], palette.layers[-1])
    for x in (-0.5, 0.3):
        canvas.shape(at, size, [(x, 0.4), (x + 0.22, 0.4), (x + 0.22, 0.14), (x, 0.14)], palette.layers[0])


def planet(canvas: Canvas, at: Point, size: float, palette: Palette, rng: random.Random) -> None:
    """A banded planet with a ring."""
    tilt = rng.uniform(0.22, 0.4)
    canvas.pie(at, size * 0.62, 0, 360, palette.accent)
    for index, level in enumerate((-0.3, -0.05, 0.22)):
        reach = math.sqrt(0.62**2 - level**2) * 0.98
        ink = mix(palette.accent, palette.light if index % 2 else palette.layers[-1], 0.35)
        canvas.shape(
            at,
            size,
            [(-reach, level), (reach, level), (reach * 0.96, level + 0.11), (-reach * 0.96, level + 0.11)],
            ink,
        )
    outer, inner = _arc(1.0, 8, 172), _arc(0.78, 172, 8)
    band = [(x, y * tilt) for x, y in outer] + [(x, y * tilt) for x, y in inner]
    canvas.shape(at, size, band, palette.light)


def flower(canvas: Canvas, at: Point, size: float, palette: Palette, rng: random.Random) -> None:
    """A flower with a stem and a leaf."""
    stem = palette.layers[-2]
    canvas.shape(at, size, [(-0.03, 1.0), (0.03, 1.0), (0.03, -0.3), (-0.03, -0.3)], stem)
    canvas.shape(at, size, [(0.0, 0.8), (0.2, 0.45), (0.5, 0.35), (0.35, 0.65)], stem)
    petals, heart = rng.choice((6, 7, 8, 10)), (at[0], at[1] - 0.35 * size * canvas.unit / canvas.height)
    for index in range(petals):
        angle = math.tau * index / petals
        centre = (
            heart[0] + 0.34 * size * math.cos(angle) * canvas.unit / canvas.width,
            heart[1] + 0.34 * size * math.sin(angle) * canvas.unit / canvas.height,
        )
        canvas.disc(centre, size * 1.15 / petals + size * 0.06, mix(palette.accent, WHITE, 0.25 * (index % 2)))
    canvas.disc(heart, size * 0.2, palette.light)


def gem(canvas: Canvas, at: Point, size: float, palette: Palette, rng: random.Random) -> None:
    """A cut stone with six facets."""
    base = rotate(palette.accent, rng.uniform(-0.08, 0.08))
    left, right, crown_left, crown_right = (-0.85, -0.25), (0.85, -0.25), (-0.5, -0.7), (0.5, -0.7)
    girdle_left, girdle_right, tip = (-0.3, -0.25), (0.3, -0.25), (0.0, 0.85)
    facets = (
        (left, crown_left, girdle_left),
        (crown_left, crown_right, girdle_right, girdle_left),
        (crown_right, right, girdle_right),
        (left, girdle_left, tip),
        (girdle_left, girdle_right, tip),
        (girdle_right, right, tip),
    )
    for facet, share in zip(facets, (0.35, 0.6, 0.2, 0.1, 0.4, 0.0), strict=True):
        canvas.shape(at, size, facet, mix(base, WHITE, share))


SUBJECTS: dict[str, Subject] = {
    "lighthouse": lighthouse,
    "boat": boat,
    "balloon": balloon,
    "tree": tree,
    "house": house,
    "planet": planet,
    "flower": flower,
    "gem": gem,
}

_WORDS: dict[str, Sequence[str]] = {
    "lighthouse": ("lighthouse", "tower", "beacon", "castle"),
    "boat": ("boat", "ship", "sailboat", "yacht", "sail", "kayak", "canoe"),
    "balloon": ("balloon", "airship", "kite", "flying", "bird"),
    "tree": ("tree", "oak", "forest", "wood", "woods", "pine", "apple", "leaf"),
    "house": ("house", "cabin", "cottage", "home", "hut", "barn", "building"),
    "planet": ("planet", "saturn", "moon", "space", "galaxy", "astronaut", "rocket", "globe"),
    "flower": ("flower", "flowers", "rose", "tulip", "sunflower", "daisy", "garden", "bouquet"),
    "gem": ("gem", "diamond", "crystal", "jewel", "logo", "icon", "bottle", "perfume", "ring"),
}


def choose(words: Sequence[str], rng: random.Random) -> Subject:
    """The subject the prompt names first, or one by chance."""
    named = next((name for word in words for name, known in _WORDS.items() if word in known), None)
    return SUBJECTS[named or rng.choice(sorted(SUBJECTS))]
