"""The index of assets in Postgres. Every read and write names the owner; one transaction a change."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.common.errors import ServiceError
from services.gallery.adapters.attempts import close_attempt, end_attempt
from services.gallery.adapters.folders import create_folder, find_folder, plan_folder
from services.gallery.adapters.journal import Change, record
from services.gallery.adapters.rows import select_assets, to_asset, values_of
from services.gallery.adapters.tables import asset, folder_removal
from services.gallery.adapters.transactions import Transactions
from services.gallery.adapters.wording import Words, texts_of, words_of
from services.gallery.domain import document, failures
from services.gallery.domain.assets import Asset, Folder
from services.gallery.domain.folders import FolderId, FolderRef
from services.gallery.domain.search import VERSION
from services.gallery.domain.uploads import NewAsset


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a rule may need besides the asset: the database's time, and the folder that the request names."""

    now: datetime
    folder: Folder | None = None


Decide = Callable[[Asset, Circumstances], Asset]
"""A rule of the domain: the asset as it shall be, from the asset as it is."""

Check = Callable[[Sequence[Asset]], None]
"""Refuses an outcome by raising."""

WriteDocument = Callable[[Asset], Awaitable[None]]
"""Makes `asset.json` durable."""


class Catalog:
    """Reads run outside of transactions; nothing here holds a connection while bytes are on their way to a client."""

    def __init__(self, engine: AsyncEngine, transactions: Transactions) -> None:
        self._transactions = transactions
        self._reading = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def get(self, owner: str, asset_id: str) -> Asset | None:
        """One asset of this owner, soft-deleted or not."""
        found = await self.find(asset_id)
        return found if found is not None and found.owner == owner else None

    async def get_many(self, owner: str, asset_ids: Sequence[str], *, full: bool = True) -> Mapping[str, Asset]:
        """Those of these assets that are this owner's, by id, soft-deleted or not; all of them, or as lists have it."""
        query = select_assets(full=full).where(asset.c.owner == owner, asset.c.id.in_(asset_ids))
        async with self._reading.connect() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return {row["id"]: to_asset(row) for row in rows}

    async def find(self, asset_id: str) -> Asset | None:
        """The asset of this id, whoever owns it: for deciding whether an id is taken, never for showing."""
        async with self._reading.connect() as connection:
            rows = await connection.execute(select_assets(full=True).where(asset.c.id == asset_id))
            row = rows.mappings().one_or_none()
        return to_asset(row) if row is not None else None

    async def check_folder(self, owner: str, ref: FolderRef | None) -> None:
        """Refuses a folder that `insert` would refuse, for saying so early.

        Raises:
            NotFound: FOLDER_NOT_FOUND.
        """
        if isinstance(ref, FolderId):
            async with self._reading.connect() as connection:
                if await find_folder(connection, owner, ref) is None:
                    raise failures.folder_not_found(str(ref))

    async def insert(self, new: NewAsset, write_document: WriteDocument, attempt: uuid.UUID) -> Asset | None:
        """Commits the new asset and its missing folders, once its document is written; None: the id is taken.

        The attempt (`Attempts.begin`) ends with the commit, and also when the id is taken.

        No connection is held while the document is written. Another insertion of the same id may write its own over
        it: whoever then finds the id taken has the mirror write that of the row once more (see `attempts.py`). The
        asset is its owner's newest when it commits: pages and readers that ask for what is new rely on it.

        Raises:
            NotFound: FOLDER_NOT_FOUND.
            AttemptGivenUp: its bytes may be gone.
            Unavailable: the owner's library is busy, and nothing was committed.
        """
        planned = await self._plan(new)
        await write_document(planned)
        values = await asyncio.to_thread(values_of, new, None)
        async with self._transactions.of_owner(new.owner) as connection:
            stored = await _settle(connection, planned, new.folder)
            values |= {
                "folder_id": stored.folder.id if stored.folder else None,
                "create_time": stored.create_time,
                "update_time": stored.update_time,
                "document_revision": stored.revision if stored == planned else 0,
            }
            row = insert(asset).values(values).on_conflict_do_nothing(index_elements=[asset.c.id])
            if await connection.scalar(row.returning(asset.c.id)) is None:
                await end_attempt(connection, new.id, attempt)
                return None
            await close_attempt(connection, new.id, attempt)
            await record(connection, [Change(None, stored)])
        return stored

    async def _plan(self, new: NewAsset) -> Asset:
        async with self._reading.connect() as connection:
            into = await plan_folder(connection, new.owner, new.folder) if new.folder is not None else None
            now = (await connection.execute(sa.select(sa.func.clock_timestamp()))).scalar_one()
        return new.as_stored(into, now.astimezone(UTC))

    async def change(
        self,
        owner: str,
        asset_ids: Sequence[str],
        decide: Decide,
        *,
        folder: FolderRef | None = None,
        check: Check | None = None,
        words_ahead: bool = False,
    ) -> list[Asset]:
        """Applies a rule of the domain to assets, all or none; the assets as they are then, in the order asked.

        A missing `folder` is created for the rule. `check` may still refuse the outcome. `asset.json` follows: see
        `mirror.py`. `words_ahead`: the rule changes texts of many assets and needs no circumstances, so their search
        words are made before the owner's lock is taken; what differs by then is made anew.

        Raises:
            NotFound: ASSET_NOT_FOUND, FOLDER_NOT_FOUND.
            Unavailable: the owner's library is busy.
        """
        words = await self._words_ahead(owner, asset_ids, decide) if words_ahead else {}
        async with self._transactions.of_owner(owner) as connection:
            present = await _locked(connection, owner, asset_ids)
            into = await create_folder(connection, owner, folder) if folder is not None else None
            now = (await connection.execute(sa.select(sa.func.clock_timestamp()))).scalar_one().astimezone(UTC)
            changes = []
            for before in present:
                wanted = decide(before, Circumstances(now, into))
                if wanted != before:
                    changes.append(Change(before, replace(wanted, revision=before.revision + 1, update_time=now)))
            changed = {change.asset.id: change.asset for change in changes}
            outcome = [changed.get(before.id, before) for before in present]
            if check is not None:
                check(outcome)
            await _write(connection, changes, words)
            await record(connection, changes)
        return outcome

    async def _words_ahead(self, owner: str, asset_ids: Sequence[str], decide: Decide) -> Words:
        present, at = (await self.get_many(owner, asset_ids)).values(), Circumstances(datetime.now(UTC))
        try:
            changes = [Change(before, decide(before, at)) for before in present]
        except ServiceError:
            return {}  # refused again under the lock, if it still has to be
        return await words_of([change.asset for change in changes if _is_reworded(change)], {})


async def _locked(connection: AsyncConnection, owner: str, asset_ids: Sequence[str]) -> list[Asset]:
    query = select_assets(full=True).where(asset.c.owner == owner, asset.c.id.in_(asset_ids))
    rows = (await connection.execute(query.with_for_update(of=asset, key_share=True))).mappings().all()
    found = {row["id"]: to_asset(row) for row in rows}
    for asset_id in asset_ids:
        if asset_id not in found:
            raise failures.asset_not_found(f"assets/{asset_id}")
    return [found[asset_id] for asset_id in asset_ids]


async def _write(connection: AsyncConnection, changes: Sequence[Change], words: Words) -> None:
    reworded = [change.asset for change in changes if _is_reworded(change)]
    words = await words_of(reworded, words)
    await _update(
        connection,
        [
            {**_changeable(changed), "search": words[texts_of(changed)], "search_version": VERSION}
            for changed in reworded
        ],
    )
    await _update(connection, [_changeable(change.asset) for change in changes if not _is_reworded(change)])


def _is_reworded(change: Change) -> bool:
    return change.before is None or texts_of(change.before) != texts_of(change.asset)


async def _update(connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        this = sa.update(asset).where(asset.c.id == sa.bindparam("this_id"))
        await connection.execute(this.values({name: sa.bindparam(name) for name in rows[0] if name != "this_id"}), rows)


async def _settle(connection: AsyncConnection, stored: Asset, ref: FolderRef | None) -> Asset:
    """The planned asset as its owner's newest and in the folder as it is now; the owner's lock is held.

    Others of the owner may have committed since it got its time and its folder, or the clock may have gone back. The
    mirror brings what differs to the document. A result is not lost with its folder: without it, it is in none.
    """
    # Two questions, because shown and deleted rows have indexes of their own; greatest() passes null over.
    others = sa.select(sa.func.max(asset.c.create_time)).where(asset.c.owner == stored.owner, asset.c.id != stored.id)
    shown, deleted = asset.c.delete_time.is_(None), asset.c.delete_time.is_not(None)
    latest = sa.func.greatest(*(others.where(kind).scalar_subquery() for kind in (shown, deleted)))
    after = sa.func.greatest(sa.func.clock_timestamp(), latest + timedelta(microseconds=1))
    newest, later = (await connection.execute(sa.select(latest, after))).one()
    settled = stored
    if newest is not None and newest >= stored.create_time:
        settled = replace(settled, create_time=later.astimezone(UTC), update_time=later.astimezone(UTC))
    if stored.folder is not None and ref is not None:
        settled = replace(settled, folder=await _present_folder(connection, stored.owner, stored.folder, ref))
    return settled


async def _present_folder(connection: AsyncConnection, owner: str, planned: Folder, ref: FolderRef) -> Folder | None:
    found = await find_folder(connection, owner, FolderId(planned.id))
    if found is None and not isinstance(ref, FolderId):
        # The document of one that was deleted meanwhile is being removed: its id is not used again.
        was_deleted = await connection.scalar(sa.select(sa.exists().where(folder_removal.c.folder_id == planned.id)))
        return await create_folder(connection, owner, ref, folder_id=None if was_deleted else planned.id)
    return found


def _changeable(changed: Asset) -> dict[str, Any]:
    usage, cost = changed.provenance.usage, changed.provenance.cost
    return {
        "this_id": changed.id,
        "display_name": changed.display_name,
        "folder_id": changed.folder.id if changed.folder else None,
        "tags": list(changed.tags),
        "labels": dict(changed.labels),
        "favorite": changed.favorite,
        "revision": changed.revision,
        "update_time": changed.update_time,
        "delete_time": changed.delete_time,
        "purge_time": changed.purge_time,
        "analysis": document.analysis_to_json(changed.analysis) if changed.analysis else None,
        "usage": document.usage_to_json(usage) if usage else None,
        "cost_source": cost.source.value if cost and cost.source else None,
        "cost_micro_usd": cost.amount_micro_usd if cost else None,
        "annotations": list(changed.annotations),
    }
