"""Makes derivatives; runs in a process of its own only, like everything that decodes."""

import io
import os
from collections.abc import Mapping
from typing import BinaryIO

from PIL import Image, ImageCms

from services.gallery.adapters.inspection.budget import SECONDS_PER_PIXEL, Earn, no_budget
from services.gallery.adapters.inspection.errors import BrokenFileError, UnknownFormatError
from services.gallery.adapters.inspection.examine import decoding, open_picture
from services.gallery.adapters.inspection.gif import first_frame_box
from services.gallery.adapters.inspection.limits import Limits
from services.gallery.adapters.inspection.poster import poster
from services.gallery.adapters.inspection.transparency import STRIP_PIXELS
from services.gallery.adapters.inspection.video import opened_video
from services.gallery.domain.assets import MediaType
from services.gallery.domain.media import GIF, SNIFF_BYTES, Format, sniff
from services.gallery.domain.variants import LONGEST_EDGE, Variant

QUALITY = 80
MAX_PROFILE_BYTES = 4 * 1024 * 1024

_REDUCING_GAP = 2.0
"""Pillow halves a picture cheaply while it is more than so many times too large."""

_ORIENTATION = 0x0112
# EXIF 2.32, 4.6.5.A; Pillow turns anticlockwise.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ALPHA_MODES = frozenset({"RGBA", "LA", "PA", "La", "RGBa"})


def render(file: BinaryIO, targets: Mapping[Variant, int], limits: Limits, earn: Earn = no_budget) -> None:
    """Writes each variant as WebP to its descriptor.

    Raises:
        UnknownFormatError, BrokenFileError, TooManyPixelsError, LargePictureError, TooMuchWorkError, NoPictureError,
        MemoryError.
    """
    file.seek(0)
    format = sniff(file.read(SNIFF_BYTES))
    if format is None or (format.media_type is MediaType.IMAGE and not format.raster):
        raise UnknownFormatError
    largest_edge = max(LONGEST_EDGE[variant] for variant in targets)
    with decoding():
        image = _picture(file, format, largest_edge, limits, earn)
        # The smaller ones are made from the larger ones.
        for variant in sorted(targets, key=lambda variant: -LONGEST_EDGE[variant]):
            image = _shrunk(image, LONGEST_EDGE[variant])
            _write(targets[variant], _encoded(image))


def _picture(file: BinaryIO, format: Format, edge: int, limits: Limits, earn: Earn) -> Image.Image:
    """The picture, upright, as RGB or RGBA in sRGB, at most `edge` pixels long."""
    if format.media_type is MediaType.VIDEO:
        with opened_video(file, format, limits, earn) as video:
            return poster(video, edge)
    with open_picture(file, format, limits) as opened:
        earn(opened.width * opened.height * SECONDS_PER_PIXEL)
        profile, orientation = opened.info.get("icc_profile"), _orientation(opened)
        # JPEG is decoded at a fraction of its size.
        opened.draft(None, (int(edge * _REDUCING_GAP), int(edge * _REDUCING_GAP)))
        opened.load()
        hole = _uncovered(opened, file, format)
        image = _shrunk(_reduced(opened if hole is None else _cut_out(opened, hole), edge), edge)
    return _in_srgb(image if orientation is None else image.transpose(orientation), profile)


def _orientation(image: Image.Image) -> Image.Transpose | None:
    """By EXIF; one that cannot be read says nothing, and is no reason to do without the picture."""
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except MemoryError:
        raise
    except Exception:  # the parser raises anything: SyntaxError, struct.error, TypeError, ...
        return None


def _uncovered(image: Image.Image, file: BinaryIO, format: Format) -> tuple[int, int, int, int] | None:
    """The box of a GIF's first frame, if it leaves some of the canvas to the page behind."""
    if format != GIF:
        return None
    left, top, right, bottom = first_frame_box(file)
    covered = left <= 0 and top <= 0 and right >= image.width and bottom >= image.height
    return None if covered else (left, top, min(right, image.width), min(bottom, image.height))


def _cut_out(image: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    canvas = Image.new("RGBA", image.size, 0)
    canvas.paste(image.crop(box).convert("RGBA"), box[:2])
    return canvas


def _reduced(image: Image.Image, edge: int) -> Image.Image:
    """Plain, and halved, or more, while it is far too large: in strips, because large ones leave no room for a copy.

    Colours count by their opacity, as `resize` has it.
    """
    factor = int(max(image.size) / (edge * _REDUCING_GAP))
    if factor < 2:
        return _plain(image)
    parts = []
    height = max(1, STRIP_PIXELS // image.width // factor) * factor
    for top in range(0, image.height, height):
        strip = _plain(image.crop((0, top, image.width, min(top + height, image.height))))
        parts.append((strip.convert("RGBa") if strip.mode == "RGBA" else strip).reduce(factor))
    reduced = Image.new(parts[0].mode, (parts[0].width, sum(part.height for part in parts)))
    for number, part in enumerate(parts):
        reduced.paste(part, (0, number * height // factor))
    return reduced.convert("RGBA") if reduced.mode == "RGBa" else reduced


def _plain(image: Image.Image) -> Image.Image:
    """In a mode that can be resized smoothly, with alpha if it has a transparent pixel or colour."""
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        return image if image.mode == "RGBA" else image.convert("RGBA")
    if image.mode.startswith("I"):  # 16 bits of grey; `convert` alone would cut them off instead of scaling
        return image.point(lambda value: value * (1 / 256)).convert("L")
    if image.mode in ("P", "1"):
        return image.convert("RGB")
    return image


def _shrunk(image: Image.Image, edge: int) -> Image.Image:
    """Never enlarged."""
    if max(image.size) <= edge:
        return image
    scale = edge / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=_REDUCING_GAP)


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """By the picture's own colour profile, if it has one that can be used."""
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    colours = image.convert("RGB") if alpha is not None else image
    if profile and len(profile) <= MAX_PROFILE_BYTES:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(colours, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            colours = converted or colours
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass  # a broken profile, or one for another kind of picture: shown as if it had none
    colours = colours.convert("RGB")
    if alpha is not None:
        colours.putalpha(alpha)
    return colours


def _encoded(image: Image.Image) -> bytes:
    target = io.BytesIO()
    clean = image.copy()
    clean.info = {}  # no EXIF: where a picture was taken is in the original only
    clean.save(target, "WEBP", quality=QUALITY, method=4)
    return target.getvalue()


def _write(descriptor: int, data: bytes) -> None:
    os.ftruncate(descriptor, 0)
    at = 0
    while at < len(data):
        try:
            at += os.pwrite(descriptor, data[at:], at)
        except OSError as error:
            raise BrokenFileError("larger than any derivative may be") from error
