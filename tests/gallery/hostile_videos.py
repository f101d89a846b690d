"""Videos whose structure promises more than there is, or leads elsewhere."""

import functools
import io
import struct
from collections.abc import Callable
from fractions import Fraction

import av
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from tests.gallery.boxes import box, box_of, edited, full_box, without
from tests.gallery.media import MP4, WEBM

UNSUPPORTED = "UNSUPPORTED_MEDIA"
BILLIONS = 2**32 - 1
EVERYTHING = 2**56 - 1
"""The size of an EBML element that has none."""

_SEGMENT = b"\x18\x53\x80\x67"
_TRACKS = b"\x16\x54\xae\x6b"
_HEADER = WEBM[: WEBM.index(_SEGMENT)]


def nested(kind: bytes, depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        data = box(kind, data)
    return data


def table(kind: bytes, count: int, entries: bytes = b"") -> bytes:
    """The video with a table of its index replaced."""
    return edited(MP4, kind, full_box(kind, struct.pack(">I", count) + entries))


def sizes(size: int) -> bytes:
    return edited(MP4, b"stsz", full_box(b"stsz", struct.pack(">II", size, BILLIONS)))


def for_years() -> bytes:
    """By the headers of the film, of the track and of its media, but not by its frames."""
    video = MP4
    for kind, at in ((b"mvhd", 24), (b"tkhd", 28), (b"mdhd", 24)):
        old = box_of(video, kind)
        video = video.replace(old, old[:at] + struct.pack(">I", BILLIONS - 1) + old[at + 4 :])
    return video


def element(identity: bytes, size: int) -> bytes:
    return identity + ((1 << 56) | size).to_bytes(8)


def elsewhere() -> bytes:
    entry = full_box(b"url ", b"http://127.0.0.1:9/secret\0")
    return edited(MP4, b"dref", full_box(b"dref", struct.pack(">I", 1) + entry))


@functools.cache
def never_shown(codec: str, size: int, frames: int) -> bytes:
    """Key frames of one colour, a few kilobytes each, all marked as not to be shown."""
    shown = key_frame(codec, size)
    target = io.BytesIO()
    with av.open(target, "w", format="webm") as container:
        stream = container.add_stream(codec, rate=30)
        assert isinstance(stream, VideoStream)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            packet = av.Packet(shown)
            packet.pts = packet.dts = number
            packet.time_base = Fraction(1, 30)
            packet.is_keyframe = True
            packet.stream = stream
            container.mux(packet)
    return target.getvalue().replace(shown, _hidden(shown, codec))


def key_frame(codec: str, size: int) -> bytes:
    """Of one colour, made as fast as the encoder can."""
    encoder = av.CodecContext.create(codec, "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width = encoder.height = size
    encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, 30)
    encoder.options = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "threads": "1"}
    frame = av.VideoFrame(size, size, "yuv420p")
    for plane in frame.planes:
        plane.update(b"\x5a" * plane.buffer_size)
    frame.pts = 0
    [packet] = [*encoder.encode(frame), *encoder.encode(None)]
    return bytes(packet)


def _hidden(packet: bytes, codec: str) -> bytes:
    """Without `show_frame` (RFC 6386, 9.1; VP9 bitstream specification, 6.2)."""
    return bytes([packet[0] & ~(0x10 if codec == "libvpx" else 2)]) + packet[1:]


VIDEOS: dict[str, tuple[Callable[[], bytes], str | None]] = {
    "VP9 of 121 frames of 25 megapixels that are never shown": (
        lambda: never_shown("libvpx-vp9", 5_000, 121),
        UNSUPPORTED,
    ),
    "VP8 of 121 frames of 16 megapixels that are never shown": (lambda: never_shown("libvpx", 4_000, 121), UNSUPPORTED),
    "MP4 with boxes 5,000 deep": (lambda: MP4 + nested(b"moov", 5_000), UNSUPPORTED),
    "MP4 of 300,000 boxes": (lambda: MP4 + box(b"free", b"") * 300_000, UNSUPPORTED),
    "MP4 with a box of no size in its index": (lambda: edited(MP4, b"mvhd", b"\0\0\0\0mvhd"), UNSUPPORTED),
    "MP4 with a box of 8 exabytes": (lambda: MP4 + b"\0\0\0\1free\x7f" + b"\xff" * 7, UNSUPPORTED),
    "MP4 with billions of chunks": (lambda: table(b"stco", BILLIONS), UNSUPPORTED),
    "MP4 with billions of samples of no size": (lambda: sizes(0), UNSUPPORTED),
    "MP4 with billions of samples of one size": (lambda: sizes(1), UNSUPPORTED),
    "MP4 with a frame of billions of samples": (
        lambda: table(b"stts", 1, struct.pack(">II", BILLIONS, 1)),
        UNSUPPORTED,
    ),
    "MP4 whose samples lie behind its end": (lambda: table(b"stco", 1, struct.pack(">I", BILLIONS)), UNSUPPORTED),
    "MP4 that says it lasts for years": (for_years, None),
    "MP4 with 100,000 edits": (
        lambda: edited(MP4, b"edts", box(b"edts", full_box(b"elst", struct.pack(">I", 100_000) + bytes(1_200_000)))),
        None,
    ),
    "MP4 whose samples are elsewhere": (elsewhere, UNSUPPORTED),
    "MP4 without a sample table": (lambda: without(MP4, b"stbl"), UNSUPPORTED),
    "WebM with a segment of petabytes": (lambda: _HEADER + element(_SEGMENT, 2**55), UNSUPPORTED),
    "WebM whose elements have no end": (
        lambda: _HEADER + element(_SEGMENT, EVERYTHING) + element(_TRACKS, EVERYTHING) * 2_000,
        UNSUPPORTED,
    ),
}
