"""Whether a file carries content credentials (C2PA), by its container's structure alone.

Where each format keeps its C2PA manifest store is fixed by the C2PA technical specification, section 11.3 (embedding
manifests). The walk reads box headers only, at most MAX_PARTS of them; nothing is verified.
"""

from collections.abc import Iterator
from typing import BinaryIO

from services.gallery.domain.media import AVIF, JPEG, MP4, PNG, WEBP, Format

MAX_PARTS = 4096

_C2PA_BOX = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")  # user type of the `uuid` box in ISO media


def has_content_credentials(file: BinaryIO, format: Format) -> bool | None:
    """None: the format is not examined, or has too many parts to tell."""
    if format == PNG:
        return _found(kind == b"caBX" for kind in _png_chunks(file))
    if format == WEBP:
        return _found(kind == b"C2PA" for kind in _riff_chunks(file))
    if format == JPEG:
        return _found(_is_c2pa_segment(segment) for segment in _jpeg_app11(file))
    if format in (AVIF, MP4):
        return _found(user_type == _C2PA_BOX for user_type in _iso_boxes(file))
    return None


def _found(verdicts: Iterator[bool]) -> bool | None:
    for count, verdict in enumerate(verdicts):
        if verdict:
            return True
        if count >= MAX_PARTS:
            return None
    return False


def _png_chunks(file: BinaryIO) -> Iterator[bytes]:
    at = 8
    while len(header := _at(file, at, 8)) == 8:
        yield header[4:]
        at += 12 + int.from_bytes(header[:4])


def _riff_chunks(file: BinaryIO) -> Iterator[bytes]:
    at = 12
    while len(header := _at(file, at, 8)) == 8:
        yield header[:4]
        length = int.from_bytes(header[4:], "little")
        at += 8 + length + (length & 1)


def _jpeg_app11(file: BinaryIO) -> Iterator[bytes]:
    """The beginning of each APP11 segment (JUMBF, ISO/IEC 19566-5); an empty one for every other segment."""
    at = 2
    while len(header := _at(file, at, 4)) == 4 and header[0] == 0xFF:
        marker, length = header[1], int.from_bytes(header[2:])
        if marker == 0xDA:  # start of scan: no application segments behind it
            return
        yield _at(file, at + 4, min(length, 64)) if marker == 0xEB else b""
        at += 2 + length


def _is_c2pa_segment(segment: bytes) -> bool:
    return segment.startswith(b"JP") and b"jumb" in segment and b"c2pa" in segment


def _iso_boxes(file: BinaryIO) -> Iterator[bytes]:
    """The user type of each `uuid` box on the top level; an empty one for every other box."""
    at = 0
    while len(header := _at(file, at, 32)) >= 8:
        length, start = int.from_bytes(header[:4]), 8
        if length == 1:
            length, start = int.from_bytes(header[8:16]), 16
        yield header[start : start + 16] if header[4:8] == b"uuid" else b""
        if length < start:  # 0: up to the end of the file; less is broken
            return
        at += length


def _at(file: BinaryIO, offset: int, length: int) -> bytes:
    if offset > 2**62:
        return b""
    file.seek(offset)
    return file.read(length)
