"""The structure of an MP4 file, checked before a demuxer reads it (ISO/IEC 14496-12).

Demuxers believe the counts in sample tables and take memory and time for them. Here every box must lie within its
parent, every table must have the entries that it announces, and the numbers of boxes, samples and levels are bounded.
"""

import array
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.gallery.adapters.inspection.errors import BrokenFileError

MAX_BOXES = 20_000
BYTES_PER_BOX = 64
"""A file has as many boxes more as it has bytes for: a fragment has about 15 with its samples, and a fragment of two
seconds is a kilobyte at the very least."""

MAX_DEPTH = 10
MAX_SAMPLES = 5_000_000
"""All tracks together; 10 hours of video at 60 Hz with sound have 4 million."""

MAX_TABLE_BYTES = 64 * 1024 * 1024

_CONTAINERS = frozenset(
    {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf", b"edts", b"moof", b"traf", b"mvex", b"mfra"}
)
# Bytes of an entry behind version, flags and the number of entries.
_ENTRY_BYTES = {b"stts": 8, b"ctts": 8, b"stsc": 12, b"stco": 4, b"co64": 8, b"stss": 4, b"elst": 12, b"dref": 12}
_ON_TOP = frozenset(
    {
        b"ftyp",
        b"styp",
        b"moov",
        b"moof",
        b"mdat",
        b"free",
        b"skip",
        b"wide",
        b"uuid",
        b"sidx",
        b"ssix",
        b"mfra",
        b"meta",
    }
)
_WHOLE = frozenset({b"ftyp", b"moov", b"mdat"})
_ONE = (1).to_bytes(4)
_SELF_CONTAINED = 1
_PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Box:
    kind: bytes
    start: int
    end: int


def check_iso_media(descriptor: int) -> None:
    """Refuses a file that is cut short, that has no index, or whose index asks for more than there is.

    Raises:
        BrokenFileError.
    """
    _Check(descriptor).run()


class _Check:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._most_boxes = MAX_BOXES + self._size // BYTES_PER_BOX
        self._boxes = 0
        self._samples = 0
        self._handler = b""

    def run(self) -> None:
        kinds: set[bytes] = set()
        for box in self._children(0, self._size, depth=0):
            if box is None:
                if kinds >= _WHOLE:
                    break  # whatever it is, no reader needs it
                raise BrokenFileError("a box reaches beyond the file")
            kinds.add(box.kind)
            self._check(box, depth=0)
        if not kinds >= {b"ftyp", b"moov"}:
            raise BrokenFileError("no index")

    def _check(self, box: _Box, depth: int) -> None:
        if box.kind in _CONTAINERS:
            if depth == MAX_DEPTH:
                raise BrokenFileError("boxes too deep")
            children = list(self._inner(box.start, box.end, depth + 1))
            if box.kind == b"stbl" and self._is_plain_sound(children):
                children = [child for child in children if child.kind not in (b"stsz", b"stts")]
            for child in children:
                self._check(child, depth + 1)
        elif box.kind == b"hdlr":
            self._handler = self._read(box.start + 8, 4)
        elif box.kind in _ENTRY_BYTES:
            self._check_table(box)
        elif box.kind in (b"stsz", b"stz2"):
            self._check_sizes(box)
        elif box.kind == b"trun":
            self._count(_number(self._read(box.start + 4, 4)))

    def _is_plain_sound(self, tables: Sequence[_Box]) -> bool:
        """Sound without compression: samples of one size and one duration, which demuxers never count one by one."""
        if self._handler != b"soun":
            return False
        by_kind = {table.kind: table for table in tables}
        sizes, times = by_kind.get(b"stsz"), by_kind.get(b"stts")
        if sizes is None or times is None or len(by_kind) < len(tables):
            return False
        size, count = _number(self._read(sizes.start + 4, 4)), _number(self._read(sizes.start + 8, 4))
        alike = self._read(times.start + 4, 4) == _ONE and self._read(times.start + 12, 4) == _ONE
        return alike and 0 < size * count <= self._size

    def _inner(self, start: int, end: int, depth: int) -> Iterator[_Box]:
        for box in self._children(start, end, depth):
            if box is None:
                raise BrokenFileError("a box reaches beyond what it is in")
            yield box

    def _children(self, start: int, end: int, depth: int) -> Iterator[_Box | None]:
        """None, and an end, where there is no box; what begins like a known one is one."""
        at = start
        # Some writers end a list of boxes with four zero bytes.
        while end - at >= 8:
            self._boxes += 1
            if self._boxes > self._most_boxes:
                raise BrokenFileError("too many boxes")
            header = self._read(at, 16)
            length, begin = _number(header[:4]), at + 8
            if length == 1:
                length, begin = _number(header[8:16]), at + 16
            elif length == 0 and depth == 0:  # up to the end of the file
                length = end - at
            if at + length > end or at + length < begin:
                if depth or header[4:8] in _ON_TOP:
                    raise BrokenFileError("a box reaches beyond what it is in")
                yield None
                return
            yield _Box(header[4:8], begin, at + length)
            at += length

    def _check_table(self, box: _Box) -> None:
        count = _number(self._read(box.start + 4, 4))
        if count * _ENTRY_BYTES[box.kind] > box.end - box.start - 8 or box.end - box.start > MAX_TABLE_BYTES:
            raise BrokenFileError("a table with fewer entries than it announces, or far too many")
        if box.kind in (b"stts", b"ctts"):
            self._count(sum(self._numbers(box.start + 8, count * 2, "I")[::2]))
        elif box.kind in (b"stco", b"co64"):
            offsets = self._numbers(box.start + 8, count, "I" if box.kind == b"stco" else "Q")
            if offsets and max(offsets) >= self._size:
                raise BrokenFileError("samples behind the end of the file")
        elif box.kind == b"dref":
            self._check_references(box)

    def _check_sizes(self, box: _Box) -> None:
        size, count = _number(self._read(box.start + 4, 4)), _number(self._read(box.start + 8, 4))
        self._count(count)
        if box.kind == b"stsz" and size == 0 and count * 4 > box.end - box.start - 12:
            raise BrokenFileError("fewer sizes of samples than announced")
        if box.kind == b"stsz" and count * size > self._size:
            raise BrokenFileError("more samples than bytes")

    def _check_references(self, box: _Box) -> None:
        """A file that keeps its samples in another file is none that can be stored."""
        for child in self._inner(box.start + 8, box.end, depth=1):
            if not self._read(child.start, 4)[-1:] or not self._read(child.start, 4)[3] & _SELF_CONTAINED:
                raise BrokenFileError("refers to another file")

    def _count(self, samples: int) -> None:
        # The three tables of a track each tell the same number: each is held to the limit on its own.
        self._samples += samples
        if samples > MAX_SAMPLES or self._samples > 4 * MAX_SAMPLES:
            raise BrokenFileError("too many samples")

    def _numbers(self, start: int, count: int, typecode: str) -> "array.array[int]":
        numbers = array.array(typecode)
        length = count * numbers.itemsize
        for at in range(0, length, _PIECE_BYTES):
            numbers.frombytes(self._read(start + at, min(_PIECE_BYTES, length - at)))
        if sys.byteorder == "little":
            numbers.byteswap()
        return numbers

    def _read(self, start: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, start)


def _number(data: bytes) -> int:
    return int.from_bytes(data)
