"""The mark every picture carries, so that nobody takes it for a model's work."""

import unicodedata
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

NOTICE = "EMULATED · not a model's work"

_PROMPT_LETTERS = 44


@lru_cache(maxsize=32)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


@lru_cache(maxsize=1)
def _known_letters() -> frozenset[str]:
    """What Pillow's own font can draw: ASCII and some punctuation; all else is one and the same empty box."""
    font = _font(24)
    empty_box = bytes(font.getmask("\uffff"))
    candidates = [chr(code) for code in range(32, 0x250)] + list("‘’“”…")
    return frozenset(letter for letter in candidates if letter == " " or bytes(font.getmask(letter)) != empty_box)


def drawable(text: str) -> str:
    """`text` in letters the font has: accents are dropped, and a script it lacks is described instead of boxed."""
    plain = "".join(
        letter for letter in unicodedata.normalize("NFKD", " ".join(text.split())) if not unicodedata.combining(letter)
    )
    kept = "".join(letter if letter in _known_letters() else "?" for letter in plain)
    if kept.count("?") - plain.count("?") > len(plain) // 4:
        return f"(prompt of {len(text)} characters)"
    return kept if len(kept) <= _PROMPT_LETTERS else kept[: _PROMPT_LETTERS - 1].rstrip() + "…"


def stamp(picture: Image.Image, prompt: str) -> None:
    """Put the notice and the beginning of `prompt` into the lower left corner of `picture`, in place."""
    unit = min(picture.size)
    size = max(11, round(unit * 0.02))
    lines = [NOTICE, drawable(prompt)]
    font = _font(size)
    width = min(picture.width, round(max(font.getlength(line) for line in lines)) + 2 * size)
    height = round(size * 1.25) * len(lines) + size
    tag = Image.new("RGBA", (width, height), (0, 0, 0, 0))
    pen = ImageDraw.Draw(tag)
    pen.rounded_rectangle((0, 0, width - 1, height - 1), radius=size // 2, fill=(12, 14, 24, 205))
    for index, line in enumerate(lines):
        shade = (255, 255, 255, 235) if index == 0 else (255, 255, 255, 170)
        pen.text((size, round(size * (0.4 + 1.25 * index))), line, font=font, fill=shade)
    corner = (size, picture.height - height - size)
    if picture.mode == "RGBA":
        picture.alpha_composite(tag, corner)
    else:
        picture.paste(tag, corner, tag)
