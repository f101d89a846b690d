"""Puts assets and folders back into the index as their documents tell them.

Nothing newer is ever overwritten, and what is there already is left alone, so it may be done again, also beside a
running gallery: the locks are those of `journal.py` and `attempts.py`.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.common.errors import Unavailable
from services.common.migrations import lock_key
from services.gallery.adapters.attempts import lock_asset
from services.gallery.adapters.folders import create_folder, path_key
from services.gallery.adapters.recounting import recount
from services.gallery.adapters.rows import search_values, values_of
from services.gallery.adapters.tables import SCHEMA, asset, asset_removal, folder, incarnation
from services.gallery.adapters.transactions import Transactions
from services.gallery.domain import document
from services.gallery.domain.assets import Asset
from services.gallery.domain.folders import FolderPath, FolderRecord
from services.gallery.domain.variants import variants_of

FINISH_TRIES = 10
FINISH_PAUSE_SECONDS = 1.0
"""Between the tries, so that changes which wait meanwhile get through."""

_ONE_AT_A_TIME = lock_key(f"{SCHEMA}.rebuild")


@dataclass(frozen=True, slots=True)
class Restored:
    """An asset of a document, and the derivatives that are stored beside it."""

    asset: Asset
    variants: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many of a batch were new or newer, and how many are purged or being removed and so stay out."""

    written: int
    removed: int


class Restoring:
    """The index, on its way back."""

    def __init__(self, engine: AsyncEngine, transactions: Transactions) -> None:
        self._engine = engine
        self._transactions = transactions

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[bool]:
        """False: another process restores this index right now."""
        options = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        async with options.connect() as connection:
            free = bool(await connection.scalar(sa.select(sa.func.pg_try_advisory_lock(_ONE_AT_A_TIME))))
            try:
                yield free
            finally:
                if free:
                    await connection.execute(sa.select(sa.func.pg_advisory_unlock(_ONE_AT_A_TIME)))

    async def folders(self, folders: Sequence[FolderRecord]) -> list[FolderRecord]:
        """Writes folders that are missing or older; those that could not be: another one has their path."""
        refused = []
        async with self._transactions.of_owner(*(record.owner for record in folders)) as connection:
            for record in folders:
                if not await _write_folder(connection, record):
                    refused.append(record)
        return refused

    async def parents(self, paths: Iterable[tuple[str, str]]) -> None:
        """Creates folders, each an owner and a path, that are missing above others."""
        for owner, path in sorted(paths):
            async with self._transactions.of_owner(owner) as connection:
                await create_folder(connection, owner, FolderPath(path))

    async def assets(self, batch: Sequence[Restored]) -> Outcome:
        """Writes assets that are missing or older, with folders that have no document of their own."""
        async with self._transactions.of_owner(*(item.asset.owner for item in batch)) as connection:
            for asset_id in sorted({item.asset.id for item in batch}):
                await lock_asset(connection, asset_id)
            ids = asset_removal.c.asset_id.in_([item.asset.id for item in batch])
            going = set(await connection.scalars(sa.select(asset_removal.c.asset_id).where(ids)))
            kept = [item for item in batch if item.asset.id not in going]
            folders = await _folders_of(connection, kept)
            rows = [_values(item, folders.get(item.asset.id)) for item in kept]
            written = await _upsert(connection, rows) if rows else 0
            return Outcome(written, len(going))

    async def finish(self, *, changed: bool) -> None:
        """Counts everything anew; after a change, watchers of before have to begin anew too."""
        for _ in range(FINISH_TRIES - 1):
            try:
                await self._finish(changed=changed)
            except Unavailable:
                await asyncio.sleep(FINISH_PAUSE_SECONDS)
            else:
                return
        await self._finish(changed=changed)

    async def _finish(self, *, changed: bool) -> None:
        async with self._transactions.of_all() as connection:
            await recount(connection)
            if changed:
                await connection.execute(sa.delete(incarnation))
                await connection.execute(sa.insert(incarnation))


async def _write_folder(connection: AsyncConnection, record: FolderRecord) -> bool:
    values = {
        "owner": record.owner,
        "path": record.path,
        "path_key": path_key(record.path),
        "revision": record.revision,
        "document_revision": record.revision,
        "create_time": record.create_time,
        "update_time": record.update_time,
    }
    new = insert(folder).values(id=record.id, **values).on_conflict_do_nothing()
    if await connection.scalar(new.returning(folder.c.id)) is not None:
        return True
    present = sa.select(folder.c.id, folder.c.revision).where(
        (folder.c.id == record.id) | (folder.c.owner == record.owner) & (folder.c.path_key == path_key(record.path))
    )
    found = {row.id: row.revision for row in await connection.execute(present)}
    if found.get(record.id, 0) >= record.revision:
        return True
    if set(found) != {record.id}:
        return False
    await connection.execute(sa.update(folder).where(folder.c.id == record.id).values(**values))
    return True


async def _folders_of(connection: AsyncConnection, batch: Sequence[Restored]) -> Mapping[str, str]:
    """The folder of each asset that has one; those without a row are made as the asset's document tells them."""
    wanted = {item.asset.folder.id for item in batch if item.asset.folder}
    known = sa.select(folder.c.id, folder.c.owner).where(folder.c.id.in_(wanted))
    present = {(row.owner, row.id) for row in await connection.execute(known)} if wanted else set()
    folders = {}
    for item in batch:
        if (given := item.asset.folder) is None:
            continue
        owner = item.asset.owner
        if (owner, given.id) not in present:
            made = await create_folder(connection, owner, FolderPath(given.path), folder_id=given.id)
            present.add((owner, made.id))
            folders[item.asset.id] = made.id
        else:
            folders[item.asset.id] = given.id
    return folders


def _values(item: Restored, folder_id: str | None) -> dict[str, Any]:
    kept, given = item.asset, item.asset.folder
    whole = set(item.variants) >= set(variants_of(kept))
    is_documented = folder_id == (given.id if given else None)
    return {
        **values_of(kept, folder_id),
        **search_values(kept),
        "analysis": document.analysis_to_json(kept.analysis) if kept.analysis else None,
        "favorite": kept.favorite,
        "annotations": list(kept.annotations),
        "revision": kept.revision,
        "document_revision": kept.revision if is_documented else 0,
        "create_time": kept.create_time,
        "update_time": kept.update_time,
        "delete_time": kept.delete_time,
        "purge_time": kept.purge_time,
        "variants": sorted(item.variants),
        "derive_time": None if whole else sa.func.clock_timestamp(),
    }


async def _upsert(connection: AsyncConnection, rows: list[dict[str, Any]]) -> int:
    new = insert(asset).values(rows)
    newer = {column.name: new.excluded[column.name] for column in asset.c if column.name in rows[0]}
    statement = new.on_conflict_do_update(
        index_elements=[asset.c.id], set_=newer, where=asset.c.revision < new.excluded.revision
    )
    return len((await connection.scalars(statement.returning(asset.c.id))).all())
