"""Pictures that are small to send and large to open, that lie, or that are two things at once."""

import functools
import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable

from PIL import Image, ImageCms

from tests.gallery.media import RASTER, bomb, encoded, png_chunk

UNSUPPORTED, TOO_LARGE = "UNSUPPORTED_MEDIA", "IMAGE_TOO_LARGE"
SIGNATURE = b"\x89PNG\r\n\x1a\n"
BILLIONS = 2**32 - 1
END = (b"IEND", b"")


def chunks(*parts: tuple[bytes, bytes]) -> bytes:
    return SIGNATURE + b"".join(png_chunk(kind, data) for kind, data in parts)


def header(width: int, height: int, depth: int = 8, colour: int = 2, interlace: int = 0) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)


def pixels(width: int, height: int) -> tuple[bytes, bytes]:
    return b"IDAT", zlib.compress(bytes((width * 3 + 1) * height))


@functools.cache
def deflated_200_mb() -> bytes:
    squeezer, piece = zlib.compressobj(1), bytes(1_000_000)
    return b"".join(squeezer.compress(piece) for _ in range(200)) + squeezer.flush()


def with_chunk(kind: bytes, begin: bytes) -> bytes:
    return chunks(header(4, 4), (kind, begin + deflated_200_mb()), pixels(4, 4), END)


def apng(width: int, height: int, frames: int, *, claimed: int) -> bytes:
    """Frames that cost a few bytes each."""
    control = struct.pack(">IIIIHHBB", width, height, 0, 0, 1, 10, 1, 0)
    first, body = pixels(width, height), pixels(width, height)[1]
    parts = [header(width, height), (b"acTL", struct.pack(">II", claimed, 0))]
    parts += [(b"fcTL", struct.pack(">I", 0) + control), first]
    for number in range(frames):
        parts.append((b"fcTL", struct.pack(">I", 2 * number + 1) + control))
        parts.append((b"fdAT", struct.pack(">I", 2 * number + 2) + body))
    return chunks(*parts, END)


def gif(width: int, height: int, frames: int, before: bytes = b"") -> bytes:
    single = encoded(Image.new("P", (width, height)), "GIF")
    start = 13 + 3 * 2 ** ((single[10] & 7) + 1)
    frame = single[single.index(b",", start) : -1]
    return single[:start] + before + frame * frames + b";"


def gif_sized(at: int, size: bytes) -> bytes:
    """Of the screen (6), or of the frame, whose header begins with a comma."""
    data = bytearray(gif(1, 1, 1))
    at = at or data.index(b",", 13 + 6) + 5
    data[at : at + 4] = size
    return bytes(data)


def jpeg_with(segments: bytes) -> bytes:
    plain = RASTER["image/jpeg"]
    return plain[:2] + segments + plain[2:]


def jpeg_sized(width: int, height: int) -> bytes:
    data = bytearray(RASTER["image/jpeg"])
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(data) + 2).to_bytes(2) + data


def exif(entries: bytes) -> bytes:
    return jpeg_with(segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0" + entries))


def many_scans(size: int, scans: int) -> bytes:
    """Each scan goes over all blocks again, and says in a few bytes that nothing changes."""
    plain = encoded(Image.new("L", (size, size), 90), "JPEG", progressive=True)
    # The last scan of a grey picture: refinement of its AC coefficients, of nothing.
    at = plain.rindex(b"\xff\xda")
    return plain[:at] + plain[at:-2] * scans + plain[-2:]


def webp_sized(width: int, height: int) -> bytes:
    data = bytearray(encoded(Image.new("RGBA", (9, 9), (1, 2, 3, 4)), "WEBP"))
    assert data[12:16] == b"VP8X"
    data[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(data)


def avif_sized(width: int, height: int) -> bytes:
    data = bytearray(RASTER["image/avif"])
    at = data.index(b"ispe") + 8
    assert data[at : at + 8] == struct.pack(">II", 20, 10)
    data[at : at + 8] = struct.pack(">II", width, height)
    return bytes(data)


def avif_grid() -> bytes:
    """A primary item that is said to be a grid of 256 by 256 tiles."""
    data = RASTER["image/avif"].replace(b"infe\2\0\0\0\0\1\0\0av01", b"infe\2\0\0\0\0\1\0\0grid", 1)
    assert b"grid" in data
    at = data.index(b"mdat") + 4
    return data[:at] + bytes([0, 1, 255, 255]) + struct.pack(">II", BILLIONS, BILLIONS) + data[at + 12 :]


def archive() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("bomb", bytes(5_000_000))
    return target.getvalue()


def huge_profile() -> bytes:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return encoded(Image.new("RGB", (9, 9)), "JPEG", icc_profile=profile + bytes(3_000_000))


def noise(begin: bytes) -> bytes:
    return begin + random.Random(7).randbytes(200_000)


def wrong_checksum() -> bytes:
    return SIGNATURE + png_chunk(*header(4, 4))[:-4] + bytes(4) + png_chunk(*pixels(4, 4)) + png_chunk(*END)


def webp_of_one_colour() -> bytes:
    """A hundred megapixels; a plane of one colour has no bytes for its pixels, whatever its size."""
    data = bytearray(encoded(Image.new("RGB", (16, 16), (9, 9, 9)), "WEBP", lossless=True, quality=0, method=0))
    data[21:25] = (9_999 | 9_999 << 14).to_bytes(4, "little")
    assert len(data) == 38
    return bytes(data)


@functools.cache
def avif_of_one_colour() -> bytes:
    return encoded(Image.new("RGB", (6_000, 6_000), (9, 9, 9)), "AVIF", speed=10)


PICTURES: dict[str, tuple[Callable[[], bytes], str | None]] = {
    "PNG of 65,535 by 65,535": (lambda: bomb(65_535, 65_535), TOO_LARGE),
    "PNG of 2 billion by 1": (lambda: bomb(2_000_000_000, 1), TOO_LARGE),
    "PNG of 65,535 by 1, honest": (lambda: chunks(header(65_535, 1), pixels(65_535, 1), END), None),
    "PNG of 65,535 by 1,000 in 100 bytes": (lambda: bomb(65_535, 1_000), UNSUPPORTED),
    "PNG with a zTXt of 200 MB": (lambda: with_chunk(b"zTXt", b"a\0\0"), UNSUPPORTED),
    "PNG with an iTXt of 200 MB": (lambda: with_chunk(b"iTXt", b"a\0\1\0\0\0"), UNSUPPORTED),
    "PNG with an iCCP of 200 MB": (lambda: with_chunk(b"iCCP", b"a\0\0"), UNSUPPORTED),
    "PNG whose pixels go on for 200 MB": (lambda: chunks(header(4, 4), (b"IDAT", deflated_200_mb()), END), None),
    "PNG of 100,000 chunks": (
        lambda: chunks(header(4, 4), *[(b"teSt", b"")] * 100_000, pixels(4, 4), END),
        UNSUPPORTED,
    ),
    "PNG of 60,000 IDATs of a byte": (lambda: chunks(header(4, 4), *[(b"IDAT", b"\0")] * 60_000, END), UNSUPPORTED),
    "PNG, interlaced, of 30,000 by 30,000": (
        lambda: chunks(header(30_000, 30_000, 1, 0, 1), pixels(3, 3), END),
        TOO_LARGE,
    ),
    "PNG whose header has a wrong checksum": (wrong_checksum, UNSUPPORTED),
    "PNG with a chunk of 2 GB": (
        lambda: SIGNATURE + png_chunk(*header(4, 4)) + b"\x7f\xff\xff\xffIDAT" + pixels(4, 4)[1],
        UNSUPPORTED,
    ),
    "APNG that claims two billion frames": (lambda: apng(8, 8, 2, claimed=BILLIONS >> 1), UNSUPPORTED),
    "APNG of 2,000 frames of 500 by 500": (lambda: apng(500, 500, 2_000, claimed=2_001), None),
    "GIF of 100,000 frames": (lambda: gif(1, 1, 100_000), None),
    "GIF of 100 frames of 2,000 by 2,000": (lambda: gif(2_000, 2_000, 100), None),
    "GIF of 65,535 by 65,535": (lambda: gif_sized(6, b"\xff" * 4), TOO_LARGE),
    "GIF frame of 65,535 by 65,535": (lambda: gif_sized(0, b"\xff" * 4), TOO_LARGE),
    "GIF with 5 MB of comments": (
        lambda: gif(4, 4, 1, before=b"!\xfe" + (b"\xff" + bytes(255)) * 20_000 + b"\0"),
        UNSUPPORTED,
    ),
    "GIF with 100,000 comments": (lambda: gif(4, 4, 1, before=b"!\xfe\1a\0" * 100_000), UNSUPPORTED),
    "JPEG of 65,500 by 65,500": (lambda: jpeg_sized(65_500, 65_500), TOO_LARGE),
    "JPEG of 2,000 scans": (lambda: many_scans(2_000, 2_000), UNSUPPORTED),
    "JPEG of 50 scans": (lambda: many_scans(800, 44), None),
    "JPEG with 300,000 segments": (lambda: jpeg_with(segment(0xFE, b"") * 300_000), UNSUPPORTED),
    "JPEG with EXIF that leads in circles": (
        lambda: exif(b"\1\0\x69\x87\4\0\1\0\0\0\x08\0\0\0\x08\0\0\0"),
        None,
    ),
    "JPEG with EXIF of entries of 4 GB": (
        lambda: exif(b"\xff\xff" + b"\x0e\1\2\0\xff\xff\xff\xff\0\0\0\0" * 5_000),
        None,
    ),
    "JPEG with 13 MB of EXIF": (lambda: jpeg_with(segment(0xE1, b"Exif\0\0" + bytes(65_000)) * 200), UNSUPPORTED),
    "JPEG with a colour profile of 3 MB": (huge_profile, None),
    "JPEG with an archive behind it": (lambda: RASTER["image/jpeg"] + archive(), None),
    "WebP of 16,384 by 16,384": (lambda: webp_sized(16_384, 16_384), TOO_LARGE),
    "WebP of 16 million by 16 million": (lambda: webp_sized(2**24, 2**24), TOO_LARGE),
    "WebP of noise": (lambda: noise(b"RIFF\xff\xff\xff\xffWEBPVP8L"), UNSUPPORTED),
    "AVIF of billions by billions": (lambda: avif_sized(BILLIONS, BILLIONS), UNSUPPORTED),
    "AVIF of 32,768 by 32,768": (lambda: avif_sized(32_768, 32_768), UNSUPPORTED),
    "AVIF that is a grid of 65,536 tiles": (avif_grid, UNSUPPORTED),
    "WebP of 100 megapixels in 38 bytes": (webp_of_one_colour, UNSUPPORTED),
    "AVIF of 36 megapixels in a kilobyte": (avif_of_one_colour, UNSUPPORTED),
    "AVIF of noise": (lambda: noise(b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf"), UNSUPPORTED),
    "PNG with a page behind it": (lambda: RASTER["image/png"] + b"<html><script>alert(1)</script></html>", None),
    "GIF that is a script": (lambda: RASTER["image/gif"] + b"*/=1;alert(1)", None),
}
