"""The tree of an owner's folders: read, renamed, emptied and deleted.

A folder's path is on its row, so to rename one is to rewrite the paths of all below it; assets name their folder by its
id and stay untouched. Every folder's parents exist, and every change runs under the owner's lock.
"""

from collections.abc import Sequence
from datetime import UTC, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.gallery.adapters.folder_moves import (
    folders_below,
    is_among,
    is_below,
    plan_move_up,
    plan_rename,
    set_paths,
)
from services.gallery.adapters.folders import create_folder, find_folder
from services.gallery.adapters.journal import Change, record
from services.gallery.adapters.rows import select_assets, to_asset
from services.gallery.adapters.tables import asset, folder, folder_removal
from services.gallery.adapters.transactions import Transactions
from services.gallery.domain import edits, failures
from services.gallery.domain.folders import (
    Contents,
    FolderPath,
    FolderRecord,
    FolderRef,
    check_renaming,
    parent_path,
)

EMPTIED_ASSETS = 1_000
"""So many assets leave a folder in one transaction: the owner's other changes wait for no more."""


class Folders:
    """The folders of every owner."""

    def __init__(self, engine: AsyncEngine, transactions: Transactions) -> None:
        self._transactions = transactions
        self._reading = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def get(self, owner: str, folder_id: str) -> FolderRecord:
        """One folder.

        Raises:
            NotFound: FOLDER_NOT_FOUND.
        """
        async with self._reading.connect() as connection:
            return await _get(connection, owner, folder_id)

    async def list_page(
        self, owner: str, *, below: FolderRef | None, after: str | None, size: int
    ) -> tuple[str, list[FolderRecord]]:
        """At most `size` folders by the code points of their paths, and what all of these paths begin with.

        They come behind `after`, a path without that beginning: so the folder `below` which they are may get another
        path between two pages, and none is left out.

        Raises:
            NotFound: FOLDER_NOT_FOUND, the folder `below` which they shall be.
        """
        by_path = folder.c.path.collate("C")
        query, beginning = _select().where(folder.c.owner == owner).order_by(by_path).limit(size), ""
        async with self._reading.connect() as connection:
            if below is not None:
                above = await find_folder(connection, owner, below)
                if above is None:
                    raise failures.folder_not_found(str(below))
                query, beginning = query.where(is_below(above.path)), above.path + "/"
            if after is not None:
                query = query.where(by_path > beginning + after)
            return beginning, [_to_record(row) for row in await connection.execute(query)]

    async def create(self, owner: str, path: FolderPath) -> FolderRecord:
        """A new folder, with its missing parents.

        Raises:
            AlreadyExists: FOLDER_EXISTS.
        """
        async with self._transactions.of_owner(owner) as connection:
            if await find_folder(connection, owner, path) is not None:
                raise failures.folder_exists(path.path)
            created = await create_folder(connection, owner, path)
            return await _get(connection, owner, created.id)

    async def rename(self, owner: str, folder_id: str, new_path: str, *, etag: str) -> FolderRecord:
        """Gives a folder another path, under new parents where they are missing; all below it moves along.

        Raises:
            NotFound: FOLDER_NOT_FOUND.
            Aborted: ETAG_MISMATCH.
            AlreadyExists: FOLDER_EXISTS.
            FailedPrecondition: TOO_MANY_FOLDERS.
            InvalidArgument: INVALID_FOLDER_PATH, for it or for one below it.
        """
        async with self._transactions.of_owner(owner) as connection:
            present = await _get(connection, owner, folder_id)
            check_renaming(present, new_path, etag)
            if new_path == present.path:
                return present
            below = await folders_below(connection, owner, present.path)
            moved = await plan_rename(connection, present, new_path, below)
            if above := parent_path(new_path):
                await create_folder(connection, owner, FolderPath(above))
            await set_paths(connection, moved)
            return await _get(connection, owner, folder_id)

    async def delete_step(self, owner: str, folder_id: str, contents: Contents, *, retention: timedelta) -> bool:
        """Deletes a folder by the rule for its contents, or empties it by EMPTIED_ASSETS; True: it is deleted.

        Raises:
            NotFound: FOLDER_NOT_FOUND.
            FailedPrecondition: FOLDER_NOT_EMPTY, TOO_MANY_FOLDERS would move to the parent.
            AlreadyExists: FOLDER_EXISTS, a folder that would move to the parent has the path of another one there.
            InvalidArgument: INVALID_FOLDER_PATH, a folder that would move to the parent can have no such path.
        """
        async with self._transactions.of_owner(owner) as connection:
            doomed = await _get(connection, owner, folder_id)
            below = await folders_below(connection, owner, doomed.path)
            if contents is Contents.REFUSE and (doomed.asset_count or below):
                raise failures.folder_not_empty(doomed.name)
            moved = await plan_move_up(connection, doomed, below) if contents is Contents.MOVE_TO_PARENT else {}
            leaving = [doomed.id, *(f.id for f in below if contents is Contents.DELETE)]
            if not await _empty(connection, doomed, leaving, contents, retention):
                return False
            await _remove(connection, leaving)
            await set_paths(connection, moved)
            return True


async def _get(connection: AsyncConnection, owner: str, folder_id: str) -> FolderRecord:
    query = _select().where(folder.c.owner == owner, folder.c.id == folder_id)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise failures.folder_not_found(f"folders/{folder_id}")
    return _to_record(row)


def _select() -> sa.Select[Any]:
    return sa.select(
        folder.c.id,
        folder.c.owner,
        folder.c.path,
        folder.c.asset_count,
        folder.c.revision,
        folder.c.create_time,
        folder.c.update_time,
    )


def _to_record(row: sa.Row[Any]) -> FolderRecord:
    return FolderRecord(
        id=row.id,
        owner=row.owner,
        path=row.path,
        asset_count=row.asset_count,
        revision=row.revision,
        create_time=row.create_time.astimezone(UTC),
        update_time=row.update_time.astimezone(UTC),
    )


async def _empty(
    connection: AsyncConnection, doomed: FolderRecord, leaving: Sequence[str], contents: Contents, retention: timedelta
) -> bool:
    """Lets the next assets leave the folders; True: these were the last."""
    next_ids = list(await connection.scalars(_first_assets(doomed.owner, leaving, EMPTIED_ASSETS + 1)))
    query = select_assets(full=False).where(is_among(asset.c.id, next_ids)).order_by(asset.c.id)
    query = query.with_for_update(of=asset, key_share=True)
    found = [to_asset(row) for row in (await connection.execute(query)).mappings()]
    above = parent_path(doomed.path)
    parent = await find_folder(connection, doomed.owner, FolderPath(above)) if above else None
    now = (await connection.execute(sa.select(sa.func.clock_timestamp()))).scalar_one().astimezone(UTC)
    left = [
        Change(before, edits.leave_folder(before, now, contents, parent, retention=retention))
        for before in found[:EMPTIED_ASSETS]
    ]
    if left:
        this = sa.update(asset).where(asset.c.id == sa.bindparam("this_id"))
        names = ("folder_id", "delete_time", "purge_time")
        values: dict[str, Any] = {name: sa.bindparam(name) for name in names}
        rows = [
            {
                "this_id": change.asset.id,
                "folder_id": change.asset.folder.id if change.asset.folder else None,
                "delete_time": change.asset.delete_time,
                "purge_time": change.asset.purge_time,
            }
            for change in left
        ]
        await connection.execute(this.values(**values, revision=asset.c.revision + 1, update_time=now), rows)
        await record(connection, left)
    return len(found) <= EMPTIED_ASSETS


def _first_assets(owner: str, folder_ids: Sequence[str], number: int) -> sa.Select[tuple[str]]:
    """Folder by folder and in the order of their index: by any other, the whole library might be walked for them."""
    ids = sa.func.unnest(sa.cast(list(folder_ids), ARRAY(sa.Text))).table_valued("id").render_derived(name="leaving")
    inside = sa.select(asset.c.id).where(
        asset.c.owner == owner, asset.c.folder_id == sa.cast(ids.c.id, asset.c.folder_id.type)
    )
    by_index = (asset.c.owner, asset.c.folder_id, asset.c.delete_time.is_(None), asset.c.create_time, asset.c.id)
    first = inside.order_by(*by_index).limit(number).lateral()
    return sa.select(first.c.id).select_from(ids, first).limit(number)


async def _remove(connection: AsyncConnection, folder_ids: Sequence[str]) -> None:
    """Deletes the rows of empty folders and leaves word for whoever removes their documents."""
    await connection.execute(sa.delete(folder).where(is_among(folder.c.id, folder_ids)))
    removals = [{"folder_id": folder_id} for folder_id in folder_ids]
    order, now = insert(folder_removal), sa.func.clock_timestamp()
    anew = order.on_conflict_do_update(index_elements=["folder_id"], set_={"create_time": now, "try_time": now})
    await connection.execute(anew, removals)
