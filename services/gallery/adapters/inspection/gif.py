"""Whether a GIF ever shows the page behind it.

Pillow composes GIF frames on an opaque background where browsers leave it clear, so its pixels do not tell. Here each
frame is decoded on its own, and only the opacity of the canvas is kept, as the GIF89a specification disposes of it.
"""

import io
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image

_EXTENSION, _FRAME, _TRAILER = b"!", b",", b";"
_GRAPHIC_CONTROL = b"\xf9"
_RESTORE_BACKGROUND, _RESTORE_PREVIOUS = 2, 3
_OPAQUE = 255


@dataclass(frozen=True, slots=True)
class _Frame:
    """A frame as the file has it: where it goes, what it leaves behind, and a one-frame GIF of it."""

    left: int
    top: int
    width: int
    height: int
    disposal: int
    transparent_index: int | None
    standalone: bytes


def gif_has_transparency(file: BinaryIO, *, max_pixels: int, frames: int, seconds: float) -> bool | None:
    """Looks at the frames one after the other, at most so many and for so many seconds of the processor.

    None: undecided.

    Raises:
        EOFError, ValueError, OSError: the file is broken.
    """
    end = time.process_time() + seconds
    header = _Header.read(file)
    canvas = Image.new("L", (header.width, header.height), 0)
    for number, frame in enumerate(_frames(file, header)):
        if number >= frames or (number and time.process_time() > end):
            return None
        if frame.width * frame.height > max_pixels:
            raise ValueError("frame larger than any image may be")
        before = canvas.copy() if frame.disposal == _RESTORE_PREVIOUS else None
        canvas.paste(_OPAQUE, (frame.left, frame.top), _drawn(frame))
        if canvas.getextrema() != (_OPAQUE, _OPAQUE):
            return True
        if before is not None:
            canvas = before
        elif frame.disposal == _RESTORE_BACKGROUND:
            canvas.paste(0, (frame.left, frame.top, frame.left + frame.width, frame.top + frame.height))
    return False


def first_frame_box(file: BinaryIO) -> tuple[int, int, int, int]:
    """What the first frame covers of the canvas (left, top, right, bottom); the rest shows the page behind it.

    Raises:
        EOFError, ValueError, OSError: the file is broken.
    """
    frame = next(_frames(file, _Header.read(file)), None)
    if frame is None:
        raise ValueError("no frame")
    return frame.left, frame.top, frame.left + frame.width, frame.top + frame.height


def _drawn(frame: _Frame) -> Image.Image:
    """The mask of pixels that the frame paints."""
    with Image.open(io.BytesIO(frame.standalone), formats=["GIF"]) as image:
        indexes = Image.frombytes("L", (frame.width, frame.height), image.tobytes())
    return indexes.point([0 if index == frame.transparent_index else _OPAQUE for index in range(256)])


@dataclass(frozen=True, slots=True)
class _Header:
    width: int
    height: int
    packed: int
    colours: bytes

    @classmethod
    def read(cls, file: BinaryIO) -> "_Header":
        file.seek(6)
        screen = _take(file, 7)
        packed = screen[4]
        colours = _take(file, _colour_bytes(packed))
        return cls(int.from_bytes(screen[0:2], "little"), int.from_bytes(screen[2:4], "little"), packed, colours)


def _frames(file: BinaryIO, header: _Header) -> Iterator[_Frame]:
    """The frames up to the trailer, or to the end of a file that has none."""
    disposal, transparent_index = 0, None
    while introducer := file.read(1):
        if introducer == _TRAILER:
            return
        if introducer == _FRAME:
            yield _read_frame(file, header, disposal, transparent_index)
            disposal, transparent_index = 0, None
        elif introducer == _EXTENSION:
            label = _take(file, 1)
            content = _sub_blocks(file)
            if label == _GRAPHIC_CONTROL:
                _, packed, _, _, index, *_ = content
                disposal = packed >> 2 & 7
                transparent_index = index if packed & 1 else None
        else:
            raise ValueError("no GIF block")


def _read_frame(file: BinaryIO, header: _Header, disposal: int, transparent_index: int | None) -> _Frame:
    place = _take(file, 9)
    left, top, width, height = (int.from_bytes(place[at : at + 2], "little") for at in (0, 2, 4, 6))
    own_colours = _take(file, _colour_bytes(place[8]))
    data = _take(file, 1) + _sub_blocks(file)
    size = place[4:8]
    screen = b"GIF89a" + size + bytes([header.packed, 0, 0]) + header.colours
    standalone = screen + b",\0\0\0\0" + size + place[8:9] + own_colours + data + b";"
    return _Frame(left, top, width, height, disposal, transparent_index, standalone)


def _colour_bytes(packed: int) -> int:
    """Size of the colour table that a packed byte announces; the lowest three bits are its logarithm less one."""
    return 3 << (packed & 7) + 1 if packed & 0x80 else 0


def _sub_blocks(file: BinaryIO) -> bytes:
    """A chain of sub-blocks with its length bytes, up to and with the empty one."""
    chain = bytearray()
    while length := _take(file, 1)[0]:
        chain.append(length)
        chain += _take(file, length)
    chain.append(0)
    return bytes(chain)


def _take(file: BinaryIO, length: int) -> bytes:
    data = file.read(length)
    if len(data) < length:
        raise EOFError("truncated GIF")
    return data
