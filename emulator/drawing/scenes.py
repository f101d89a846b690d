"""Compositions: what fills a picture around (or instead of) its subject."""

import math
import random
from collections.abc import Callable, Sequence

from emulator.drawing.canvas import Canvas, Point
from emulator.drawing.palettes import Palette, mix, rotate
from emulator.drawing.subjects import Subject

Scene = Callable[[Canvas, Palette, Subject, random.Random], None]


def _stars(canvas: Canvas, palette: Palette, rng: random.Random, below: float) -> None:
    for _ in range(rng.randrange(60, 110)):
        at = (rng.random(), rng.uniform(0, below))
        canvas.disc(at, rng.choice((0.0015, 0.002, 0.0035)), (*palette.light, rng.randrange(110, 240)))


def _clouds(canvas: Canvas, palette: Palette, rng: random.Random) -> None:
    ink = mix(palette.sky[1], (255, 255, 255), 0.35)
    for _ in range(rng.randrange(2, 5)):
        x, y, size = rng.random(), rng.uniform(0.08, 0.34), rng.uniform(0.04, 0.08)
        for step in range(5):
            at = (x + step * size * 0.75 * canvas.unit / canvas.width, y)
            canvas.disc(at, size * (0.55 + 0.45 * math.sin(math.pi * (step + 0.5) / 5)), ink, 0.55)


def _sky(canvas: Canvas, palette: Palette, rng: random.Random, horizon: float) -> Point:
    """Sky from the top to `horizon`, with its light; answers where the light stands."""
    canvas.gradient(palette.sky, 0.0, horizon)
    if palette.dark:
        _stars(canvas, palette, rng, horizon)
    else:
        _clouds(canvas, palette, rng)
    at = (rng.uniform(0.15, 0.85), horizon * rng.uniform(0.3, 0.85))
    radius = rng.uniform(0.06, 0.13)
    canvas.glow(at, radius, palette.light)
    canvas.disc(at, radius, palette.light)
    return at


def hills(canvas: Canvas, palette: Palette, subject: Subject, rng: random.Random) -> None:
    """Rolling land in four depths, the subject on the nearest but one."""
    _sky(canvas, palette, rng, 0.75)
    stand = rng.uniform(0.22, 0.78)
    for index, ink in enumerate(palette.layers):
        if index == len(palette.layers) - 1:
            subject(canvas, (stand, 0.66), rng.uniform(0.15, 0.2), palette, rng)
        canvas.ridge(0.5 + 0.12 * index + rng.uniform(-0.03, 0.03), rng.uniform(0.05, 0.1), rng, ink, 0.4)


def mountains(canvas: Canvas, palette: Palette, subject: Subject, rng: random.Random) -> None:
    """Snow-capped peaks behind dark woods and a subject in the foreground."""
    _sky(canvas, palette, rng, 0.8)
    for index, ink in enumerate(palette.layers[:3]):
        for _ in range(4 - index):
            x, wide, top = rng.random(), rng.uniform(0.25, 0.5), rng.uniform(0.2, 0.36) + 0.11 * index
            foot = 0.86
            canvas.polygon([(x - wide, foot), (x, top), (x + wide, foot)], ink)
            canvas.polygon([(x, top), (x + wide, foot), (x + wide * 0.15, foot)], mix(ink, (0, 0, 0), 0.16))
            snow, drop = mix(ink, (255, 255, 255), 0.75 if index == 0 else 0.4), (foot - top) * 0.24
            share = drop / (foot - top) * wide
            teeth = [(x + share, top + drop), (x + share * 0.3, top + drop * 0.7), (x, top + drop * 1.1)]
            canvas.polygon([(x, top), *teeth, (x - share * 0.4, top + drop * 0.75), (x - share, top + drop)], snow)
    canvas.ridge(0.82, 0.03, rng, palette.layers[-1], 0.7)
    subject(canvas, (rng.uniform(0.2, 0.8), 0.78), rng.uniform(0.13, 0.18), palette, rng)


def sea(canvas: Canvas, palette: Palette, subject: Subject, rng: random.Random) -> None:
    """A horizon of water, the light mirrored in it, the subject between the waves."""
    horizon = rng.uniform(0.48, 0.6)
    light = _sky(canvas, palette, rng, horizon)
    canvas.gradient((mix(palette.sky[2], palette.layers[1], 0.55), palette.layers[1], palette.layers[3]), horizon, 1.0)
    for step in range(14):
        y, half = horizon + 0.012 + step**1.3 * 0.011, rng.uniform(0.03, 0.09) * (1 + step * 0.08)
        canvas.box(light[0] - half, y, light[0] + half, y + 0.006, (*palette.light, 150 - step * 8))
    stand = rng.uniform(0.2, 0.8)
    subject(canvas, (stand, horizon + 0.1), rng.uniform(0.24, 0.32), palette, rng)
    for index in range(3):
        ink = (*mix(palette.layers[1 + index], palette.sky[2], 0.12), 215)
        canvas.ridge(horizon + 0.2 + 0.1 * index, 0.014 + 0.005 * index, rng, ink, 0.85)


def city(canvas: Canvas, palette: Palette, subject: Subject, rng: random.Random) -> None:
    """Two rows of buildings with lit windows along a street."""
    _sky(canvas, palette, rng, 0.9)
    for row, ink in enumerate((palette.layers[0], palette.layers[2])):
        left = -0.02
        while left < 1.0:
            wide, top = rng.uniform(0.05, 0.13), rng.uniform(0.28, 0.6) + 0.14 * row
            canvas.box(left, top, left + wide, 0.93, mix(ink, palette.accent, rng.uniform(0, 0.12)))
            if row:
                _windows(canvas, palette, rng, (left, top, wide))
            left += wide + rng.uniform(-0.01, 0.02)
    canvas.box(0, 0.9, 1, 1, palette.layers[3])
    subject(canvas, (rng.uniform(0.2, 0.8), 0.8), rng.uniform(0.12, 0.16), palette, rng)


def _windows(canvas: Canvas, palette: Palette, rng: random.Random, house: tuple[float, float, float]) -> None:
    left, top, wide = house
    columns = max(2, round(wide / 0.025))
    step = wide / columns
    for row in range(int((0.86 - top) / 0.035)):
        for column in range(columns):
            if rng.random() < 0.45:
                x, y = left + step * (column + 0.25), top + 0.02 + row * 0.035
                canvas.box(x, y, x + step * 0.5, y + 0.017, (*palette.light, 220))


def cosmos(canvas: Canvas, palette: Palette, subject: Subject, rng: random.Random) -> None:
    """Orbits around the subject in a dark sky."""
    night = [mix(colour, (8, 8, 24), 0.72) for colour in palette.sky]
    canvas.gradient(night, 0.0, 1.0)
    _stars(canvas, palette, rng, 1.0)
    middle, tilt = (rng.uniform(0.35, 0.65), rng.uniform(0.4, 0.6)), rng.uniform(0.3, 0.8)
    canvas.glow(middle, 0.16, palette.accent, 60)
    for index in range(rng.randrange(3, 6)):
        radius, angle = 0.24 + 0.11 * index, rng.uniform(0, math.tau)
        canvas.ring(middle, radius, 0.0025, (*palette.light, 90), tilt)
        at = (
            middle[0] + radius * math.cos(angle) * canvas.unit / canvas.width,
            middle[1] + radius * tilt * math.sin(angle) * canvas.unit / canvas.height,
        )
        canvas.disc(at, rng.uniform(0.015, 0.045), palette.layers[index % 3])
    subject(canvas, middle, 0.2, palette, rng)


def mosaic(canvas: Canvas, palette: Palette, subject: Subject, rng: random.Random) -> None:
    """Tiles of discs, quarters and triangles, a large plain one holding the subject."""
    columns = rng.choice((4, 5, 6))
    tile = canvas.width / columns
    rows = math.ceil(canvas.height / tile)
    colours = [*palette.layers, palette.accent, palette.light, palette.sky[2], rotate(palette.accent, 0.5)]
    for row in range(rows):
        for column in range(columns):
            ground, ink = rng.sample(colours, 2)
            left, top = column / columns, row * tile / canvas.height
            right, bottom = left + 1 / columns, top + tile / canvas.height
            canvas.box(left, top, right + 0.002, bottom + 0.002, ground)
            radius, corner = tile / canvas.unit, rng.randrange(6)
            if corner < 4:
                at = ((left, top), (right, top), (right, bottom), (left, bottom))[corner]
                canvas.pie(at, radius, 90 * corner, 90 * corner + 90, ink)
            elif corner == 4:
                canvas.disc(((left + right) / 2, (top + bottom) / 2), radius * 0.42, ink)
            else:
                canvas.polygon([(left, bottom), (right, bottom), (right, top)], ink)
    at = (rng.uniform(0.35, 0.65), rng.uniform(0.4, 0.6))
    canvas.disc(at, 0.31, palette.sky[2])
    subject(canvas, at, 0.24, palette, rng)


def ribbons(canvas: Canvas, palette: Palette, subject: Subject, rng: random.Random) -> None:
    """Flowing bands from edge to edge with the subject floating on them."""
    canvas.gradient(palette.sky, 0.0, 1.0)
    count, swing, turns = rng.randrange(6, 10), rng.uniform(0.06, 0.14), rng.uniform(0.6, 1.6)
    phase = rng.uniform(0, math.tau)
    for index in range(count):
        share = index / (count - 1)
        ink = mix(palette.layers[index % 4], palette.accent, share * 0.5)
        level = 0.3 + 0.66 * share
        points: list[Point] = [(0.0, 1.01)]
        for step in range(81):
            x = step / 80
            points.append((x, level + swing * math.sin(math.tau * turns * x + phase + share * 2.2) * (1 - 0.5 * share)))
        canvas.polygon([*points, (1.0, 1.01)], ink)
    at = (rng.uniform(0.3, 0.7), rng.uniform(0.26, 0.36))
    canvas.disc(at, 0.25, (*palette.light, 70))
    subject(canvas, at, 0.2, palette, rng)


SCENES: dict[str, Scene] = {
    "hills": hills,
    "mountains": mountains,
    "sea": sea,
    "city": city,
    "cosmos": cosmos,
    "mosaic": mosaic,
    "ribbons": ribbons,
}

_WORDS: dict[str, Sequence[str]] = {
    "hills": ("hill", "hills", "meadow", "field", "farm", "valley", "desert", "dunes", "countryside", "forest"),
    "mountains": ("mountain", "mountains", "alps", "peak", "snow", "glacier", "volcano"),
    "sea": (
        "sea",
        "ocean",
        "lake",
        "beach",
        "coast",
        "harbour",
        "harbor",
        "river",
        "lighthouse",
        "boat",
        "sailboat",
        "ship",
    ),
    "city": ("city", "street", "skyline", "town", "urban", "building", "office", "tokyo", "paris", "london"),
    "cosmos": ("space", "galaxy", "planet", "orbit", "universe", "astronaut", "rocket", "cosmic"),
    "mosaic": ("bauhaus", "geometric", "pattern", "mosaic", "tiles", "poster", "minimalist"),
    "ribbons": ("abstract", "waves", "flow", "silk", "logo", "product", "perfume", "bottle"),
}


def choose(words: Sequence[str], rng: random.Random) -> Scene:
    """The composition the prompt names first, or one by chance."""
    named = next((name for word in words for name, known in _WORDS.items() if word in known), None)
    return SCENES[named or rng.choice(sorted(SCENES))]
