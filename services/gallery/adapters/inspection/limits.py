"""How large a file's content may be, by what its headers announce."""

from dataclasses import dataclass

from services.gallery.adapters.inspection.errors import LargePictureError, TooManyPixelsError, TooMuchWorkError

LARGE_PIXELS = 4096 * 4096
"""Above this one picture is decoded at a time in the whole service: it may take more than a gigabyte. The largest that
image models make today is as large."""

PIXELS_PER_BYTE = 8192
"""Beyond LARGE_PIXELS, for formats that can say "all of one colour" in no bytes at all. At 36 megapixels a gradient, or
a title on one colour, has at most 6,600 pixels a byte (the tightest AVIF). Only a plane of one colour has more, 13,000
and beyond; at 100 megapixels it is a bomb of 38 bytes."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Largest image in pixels, and seconds of the processor for the search through an animation.

    `large`: whether it is this file's turn to be larger than LARGE_PIXELS.
    """

    max_pixels: int
    animation_seconds: float
    large: bool = True

    @property
    def pixels_now(self) -> int:
        """What may be decoded now."""
        return self.max_pixels if self.large else min(self.max_pixels, LARGE_PIXELS)

    def admit(self, pixels: int) -> None:
        """Before they are decoded.

        Raises:
            TooManyPixelsError, LargePictureError.
        """
        if pixels > self.max_pixels:
            raise TooManyPixelsError
        if pixels > self.pixels_now:
            raise LargePictureError

    def admit_compressed(self, pixels: int, size_bytes: int) -> None:
        """The same for a format without a bound of its own on what a byte can become.

        Raises:
            TooManyPixelsError, LargePictureError, TooMuchWorkError.
        """
        if self.max_pixels >= pixels > LARGE_PIXELS + size_bytes * PIXELS_PER_BYTE:
            raise TooMuchWorkError
        self.admit(pixels)
