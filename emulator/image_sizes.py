"""Which sizes a model draws, and what `auto` comes to."""

import re
from collections.abc import Mapping
from typing import Any

from emulator import values
from emulator.errors import wrong_value
from emulator.models import ImageTraits

_FIXED_SIZES = ("1024x1024", "1536x1024", "1024x1536")
_GRID, _MAX_RATIO, _MAX_EDGE = 16, 3, 3840
_MIN_AREA, _MAX_AREA = 655_360, 8_294_400
_WIDE = frozenset({"wide", "landscape", "panorama", "panoramic", "banner", "cinematic"})
_TALL = frozenset({"tall", "portrait", "vertical", "poster"})
# Where a model has no rule of its own, the emulator still draws no more than this.
_MAX_DRAWN_EDGE = 4096

# A frame's pixels are the budget of a whole GIF divided by the largest number of frames of its class: that gives the
# largest squares that were measured on the API, 960, 816 and 720 pixels.
_FRAME_CLASSES = (9, 12, 16)
# By class: square, wide; a tall one is a wide one on its side.
_AUTO_FRAMES = {9: (960, (1152, 768)), 12: (816, (1008, 672)), 16: (720, (864, 576))}


def size_of(
    given: Mapping[str, Any],
    traits: ImageTraits,
    prompt: str,
    first_image: tuple[int, int] | None,
    frames: int = 1,
) -> tuple[int, int]:
    """Width and height in pixels. Raises ApiError.

    Args:
        first_image: size of the picture to edit, which `auto` follows.
        frames: more than one is a GIF, whose frames share one budget.
    """
    size = values.text(given, "size") or "auto"
    if traits.any_size:
        return _any_size(size, first_image)
    if size == "auto":
        return _auto_size(prompt, first_image, frames)
    if not traits.free_sizes:
        size = values.choice(given, "size", (*_FIXED_SIZES, "auto"), "auto")
    width, height = _parsed(size)
    if reason := _frame_problem(width, height, frames) if frames > 1 else _size_problem(width, height):
        raise wrong_value("size", size, reason)
    return width, height


def _parsed(size: str) -> tuple[int, int]:
    if not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", size):
        raise wrong_value("size", size, "Expected 'auto' or a size such as '1536x864'.")
    width, height = map(int, size.split("x"))
    return width, height


def _any_size(size: str, first_image: tuple[int, int] | None) -> tuple[int, int]:
    """As asked; without a size, that of the picture edited."""
    width, height = first_image or (1024, 1024) if size == "auto" else _parsed(size)
    if max(width, height) > _MAX_DRAWN_EDGE:
        raise wrong_value("size", size, f"This emulator draws at most {_MAX_DRAWN_EDGE} pixels to a side.")
    return width, height


def _size_problem(width: int, height: int) -> str | None:
    if reason := _shape_problem(width, height):
        return reason
    if not _MIN_AREA <= width * height <= _MAX_AREA:
        return f"The area must be between {_MIN_AREA} and {_MAX_AREA} pixels."
    return None


def _frame_problem(width: int, height: int, frames: int) -> str | None:
    if reason := _shape_problem(width, height):
        return reason
    most = _MAX_AREA // _frame_class(frames)
    if width * height > most:
        return f"The area of each of {frames} GIF frames must be at most {most} pixels."
    if width * height * frames < _MIN_AREA:
        return f"The area of all GIF frames together must be at least {_MIN_AREA} pixels."
    return None


def _shape_problem(width: int, height: int) -> str | None:
    short, long = min(width, height), max(width, height)
    if width % _GRID or height % _GRID:
        return f"Width and height must both be divisible by {_GRID}."
    if long > _MAX_RATIO * short:
        return "The aspect ratio must be between 1:3 and 3:1."
    if long > _MAX_EDGE:
        return f"The longest edge must be at most {_MAX_EDGE} pixels."
    return None


def _frame_class(frames: int) -> int:
    return next(most for most in _FRAME_CLASSES if frames <= most)


def _auto_size(prompt: str, first_image: tuple[int, int] | None, frames: int) -> tuple[int, int]:
    """Like the picture to edit, or as the prompt says, or square."""
    words = set(re.findall(r"[a-z]+", prompt.lower()))
    wide, tall = bool(words & _WIDE), bool(words & _TALL)
    if first_image is not None:
        wide, tall = first_image[0] > 1.2 * first_image[1], first_image[1] > 1.2 * first_image[0]
    square, (long, short) = (1024, (1536, 1024)) if frames == 1 else _AUTO_FRAMES[_frame_class(frames)]
    if wide == tall:
        return square, square
    return (long, short) if wide else (short, long)
