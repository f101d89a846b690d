"""Files that honest cameras, recorders and programs write, and that look odd: they are taken, and shown rightly."""

import io
import itertools
import struct
import tempfile
from fractions import Fraction
from typing import Any

import av
import pytest
from av.video.stream import VideoStream
from PIL import Image, ImageChops

from services.gallery.adapters.inspection import render as rendering
from services.gallery.adapters.inspection.errors import BrokenFileError
from services.gallery.adapters.inspection.examine import Facts, examine
from services.gallery.adapters.inspection.limits import Limits
from services.gallery.adapters.inspection.render import render
from services.gallery.adapters.spool import memory_file
from services.gallery.domain.media import MP4 as MP4_FORMAT
from services.gallery.domain.media import sniff
from services.gallery.domain.variants import Variant
from tests.gallery.boxes import box, box_of
from tests.gallery.hostile_pictures import gif, jpeg_with, many_scans, segment
from tests.gallery.media import MP4, WEBM, encoded
from tests.gallery.test_videos import muxed
from tests.support.media import encode_video, mp4

LIMITS = Limits(max_pixels=100_000_000, animation_seconds=1)


def facts_of(data: bytes) -> Facts:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return examine(file, LIMITS)


def thumbnail(data: bytes, variant: Variant = Variant.THUMBNAIL) -> Image.Image:
    with tempfile.TemporaryFile() as file, memory_file() as target:
        file.write(data)
        file.flush()
        render(file, {variant: target.fileno()}, LIMITS)
        target.seek(0)
        made = Image.open(io.BytesIO(target.read()))
        made.load()
        return made


@pytest.mark.parametrize("major", [b"XAVC", b"dby1", b"3gp5", b"NDSC"])
def test_a_makers_own_brand_is_no_obstacle_where_a_known_one_follows(major: bytes) -> None:
    assert facts_of(MP4.replace(b"ftypisom", b"ftyp" + major, 1)).mime_type == "video/mp4"


@pytest.mark.parametrize("major", [b"qt  ", b"heic", b"M4A ", b"mif1"])
def test_what_is_something_else_stays_so_whatever_it_is_compatible_with(major: bytes) -> None:
    assert sniff(MP4.replace(b"ftypisom", b"ftyp" + major, 1)) is None


def test_a_brand_that_nobody_knows_is_not_taken_at_its_word() -> None:
    assert sniff(box(b"ftyp", b"XXXX" + bytes(4) + b"XXXX")) is None
    assert sniff(box(b"ftyp", b"isom" + bytes(4))) == MP4_FORMAT


@pytest.mark.parametrize("rubbish", [bytes(7), bytes(12), b"x" * 100, b"\xff" * 9])
def test_rubbish_behind_a_whole_mp4_is_left_alone(rubbish: bytes) -> None:
    assert facts_of(MP4 + rubbish).duration_micros == 1_000_000


def test_a_part_that_is_cut_short_is_no_rubbish() -> None:
    whole = muxed("mp4", mp4(frames=40, rate=10), movflags="frag_keyframe+empty_moov")
    assert facts_of(whole).duration_micros == 4_000_000
    for cut in (whole[: whole.rindex(b"mdat") + 10], MP4 + b"\0\0\0\x20moof"):
        with pytest.raises(BrokenFileError):
            facts_of(cut)


def test_zeros_behind_a_whole_webm_are_left_alone_and_nothing_else() -> None:
    assert facts_of(WEBM + bytes(2_000_000)).duration_micros == 1_000_000
    with pytest.raises(BrokenFileError):
        facts_of(WEBM + bytes(1_000) + b"x")


def with_plain_sound(seconds: int) -> bytes:
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as container:
        pictures = container.add_stream("libx264", rate=1, options={"threads": "1"})
        assert isinstance(pictures, VideoStream)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=48_000)
        frame = av.AudioFrame(format="s16", layout="mono", samples=48_000)
        frame.sample_rate = 48_000
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        for second in range(seconds):
            picture = av.VideoFrame.from_bytes(bytes(64 * 48 * 4), 64, 48, format="rgba")
            picture.pts, frame.pts = second, second * 48_000
            container.mux(pictures.encode(picture))
            container.mux(sound.encode(frame))
        container.mux(pictures.encode(None))
        container.mux(sound.encode(None))
    return target.getvalue()


def test_sound_without_compression_is_not_counted_sample_by_sample() -> None:
    """Five million of them are 104 seconds."""
    assert facts_of(with_plain_sound(106)).duration_micros == 106_000_000


def test_an_hour_of_short_fragments_is_a_whole() -> None:
    """Each fragment brings a dozen boxes."""
    fragmented = muxed("mp4", mp4(16, 16, frames=3_500, rate=1), movflags="frag_every_frame+empty_moov")
    assert fragmented.count(b"moof") == 3_500
    assert facts_of(fragmented).duration_micros == 3_500_000_000


def test_no_comment_hides_the_scans_behind_it() -> None:
    plain = many_scans(80, 70)
    second = plain.index(b"\xff\xda", plain.index(b"\xff\xda") + 2)
    tables = plain.rindex(b"\xff\xc4", 0, second)
    for hidden in (plain, plain[:tables] + segment(0xFE, b"\xff\xd9") + plain[tables:]):
        with pytest.raises(BrokenFileError, match="scans"):
            facts_of(hidden)


TIFF = b"II*\0\x08\0\0\0"
ORIENTATION = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)


NO_EXIF = [
    b"garbage!garbage",
    b"",
    TIFF + b"\5\0\x12\1",
    b"II*\0\xff\xff\0\0",
    TIFF + struct.pack("<HHHI", 1, 0x0112, 2, 2) + b"6\0\0\0",
]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("exif", NO_EXIF)
def test_exif_that_nobody_can_read_costs_no_picture_its_thumbnail(exif: bytes) -> None:
    assert thumbnail(jpeg_with(segment(0xE1, b"Exif\0\0" + exif))).size == (20, 10)
    for format in ("PNG", "WEBP"):
        assert thumbnail(encoded(Image.new("RGB", (20, 10)), format, exif=b"Exif\0\0" + exif)).size == (20, 10)


def test_exif_that_can_be_read_turns_the_picture() -> None:
    turned = thumbnail(jpeg_with(segment(0xE1, b"Exif\0\0" + TIFF + b"\1\0" + ORIENTATION + bytes(4))))
    assert turned.size == (10, 20)


@pytest.mark.parametrize("edge", [40, 3_000])
def test_a_gif_whose_first_frame_is_small_shows_the_page_around_it(edge: int) -> None:
    data = bytearray(gif(10, 10, 1))
    data[6:10] = struct.pack("<HH", edge, edge)
    assert facts_of(bytes(data)).has_transparency is True
    made = thumbnail(bytes(data))
    assert made.mode == "RGBA"
    corner, far = made.getpixel((0, 0)), made.getpixel((made.width - 1, made.height - 1))
    assert isinstance(corner, tuple)
    assert isinstance(far, tuple)
    assert corner[3] > 200 or edge == 3_000
    assert far[3] == 0


def test_a_large_picture_with_transparency_is_reduced_without_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred megapixels leave room for none. The colours are those of a reduction in one piece."""
    picture = Image.merge(
        "RGBA", [Image.linear_gradient("L").rotate(angle).resize((3_000, 2_100)) for angle in (0, 90, 180, 270)]
    )
    whole = picture.resize((320, 224), Image.Resampling.LANCZOS, reducing_gap=2.0)
    largest = 0
    convert = Image.Image.convert

    def counted(image: Image.Image, *arguments: Any, **options: Any) -> Image.Image:
        nonlocal largest
        largest = max(largest, image.width * image.height)
        return convert(image, *arguments, **options)

    monkeypatch.setattr(Image.Image, "convert", counted)
    monkeypatch.setattr(rendering, "STRIP_PIXELS", 500_000)
    made = rendering._shrunk(rendering._reduced(picture, 320), 320)
    assert made.size == whole.size
    assert largest <= 500_000
    difference = ImageChops.difference(made, whole)
    assert difference.point(lambda value: 255 if value > 3 else 0).getbbox(alpha_only=False) is None


QUARTERS = [(220, 30, 30), (30, 220, 30), (30, 30, 220), (220, 220, 220)]


def in_quarters(width: int, height: int) -> Image.Image:
    picture = Image.new("RGB", (width, height))
    for number, colour in enumerate(QUARTERS):
        box = (number % 2 * width // 2, number // 2 * height // 2)
        picture.paste(colour, (*box, box[0] + width // 2, box[1] + height // 2))
    return picture


def shown_as(video: bytes, matrix: tuple[int, int, int, int]) -> bytes:
    a, b, c, d = matrix
    header = box_of(video, b"tkhd")
    at = header.index(struct.pack(">i", 1 << 30)) - 32
    entries = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    return video.replace(header, header[:at] + entries + header[at + 36 :])


def nearest(picture: Image.Image, x: int, y: int) -> int:
    """Which quarter's colour is in the quarter at (x, y), of 0 or 1 each."""
    pixel = picture.convert("RGB").getpixel(((1 + 2 * x) * picture.width // 4, (1 + 2 * y) * picture.height // 4))
    assert isinstance(pixel, tuple)
    return min(
        range(4), key=lambda number: sum(abs(one - other) for one, other in zip(pixel, QUARTERS[number], strict=True))
    )


MATRICES = [
    (*first, *second)
    for first, second in itertools.product([(1, 0), (-1, 0), (0, 1), (0, -1)], repeat=2)
    if (first[0] == 0) != (second[0] == 0)
]


@pytest.mark.parametrize("matrix", MATRICES)
def test_a_poster_is_turned_and_mirrored_as_players_do(matrix: tuple[int, int, int, int]) -> None:
    """x' = ax + cy, y' = bx + dy, measured from the middle (ISO/IEC 14496-12, 8.3.2)."""
    a, b, c, d = matrix
    poster = thumbnail(shown_as(encode_video([in_quarters(160, 96)] * 2, "mp4", "libx264", 10), matrix), Variant.POSTER)
    assert poster.size == ((160, 96) if a else (96, 160))
    for number in range(4):
        x, y = 2 * (number % 2) - 1, 2 * (number // 2) - 1
        assert nearest(poster, (a * x + c * y + 1) // 2, (b * x + d * y + 1) // 2) == number


def test_a_poster_is_looked_for_from_the_first_frame_on_whenever_that_is() -> None:
    target = io.BytesIO()
    with av.open(target, "w", format="webm") as container:
        stream = container.add_stream("libvpx", rate=10)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for number in range(15):
            picture = (Image.new("RGB", (160, 96)) if number < 5 else in_quarters(160, 96)).convert("RGBA")
            frame = av.VideoFrame.from_bytes(picture.tobytes(), 160, 96, format="rgba")
            frame.pts, frame.time_base = number + 100, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert nearest(thumbnail(target.getvalue(), Variant.POSTER), 1, 1) == 3
