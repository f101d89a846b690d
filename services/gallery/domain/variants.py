"""Derivatives: small forms of a picture or video, made from the original and at any time made anew."""

from enum import StrEnum

from services.gallery.domain.assets import Asset, MediaType
from services.gallery.domain.media import BY_MIME_TYPE

MIME_TYPE = "image/webp"
EXTENSION = ".webp"

MAX_DERIVATIVE_BYTES = 8 * 1024 * 1024
"""A poster of noise, the largest there can be, has about 3 MB."""


MAX_ATTEMPTS = 3
"""Of making them, each ended by the file's own fault; an asset that has had them all is given up for a day."""


class Variant(StrEnum):
    """A derivative; its name is the blob's."""

    PREVIEW = "preview"
    THUMBNAIL = "thumbnail"
    POSTER = "poster"


LONGEST_EDGE = {Variant.PREVIEW: 1024, Variant.THUMBNAIL: 320, Variant.POSTER: 1920}
"""Pixels. A picture that has fewer keeps its size."""


def variants_of(asset: Asset) -> tuple[Variant, ...]:
    """What there can be of an asset, largest first: nothing of what is never decoded (SVG), a poster of videos alone.

    Every raster picture has all that there can be, also one that is small or a WebP already: who asks for a variant
    need not know the original.
    """
    if asset.media.media_type is MediaType.VIDEO:
        return (Variant.POSTER, Variant.PREVIEW, Variant.THUMBNAIL)
    raster = BY_MIME_TYPE[asset.media.mime_type].raster
    return (Variant.PREVIEW, Variant.THUMBNAIL) if raster else ()
