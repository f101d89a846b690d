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

from services.gallery.adapters.folders import create_folder, find_folder, path_key
from services.gallery.adapters.journal import Change, lock_owner, record
from services.gallery.adapters.rows import select_assets, to_asset
from services.gallery.adapters.tables import asset, folder, folder_removal
from services.gallery.domain import edits, failures
from services.gallery.domain.assets import Folder
from services.gallery.domain.folders import (
    Contents,
    FolderPath,
    FolderRecord,
    FolderRef,
    check_path,
    check_renaming,
    parent_path,
)

EMPTIED_ASSETS = 1_000
"""So many assets leave a folder in one transaction: the owner's other changes wait for no more."""


class Folders:
    """The folders of every owner."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
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
    ) -> list[FolderRecord]:
        """At most `size` folders behind the path `after`, by the code points of their paths.

        Raises:
            NotFound: FOLDER_NOT_FOUND, the folder `below` which they shall be.
        """
        by_path = folder.c.path.collate("C")
        query = _select().where(folder.c.owner == owner).order_by(by_path).limit(size)
        async with self._reading.connect() as connection:
            if below is not None:
                above = await find_folder(connection, owner, below)
                if above is None:
                    raise failures.folder_not_found(str(below))
                query = query.where(_is_below(above.path))
            if after is not None:
                query = query.where(by_path > after)
            return [_to_record(row) for row in await connection.execute(query)]

    async def create(self, owner: str, path: FolderPath) -> FolderRecord:
        """A new folder, with its missing parents.

        Raises:
            AlreadyExists: FOLDER_EXISTS.
        """
        async with self._engine.begin() as connection:
            await lock_owner(connection, owner)
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
            InvalidArgument: INVALID_FOLDER_PATH, for it or for one below it.
        """
        async with self._engine.begin() as connection:
            await lock_owner(connection, owner)
            present = await _get(connection, owner, folder_id)
            check_renaming(present, new_path, etag)
            if new_path == present.path:
                return present
            if await find_folder(connection, owner, FolderPath(new_path)) is not None:
                raise failures.folder_exists(new_path)
            if above := parent_path(new_path):
                await create_folder(connection, owner, FolderPath(above))
            old = len(present.path)
            moved = {present.id: new_path}
            moved |= {f.id: new_path + f.path[old:] for f in await _below(connection, owner, present.path)}
            await _set_paths(connection, moved, field="new_path")
            return await _get(connection, owner, folder_id)

    async def delete_step(self, owner: str, folder_id: str, contents: Contents, *, retention: timedelta) -> bool:
        """Deletes a folder by the rule for its contents, or empties it by EMPTIED_ASSETS; True: it is deleted.

        Raises:
            NotFound: FOLDER_NOT_FOUND.
            FailedPrecondition: FOLDER_NOT_EMPTY.
            AlreadyExists: FOLDER_EXISTS, a folder that would move to the parent has the path of another one there.
            InvalidArgument: INVALID_FOLDER_PATH, a folder that would move to the parent can have no such path.
        """
        async with self._engine.begin() as connection:
            await lock_owner(connection, owner)
            doomed = await _get(connection, owner, folder_id)
            below = await _below(connection, owner, doomed.path)
            if contents is Contents.REFUSE and (doomed.asset_count or below):
                raise failures.folder_not_empty(doomed.name)
            moved = await _to_parent(connection, doomed, below) if contents is Contents.MOVE_TO_PARENT else {}
            leaving = [doomed.id, *(f.id for f in below if contents is Contents.DELETE)]
            if not await _empty(connection, doomed, leaving, contents, retention):
                return False
            await _remove(connection, leaving)
            await _set_paths(connection, moved, field="contents")
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


def _is_below(path: str) -> sa.ColumnElement[bool]:
    return sa.func.starts_with(folder.c.path, path + "/")


def _is_among(column: sa.Column[Any], values: Sequence[Any]) -> sa.ColumnElement[bool]:
    """One parameter for any number of values; a list of parameters ends at 65,535."""
    return column == sa.any_(sa.cast(list(values), ARRAY(column.type)))


async def _below(connection: AsyncConnection, owner: str, path: str) -> list[Folder]:
    """From the top down."""
    query = sa.select(folder.c.id, folder.c.path).where(folder.c.owner == owner, _is_below(path))
    query = query.order_by(folder.c.path.collate("C"))
    return [Folder(row.id, row.path) for row in await connection.execute(query)]


async def _to_parent(connection: AsyncConnection, doomed: FolderRecord, below: Sequence[Folder]) -> dict[str, str]:
    """The new paths of the folders below one whose contents move to its parent.

    Nothing is merged: the caller would not know whose assets are whose. A folder may take the path of the one that is
    deleted.
    """
    above = parent_path(doomed.path)
    prefix, cut = above + "/" if above else "", len(doomed.path) + 1
    moved = {f.id: prefix + f.path[cut:] for f in below}
    keys = [path_key(path) for path in moved.values()]
    stays = ~_is_among(folder.c.id, [doomed.id, *moved])
    taken = sa.select(folder.c.path).where(folder.c.owner == doomed.owner, _is_among(folder.c.path_key, keys), stays)
    if (path := await connection.scalar(taken.order_by(folder.c.path.collate("C")).limit(1))) is not None:
        raise failures.folder_exists(path)
    return moved


async def _set_paths(connection: AsyncConnection, paths: dict[str, str], *, field: str) -> None:
    """Gives folders their new paths, in this order; each must be one that a folder may have.

    One by one and from the top down, because a folder may take the path that the one above it leaves.
    """
    if not paths:
        return
    now = sa.func.clock_timestamp()
    this = sa.update(folder).where(folder.c.id == sa.bindparam("this_id"))
    values: dict[str, Any] = {"path": sa.bindparam("path"), "path_key": sa.bindparam("path_key")}
    rows = [
        {"this_id": folder_id, "path": check_path(path, field=field), "path_key": path_key(path)}
        for folder_id, path in paths.items()
    ]
    await connection.execute(this.values(**values, revision=folder.c.revision + 1, update_time=now), rows)


async def _empty(
    connection: AsyncConnection, doomed: FolderRecord, leaving: Sequence[str], contents: Contents, retention: timedelta
) -> bool:
    """Lets the next assets leave the folders; True: these were the last."""
    query = select_assets(full=False).where(asset.c.owner == doomed.owner, _is_among(asset.c.folder_id, leaving))
    query = query.order_by(asset.c.id).limit(EMPTIED_ASSETS + 1).with_for_update(of=asset, key_share=True)
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


async def _remove(connection: AsyncConnection, folder_ids: Sequence[str]) -> None:
    """Deletes the rows of empty folders and leaves word for whoever removes their documents."""
    await connection.execute(sa.delete(folder).where(_is_among(folder.c.id, folder_ids)))
    removals = [{"folder_id": folder_id} for folder_id in folder_ids]
    await connection.execute(insert(folder_removal).on_conflict_do_nothing(), removals)
