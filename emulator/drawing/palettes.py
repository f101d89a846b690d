"""Colours for a picture: a curated mood, turned towards the colour words of the prompt."""

import colorsys
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of one picture.

    Attributes:
        sky: gradient from the top of the picture to its horizon.
        light: sun, moon or lamp.
        layers: from the far distance to the foreground; at least four.
        accent: the one colour that should catch the eye.
        dark: night or not; decides about stars and lit windows.
    """

    sky: tuple[Colour, Colour, Colour]
    light: Colour
    layers: tuple[Colour, ...]
    accent: Colour
    dark: bool


def _hex(text: str) -> Colour:
    return int(text[0:2], 16), int(text[2:4], 16), int(text[4:6], 16)


def _palette(sky: str, light: str, layers: str, accent: str, dark: bool = False) -> Palette:
    top, middle, horizon = (_hex(colour) for colour in sky.split())
    return Palette((top, middle, horizon), _hex(light), tuple(map(_hex, layers.split())), _hex(accent), dark)


MOODS: dict[str, Palette] = {
    "dusk": _palette("2b2d5b 8e4a76 f49a6a", "ffd9a0", "7b4b7a 5a3a6b 3f2d57 271f3f", "ff6b5e"),
    "dawn": _palette("5b7fa6 d9a6b3 fbe0c3", "fff3d6", "a58aa8 7d7797 56607f 364460", "f2727f"),
    "day": _palette("3f8fd2 86c1e8 dff1f7", "fff4b8", "8fc1a9 5fa383 3f8466 24604a", "f26b4e"),
    "night": _palette("0b1030 1c2a5a 3a4f86", "f4f1d0", "2c3a6b 202c55 161f40 0c1229", "ffcf5c", dark=True),
    "aurora": _palette("07142b 0f4a52 3fae8c", "d9fff0", "1d4a5a 153846 0e2733 081821", "c77dff", dark=True),
    "autumn": _palette("b8c4c2 e3cfa5 f6e3b8", "fff1c9", "cf8f4a b2652f 8a4526 57301f", "c8352c"),
    "spring": _palette("a5d8e6 d5edd8 fdf6d8", "fffbe0", "c3dd9a 93c47d 5f9f66 3a7350", "f48fb1"),
    "ember": _palette("2a0f1c 7a1f2b e0632e", "ffe08a", "6e2430 521b2a 391423 210c18", "ffb000", dark=True),
    "ice": _palette("7fa8c9 b9d6e8 f0f8fb", "ffffff", "a3c3d9 7ba3c2 557fa3 345a7d", "e4572e"),
    "desert": _palette("4aa3b5 f1d7a6 f7b977", "fff0c2", "e2a765 cf8550 ab5f3e 77402f", "2a7f8e"),
    "berry": _palette("3a1c4f 9b3d80 f6a5c0", "ffe6ef", "8a3f7b 6b2f66 4c224f 301636", "41d3bd"),
    "paper": _palette("efe6d8 f4ede2 faf6ee", "e9b44c", "9cafb7 6b8f9c 4281a4 28536b", "d1495b"),
}

_MOOD_WORDS: dict[str, Sequence[str]] = {
    "dusk": ("dusk", "sunset", "evening", "twilight"),
    "dawn": ("dawn", "sunrise", "morning", "mist", "misty", "fog"),
    "day": ("day", "noon", "summer", "sunny", "bright"),
    "night": ("night", "midnight", "stars", "starry", "moon", "moonlit", "dark", "space"),
    "aurora": ("aurora", "northern", "neon", "cyberpunk"),
    "autumn": ("autumn", "fall", "harvest", "rustic", "vintage"),
    "spring": ("spring", "garden", "flower", "flowers", "meadow", "fresh"),
    "ember": ("fire", "ember", "volcano", "lava", "dragon"),
    "ice": ("ice", "winter", "snow", "frozen", "arctic", "cold"),
    "desert": ("desert", "dune", "dunes", "sand", "canyon", "beach"),
    "berry": ("berry", "candy", "dream", "dreamy", "fantasy"),
    "paper": ("paper", "minimal", "minimalist", "logo", "poster", "icon", "flat", "bauhaus"),
}

_HUES: dict[str, float] = {
    "red": 0, "crimson": 350, "orange": 28, "yellow": 52, "gold": 45, "golden": 45, "green": 130, "emerald": 145,
    "teal": 175, "turquoise": 172, "cyan": 185, "blue": 215, "navy": 222, "indigo": 245, "purple": 275,
    "violet": 270, "magenta": 305, "pink": 335,
}  # fmt: skip


def choose(words: Sequence[str], rng: random.Random) -> Palette:
    """The palette of a picture: the first mood or colour named by the prompt counts, chance decides the rest."""
    named = next((mood for word in words for mood, names in _MOOD_WORDS.items() if word in names), None)
    palette = MOODS[named or rng.choice(sorted(MOODS))]
    hue = next((_HUES[word] / 360 for word in words if word in _HUES), None)
    if hue is None:  # no two prompts get quite the same tint
        return _turned(palette, rng.uniform(-0.04, 0.04) * (0.4 if named else 1.0))
    tinted = palette if named else _turned(palette, hue - _hue(palette.layers[1]))
    return replace(tinted, accent=_of_hue(hue))


def _hue(colour: Colour) -> float:
    return colorsys.rgb_to_hls(*(channel / 255 for channel in colour))[0]


def _of_hue(hue: float) -> Colour:
    red, green, blue = colorsys.hls_to_rgb(hue, 0.52, 0.78)
    return round(red * 255), round(green * 255), round(blue * 255)


def _turned(palette: Palette, turn: float) -> Palette:
    top, middle, horizon = (rotate(colour, turn) for colour in palette.sky)
    return Palette(
        (top, middle, horizon),
        palette.light,
        tuple(rotate(colour, turn) for colour in palette.layers),
        rotate(palette.accent, turn),
        palette.dark,
    )


def rotate(colour: Colour, turn: float) -> Colour:
    """`colour` with its hue turned by `turn` (1.0 is the full circle)."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*(channel / 255 for channel in colour))
    red, green, blue = colorsys.hls_to_rgb((hue + turn) % 1.0, lightness, saturation)
    return round(red * 255), round(green * 255), round(blue * 255)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """`first` moved towards `second` by `share`, from 0 (unchanged) to 1 (the second colour)."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue
