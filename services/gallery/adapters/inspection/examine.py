"""What a file says of itself once it is opened; runs in the inspection process only."""

import os
import warnings
from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image, ImageFile

from services.gallery.adapters.inspection.credentials import has_content_credentials
from services.gallery.adapters.inspection.gif import gif_has_transparency
from services.gallery.adapters.inspection.transparency import has_transparency
from services.gallery.domain.media import GIF, JPEG, PNG, SNIFF_BYTES, Format, sniff

MAX_FRAMES = 1000
_PNG_DEPTH_AT = 24


@dataclass(frozen=True, slots=True)
class Limits:
    """Largest image in pixels, and seconds for the search through an animation."""

    max_pixels: int
    animation_seconds: float


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found. None: not known."""

    mime_type: str
    width_px: int | None = None
    height_px: int | None = None
    has_transparency: bool | None = None
    has_content_credentials: bool | None = None


class UnknownFormatError(Exception):
    """The bytes are of no accepted format."""


class BrokenFileError(Exception):
    """The bytes begin like an accepted format and cannot be decoded as such."""


class TooManyPixelsError(Exception):
    """The header announces more pixels than the limit; nothing was decoded."""


def examine(file: BinaryIO, limits: Limits) -> Facts:
    """The facts of one file.

    Raster images are decoded once, so that what is stored can be shown. SVG is never parsed, videos not yet.

    Raises:
        UnknownFormatError, BrokenFileError, TooManyPixelsError, MemoryError.
    """
    file.seek(0)
    format = sniff(file.read(SNIFF_BYTES))
    if format is None:
        raise UnknownFormatError
    credentials = has_content_credentials(file, format)
    if not format.raster:
        return Facts(format.mime_type, has_content_credentials=credentials)
    try:
        with _open(file, format) as image:
            if image.width * image.height > limits.max_pixels:
                raise TooManyPixelsError
            width, height = image.size
            return Facts(format.mime_type, width, height, _decode(image, file, format, limits), credentials)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooManyPixelsError from error
    except (MemoryError, TooManyPixelsError):
        raise
    except Exception as error:  # decoders raise anything: struct.error, SyntaxError, KeyError, zlib.error, ...
        raise BrokenFileError from error


def limit_decoder(limits: Limits) -> None:
    """Makes Pillow itself refuse what is too large, before it decodes; for the whole process."""
    Image.MAX_IMAGE_PIXELS = limits.max_pixels
    warnings.simplefilter("error", Image.DecompressionBombWarning)


def _open(file: BinaryIO, format: Format) -> ImageFile.ImageFile:
    # One decoder only: what the first bytes say is what is tried.
    file.seek(0)
    return Image.open(file, formats=[format.pillow_name])


def _decode(image: ImageFile.ImageFile, file: BinaryIO, format: Format, limits: Limits) -> bool | None:
    if format == JPEG:
        image.load()
        return False
    if format == GIF:
        image.load()
        return gif_has_transparency(
            file, max_pixels=limits.max_pixels, frames=MAX_FRAMES, seconds=limits.animation_seconds
        )
    depth = os.pread(file.fileno(), 1, _PNG_DEPTH_AT)[0] if format == PNG else 8
    return has_transparency(image, depth=depth, frames=MAX_FRAMES, seconds=limits.animation_seconds)
