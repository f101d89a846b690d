"""Everything that the index says is in storage, page by page: for comparing the two. Reads only, one owner or all."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from services.gallery.adapters.mirror import to_folder
from services.gallery.adapters.recounting import WrongCount, wrong_counts
from services.gallery.adapters.rows import select_assets, to_asset
from services.gallery.adapters.tables import asset, asset_removal, folder, folder_removal, pending, upload
from services.gallery.domain.assets import Asset, MediaType
from services.gallery.domain.folders import FolderRecord
from services.gallery.domain.removals import Cause
from services.gallery.domain.variants import MAX_ATTEMPTS

PAGE = 500


@dataclass(frozen=True, slots=True)
class RecordedAsset:
    """A row: the asset, and what it says of its blobs.

    `has_folder`: the row of its folder is there, or it has none. `is_derived`: no derivatives are still to be made.
    `is_given_up`: making them has failed too often.
    """

    asset: Asset
    document_revision: int
    variants: tuple[str, ...]
    has_folder: bool
    is_derived: bool
    is_given_up: bool


@dataclass(frozen=True, slots=True)
class RecordedFolder:
    """A folder's row."""

    folder: FolderRecord
    document_revision: int


class Inventory:
    """Every page and every answer is a read of its own: a walk of hours holds no snapshot."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._reading = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def count(self) -> int:
        """How many assets there are."""
        async with self._reading.connect() as connection:
            return await connection.scalar(sa.select(sa.func.count()).select_from(asset)) or 0

    async def assets(self, media_type: MediaType) -> AsyncIterator[Sequence[tuple[str, RecordedAsset]]]:
        """All assets by id, in pages."""
        query = select_assets(full=True).where(asset.c.media_type == media_type.value)
        async for rows in self._pages(query, asset.c.id):
            yield [(row["id"], _recorded(row)) for row in rows]

    async def asset(self, asset_id: str) -> RecordedAsset | None:
        """One asset, whoever owns it."""
        async with self._reading.connect() as connection:
            found = await connection.execute(select_assets(full=True).where(asset.c.id == asset_id))
            row = found.mappings().one_or_none()
        return _recorded(row) if row is not None else None

    async def folders(self) -> AsyncIterator[Sequence[tuple[str, RecordedFolder]]]:
        """All folders by id, in pages."""
        async for rows in self._pages(sa.select(folder), folder.c.id):
            yield [(row["id"], RecordedFolder(to_folder(row), row["document_revision"])) for row in rows]

    async def folder(self, folder_id: str) -> RecordedFolder | None:
        """One folder, whoever owns it."""
        async with self._reading.connect() as connection:
            found = await connection.execute(sa.select(folder).where(folder.c.id == folder_id))
            row = found.mappings().one_or_none()
        return RecordedFolder(to_folder(row), row["document_revision"]) if row is not None else None

    async def is_under_way(self, asset_id: str) -> bool:
        """Whether an upload, or a removal that is not done yet, explains bytes without an asset."""
        uploading = sa.select(pending.c.asset_id).where(pending.c.asset_id == asset_id)
        waiting = asset_removal.c.remove_time.is_(None)
        removing = sa.select(asset_removal.c.asset_id).where(asset_removal.c.asset_id == asset_id, waiting)
        return await self._exists(uploading.union_all(removing))

    async def was_purged(self, asset_id: str) -> bool:
        """Whether there is a tombstone."""
        tombstone = (asset_removal.c.asset_id == asset_id) & (asset_removal.c.cause == Cause.PURGED.value)
        return await self._exists(sa.select(asset_removal.c.asset_id).where(tombstone))

    async def is_folder_going(self, folder_id: str) -> bool:
        """Whether the folder's document has yet to be removed."""
        return await self._exists(sa.select(folder_removal.c.folder_id).where(folder_removal.c.folder_id == folder_id))

    async def is_staged(self, upload_id: str) -> bool:
        """Whether there is such a direct upload."""
        return await self._exists(sa.select(upload.c.id).where(upload.c.id == upload_id))

    async def wrong_counts(self) -> Sequence[WrongCount]:
        """Counts that are not what the rows say."""
        async with self._reading.connect() as connection:
            return await wrong_counts(connection)

    async def _exists(self, query: Any) -> bool:
        async with self._reading.connect() as connection:
            return (await connection.execute(query)).first() is not None

    async def _pages(self, query: sa.Select[Any], key: sa.Column[str]) -> AsyncIterator[Sequence[Any]]:
        last = ""
        while True:
            async with self._reading.connect() as connection:
                page = await connection.execute(query.where(key > last).order_by(key).limit(PAGE))
                rows = page.mappings().all()
            if not rows:
                return
            last = rows[-1]["id"]
            yield rows


def _recorded(row: Any) -> RecordedAsset:
    has_folder = row["folder_id"] is None or row["folder_path"] is not None
    return RecordedAsset(
        to_asset(row),
        row["document_revision"],
        tuple(row["variants"]),
        has_folder,
        is_derived=row["derive_time"] is None,
        is_given_up=row["derive_attempts"] >= MAX_ATTEMPTS,
    )
