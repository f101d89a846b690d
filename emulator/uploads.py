"""The files of an edit request: which there are, and whether they are pictures that can be edited."""

from dataclasses import dataclass

from PIL import Image
from starlette.datastructures import FormData, UploadFile

from emulator.dialects import Reading
from emulator.drawing.editing import Inputs, UnreadablePicture, digest, open_picture, picture_format
from emulator.errors import ApiError, bad_picture, missing, unknown_parameter, unsupported, wrong_type
from emulator.settings import MIB

_IMAGE_FIELDS = ("image", "image[]")
_MAX_IMAGES = 16
_MAX_IMAGE_BYTES = 50 * MIB
_MAX_MASK_BYTES = 4 * MIB
_MIME_TYPES = ("image/jpeg", "image/png", "image/webp")


@dataclass(frozen=True, slots=True)
class Uploads:
    """The files as they came."""

    images: tuple[bytes, ...]
    mask: bytes | None
    markup: bytes | None


async def split(form: FormData, reading: Reading | None) -> tuple[dict[str, str], Uploads]:
    """The text fields and the files of `form`. Raises ApiError for fields that are repeated, misplaced or too large.

    Args:
        reading: of a server that ignores files it has no use for, and does not go by declared types.
    """
    fields: dict[str, str] = {}
    images: list[UploadFile] = []
    overlays: dict[str, UploadFile] = {}
    known = {"mask": "mask", "markup": "markup"} if reading is None else {reading.mask_field: "mask"}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name in _IMAGE_FIELDS:
                images.append(value)
            elif name in known and known[name] not in overlays:
                overlays[known[name]] = value
            elif reading is None:
                raise unknown_parameter(name)
        elif name in (*_IMAGE_FIELDS, "mask", "markup"):
            raise wrong_type(name, "a file", value)
        elif name in fields and reading is None:
            raise ApiError(400, f"Duplicate parameter: '{name}'.", param=name, code="duplicate_parameter")
        else:
            fields[name] = value
    if not images:
        raise missing("image")
    if len(images) > _MAX_IMAGES:
        message = f"Invalid 'image': too many images. Expected at most {_MAX_IMAGES}, but got {len(images)} instead."
        raise ApiError(400, message, param="image", code="array_above_max_length")
    if len(overlays) == 2:
        raise unsupported("markup", "'markup' cannot be combined with 'mask'.")
    typed = reading is None
    uploads = Uploads(
        tuple([await _bytes(file, "image", _MAX_IMAGE_BYTES, typed=typed) for file in images]),
        await _bytes(overlays["mask"], "mask", _MAX_MASK_BYTES, typed=typed) if "mask" in overlays else None,
        await _bytes(overlays["markup"], "markup", _MAX_IMAGE_BYTES, typed=typed) if "markup" in overlays else None,
    )
    return fields, uploads


async def _bytes(file: UploadFile, param: str, limit: int, *, typed: bool) -> bytes:
    if typed and (file.content_type or "") not in _MIME_TYPES:
        # The API goes by the declared type: a part without one, or application/octet-stream, is refused there too.
        known = "Supported file formats are 'image/jpeg', 'image/png', and 'image/webp'"
        detail = f"unsupported mimetype ('{file.content_type}'). {known}"
        raise bad_picture(param, detail, "unsupported_file_mimetype")
    if (file.size or 0) > limit:
        raise bad_picture(param, f"the file is larger than {limit} bytes", "file_too_large")
    return await file.read()


def decode(uploads: Uploads) -> Inputs:
    """Open every file; runs in a worker thread. Raises ApiError for what is no usable picture."""
    images = tuple(_open(data, "image") for data in uploads.images)
    first = images[0].size
    editable = markup = None
    if uploads.mask is not None:
        mask = _overlay(uploads.mask, "mask", first)
        # Only fully transparent parts may be edited.
        editable = mask.getchannel("A").point([255] + [0] * 255)
    if uploads.markup is not None:
        markup = _overlay(uploads.markup, "markup", first)
    everything = [*uploads.images, uploads.mask or b"", uploads.markup or b""]
    return Inputs(images, editable, markup, digest(*everything))


def _open(data: bytes, param: str) -> Image.Image:
    try:
        return open_picture(data)
    except UnreadablePicture as error:
        raise bad_picture(param, str(error)) from error


def _overlay(data: bytes, param: str, size: tuple[int, int]) -> Image.Image:
    """A PNG with transparent pixels, as large as the picture it lies on."""
    if picture_format(data) != "png":
        raise bad_picture(param, "it must be a PNG file")
    overlay = _open(data, param)
    if overlay.size != size:
        raise bad_picture(param, f"its size {overlay.size} does not match the first image's size {size}")
    if overlay.getchannel("A").histogram()[255] == overlay.width * overlay.height:
        raise bad_picture(param, "it has no transparent pixels")
    return overlay
