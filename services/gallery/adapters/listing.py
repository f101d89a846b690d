"""Lists of assets from the index: one owner's, filtered, a page at a time."""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.gallery.adapters.folders import find_folder
from services.gallery.adapters.rows import select_assets, to_asset
from services.gallery.adapters.tables import asset, folder
from services.gallery.domain import failures
from services.gallery.domain.assets import Asset
from services.gallery.domain.folders import FolderRef
from services.gallery.domain.listing import MAX_COUNT, Filters, Position


class Listing:
    """Reads run outside of transactions."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._reading = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def list_page(
        self, owner: str, filters: Filters, *, size: int, after: Position | None, full: bool
    ) -> tuple[list[Asset], int]:
        """At most `size` assets behind the position, newest first, and how many there are in all.

        The number is exact up to MAX_COUNT, and MAX_COUNT + 1 for more.

        Raises:
            NotFound: FOLDER_NOT_FOUND.
        """
        async with self._reading.connect() as connection:
            conditions = await _conditions(connection, owner, filters)
            page = select_assets(full=full).where(*conditions)
            if after is not None:
                keys = sa.tuple_(asset.c.create_time, asset.c.id)
                page = page.where(keys < sa.tuple_(after.create_time, after.asset_id))
            page = page.order_by(asset.c.create_time.desc(), asset.c.id.desc()).limit(size)
            rows = (await connection.execute(page)).mappings().all()
            counted = sa.select(sa.literal(1)).select_from(asset).where(*conditions).limit(MAX_COUNT + 1).subquery()
            total = await connection.scalar(sa.select(sa.func.count()).select_from(counted))
        return [to_asset(row) for row in rows], total or 0


async def _conditions(connection: AsyncConnection, owner: str, filters: Filters) -> list[sa.ColumnElement[bool]]:
    conditions = [asset.c.owner == owner]
    if not filters.show_deleted:
        conditions.append(asset.c.delete_time.is_(None))
    if filters.folder is not None:
        conditions.append(await _in_folder(connection, owner, filters.folder, below=filters.include_subfolders))
    if filters.media_type is not None:
        conditions.append(asset.c.media_type == filters.media_type.value)
    if filters.tags:
        conditions.append(asset.c.tags.contains(list(filters.tags)))
    if filters.model:
        # Repeats the partial index's own condition: the planner does not derive it from a parameter.
        conditions += [asset.c.model == filters.model, asset.c.model != sa.literal_column("''")]
    if filters.origin:
        conditions += [asset.c.origin == filters.origin, asset.c.origin != sa.literal_column("''")]
    if filters.favorite is not None:
        conditions.append(asset.c.favorite if filters.favorite else ~asset.c.favorite)
    if filters.created_after is not None:
        conditions.append(asset.c.create_time >= filters.created_after)
    if filters.created_before is not None:
        conditions.append(asset.c.create_time < filters.created_before)
    return conditions


async def _in_folder(connection: AsyncConnection, owner: str, ref: FolderRef, *, below: bool) -> sa.ColumnElement[bool]:
    found = await find_folder(connection, owner, ref)
    if found is None:
        raise failures.folder_not_found(str(ref))
    if not below:
        return asset.c.folder_id == found.id
    inside = (folder.c.id == found.id) | sa.func.starts_with(folder.c.path, found.path + "/")
    return asset.c.folder_id.in_(sa.select(folder.c.id).where(folder.c.owner == owner, inside))
