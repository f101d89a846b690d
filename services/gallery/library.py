"""Reading and changing what is stored: every call on behalf of one owner."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta

from services.gallery.adapters.catalog import Catalog
from services.gallery.adapters.listing import Listing
from services.gallery.adapters.mirror import Mirror
from services.gallery.domain import failures, lifecycle
from services.gallery.domain.assets import Asset
from services.gallery.domain.document import MIME_TYPE, to_document
from services.gallery.domain.downloads import Span
from services.gallery.domain.listing import Filters, Position
from services.gallery.ports import BlobStore, document_key, original_key

MESSAGE_BYTES = 256 * 1024
"""Largest message of a download; the gateway's buffers are made for it."""

MIRROR_PAUSE_SECONDS = 1.0


class Library:
    """The assets of the gallery."""

    def __init__(
        self, catalog: Catalog, listing: Listing, mirror: Mirror, blobs: BlobStore, *, retention: timedelta
    ) -> None:
        self._catalog = catalog
        self._listing = listing
        self._mirror = mirror
        self._blobs = blobs
        self._retention = retention

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

    async def delete(self, owner: str, asset_id: str, *, etag: str) -> Asset:
        """Soft-deletes an asset; repeating it changes nothing.

        Raises:
            NotFound: ASSET_NOT_FOUND.
            Aborted: ETAG_MISMATCH.
        """
        [deleted] = await self._catalog.change(
            owner,
            [asset_id],
            lambda asset, at: lifecycle.soft_delete(asset, at.now, retention=self._retention, etag=etag),
        )
        return deleted

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

    async def mirror_changes(self) -> None:
        """Brings `asset.json` after every change of a row, for ever; any number of processes may do it at once."""
        while True:
            if not await self.mirror_one_change():
                await asyncio.sleep(MIRROR_PAUSE_SECONDS)

    async def mirror_one_change(self) -> bool:
        """Writes the document of one changed asset; False: there was none."""
        async with self._mirror.undocumented() as asset:
            if asset is None:
                return False
            key = document_key(asset.media.media_type, asset.id)
            await self._blobs.replace(key, to_document(asset), mime_type=MIME_TYPE)
        return True


def _found(asset: Asset | None, asset_id: str) -> Asset:
    if asset is None:
        raise failures.asset_not_found(f"assets/{asset_id}")
    return asset
