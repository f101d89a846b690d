"""Videos, by FFmpeg's demuxers and decoders within bounds: facts, and frames for a poster.

FFmpeg gets a reader of one descriptor, one demuxer by name, and a few decoders. It has no protocol to open anything
else with: no URL, no playlist, no reference to another file.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from fractions import Fraction
from typing import BinaryIO

import av
import av.container
import av.logging
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from services.gallery.adapters.inspection.budget import SECONDS_PER_VIDEO_PIXEL, Earn, no_budget
from services.gallery.adapters.inspection.errors import (
    BrokenFileError,
    LargePictureError,
    NoPictureError,
    TooMuchWorkError,
)
from services.gallery.adapters.inspection.iso_media import check_iso_media
from services.gallery.adapters.inspection.limits import Limits
from services.gallery.adapters.inspection.matroska import check_matroska
from services.gallery.domain.media import MP4, Format

READ_BYTES = 96 * 1024 * 1024
"""Most that is read of a file for one purpose, such as its duration."""

MAX_PACKETS = 60_000
"""Packets looked at from either end; 30 minutes at 30 Hz are 54,000."""

MAX_DECODED_PACKETS = 120
MIN_DECODED_PACKETS = 2
DECODED_PIXELS = 400_000_000
"""Of all packets together, whether their frames are shown or not: 48 frames in 4K."""

UNSEEN_PIXELS = 240_000_000
"""Of all packets before the first frame that is shown: 8 frames in 8K, of which at most six are held back for the order
of showing (H.264, table A-1; H.265, A.4.2). Any number of frames can be said not to be shown, for a few bytes each."""

LONGEST = timedelta(days=2)
"""No video that fits into an upload is longer; what says so is not believed."""

_DEMUXERS = {True: "mov,mp4,m4a,3gp,3g2,mj2", False: "matroska,webm"}
_DECODERS = "h264,hevc,mpeg4,libdav1d,av1,vp8,vp9,libvpx,libvpx-vp9"
_FAR = 2**62

av.logging.set_level(None)


class _Reader:
    """The file as FFmpeg sees it: no name, and an end to its reading."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = READ_BYTES
        self.exhausted = False

    def refill(self) -> None:
        self._left, self.exhausted = READ_BYTES, False

    def read(self, length: int) -> bytes:
        if self._left <= 0:
            self.exhausted = True
            return b""
        data = self._file.read(min(length, self._left))
        self._left -= len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


class Video:
    """An opened video."""

    def __init__(
        self, container: av.container.InputContainer, stream: VideoStream, reader: _Reader, limits: Limits, earn: Earn
    ) -> None:
        self._container = container
        self._reader = reader
        self._limits = limits
        self._earn = earn
        self.stream = stream

    def frames(self) -> Iterator[VideoFrame]:
        """The first frames in the order of showing, as far as a bounded number of packets gives them.

        Raises:
            TooMuchWorkError: none of them is shown.
        """
        self._reader.refill()
        decoded, shown = 0, 0
        for count, packet in enumerate(self._container.demux(self.stream), start=1):
            before = self._pixels()
            self._earn(before * SECONDS_PER_VIDEO_PIXEL)
            for frame in packet.decode():
                self._limits.admit(frame.width * frame.height)
                if isinstance(frame, VideoFrame):
                    shown += 1
                    yield frame
            # A frame that is not shown may yet be larger than those before it.
            decoded += max(before, self._pixels())
            enough = count >= MIN_DECODED_PACKETS and decoded > (DECODED_PIXELS if shown else UNSEEN_PIXELS)
            if count >= MAX_DECODED_PACKETS or enough:
                break
        else:
            return
        if not shown:
            raise TooMuchWorkError

    def _pixels(self) -> int:
        return self.stream.codec_context.width * self.stream.codec_context.height

    def first_frame(self) -> VideoFrame:
        """Raises BrokenFileError if none of the first packets can be decoded."""
        for frame in self.frames():
            return frame
        raise BrokenFileError("no frame")

    def duration(self) -> timedelta | None:
        """From the first to the end of the last frame that is really there; None: not known.

        What headers say is not asked. A long file is read from both ends.
        """
        self._container.seek(0, backward=True)
        self._reader.refill()
        first, last, ended = self._extent()
        if not ended:
            self._reader.refill()
            self._container.seek(_FAR, stream=self.stream, backward=True)
            _, latest, ended = self._extent()
            last = max(last, latest)
        if not ended or last <= first:
            return None
        seconds = (last - first) * Fraction(self.stream.time_base or 1)
        return timedelta(microseconds=round(seconds * 1_000_000)) if seconds < LONGEST.total_seconds() else None

    def _extent(self) -> tuple[int, int, bool]:
        """The first time, the end of the last frame, and whether that was the end of the file."""
        first, last = _FAR, -_FAR
        for count, packet in enumerate(self._container.demux(self.stream)):
            time = _time(packet)
            if time is not None:
                first, last = min(first, time), max(last, time + (packet.duration or 0))
            if count >= MAX_PACKETS:
                return first, last, False
        return first, last, not self._reader.exhausted


@contextmanager
def opened_video(file: BinaryIO, format: Format, limits: Limits, earn: Earn = no_budget) -> Iterator[Video]:
    """The video in a file.

    Raises:
        BrokenFileError, NoPictureError, TooManyPixelsError, LargePictureError.
    """
    is_mp4 = format == MP4
    (check_iso_media if is_mp4 else check_matroska)(file.fileno())
    file.seek(0)
    reader = _Reader(file)
    options = _options(limits.pixels_now, _DEMUXERS[is_mp4])
    try:
        opened = av.open(reader, mode="r", format="mp4" if is_mp4 else "webm", options=options, io_open=_refuse_to_open)
        with opened as container:
            stream = _video_stream(container)
            pixels = stream.codec_context.width * stream.codec_context.height
            if not (pixels or limits.large):  # the demuxer forgets a size that it may not have
                raise LargePictureError
            limits.admit(pixels)
            # Frames that are larger than the header says are refused by the decoder.
            stream.codec_context.options = {"max_pixels": str(limits.pixels_now)}
            stream.codec_context.thread_count = 1
            yield Video(container, stream, reader, limits, earn)
    except av.FFmpegError as error:
        raise BrokenFileError("not decoded") from error


def _options(max_pixels: int, demuxers: str) -> dict[str, str]:
    return {
        "format_whitelist": demuxers,
        "codec_whitelist": _DECODERS,
        "protocol_whitelist": "none",
        "enable_drefs": "0",
        "use_absolute_path": "0",
        "ignore_editlist": "1",
        "max_streams": "32",
        "probesize": str(2 * 1024 * 1024),
        "max_pixels": str(max_pixels),
        "threads": "1",
    }


def _refuse_to_open(url: str, flags: int, options: dict[str, str]) -> object:
    raise PermissionError("a video may open nothing")


def _video_stream(container: av.container.InputContainer) -> VideoStream:
    for stream in container.streams.video:
        if not stream.disposition & stream.disposition.attached_pic and stream.codec_context is not None:
            if stream.codec_context.name not in _DECODERS.split(","):
                raise BrokenFileError("a codec that browsers do not play")
            return stream
    raise NoPictureError


def _time(packet: "Packet[VideoStream]") -> int | None:
    return packet.pts if packet.pts is not None else packet.dts
