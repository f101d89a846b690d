"""A picture as a language model is shown it: upright, flat, not too large, without metadata. Needs only Pillow."""

import io
from dataclasses import dataclass

from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "AVIF")
"""What is decoded, in Pillow's names. SVG is a program, and is refused with everything else."""

JPEG_QUALITY = 90
# Drawings and charts have few colours, and JPEG would blur their edges and letters; a grey photograph has 256.
_FEW_COLOURS = 128
_LARGEST_PNG = 1024 * 1024
_WHITE, _GREY = (255, 255, 255), (128, 128, 128)
# From here on a pixel can hardly be told from white.
_LIGHT = 224
# Below this opacity there is nothing to be seen.
_FAINT = 16


class UnusablePicture(ValueError):
    """Why the bytes are no picture that can be shown; in our words."""


@dataclass(frozen=True, slots=True)
class Flattening:
    """What comes out: the longer edge at most `edge_px`. Of what goes in: at most `max_pixels`, of these formats."""

    edge_px: int
    max_pixels: int
    formats: tuple[str, ...] = FORMATS


def flatten(content: bytes, wanted: Flattening) -> tuple[bytes, str]:
    """A PNG or JPEG of the picture and its MIME type; of an animation, of its first frame. It is never enlarged.

    Hostile bytes belong into a process of their own: `flattener`.

    Raises:
        UnusablePicture: it is of another format, has too many pixels, or cannot be decoded.
        MemoryError.
    """
    try:
        with Image.open(io.BytesIO(content), formats=wanted.formats) as image:
            if image.width * image.height > wanted.max_pixels:
                raise UnusablePicture(f"has more than {wanted.max_pixels} pixels")
            # A JPEG is decoded at half, a quarter or an eighth of its size where that is enough.
            image.draft("RGB", (wanted.edge_px, wanted.edge_px))
            small = _fitted(_plain(image), wanted.edge_px)
            small = ImageOps.exif_transpose(small)
        return _encoded(_grounded(small))
    except (UnusablePicture, MemoryError):
        raise
    except UnidentifiedImageError:
        raise UnusablePicture(f"is no picture of a type that is accepted: {', '.join(wanted.formats)}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnusablePicture(f"has more than {wanted.max_pixels} pixels") from None
    except Exception as error:  # decoders raise anything: struct.error, SyntaxError, KeyError, zlib.error, ...
        raise UnusablePicture("is broken: it cannot be decoded") from error


def _plain(image: Image.Image) -> Image.Image:
    """In 8 bits a channel: RGB, or RGBA where something may be transparent."""
    if image.mode.startswith(("I", "F")):
        # Greys of 16 bits; a plain conversion would make all but the darkest white.
        image = image.convert("I").point(lambda grey: grey / 256).convert("L")
    has_alpha = image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info
    mode = "RGBA" if has_alpha else "RGB"
    image.load()
    return image if image.mode == mode else image.convert(mode)


def _fitted(image: Image.Image, edge: int) -> Image.Image:
    longer = max(image.size)
    if longer <= edge:
        return image
    width, height = (max(1, round(side * edge / longer)) for side in image.size)
    smaller = image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
    smaller.info = image.info
    # Which side is up.
    smaller.getexif().update(image.getexif())
    return smaller


def _grounded(image: Image.Image) -> Image.Image:
    """On white, as it would be on a page; on grey where what is to be seen would vanish in white."""
    if image.mode != "RGBA":
        return image
    alpha = image.getchannel("A")
    colours = image.convert("RGB")
    visible = alpha.point([0] * _FAINT + [255] * (256 - _FAINT))
    greys = colours.convert("L").histogram(visible)
    ground = _GREY if 2 * sum(greys[_LIGHT:]) > sum(greys) else _WHITE
    flat = Image.new("RGB", image.size, ground)
    flat.paste(colours, mask=alpha)
    return flat


def _encoded(image: Image.Image) -> tuple[bytes, str]:
    if image.getcolors(_FEW_COLOURS) is not None:
        png = io.BytesIO()
        _bare(image).save(png, "PNG")
        if png.tell() <= _LARGEST_PNG:
            return png.getvalue(), "image/png"
    jpeg = io.BytesIO()
    _bare(image).save(jpeg, "JPEG", quality=JPEG_QUALITY)
    return jpeg.getvalue(), "image/jpeg"


def _bare(image: Image.Image) -> Image.Image:
    """Without metadata: where a photograph was taken is nobody's business."""
    bare = Image.new(image.mode, image.size)
    bare.paste(image)
    return bare
