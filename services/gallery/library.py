"""Reading and changing what is stored: every call on behalf of one owner."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from services.gallery.adapters.catalog import Catalog
from services.gallery.adapters.purges import Purges
from services.gallery.domain import failures
from services.gallery.domain.assets import Asset
from services.gallery.domain.downloads import Span
from services.gallery.ports import BlobFacts, BlobMissing, BlobStore, original_key

MESSAGE_BYTES = 256 * 1024
"""Largest message of a download; the gateway's buffers are made for it."""


class Library:
    """The assets of the gallery."""

    def __init__(self, catalog: Catalog, purges: Purges, blobs: BlobStore) -> None:
        self._catalog = catalog
        self._purges = purges
        self._blobs = blobs

    async def get(self, owner: str, asset_id: str) -> Asset:
        """One asset, soft-deleted or not.

        Raises:
            NotFound: ASSET_NOT_FOUND.
        """
        return _found(await self._catalog.get(owner, asset_id), asset_id)

    async def purge(self, owner: str, asset_id: str) -> None:
        """Removes a soft-deleted asset and, within seconds, its bytes for good.

        Raises:
            NotFound: ASSET_NOT_FOUND.
            FailedPrecondition: ASSET_NOT_DELETED.
        """
        await self._purges.purge(owner, asset_id)

    async def read(self, asset: Asset, span: Span, stored: BlobFacts | None = None) -> AsyncGenerator[bytes, None]:
        """The original's bytes in messages' portions, or those of a derivative as it is `stored`.

        Holds one piece of the storage's and no database connection.

        Raises:
            Unavailable: STORAGE_UNAVAILABLE; the derivative was made anew meanwhile.
            BlobMissing: the original's bytes are gone, which is a fault of ours.
        """
        key = stored.key if stored else original_key(asset.media.media_type, asset.id)
        sent = 0
        pieces = self._blobs.read(key, start=span.start, length=span.length, etag=stored.etag if stored else None)
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    for at in range(0, len(piece), MESSAGE_BYTES):
                        yield piece[at : at + MESSAGE_BYTES]
                    sent += len(piece)
        except BlobMissing:
            if stored is None:
                raise
            raise failures.derivative_not_made() from None
        if sent != span.length:
            raise RuntimeError(f"storage sent {sent} of {span.length} bytes of {asset.name}")


def _found(asset: Asset | None, asset_id: str) -> Asset:
    if asset is None:
        raise failures.asset_not_found(f"assets/{asset_id}")
    return asset
