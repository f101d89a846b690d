"""68 files that somebody made to harm whoever opens them. All are made here; none is larger than a few megabytes.

Each has the reason for which it is refused, or None: it is stored, and safely.
"""

from collections.abc import Callable

from tests.gallery.hostile_pictures import PICTURES
from tests.gallery.hostile_videos import VIDEOS
from tests.gallery.media import RASTER, SVG
from tests.support.media import png

Make = Callable[[], bytes]
UNSUPPORTED = "UNSUPPORTED_MEDIA"


def _billion_laughs() -> bytes:
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    text = f'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY l0 "lol">{entities}]><svg xmlns="x"><text>&l9;</text></svg>'
    return text.encode()


def _drawing(content: str) -> bytes:
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">{content}</svg>'.encode()


_CUT: dict[str, tuple[Make, str | None]] = {
    "nothing": (lambda: b"", "INVALID_FIELD"),
    "one byte": (lambda: b"\x89", UNSUPPORTED),
    "PNG cut in its header": (lambda: RASTER["image/png"][:20], UNSUPPORTED),
    "PNG cut in its pixels": (lambda: png(64, 64)[:5_000], UNSUPPORTED),
    "JPEG cut behind its header": (lambda: RASTER["image/jpeg"][:200], UNSUPPORTED),
    "WebP cut in its header": (lambda: RASTER["image/webp"][:24], UNSUPPORTED),
    "AVIF cut in its boxes": (lambda: RASTER["image/avif"][:150], UNSUPPORTED),
}

_DRAWINGS: dict[str, tuple[Make, str | None]] = {
    "SVG that laughs a billion times": (_billion_laughs, None),
    "SVG with a script, and a file of the server": (lambda: SVG, None),
    "SVG with a page in it": (
        lambda: _drawing('<foreignObject><iframe src="file:///etc/passwd"/></foreignObject>'),
        None,
    ),
}

HOSTILE: dict[str, tuple[Make, str | None]] = {**PICTURES, **_CUT, **VIDEOS, **_DRAWINGS}
