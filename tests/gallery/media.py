"""Small files of every kind that the gallery takes."""

import io
import struct
import zlib
from typing import Any

from PIL import Image

from tests.support.media import mp4, png, sound, webm

MP4 = mp4()
WEBM = webm()
SVG = (
    b'<?xml version="1.0"?>\n<!-- a drawing -->\n<!DOCTYPE svg [<!ENTITY e SYSTEM "file:///etc/passwd">]>\n'
    b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>alert(1)</script><text>&e;</text></svg>'
)


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, format, **options)
    return target.getvalue()


def video(size: int) -> bytes:
    """A video of exactly this size, at least 2 KB; it ends with padding, to which anything may be added.

    Nothing but its length and hash tells a cut one from a whole one.
    """
    to_the_end = b"\0\0\0\0free"
    return MP4 + to_the_end + bytes(size - len(MP4) - len(to_the_end))


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header announces pixels that its few bytes cannot hold."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(10_000))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")


RASTER = {
    "image/png": png(20, 10),
    "image/jpeg": encoded(Image.new("RGB", (20, 10)), "JPEG"),
    "image/webp": encoded(Image.new("RGB", (20, 10)), "WEBP"),
    "image/gif": encoded(Image.new("P", (20, 10)), "GIF"),
    "image/avif": encoded(Image.new("RGB", (20, 10)), "AVIF"),
}
VIDEOS = {"video/mp4": MP4, "video/webm": WEBM}
NOT_DECODED = {"image/svg+xml": SVG}
REFUSED = {
    "text": b"just text",
    "HTML": b"<!DOCTYPE html><html><svg></svg></html>",
    "XML": b"<?xml version='1.0'?><rss></rss>",
    "PDF": b"%PDF-1.7\n",
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "QuickTime": b"\0\0\0\x14ftypqt  \0\0\0\0qt  ",
    "M4A": b"\0\0\0\x18ftypM4A \0\0\0\0M4A isom",
    "Matroska": WEBM.replace(b"\x84webm", b"\x88matroska"),
    "BMP": encoded(Image.new("RGB", (4, 4)), "BMP"),
    "TIFF": encoded(Image.new("RGB", (4, 4)), "TIFF"),
    "a PNG cut short": png(64, 64)[:-2000],
    "a JPEG cut short": encoded(Image.new("RGB", (640, 640)), "JPEG")[:-1000],
    "a WebP cut short": encoded(Image.new("RGB", (64, 64)), "WEBP")[:-20],
    "a GIF cut short": encoded(Image.new("P", (64, 64)), "GIF")[:-20],
    "an AVIF cut short": encoded(Image.effect_noise((64, 64), 50), "AVIF")[:-200],
    "only a PNG's signature": b"\x89PNG\r\n\x1a\n",
    "a PNG that is a JPEG behind its signature": b"\x89PNG\r\n\x1a\n" + RASTER["image/jpeg"],
    "an MP4 cut short": MP4[:-50],
    "an MP4 cut within its pictures": MP4[:700],
    "an MP4 without an index": MP4[: MP4.index(b"moov") - 4],
    "an MP4 with sound alone": sound(),
    "only an MP4's type": MP4[:32],
    "a WebM cut short": WEBM[:-50],
    "only a WebM's header": WEBM[:40],
    "a GIF with zeros": b"GIF89a" + bytes(100),
}
