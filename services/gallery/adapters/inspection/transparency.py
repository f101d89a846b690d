"""Whether any pixel of a decoded image is not fully opaque, for every mode that a decoder can give.

An alpha channel proves nothing (most are opaque), and its absence neither: a palette entry or one colour of an image
without alpha may be transparent (PNG's tRNS).
"""

import itertools
import time
from collections.abc import Iterator

from PIL import Image, ImageChops

STRIP_PIXELS = 4_000_000
"""Pixels compared at a time: a 100-megapixel image is not copied whole."""

_ALPHA_BANDS = frozenset("Aa")


def has_transparency(image: Image.Image, *, depth: int = 8, frames: int, seconds: float) -> bool | None:
    """Looks at the frames one after the other, until one is seen to be transparent.

    At most so many `frames`, and for so many `seconds` of the processor.
    `depth` is the file's bits per sample. Alpha of 16 bits is judged by its upper 8.
    None: undecided, there were more frames than were looked at.
    """
    end = time.process_time() + seconds
    for number in itertools.count():
        try:
            image.seek(number)
        except EOFError:
            break
        if number >= frames or (number and time.process_time() > end):
            return None
        image.load()
        verdict = frame_has_transparency(image, depth)
        if verdict is not False:
            return verdict
    return False


def frame_has_transparency(image: Image.Image, depth: int = 8) -> bool | None:
    """The same for the present frame, which is loaded."""
    bands = image.getbands()
    if bands[-1] in _ALPHA_BANDS:
        lowest, _ = image.getchannel(bands[-1]).getextrema()
        return bool(lowest < 255)  # type: ignore[operator]  # one band: a pair of numbers
    mark = image.info.get("transparency")
    if mark is None:
        return False
    if image.mode == "P":
        return _palette_entry_is_used(image, mark)
    if isinstance(mark, tuple):
        return _colour_is_used(image, mark, depth)
    return _grey_is_used(image, int(mark), depth)


def _palette_entry_is_used(image: Image.Image, mark: bytes | int) -> bool:
    """`mark` is one transparent entry, or the alpha of each entry from the first."""
    counts = image.histogram()
    if isinstance(mark, int):
        return counts[mark] > 0
    return any(alpha < 255 and count > 0 for alpha, count in zip(mark, counts, strict=False))


def _grey_is_used(image: Image.Image, mark: int, depth: int) -> bool:
    """Pillow spreads greys of 2 and 4 bits over 0 to 255, and the mark not."""
    if image.mode.startswith("I;16"):
        return any(_holds_word(strip.tobytes(), mark) for strip in _strips(image))
    if depth in (2, 4):
        mark = mark * 255 // (2**depth - 1)
    counts = image.histogram()
    return mark < len(counts) and counts[mark] > 0


def _holds_word(words: bytes, word: int) -> bool:
    """Whether one of the 16-bit little-endian words is this one; in C throughout, whatever the bytes are."""
    low = words[0::2].translate(_equals(word & 0xFF))
    high = words[1::2].translate(_equals(word >> 8))
    return int.from_bytes(low) & int.from_bytes(high) != 0


def _equals(value: int) -> bytes:
    return bytes(byte == value for byte in range(256))


def _colour_is_used(image: Image.Image, mark: tuple[int, ...], depth: int) -> bool | None:
    """Pillow keeps the upper half of colours of 16 bits: it can rule the mark out, but not confirm it."""
    colour = tuple(part >> 8 for part in mark) if depth == 16 else mark
    for strip in _strips(image):
        difference = ImageChops.difference(strip, Image.new(image.mode, strip.size, colour))
        furthest, *others = difference.split()
        for channel in others:
            furthest = ImageChops.lighter(furthest, channel)
        if furthest.histogram()[0] > 0:
            return None if depth == 16 else True
    return False


def _strips(image: Image.Image) -> Iterator[Image.Image]:
    height = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, height):
        yield image.crop((0, top, image.width, min(top + height, image.height)))
