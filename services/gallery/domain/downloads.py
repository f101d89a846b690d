"""HTTP's rules for reading bytes: ranges, validators, file names (RFC 9110, RFC 6266, RFC 8187)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import quote

from services.gallery.domain import failures
from services.gallery.domain.assets import Asset
from services.gallery.domain.media import BY_MIME_TYPE, FORMATS, SVG
from services.gallery.domain.variants import EXTENSION

_RANGE = re.compile(r"bytes\s*=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*")
_ETAG = re.compile(r'(?:W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
# What a file name must not have: separators, controls, and marks that turn text around to hide an extension.
_UNSAFE = re.compile(r"[/\\\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# An ASCII fallback takes no quotes and no percent sign (RFC 6266, appendix D).
_NOT_PLAIN = re.compile(r"[^\x20-\x7e]|[\"%]")
# attr-char of RFC 8187 that `quote` would escape.
_ATTR_CHARACTERS = "!#$&+^`|"

SVG_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
"""An SVG is a document that can hold scripts; opened as a page it may do nothing."""

_COMMON_HEADERS = {
    "accept-ranges": "bytes",
    # Only the browser may keep it, and it asks again: the asset may have been deleted or purged.
    "cache-control": "private, no-cache",
}


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes to send: `length` of them from `start`, of a file of `total`."""

    start: int
    length: int
    total: int

    @property
    def partial(self) -> bool:
        """Whether something is left out."""
        return self.length != self.total

    @property
    def content_range(self) -> str:
        """As the header `Content-Range` has it."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{self.total}"


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditional headers of a download, empty where not sent."""

    range: str = ""
    if_none_match: str = ""
    if_range: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """How to answer a download: HTTP status 200, 206 or 304, headers, and what to send (None: nothing)."""

    status: int
    headers: Mapping[str, str]
    span: Span | None


def deliver(asset: Asset, conditions: Conditions) -> Delivery:
    """Decides the answer, preconditions before ranges (RFC 9110, 13.2.2).

    Raises:
        OutOfRange: RANGE_NOT_SATISFIABLE.
    """
    return _deliver(_headers(asset, content_etag(asset)), asset.media.size_bytes, conditions)


@dataclass(frozen=True, slots=True)
class Stored:
    """A derivative as storage has it; `etag` is another one whenever it was made anew."""

    etag: str
    size: int
    write_time: datetime


def deliver_variant(asset: Asset, stored: Stored, conditions: Conditions) -> Delivery:
    """The same for a derivative, which is a resource with a validator of its own.

    Raises:
        OutOfRange: RANGE_NOT_SATISFIABLE.
    """
    headers = {
        "etag": f'"{stored.etag}"',
        "last-modified": format_datetime(stored.write_time.astimezone(UTC), usegmt=True),
        **_COMMON_HEADERS,
        "content-disposition": variant_disposition(asset),
    }
    return _deliver(headers, stored.size, conditions)


def _deliver(headers: dict[str, str], size: int, conditions: Conditions) -> Delivery:
    etag = headers["etag"]
    if _matches(conditions.if_none_match, etag):
        return Delivery(304, headers, None)
    # A weak or foreign validator, or a date: the range belongs to other bytes, so all are sent.
    ranged = conditions.range if conditions.if_range in ("", etag) else ""
    span = parse_range(ranged, size)
    headers["x-http-content-length"] = str(span.length)
    if span.partial:
        headers["content-range"] = span.content_range
        return Delivery(206, headers, span)
    return Delivery(200, headers, span)


def content_etag(asset: Asset) -> str:
    """A strong validator: originals never change, so it is their hash."""
    return f'"{asset.media.sha256}"'


def parse_range(header: str, total: int) -> Span:
    """The bytes that a Range header asks for. What is no single byte range is ignored, as RFC 9110 14.2 allows.

    Raises:
        OutOfRange: RANGE_NOT_SATISFIABLE, the range begins behind the end or is empty.
    """
    everything = Span(0, total, total)
    match = _RANGE.fullmatch(header.strip())
    if match is None or match.groups() == ("", ""):
        return everything
    first, last = match.groups()
    if not first:
        length = min(int(last), total)
        if length == 0:
            raise failures.range_not_satisfiable(total)
        return Span(total - length, length, total)
    start = int(first)
    end = min(int(last), total - 1) if last else total - 1
    if last and int(last) < start:
        return everything
    if start >= total:
        raise failures.range_not_satisfiable(total)
    return Span(start, end - start + 1, total)


def file_name(asset: Asset) -> str:
    """The name to save the original under: the display name, always ending as a media file does.

    A name that ends otherwise (`evil.exe`) gets the extension of what the bytes are.
    """
    name = _UNSAFE.sub("_", asset.display_name).strip(" .") or asset.id
    if name.lower().endswith(tuple(extension for format in FORMATS for extension in format.extensions)):
        return name
    return name + BY_MIME_TYPE[asset.media.mime_type].extensions[0]


def content_disposition(asset: Asset) -> str:
    """With a plain fallback and the Unicode name (RFC 6266). SVG is never shown inline."""
    name = file_name(asset)
    return _disposition("attachment" if asset.media.mime_type == SVG.mime_type else "inline", name)


def variant_disposition(asset: Asset) -> str:
    """The name of the original with the extension of what a derivative is."""
    name = file_name(asset)
    endings = [extension for format in FORMATS for extension in format.extensions if name.lower().endswith(extension)]
    return _disposition("inline", name[: -max(map(len, endings))] + EXTENSION)


def _disposition(kind: str, name: str) -> str:
    plain = _NOT_PLAIN.sub("_", name)
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe=_ATTR_CHARACTERS)}"


def _headers(asset: Asset, etag: str) -> dict[str, str]:
    headers = {
        "etag": etag,
        "last-modified": format_datetime(asset.create_time.astimezone(UTC), usegmt=True),
        **_COMMON_HEADERS,
        "content-disposition": content_disposition(asset),
    }
    if asset.media.mime_type == SVG.mime_type:
        headers["content-security-policy"] = SVG_POLICY
    return headers


def _matches(if_none_match: str, etag: str) -> bool:
    """Weak comparison (RFC 9110, 13.1.2): the mark `W/` plays no part."""
    if if_none_match.strip() == "*":
        return True
    return any(f'"{tag}"' == etag for tag in _ETAG.findall(if_none_match))
