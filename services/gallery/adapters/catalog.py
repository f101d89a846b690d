"""The index of assets in Postgres. Every read and write names the owner; one transaction a change."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.gallery.adapters.folders import create_folder, find_folder
from services.gallery.adapters.rows import select_assets, to_asset, values_of
from services.gallery.adapters.tables import asset, folder
from services.gallery.domain import failures
from services.gallery.domain.assets import Asset
from services.gallery.domain.folders import FolderId, FolderRef
from services.gallery.domain.listing import MAX_COUNT, Filters, Position
from services.gallery.domain.uploads import NewAsset

Decide = Callable[[Asset, datetime], Asset]
"""A rule of the domain: the asset as it shall be, from the asset as it is and the database's time."""

WriteDocument = Callable[[Asset], Awaitable[None]]
"""Makes `asset.json` durable."""

CLAIM_CHOICE = 20
"""So many mirrors can be at work at once."""

# Seeds ("galo", "galm") that set these advisory locks apart from each other and from others' in the database.
_ORDER, _MIRROR = 0x67616C6F, 0x67616C6D
_IS_UNDOCUMENTED = asset.c.document_revision < asset.c.revision


class Catalog:
    """Reads run outside of transactions; nothing here holds a connection while bytes are on their way to a client."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._reading = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def get(self, owner: str, asset_id: str) -> Asset | None:
        """One asset of this owner, soft-deleted or not."""
        found = await self.find(asset_id)
        return found if found is not None and found.owner == owner else None

    async def find(self, asset_id: str) -> Asset | None:
        """The asset of this id, whoever owns it: for deciding whether an id is taken, never for showing."""
        async with self._reading.connect() as connection:
            rows = await connection.execute(select_assets(full=True).where(asset.c.id == asset_id))
            row = rows.mappings().one_or_none()
        return to_asset(row) if row is not None else None

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

    async def check_folder(self, owner: str, ref: FolderRef | None) -> None:
        """Refuses a folder that `insert` would refuse, for saying so early.

        Raises:
            NotFound: FOLDER_NOT_FOUND.
        """
        if isinstance(ref, FolderId):
            async with self._reading.connect() as connection:
                if await find_folder(connection, owner, ref) is None:
                    raise failures.folder_not_found(str(ref))

    async def insert(self, new: NewAsset, write_document: WriteDocument) -> Asset | None:
        """Commits the new asset and its missing folders, once its document is written; None: the id is taken.

        Another insertion of the same id waits for the outcome, so the document is that of the row that commits. The
        asset is its owner's newest at that moment: pages and readers that ask for what is new rely on it.

        Raises:
            NotFound: FOLDER_NOT_FOUND.
        """
        async with self._engine.connect() as connection:
            into = await create_folder(connection, new.owner, new.folder) if new.folder else None
            statement = (
                insert(asset)
                .values(values_of(new, into.id if into else None))
                .on_conflict_do_nothing(index_elements=[asset.c.id])
                .returning(asset.c.create_time)
            )
            create_time = (await connection.execute(statement)).scalar_one_or_none()
            if create_time is None:
                return None
            stored = new.as_stored(into, create_time.astimezone(UTC))
            await write_document(stored)
            stored = await _make_newest(connection, stored)
            await connection.commit()
            return stored

    async def change(self, owner: str, asset_id: str, decide: Decide) -> Asset | None:
        """Applies a rule of the domain to the locked row; None: this owner has no such asset.

        `asset.json` follows: see `undocumented`.
        """
        async with self._engine.begin() as connection:
            query = select_assets(full=True).add_columns(sa.func.clock_timestamp().label("now"))
            query = query.where(asset.c.id == asset_id, asset.c.owner == owner).with_for_update(
                of=asset, key_share=True
            )
            row = (await connection.execute(query)).mappings().one_or_none()
            if row is None:
                return None
            present, now = to_asset(row), row["now"].astimezone(UTC)
            wanted = decide(present, now)
            if wanted == present:
                return present
            changed = replace(wanted, revision=present.revision + 1, update_time=now)
            await connection.execute(sa.update(asset).where(asset.c.id == asset_id).values(_changeable(changed)))
            return changed

    @asynccontextmanager
    async def undocumented(self) -> AsyncIterator[Asset | None]:
        """An asset whose `asset.json` is older than its row; marked as written when the block ends well.

        Meanwhile no other mirror gets it, and anybody may change it: it is then behind again. None: there is none, or
        others are at it.
        """
        async with self._engine.begin() as connection:
            claimed = await connection.scalar(_claim_undocumented())
            # Read once it is claimed: the mirror that had it before has perhaps just written it.
            query = select_assets(full=True).where(asset.c.id == claimed, _IS_UNDOCUMENTED)
            row = (await connection.execute(query)).mappings().one_or_none()
            yield to_asset(row) if row is not None else None
            if row is not None:
                written = sa.update(asset).where(asset.c.id == row["id"])
                await connection.execute(written.values(document_revision=row["revision"]))


def _claim_undocumented() -> sa.Select[tuple[str]]:
    """Locks no row, which changes would wait for as long as storage is slow."""
    oldest = sa.select(asset.c.id).where(_IS_UNDOCUMENTED).order_by(asset.c.update_time).limit(CLAIM_CHOICE).subquery()
    # A lock is tried for as many rows as this reads: one by one until one is free.
    free = sa.func.pg_try_advisory_xact_lock(sa.func.hashtextextended(oldest.c.id, _MIRROR))
    return sa.select(oldest.c.id).where(free).limit(1)


async def _make_newest(connection: AsyncConnection, stored: Asset) -> Asset:
    """Gives the asset a later time if others of its owner have committed since it got its own, or the clock went back.

    The owner's insertions end one at a time, and no storage is waited for meanwhile. The mirror brings the new time
    to the document.
    """
    await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(stored.owner, _ORDER))))
    others = sa.select(sa.func.max(asset.c.create_time)).where(asset.c.owner == stored.owner, asset.c.id != stored.id)
    latest = others.scalar_subquery()
    after = sa.func.greatest(sa.func.clock_timestamp(), latest + timedelta(microseconds=1))
    newest, later = (await connection.execute(sa.select(latest, after))).one()
    if newest is None or newest < stored.create_time:
        return stored
    times = {"create_time": later, "update_time": later}
    await connection.execute(sa.update(asset).where(asset.c.id == stored.id).values(document_revision=0, **times))
    return replace(stored, create_time=later.astimezone(UTC), update_time=later.astimezone(UTC))


def _changeable(changed: Asset) -> dict[str, Any]:
    return {
        "display_name": changed.display_name,
        "folder_id": changed.folder.id if changed.folder else None,
        "tags": list(changed.tags),
        "labels": dict(changed.labels),
        "favorite": changed.favorite,
        "revision": changed.revision,
        "update_time": changed.update_time,
        "delete_time": changed.delete_time,
        "purge_time": changed.purge_time,
    }


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
