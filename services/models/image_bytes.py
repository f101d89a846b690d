"""Images as providers put them into words: base64 however it is written, or an address that is never followed."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass

# A whole number of base64's groups. Between two chunks other threads, the event loop's first of all, get their turn.
DECODE_CHUNK = 4 * 1024 * 1024
_FROM_URL_ALPHABET = str.maketrans("-_", "+/")
# As long as what an error may carry allows.
_ADDRESS = re.compile(r"https?://[!-~]{1,900}")


@dataclass(frozen=True, slots=True)
class Image:
    """One image of an answer: its bytes as the provider sent them, or, in our words, what is wrong with it.

    `address` is where the provider says that it is.
    """

    content: bytes | None
    problem: str = ""
    address: str = ""


def images_of(items: object) -> tuple[Image, ...]:
    """The images of an answer's `data`, in its order."""
    return tuple(image_of(item) for item in items) if isinstance(items, list) else ()


def image_of(item: object) -> Image:
    """The image of one item of `data`, or of an event."""
    fields = item if isinstance(item, Mapping) else {}
    encoded, address = fields.get("b64_json"), fields.get("url")
    if not encoded and isinstance(address, str) and address.startswith("data:"):
        encoded = address
    if not isinstance(encoded, str) or not encoded:
        # An address is not followed: it could lead anywhere. Who has paid for what is there is told of it.
        known = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
        return Image(None, "an image has no b64_json", known[0] if known else "")
    try:
        return Image(_decoded(encoded))
    except ValueError:
        return Image(None, "an image is not base64")


def _decoded(text: str) -> bytes:
    """Bytes of base64, however it is written: they have been paid for.

    Raises:
        ValueError: it is none, or of nothing.
    """
    try:
        content = _strictly_decoded(text)
    except ValueError:
        content = _strictly_decoded(_tidy(text))
    if not content:
        raise ValueError("no bytes")
    return content


def _strictly_decoded(text: str) -> bytes:
    content = bytearray()
    for start in range(0, len(text), DECODE_CHUNK):
        content += base64.b64decode(text[start : start + DECODE_CHUNK], validate=True)
    return bytes(content)


def _tidy(text: str) -> str:
    """Without a data URL's head and white space, in the common alphabet, padded."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    text = "".join(text.split()).rstrip("=").translate(_FROM_URL_ALPHABET)
    return text + "=" * (-len(text) % 4)
