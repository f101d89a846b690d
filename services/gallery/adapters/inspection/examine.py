"""What a file says of itself once it is opened; runs in the inspection process only."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import BinaryIO

from PIL import AvifImagePlugin, Image, ImageFile

from services.gallery.adapters.inspection.budget import SECONDS_PER_PIXEL, Earn, no_budget
from services.gallery.adapters.inspection.credentials import has_content_credentials
from services.gallery.adapters.inspection.errors import (
    BrokenFileError,
    LargePictureError,
    NoPictureError,
    TooManyPixelsError,
    TooMuchWorkError,
    UnknownFormatError,
)
from services.gallery.adapters.inspection.gif import gif_has_transparency
from services.gallery.adapters.inspection.limits import Limits
from services.gallery.adapters.inspection.precheck import precheck
from services.gallery.adapters.inspection.transparency import has_transparency
from services.gallery.adapters.inspection.video import opened_video
from services.gallery.domain.assets import MediaType
from services.gallery.domain.media import AVIF, GIF, JPEG, PNG, SNIFF_BYTES, Format, sniff

MAX_FRAMES = 1000
_PNG_DEPTH_AT = 24


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found. None: not known."""

    mime_type: str
    width_px: int | None = None
    height_px: int | None = None
    duration_micros: int | None = None
    has_transparency: bool | None = None
    has_content_credentials: bool | None = None


def examine(file: BinaryIO, limits: Limits, earn: Earn = no_budget) -> Facts:
    """The facts of one file.

    Raster images are decoded once, and of videos the first frame, so that what is stored can be shown. SVG is never
    parsed. `earn`: see `budget`.

    Raises:
        UnknownFormatError, BrokenFileError, TooManyPixelsError, LargePictureError, TooMuchWorkError, NoPictureError,
        MemoryError.
    """
    file.seek(0)
    format = sniff(file.read(SNIFF_BYTES))
    if format is None:
        raise UnknownFormatError
    credentials = has_content_credentials(file, format)
    with decoding():
        if format.raster:
            return _picture_facts(file, format, limits, credentials, earn)
        if format.media_type is MediaType.VIDEO:
            return _video_facts(file, format, limits, credentials, earn)
    return Facts(format.mime_type, has_content_credentials=credentials)


@contextmanager
def decoding() -> Iterator[None]:
    """Whatever a decoder raises is one of ours."""
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooManyPixelsError from error
    except (MemoryError, TooManyPixelsError, LargePictureError, TooMuchWorkError, NoPictureError, BrokenFileError):
        raise
    except Exception as error:  # decoders raise anything: struct.error, SyntaxError, KeyError, zlib.error, ...
        raise BrokenFileError from error


def limit_decoder(limits: Limits) -> None:
    """Makes Pillow itself refuse what is too large, before it decodes; for the whole process."""
    Image.MAX_IMAGE_PIXELS = limits.max_pixels
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1


@contextmanager
def open_picture(file: BinaryIO, format: Format, limits: Limits) -> Iterator[ImageFile.ImageFile]:
    """A raster image whose header is read and within the limits; nothing is decoded yet."""
    precheck(file, format, limits)
    file.seek(0)
    # One decoder only: what the first bytes say is what is tried.
    with Image.open(file, formats=[format.pillow_name]) as image:
        pixels = image.width * image.height
        if format == AVIF:
            limits.admit_compressed(pixels, os.fstat(file.fileno()).st_size)
        limits.admit(pixels)
        yield image


def _picture_facts(file: BinaryIO, format: Format, limits: Limits, credentials: bool | None, earn: Earn) -> Facts:
    with open_picture(file, format, limits) as image:
        width, height = image.size
        earn(width * height * SECONDS_PER_PIXEL)
        return Facts(
            format.mime_type,
            width,
            height,
            has_transparency=_decode(image, file, format, limits),
            has_content_credentials=credentials,
        )


def _video_facts(file: BinaryIO, format: Format, limits: Limits, credentials: bool | None, earn: Earn) -> Facts:
    with opened_video(file, format, limits, earn) as video:
        frame = video.first_frame()
        duration = video.duration()
        micros = None if duration is None else duration // timedelta(microseconds=1)
        return Facts(format.mime_type, frame.width, frame.height, micros, None, credentials)


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
