"""New paths for folders and all below them: planned and checked first, then written."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from services.gallery.adapters.folders import path_key
from services.gallery.adapters.tables import folder
from services.gallery.domain import failures
from services.gallery.domain.assets import Folder
from services.gallery.domain.folders import FolderRecord, check_path, parent_path

MOVED_FOLDERS = 5_000
"""So many folders move at once: each has a document that follows, and others' documents wait behind them."""


def is_below(path: str) -> sa.ColumnElement[bool]:
    """Whether a folder's path lies below this one."""
    return sa.func.starts_with(folder.c.path, path + "/")


def is_among(column: sa.Column[Any], values: Sequence[Any]) -> sa.ColumnElement[bool]:
    """One parameter for any number of values; a list of parameters ends at 65,535."""
    return column == sa.any_(sa.cast(list(values), ARRAY(column.type)))


async def folders_below(connection: AsyncConnection, owner: str, path: str) -> list[Folder]:
    """All of them, by the code points of their paths."""
    query = sa.select(folder.c.id, folder.c.path).where(folder.c.owner == owner, is_below(path))
    query = query.order_by(folder.c.path.collate("C"))
    return [Folder(row.id, row.path) for row in await connection.execute(query)]


async def plan_rename(
    connection: AsyncConnection, present: FolderRecord, new_path: str, below: Sequence[Folder]
) -> dict[str, str]:
    """The new paths, by id, of a folder and all below it.

    Raises:
        AlreadyExists: FOLDER_EXISTS.
        FailedPrecondition: TOO_MANY_FOLDERS.
        InvalidArgument: INVALID_FOLDER_PATH.
    """
    moved = {present.id: new_path} | {f.id: new_path + f.path[len(present.path) :] for f in below}
    await _check(connection, present, moved, leaving=[], field="new_path")
    return moved


async def plan_move_up(connection: AsyncConnection, doomed: FolderRecord, below: Sequence[Folder]) -> dict[str, str]:
    """The new paths, by id, of the folders below one whose contents move to its parent.

    Nothing is merged: the caller would not know whose assets are whose. A folder may take the path of the one that is
    deleted.

    Raises:
        AlreadyExists: FOLDER_EXISTS.
        FailedPrecondition: TOO_MANY_FOLDERS.
        InvalidArgument: INVALID_FOLDER_PATH.
    """
    above = parent_path(doomed.path)
    prefix, cut = above + "/" if above else "", len(doomed.path) + 1
    moved = {f.id: prefix + f.path[cut:] for f in below}
    await _check(connection, doomed, moved, leaving=[doomed.id], field="contents")
    return moved


async def _check(
    connection: AsyncConnection, top: FolderRecord, moved: Mapping[str, str], *, leaving: Sequence[str], field: str
) -> None:
    if len(moved) > MOVED_FOLDERS:
        raise failures.too_many_folders(top.name, MOVED_FOLDERS)
    for path in moved.values():
        check_path(path, field=field)
    keys = [path_key(path) for path in moved.values()]
    stays = ~is_among(folder.c.id, [*leaving, *moved])
    taken = sa.select(folder.c.path).where(folder.c.owner == top.owner, is_among(folder.c.path_key, keys), stays)
    if first := await connection.scalar(taken.order_by(folder.c.path.collate("C")).limit(1)):
        raise failures.folder_exists(first)


async def set_paths(connection: AsyncConnection, planned: Mapping[str, str]) -> None:
    """Gives folders their planned paths.

    One by one and the highest first: a folder that moves up may take a path that another one leaves, and that one was
    as high as the new path is, so it has moved already.
    """
    if not planned:
        return
    now = sa.func.clock_timestamp()
    this = sa.update(folder).where(folder.c.id == sa.bindparam("this_id"))
    values: dict[str, Any] = {"path": sa.bindparam("path"), "path_key": sa.bindparam("path_key")}
    rows = [
        {"this_id": folder_id, "path": path, "path_key": path_key(path)}
        for folder_id, path in sorted(planned.items(), key=lambda item: item[1].count("/"))
    ]
    await connection.execute(this.values(**values, revision=folder.c.revision + 1, update_time=now), rows)
