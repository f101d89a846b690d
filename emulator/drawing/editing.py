"""Pictures that were sent in: opened with care, and worked visibly into the result."""

import hashlib
import io
from dataclasses import dataclass, field

from PIL import Image, ImageChops, ImageDraw, ImageOps

_READ = ("PNG", "JPEG", "WEBP")
# What Pillow calls a file it has read: its JPEG reader names a multi-picture file, as cameras make them, MPO.
_FORMATS = {"PNG": "png", "JPEG": "jpeg", "MPO": "jpeg", "WEBP": "webp"}
MAX_INPUT_PIXELS = 50_000_000


class UnreadablePicture(Exception):
    """The bytes are no PNG, JPEG or WebP picture, are cut off, or hold too many pixels. The text says which."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What an edit starts from, decoded once for all of its results.

    Attributes:
        images: one to sixteen, upright, RGBA; the first is the one edited, the others are references.
        editable: where the mask lets the first image be changed (255) or not (0); None means everywhere.
        markup: an overlay on the first image.
        digest: of all the bytes sent, so that other inputs give another result.
    """

    images: tuple[Image.Image, ...]
    editable: Image.Image | None = None
    markup: Image.Image | None = None
    digest: bytes = field(default=b"")


def open_picture(data: bytes) -> Image.Image:
    """`data` as an upright RGBA picture, wholly decoded. Raises UnreadablePicture."""
    try:
        with Image.open(io.BytesIO(data), formats=_READ) as picture:
            if picture.width * picture.height > MAX_INPUT_PIXELS:
                raise UnreadablePicture(f"it has more than {MAX_INPUT_PIXELS:,} pixels")
            return ImageOps.exif_transpose(picture).convert("RGBA")
    # SyntaxError is what Pillow raises for a broken PNG chunk.
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadablePicture("it is no complete PNG, JPEG or WebP picture") from error


def picture_format(data: bytes) -> str | None:
    """`png`, `jpeg` or `webp` by the bytes themselves; None for anything else."""
    try:
        with Image.open(io.BytesIO(data), formats=_READ) as picture:
            return _FORMATS.get(picture.format or "")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def digest(*parts: bytes) -> bytes:
    """SHA-256 over the digests of all parts, so that moving a byte from one part to the next changes it."""
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part).digest())
    return total.digest()


def edited(scene: Image.Image, subject: Image.Image, inputs: Inputs, *, transparent: bool) -> Image.Image:
    """The result of an edit, at the size of `scene`.

    Without a mask the first image shows through the new scene and the new subject stands on it. With one, the new
    scene fills the editable area and every pixel outside is the input's. References appear as framed insets.

    Args:
        scene: what the prompt draws, opaque.
        subject: the subject alone, RGBA.
        transparent: leave the ground clear instead of filling it.
    """
    size = scene.size
    base = ImageOps.fit(inputs.images[0], size, Image.Resampling.BILINEAR)
    if inputs.markup is not None:
        base.alpha_composite(ImageOps.fit(inputs.markup, size, Image.Resampling.BILINEAR))
    ground = Image.new("RGBA", size) if transparent else scene.convert("RGBA")
    if inputs.editable is None:
        return _reworked(base, ground, subject, inputs, transparent=transparent)
    editable = ImageOps.fit(inputs.editable, size, Image.Resampling.NEAREST)
    fresh = Image.alpha_composite(ground, subject) if transparent else ground
    _insets(fresh, inputs.images[1:], editable.getbbox() or (0, 0, *size))
    return Image.composite(fresh, base, editable)


def _reworked(
    base: Image.Image, ground: Image.Image, subject: Image.Image, inputs: Inputs, *, transparent: bool
) -> Image.Image:
    if transparent:
        # An opaque input would leave nothing transparent: cut its corners away.
        base.putalpha(ImageChops.multiply(base.getchannel("A"), _rounded(base.size)))
        result = base
    else:
        shown = Image.alpha_composite(ground, base)
        result = Image.blend(shown, ground, 0.28)
    result.alpha_composite(subject)
    _insets(result, inputs.images[1:], (0, 0, *base.size))
    return result


def _rounded(size: tuple[int, int]) -> Image.Image:
    shape = Image.new("L", size, 0)
    inset = min(size) // 20
    ImageDraw.Draw(shape).rounded_rectangle(
        (inset, inset, size[0] - inset, size[1] - inset), radius=min(size) // 5, fill=255
    )
    return shape


def _insets(canvas: Image.Image, references: tuple[Image.Image, ...], area: tuple[int, int, int, int]) -> None:
    """Lay the references side by side along the upper edge of `area`, each in a white frame."""
    if not references:
        return
    left, top, right, bottom = area
    side = min((right - left) // (len(references) + 1), (bottom - top) // 3)
    gap = max(1, side // 8)
    if side < 8:
        return
    for index, reference in enumerate(references):
        tile = Image.new("RGBA", (side, side), (255, 255, 255, 255))
        tile.alpha_composite(ImageOps.fit(reference, (side - 2 * gap, side - 2 * gap)), (gap, gap))
        canvas.paste(tile, (left + gap + index * (side + gap // 2), top + gap))
