"""The structure of a WebM file, checked before a demuxer reads it (RFC 8794, RFC 9559)."""

import os

from services.gallery.adapters.inspection.errors import BrokenFileError

MAX_ELEMENTS = 20_000
"""Elements on the top level and in the segment; clusters of one second make it five hours."""

_EBML_HEADER = 0x1A45DFA3
_SEGMENT = 0x18538067
_CLUSTER = 0x1F43B675
_PIECE_BYTES = 1024 * 1024


def check_matroska(descriptor: int) -> None:
    """Refuses a file that is cut short, that has no segment, or whose elements are larger than the file.

    A recorder that cannot go back (browsers) leaves the sizes of segment and clusters open: such a file ends where it
    ends, and whether it is whole cannot be told.

    Raises:
        BrokenFileError.
    """
    size = os.fstat(descriptor).st_size
    kind, length, start = _element(descriptor, 0)
    if kind != _EBML_HEADER or length is None or start + length > size:
        raise BrokenFileError("no header")
    at, end, seen, segment_end = start + length, size, 0, size
    while at < end:
        if at >= segment_end and not _rest_is_of_use(descriptor, at):
            break
        kind, length, start = _element(descriptor, at)
        seen += 1
        if seen > MAX_ELEMENTS:
            raise BrokenFileError("too many elements")
        if length is None:
            if kind not in (_SEGMENT, _CLUSTER):
                raise BrokenFileError("an element without an end")
            if kind == _CLUSTER:
                return
        elif start + length > end:
            raise BrokenFileError("an element reaches beyond what it is in")
        if kind == _SEGMENT and length is not None:
            segment_end = start + length
        at = start if kind == _SEGMENT else start + (length or 0)
    if not seen:
        raise BrokenFileError("no segment")


def _rest_is_of_use(descriptor: int, at: int) -> bool:
    """Whether anything but zeros is left: some writers make a file larger in advance."""
    while piece := os.pread(descriptor, _PIECE_BYTES, at):
        if piece.count(0) < len(piece):
            return True
        at += len(piece)
    return False


def _element(descriptor: int, at: int) -> tuple[int, int | None, int]:
    """Id, length (None: unknown) and where the content begins."""
    head = os.pread(descriptor, 12, at)
    id_bytes = _width(head[:1], 4)
    size_bytes = _width(head[id_bytes : id_bytes + 1], 8)
    start = id_bytes + size_bytes
    if len(head) < start:
        raise BrokenFileError("cut short")
    unmarked = (1 << 7 * size_bytes) - 1
    length = int.from_bytes(head[id_bytes:start]) & unmarked
    return int.from_bytes(head[:id_bytes]), None if length == unmarked else length, at + start


def _width(first: bytes, most: int) -> int:
    """Bytes of a number with a variable width: one more than its leading zero bits."""
    width = 9 - first[0].bit_length() if first else most + 1
    if width > most:
        raise BrokenFileError("no element")
    return width
