"""Small real media for tests."""

import functools
import io
import random
from collections.abc import Sequence

import av
from av.video.stream import VideoStream
from PIL import Image


def png(width: int, height: int, *, mode: str = "RGB", seed: int = 0) -> bytes:
    """A PNG of noise: it does not compress, so its size follows its dimensions."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    noise = random.Random(seed).randbytes(width * height * bands)
    target = io.BytesIO()
    Image.frombytes(mode, (width, height), noise).save(target, "PNG")
    return target.getvalue()


def encoded(picture: Image.Image, format: str) -> bytes:
    """The picture as a file of that format, in Pillow's names."""
    target = io.BytesIO()
    picture.save(target, format)
    return target.getvalue()


@functools.cache
def mp4(width: int = 64, height: int = 48, *, frames: int = 10, rate: int = 10, codec: str = "libx264") -> bytes:
    """A video that grows brighter from frame to frame; the same bytes every time."""
    return encode_video([_grey(width, height, 40 + number * 12 % 200) for number in range(frames)], "mp4", codec, rate)


@functools.cache
def webm(width: int = 64, height: int = 48, *, frames: int = 10, rate: int = 10) -> bytes:
    """The same as VP9 in WebM."""
    return encode_video(
        [_grey(width, height, 40 + number * 12 % 200) for number in range(frames)], "webm", "libvpx-vp9", rate
    )


@functools.cache
def sound() -> bytes:
    """An MP4 that has sound and no picture."""
    target = io.BytesIO()
    with av.open(target, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("aac", rate=44_100)
        silence = av.AudioFrame(format="fltp", layout="stereo", samples=1024)
        silence.sample_rate = 44_100
        for plane in silence.planes:
            plane.update(bytes(plane.buffer_size))
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))
    return target.getvalue()


def encode_video(pictures: Sequence[Image.Image], format: str, codec: str, rate: int) -> bytes:
    """A video of these pictures, all of one size; by one thread, so that the bytes are the same every time."""
    target = io.BytesIO()
    with av.open(target, "w", format=format, options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(codec, rate=rate, options={"threads": "1"})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = pictures[0].size
        stream.pix_fmt = "yuv420p"
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_bytes(picture.convert("RGBA").tobytes(), *picture.size, format="rgba")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return target.getvalue()


def _grey(width: int, height: int, value: int) -> Image.Image:
    return Image.new("RGB", (width, height), (value, value, value))
