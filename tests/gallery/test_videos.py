"""What is said of a video is read from its frames, whatever its headers claim."""

import io
import struct
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import av
import pytest
from PIL import Image

from services.gallery.adapters.inspection import video
from services.gallery.adapters.inspection.errors import BrokenFileError, NoPictureError, TooManyPixelsError
from services.gallery.adapters.inspection.examine import Facts, examine
from services.gallery.adapters.inspection.limits import Limits
from services.gallery.adapters.inspection.video import opened_video
from services.gallery.domain import media
from tests.gallery.boxes import box_of, edited, full_box
from tests.gallery.media import MP4, WEBM
from tests.support.media import encode_video, mp4, sound

LIMITS = Limits(max_pixels=1_000_000, animation_seconds=1)
SECOND = 1_000_000


@pytest.fixture
def facts_of(tmp_path: Path) -> Callable[[bytes], Facts]:
    def of(data: bytes) -> Facts:
        path = tmp_path / "file"
        path.write_bytes(data)
        with path.open("rb") as file:
            return examine(file, LIMITS)

    return of


def muxed(format: str, source: bytes, **options: str) -> bytes:
    """The same frames in another container."""
    target = io.BytesIO()
    with av.open(io.BytesIO(source), "r") as old, av.open(target, "w", format=format, options=options) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    return target.getvalue()


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4", "libsvtav1"])
def test_size_and_duration_are_those_of_the_frames(codec: str, facts_of: Callable[[bytes], Facts]) -> None:
    facts = facts_of(mp4(160, 90, frames=25, rate=10, codec=codec))
    assert (facts.width_px, facts.height_px, facts.duration_micros) == (160, 90, 2.5 * SECOND)
    assert facts.has_transparency is None


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_webm_likewise(codec: str, facts_of: Callable[[bytes], Facts]) -> None:
    grey = [Image.new("RGB", (160, 90), (number * 9, 90, 90)) for number in range(15)]
    facts = facts_of(encode_video(grey, "webm", codec, 10))
    assert (facts.width_px, facts.height_px, facts.duration_micros) == (160, 90, 1.5 * SECOND)


def test_fragments_are_a_whole(facts_of: Callable[[bytes], Facts]) -> None:
    data = muxed("mp4", mp4(frames=40, rate=10), movflags="frag_keyframe+empty_moov")
    assert b"moof" in data
    assert facts_of(data).duration_micros == 4 * SECOND


def test_a_recording_without_sizes_is_a_whole(facts_of: Callable[[bytes], Facts]) -> None:
    """As browsers record: no sizes, no duration, no index."""
    data = muxed("webm", WEBM, live="1")
    assert b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff" in data
    assert facts_of(data).duration_micros == SECOND


@pytest.mark.parametrize("claimed", [1, 2**32 - 2])
def test_headers_that_lie_about_the_duration_are_not_believed(claimed: int, facts_of: Callable[[bytes], Facts]) -> None:
    lying = MP4
    for kind, at in ((b"mvhd", 24), (b"tkhd", 28), (b"mdhd", 24)):
        old = box_of(lying, kind)
        lying = lying.replace(old, old[:at] + struct.pack(">I", claimed) + old[at + 4 :])
    assert lying != MP4
    assert facts_of(lying).duration_micros == SECOND


def test_a_duration_that_no_upload_can_have_is_not_told(facts_of: Callable[[bytes], Facts]) -> None:
    slow = edited(MP4, b"stts", full_box(b"stts", struct.pack(">III", 1, 10, 2**31)))
    assert facts_of(slow).duration_micros is None


def test_a_long_video_is_read_from_both_ends(
    monkeypatch: pytest.MonkeyPatch, facts_of: Callable[[bytes], Facts]
) -> None:
    """Frames enough to exhaust the packets that are looked at; a key frame every 12."""
    monkeypatch.setattr(video, "MAX_PACKETS", 20)
    data = mp4(frames=100, rate=10, codec="mpeg4")
    assert facts_of(data).duration_micros == 10 * SECOND
    monkeypatch.setattr(video, "MAX_PACKETS", 0)
    assert facts_of(data).duration_micros is None, "unknown rather than a lie"


def test_a_file_that_is_only_partly_read_has_no_duration(
    monkeypatch: pytest.MonkeyPatch, facts_of: Callable[[bytes], Facts]
) -> None:
    noise = [Image.effect_noise((320, 240), 90).convert("RGB") for _ in range(30)]
    data = muxed("webm", encode_video(noise, "webm", "libvpx", 10), live="1")
    monkeypatch.setattr(video, "READ_BYTES", len(data) * 9 // 10)
    facts = facts_of(data)
    assert facts.width_px == 320
    assert facts.duration_micros is None


def test_sound_alone_is_no_video(facts_of: Callable[[bytes], Facts]) -> None:
    with pytest.raises(NoPictureError):
        facts_of(sound())


def test_a_video_with_too_many_pixels_is_not_decoded(facts_of: Callable[[bytes], Facts]) -> None:
    with pytest.raises(TooManyPixelsError):
        facts_of(mp4(1920, 1080, frames=1))


def test_frames_larger_than_the_header_says_are_refused(facts_of: Callable[[bytes], Facts]) -> None:
    """The sample entry says 64 by 48; the stream itself is of two megapixels."""
    large = mp4(1920, 1080, frames=1)
    at = large.index(b"avc1", large.index(b"stsd")) + 28
    assert large[at : at + 4] == struct.pack(">HH", 1920, 1080)
    with pytest.raises((TooManyPixelsError, BrokenFileError)):
        facts_of(large[:at] + struct.pack(">HH", 64, 48) + large[at + 4 :])


@pytest.mark.parametrize("cut", range(40, len(MP4), 113))
def test_an_mp4_cut_anywhere_is_broken(cut: int, facts_of: Callable[[bytes], Facts]) -> None:
    with pytest.raises(BrokenFileError):
        facts_of(MP4[:cut])


@pytest.mark.parametrize("cut", range(60, len(WEBM), 61))
def test_a_webm_cut_anywhere_is_broken(cut: int, facts_of: Callable[[bytes], Facts]) -> None:
    with pytest.raises(BrokenFileError):
        facts_of(WEBM[:cut])


def test_noise_where_the_frames_should_be_is_broken(facts_of: Callable[[bytes], Facts]) -> None:
    data = mp4(codec="mpeg4")
    body = box_of(data, b"mdat")
    with pytest.raises(BrokenFileError):
        facts_of(data.replace(body, body[:8] + bytes(len(body) - 8)))


def alias_to(path: Path) -> bytes:
    """A data reference as QuickTime writes it: a record with the path of another file (FFmpeg's mov.c reads those)."""
    name = str(path).encode()
    told = struct.pack(">hH", 2, len(name)) + name + bytes(len(name) % 2)
    told += struct.pack(">hH", 18, 1) + b"/\0" + struct.pack(">hH", -1, 0)
    record = bytes(4) + struct.pack(">HH", 130 + 20 + len(told), 2) + bytes(2) + b"\0" * 28 + bytes(12)
    record += bytes([min(63, len(path.name))]) + path.name.encode()[:63].ljust(63, b"\0") + bytes(16)
    record += struct.pack(">hh", 1, 1) + bytes(16) + told
    return full_box(b"alis", record)


def opened_names(data: bytes, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What FFmpeg would open, with our own look at the references left out."""
    asked: list[str] = []

    def ask(url: str, flags: int, options: dict[str, str]) -> object:
        asked.append(url)
        raise PermissionError

    monkeypatch.setattr(video, "_refuse_to_open", ask)
    monkeypatch.setattr(video, "check_iso_media", lambda descriptor: None)
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        with suppress(BrokenFileError, PermissionError), opened_video(file, media.MP4, LIMITS) as opened:
            opened.first_frame()
    return asked


def test_nothing_but_the_given_file_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, facts_of: Callable[[bytes], Facts]
) -> None:
    """The samples are said to be in another file: FFmpeg asks for it only where it is told that it may."""
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(MP4)
    data = edited(MP4, b"dref", full_box(b"dref", struct.pack(">I", 1) + alias_to(secret)))
    with pytest.raises(BrokenFileError):
        facts_of(data)
    assert opened_names(data, monkeypatch) == []
    options = video._options

    def careless(max_pixels: int, demuxers: str) -> dict[str, str]:
        return {**options(max_pixels, demuxers), "enable_drefs": "1", "use_absolute_path": "1"}

    monkeypatch.setattr(video, "_options", careless)
    assert any("secret.mp4" in name for name in opened_names(data, monkeypatch)), (
        "the reference is one that is followed"
    )


def test_a_minute_is_sixty_seconds() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(mp4(frames=60, rate=1, codec="mpeg4"))
        file.flush()
        with opened_video(file, media.MP4, LIMITS) as opened:
            assert opened.duration() == timedelta(minutes=1)
