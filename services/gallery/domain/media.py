"""What a file is, decided from its first bytes and from nothing else: no name, no header, no wish."""

import re
from dataclasses import dataclass

from services.gallery.domain.assets import MediaType

SNIFF_BYTES = 64 * 1024
"""How much of a file's beginning `sniff` needs; an SVG's root element must stand within it."""


@dataclass(frozen=True, slots=True)
class Format:
    """An accepted file format; `raster` ones are decoded by Pillow, under the name `pillow_name`."""

    mime_type: str
    media_type: MediaType
    extensions: tuple[str, ...]
    pillow_name: str = ""

    @property
    def raster(self) -> bool:
        """Whether it is decoded to pixels."""
        return bool(self.pillow_name)


PNG = Format("image/png", MediaType.IMAGE, (".png", ".apng"), "PNG")
JPEG = Format("image/jpeg", MediaType.IMAGE, (".jpg", ".jpeg"), "JPEG")
WEBP = Format("image/webp", MediaType.IMAGE, (".webp",), "WEBP")
GIF = Format("image/gif", MediaType.IMAGE, (".gif",), "GIF")
AVIF = Format("image/avif", MediaType.IMAGE, (".avif",), "AVIF")
SVG = Format("image/svg+xml", MediaType.IMAGE, (".svg",))
MP4 = Format("video/mp4", MediaType.VIDEO, (".mp4", ".m4v"))
WEBM = Format("video/webm", MediaType.VIDEO, (".webm",))

FORMATS = (PNG, JPEG, WEBP, GIF, AVIF, SVG, MP4, WEBM)
BY_MIME_TYPE = {format.mime_type: format for format in FORMATS}

# ISO base media brands (ISO/IEC 14496-12, and the registry at mp4ra.org) of files that browsers play as MP4.
_MP4_BRANDS = frozenset(
    {b"isom", b"mp41", b"mp42", b"avc1", b"iso2", b"iso3", b"iso4", b"iso5", b"iso6", b"iso7", b"iso8", b"iso9",
     b"M4V ", b"M4VH", b"M4VP", b"MSNV", b"dash", b"mmp4", b"f4v ", b"cmfc", b"av01"}
)  # fmt: skip
# Majors of files that are something else whatever they are compatible with: QuickTime, HEIF, music, JPEG 2000, raw.
_OTHER_BRANDS = frozenset(
    {b"qt  ", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"miaf", b"M4A ", b"M4B ",
     b"M4P ", b"jp2 ", b"jpx ", b"crx "}
)  # fmt: skip
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_EBML = b"\x1a\x45\xdf\xa3"
_WEBM_DOCTYPE = b"\x42\x82\x84webm"  # EBMLDocType (0x4282), size 4

_XML_BEFORE_ROOT = re.compile(
    r"\s+|<\?(?:[^?]|\?(?!>))*\?>|<!--(?:[^-]|-(?!->))*-->|<!DOCTYPE[^\[>]*(?:\[[^\]]*\]\s*)?>", re.IGNORECASE
)
_SVG_ROOT = re.compile(r"<(?:[A-Za-z_][\w.-]*:)?svg[\s/>]")


def made_name(asset_id: str, mime_type: str) -> str:
    """The display name of an asset that was given none."""
    return asset_id + BY_MIME_TYPE[mime_type].extensions[0]


def sniff(head: bytes) -> Format | None:
    """The format of a file that begins so; None: not one that is accepted."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return PNG
    if head.startswith(b"\xff\xd8\xff"):
        return JPEG
    if head.startswith((b"GIF87a", b"GIF89a")):
        return GIF
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return WEBP
    if head[4:8] == b"ftyp":
        return _sniff_iso_media(head)
    if head.startswith(_EBML):
        return WEBM if _WEBM_DOCTYPE in head[:128] else None
    return SVG if _is_svg(head) else None


def _sniff_iso_media(head: bytes) -> Format | None:
    """Both AVIF and MP4 are ISO media; the file type box says which brands a reader must know."""
    length = min(int.from_bytes(head[:4]), len(head), 512)
    major = head[8:12]
    brands = {major, *(head[at : at + 4] for at in range(16, length - 3, 4))}
    if major in _AVIF_BRANDS or (major in {b"mif1", b"msf1", b"miaf"} and brands & _AVIF_BRANDS):
        return AVIF
    # A camera's or a maker's own brand stands before what everybody knows (XAVC, dby1, 3gp5).
    return MP4 if major not in _OTHER_BRANDS and brands & _MP4_BRANDS else None


def _is_svg(head: bytes) -> bool:
    """Whether the root element is `svg`, behind any declaration, comment and document type."""
    text = _decode(head)
    at = 0
    while skipped := _XML_BEFORE_ROOT.match(text, at):
        at = skipped.end()
    return _SVG_ROOT.match(text, at) is not None


def _decode(head: bytes) -> str:
    for mark, encoding in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"), (b"\xef\xbb\xbf", "utf-8")):
        if head.startswith(mark):
            return head[len(mark) :].decode(encoding, errors="replace")
    return head.decode("utf-8", errors="replace")
