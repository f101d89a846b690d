"""The pictures that an edit is given: what their first bytes say, the rules for them, and the form they travel in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from services.common.errors import InvalidArgument, Violation

# The protocol's limits, from OpenAI's reference of `POST /images/edits`.
MAX_IMAGE_BYTES = 50_000_000
MAX_MASK_BYTES = 4_000_000
MIME_TYPES = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}

_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MAX_SEGMENTS = 1000


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """What is known of a picture without decoding it. `alpha`: whether pixels may be transparent; None: unknown."""

    mime_type: str
    width_px: int
    height_px: int
    size_bytes: int
    alpha: bool | None = None


@dataclass(frozen=True, slots=True)
class PictureFile:
    """A picture as it is sent."""

    content: bytes = field(repr=False)
    mime_type: str


@dataclass(frozen=True, slots=True)
class EditFiles:
    """The pictures of an edit; mask and markup belong to the first."""

    images: tuple[PictureFile, ...]
    mask: PictureFile | None = None
    markup: PictureFile | None = None

    def form(self, mask_field: str) -> list[tuple[str, tuple[str, bytes, str]]]:
        """The parts of the form: one picture is `image`, several are `image[]`, as the SDK names them."""
        name = "image" if len(self.images) == 1 else "image[]"
        parts = [_part(name, f"image-{index}", file) for index, file in enumerate(self.images)]
        if self.mask is not None:
            parts.append(_part(mask_field, "mask", self.mask))
        if self.markup is not None:
            parts.append(_part("markup", "markup", self.markup))
        return parts


def _part(name: str, stem: str, file: PictureFile) -> tuple[str, tuple[str, bytes, str]]:
    # The part's type is what counts; the API refuses a file without one.
    return name, (f"{stem}.{MIME_TYPES[file.mime_type]}", file.content, file.mime_type)


def read_facts(content: bytes) -> PictureFacts | None:
    """The facts of a PNG, JPEG or WebP; None: it is none of them, or its header is broken."""
    found: tuple[int, int, bool] | None = None
    mime_type = ""
    if content.startswith(b"\x89PNG\r\n\x1a\n") and content[12:16] == b"IHDR" and len(content) >= 33:
        mime_type, found = "image/png", (_number(content, 16, 4), _number(content, 20, 4), _png_alpha(content))
    elif content.startswith(b"\xff\xd8\xff"):
        mime_type, found = "image/jpeg", _jpeg_facts(content)
    elif content.startswith(b"RIFF") and content[8:12] == b"WEBP" and len(content) >= 30:
        mime_type, found = "image/webp", _webp_facts(content)
    if found is None or not found[0] or not found[1]:
        return None
    width, height, alpha = found
    return PictureFacts(mime_type, width, height, len(content), alpha)


def _number(content: bytes, at: int, length: int, order: Literal["big", "little"] = "big") -> int:
    return int.from_bytes(content[at : at + length], order)


def _png_alpha(content: bytes) -> bool:
    """Whether the colour type has alpha, or a tRNS chunk stands before the pixels."""
    if content[25] in (4, 6):
        return True
    at = 8
    for _ in range(_MAX_SEGMENTS):
        kind = content[at + 4 : at + 8]
        if kind in (b"tRNS", b"IDAT", b""):
            return kind == b"tRNS"
        at += 12 + _number(content, at, 4)
    return False


def _jpeg_facts(content: bytes) -> tuple[int, int, bool] | None:
    at = 2
    for _ in range(_MAX_SEGMENTS):
        if content[at : at + 1] != b"\xff" or at + 9 > len(content):
            return None
        marker = content[at + 1]
        if marker in _JPEG_FRAMES:
            return _number(content, at + 7, 2), _number(content, at + 5, 2), False
        # A marker may be preceded by any number of fill bytes.
        at += 1 if marker == 0xFF else 2 + _number(content, at + 2, 2)
    return None


def _webp_facts(content: bytes) -> tuple[int, int, bool] | None:
    """Canvas and alpha of the three kinds of WebP (RFC 9649, 2.5 to 2.7)."""
    match content[12:16]:
        case b"VP8X":
            width, height = (_number(content, at, 3, "little") + 1 for at in (24, 27))
            return width, height, bool(content[20] & 0x10)
        case b"VP8L":
            bits = _number(content, 21, 4, "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)
        case b"VP8 ":
            return _number(content, 26, 2, "little") & 0x3FFF, _number(content, 28, 2, "little") & 0x3FFF, False
        case _:
            return None


def check_files(
    images: Sequence[PictureFacts | None], mask: PictureFacts | None = None, markup: PictureFacts | None = None
) -> None:
    """The rules of the protocol for the pictures of an edit, before anything is paid. None: it could not be read.

    Raises:
        InvalidArgument: INVALID_IMAGE, with a violation for each picture that breaks one.
    """
    violations = [
        Violation(f"images[{index}]", problem, "INVALID_IMAGE")
        for index, facts in enumerate(images)
        for problem in _image_problems(facts)
    ]
    first = images[0]
    for name, overlay, limit in (("mask", mask, MAX_MASK_BYTES), ("markup", markup, MAX_IMAGE_BYTES)):
        if overlay is not None:
            problems = _overlay_problems(overlay, first, limit)
            violations += [Violation(name, problem, "INVALID_IMAGE") for problem in problems]
    if violations:
        worst = violations[0]
        message = f"{worst.field}: {worst.description}"
        raise InvalidArgument("INVALID_IMAGE", message, metadata={"field": worst.field}, violations=violations)


def _image_problems(facts: PictureFacts | None) -> Iterator[str]:
    if facts is None or facts.mime_type not in MIME_TYPES:
        yield "must be a PNG, JPEG or WebP picture"
    elif facts.size_bytes > MAX_IMAGE_BYTES:
        yield f"must have at most {MAX_IMAGE_BYTES} bytes"


def _overlay_problems(overlay: PictureFacts, first: PictureFacts | None, limit: int) -> Iterator[str]:
    if overlay.mime_type != "image/png":
        yield "must be a PNG picture"
        return
    if overlay.size_bytes > limit:
        yield f"must have at most {limit} bytes"
    if overlay.alpha is False:
        yield "must have transparent pixels"
    if first is not None and (overlay.width_px, overlay.height_px) != (first.width_px, first.height_px):
        yield (
            f"is {overlay.width_px}x{overlay.height_px}; it must have the size of the first image, "
            f"{first.width_px}x{first.height_px}"
        )
