"""The frame that stands for a video: near its beginning, and not the black that many begin with."""

import struct
from typing import cast

from av.sidedata.sidedata import SideDataContainer
from av.video.frame import VideoFrame
from PIL import Image, ImageStat

from services.gallery.adapters.inspection.errors import BrokenFileError
from services.gallery.adapters.inspection.video import Video

MAX_SECONDS = 4.0

_DARK, _FLAT = 24.0, 4.0  # of 255: mean, and standard deviation, of the brightness
_SAMPLE = 64
# By the signs of a, b, c and d; Pillow turns anticlockwise.
_TURNS = {
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}


def poster(video: Video, longest_edge: int) -> Image.Image:
    """The first frame of the first seconds that is neither dark nor of one shade; else the brightest.

    Raises:
        BrokenFileError, TooManyPixelsError, TooMuchWorkError.
    """
    best: VideoFrame | None = None
    best_mean, begin = -1.0, None
    for frame in video.frames():
        mean, deviation = _brightness(frame)
        if mean > max(best_mean, _DARK) or (best is None and mean > best_mean):
            best, best_mean = frame, mean
        begin = begin if begin is not None else frame.time
        later = (frame.time or 0) - (begin or 0)
        if (mean >= _DARK and deviation >= _FLAT) or later > MAX_SECONDS:
            best = frame if mean >= _DARK and deviation >= _FLAT else best
            break
    if best is None:
        raise BrokenFileError("no frame")
    return _shown(best, video, longest_edge)


def _brightness(frame: VideoFrame) -> tuple[float, float]:
    small = _picture(frame, (_SAMPLE, _SAMPLE)).convert("L")
    statistics = ImageStat.Stat(small)
    return statistics.mean[0], statistics.stddev[0]


def _shown(frame: VideoFrame, video: Video, longest_edge: int) -> Image.Image:
    """As a player shows it: with square pixels, upright."""
    aspect = video.stream.sample_aspect_ratio
    width = frame.width * float(aspect) if aspect and 0.1 < aspect < 10 else frame.width
    scale = min(1.0, longest_edge / max(width, frame.height))
    size = max(1, round(width * scale)), max(1, round(frame.height * scale))
    image = _picture(frame, size)
    return _upright(image, frame)


def _upright(image: Image.Image, frame: VideoFrame) -> Image.Image:
    """Turned and mirrored as the display matrix says (ISO/IEC 14496-12, 8.3.2: x' = ax + cy, y' = bx + dy)."""
    try:
        matrix = cast("SideDataContainer", frame.side_data)["DISPLAYMATRIX"]
    except KeyError:
        return image
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(matrix)[:36])
    turn = _TURNS.get(tuple((value > 0) - (value < 0) for value in (a, b, c, d)))
    if turn is not None:
        return image.transpose(turn)
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image


def _picture(frame: VideoFrame, size: tuple[int, int]) -> Image.Image:
    scaled = frame.reformat(*size, "rgb24", interpolation="AREA", threads=1)
    [plane] = scaled.planes
    return Image.frombuffer("RGB", size, bytes(plane), "raw", "RGB", plane.line_size, 1)
