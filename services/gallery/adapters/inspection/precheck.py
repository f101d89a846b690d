"""Cheap looks at a picture's structure before a decoder gets it: for what costs far more to decode than to send.

Each walks over headers only, in bounded steps. What a decoder notices by itself is left to it.
"""

import os
import re
from collections.abc import Iterator
from typing import BinaryIO

from services.gallery.adapters.inspection.errors import BrokenFileError, TooManyPixelsError
from services.gallery.adapters.inspection.limits import Limits
from services.gallery.domain.media import GIF, JPEG, PNG, WEBP, Format

MAX_JPEG_SEGMENTS = 4096
"""In all. An extended XMP of 100 MB takes 1,600 segments."""

MAX_JPEG_SCANS = 64
"""Encoders write 6 to 15; each scan passes over the whole picture again, and may be a few bytes long."""

MAX_EXIF_SEGMENTS = 16
"""Exif 2.32 allows one; Pillow joins them one by one."""

MAX_PNG_CHUNKS = 4096
PNG_CHUNK_BYTES = 1024
"""A PNG of more chunks has as many as its bytes give of this size; libpng writes 8 KiB at a time."""

MAX_GIF_PROLOGUE_BYTES = 1024 * 1024
MAX_GIF_PROLOGUE_BLOCKS = 1024

_DEFLATE_RATIO = 1032
"""Deflate gives at most so many bytes for one (RFC 1951: 258 bytes for two bits)."""

_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]", re.DOTALL)
"""0x01, restarts and the beginning of an image (0xD8) have no segment (ITU-T T.81, table B.1)."""

_APP1, _END_OF_IMAGE, _START_OF_SCAN = 0xE1, 0xD9, 0xDA
_PIECE_BYTES = 1024 * 1024
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, by PNG's colour type


def precheck(file: BinaryIO, format: Format, limits: Limits) -> None:
    """Refuses a picture that would cost too much, as far as its headers tell.

    Raises:
        BrokenFileError, TooManyPixelsError, LargePictureError, TooMuchWorkError.
    """
    descriptor = file.fileno()
    if format == JPEG:
        _check_jpeg(descriptor)
    elif format == PNG:
        _check_png(descriptor, limits.max_pixels)
    elif format == GIF:
        _check_gif(descriptor)
    elif format == WEBP:
        _check_webp(descriptor, limits)


def _check_jpeg(descriptor: int) -> None:
    """Goes from marker to marker as decoders do: over segments by their length, over anything else to the next one."""
    scans, exif = 0, 0
    for marker, begin in _jpeg_segments(descriptor):
        scans += marker == _START_OF_SCAN
        exif += marker == _APP1 and os.pread(descriptor, 6, begin) == b"Exif\0\0"
        if scans > MAX_JPEG_SCANS:
            raise BrokenFileError("too many scans")
        if exif > MAX_EXIF_SEGMENTS:
            raise BrokenFileError("too much EXIF")


def _jpeg_segments(descriptor: int) -> Iterator[tuple[int, int]]:
    """The marker of each segment and where its data begin, up to the end of the image."""
    at = 2
    for _ in range(MAX_JPEG_SEGMENTS):
        found = _next_marker(descriptor, at)
        if found is None:
            return
        marker, at = found
        length = os.pread(descriptor, 2, at)
        if marker == _END_OF_IMAGE or len(length) < 2:
            return
        yield marker, at + 2
        at += max(2, int.from_bytes(length))
    raise BrokenFileError("too many segments")


def _next_marker(descriptor: int, at: int) -> tuple[int, int] | None:
    """In a scan 0xFF is followed by 0 or is a restart; neither, nor fill bytes, is a marker with a segment."""
    size = 64  # of most segments the next is right behind
    while piece := os.pread(descriptor, size + 1, at):
        if found := _MARKER.search(piece):
            return found[0][1], at + found.end()
        at += size  # a marker across the border is seen in the byte that overlaps
        size = min(16 * size, _PIECE_BYTES)
    return None


def _check_png(descriptor: int, max_pixels: int) -> None:
    head = os.pread(descriptor, 29, 0)
    if len(head) < 29 or head[12:16] != b"IHDR":
        raise BrokenFileError("no header")
    width, height, depth, colour = int.from_bytes(head[16:20]), int.from_bytes(head[20:24]), head[24], head[25]
    if width * height > max_pixels:
        raise TooManyPixelsError
    needed = (width * _SAMPLES.get(colour, 1) * depth + 7) // 8 * height
    if _compressed_bytes(descriptor) * _DEFLATE_RATIO < needed:
        raise BrokenFileError("fewer bytes than the pixels need")


def _compressed_bytes(descriptor: int) -> int:
    at, total, size = 8, 0, os.fstat(descriptor).st_size
    for _ in range(MAX_PNG_CHUNKS + size // PNG_CHUNK_BYTES):
        header = os.pread(descriptor, 8, at)
        if len(header) < 8 or header[4:] == b"IEND":
            return total
        length = int.from_bytes(header[:4])
        if header[4:] == b"IDAT":
            total += length
        at += 12 + length
        if at > size:
            raise BrokenFileError("cut short")
    raise BrokenFileError("too many chunks")


def _check_gif(descriptor: int) -> None:
    """What comes before the first frame: Pillow joins comments block by block."""
    screen = os.pread(descriptor, 13, 0)
    packed = screen[10] if len(screen) == 13 else 0
    start = at = 13 + (3 << (packed & 7) + 1 if packed & 0x80 else 0)
    for _ in range(MAX_GIF_PROLOGUE_BLOCKS):
        if os.pread(descriptor, 1, at) != b"!":
            return
        at += 2
        while length := os.pread(descriptor, 1, at):
            at += 1 + length[0]
            if at - start > MAX_GIF_PROLOGUE_BYTES:
                raise BrokenFileError("too much before the first frame")
            if length == b"\0":
                break
    raise BrokenFileError("too many blocks before the first frame")


def _check_webp(descriptor: int, limits: Limits) -> None:
    """The decoder makes its canvas before anybody has seen its size (RFC 9649, 2.5 to 2.7)."""
    head = os.pread(descriptor, 30, 0)
    if len(head) < 30:
        raise BrokenFileError("no header")
    match head[12:16]:
        case b"VP8X":
            width, height = 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
        case b"VP8L":
            bits = int.from_bytes(head[21:25], "little")
            width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        case b"VP8 ":
            width = int.from_bytes(head[26:28], "little") & 0x3FFF
            height = int.from_bytes(head[28:30], "little") & 0x3FFF
        case _:
            raise BrokenFileError("no picture")
    limits.admit_compressed(width * height, os.fstat(descriptor).st_size)
