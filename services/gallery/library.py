"""Reading and changing what is stored: every call on behalf of one owner."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from services.gallery.adapters.catalog import Catalog
from services.gallery.adapters.listing import Listing
from services.gallery.adapters.purges import Purges
from services.gallery.domain import failures
from services.gallery.domain.assets import Asset
from services.gallery.domain.downloads import Span
from services.gallery.domain.listing import Filters, Position
from services.gallery.ports import BlobStore, original_key

MESSAGE_BYTES = 256 * 1024
"""Largest message of a download; the gateway's buffers are made for it."""


class Library:
    """The assets of the gallery."""

    def __init__(self, catalog: Catalog, listing: Listing, purges: Purges, blobs: BlobStore) -> None:
        self._catalog = catalog
        self._listing = listing
        self._purges = purges
        self._blobs = blobs

    async def get(self, owner: str, asset_id: str) -> Asset:
        """One asset, soft-deleted or not.

        Raises:
            NotFound: ASSET_NOT_FOUND.
        """
        return _found(await self._catalog.get(owner, asset_id), asset_id)

    async def list_page(
        self, owner: str, filters: Filters, *, size: int, after: Position | None, full: bool
    ) -> tuple[list[Asset], int]:
        """Assets behind the position, newest first, and the number of all: see `Listing.list_page`."""
        return await self._listing.list_page(owner, filters, size=size, after=after, full=full)

    async def purge(self, owner: str, asset_id: str) -> None:
        """Removes a soft-deleted asset and, within seconds, its bytes for good.

        Raises:
            NotFound: ASSET_NOT_FOUND.
            FailedPrecondition: ASSET_NOT_DELETED.
        """
        await self._purges.purge(owner, asset_id)

    async def read(self, asset: Asset, span: Span) -> AsyncGenerator[bytes, None]:
        """The original's bytes in messages' portions. Holds one piece of the storage's and no database connection.

        Raises:
            Unavailable: STORAGE_UNAVAILABLE.
            BlobMissing: the bytes are gone, which is a fault of ours.
        """
        key = original_key(asset.media.media_type, asset.id)
        sent = 0
        pieces = self._blobs.read(key, start=span.start, length=span.length)
        async with aclosing(pieces):
            async for piece in pieces:
                for at in range(0, len(piece), MESSAGE_BYTES):
                    yield piece[at : at + MESSAGE_BYTES]
                sent += len(piece)
        if sent != span.length:
            raise RuntimeError(f"storage sent {sent} of {span.length} bytes of {asset.name}")


def _found(asset: Asset | None, asset_id: str) -> Asset:
    if asset is None:
        raise failures.asset_not_found(f"assets/{asset_id}")
    return asset
