"""Folder rows: found by name or path, and made with their missing parents."""

import hashlib
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.common.names import new_id
from services.gallery.adapters.tables import folder
from services.gallery.domain import failures
from services.gallery.domain.assets import Folder
from services.gallery.domain.folders import FolderId, FolderPath, FolderRef


async def find_folder(connection: AsyncConnection, owner: str, ref: FolderRef) -> Folder | None:
    """This owner's folder, or None."""
    match ref:
        case FolderId(id=folder_id):
            which = folder.c.id == folder_id
        case FolderPath(path=path):
            which = folder.c.path_key == path_key(path)
    query = sa.select(folder.c.id, folder.c.path).where(folder.c.owner == owner, which)
    row = (await connection.execute(query)).one_or_none()
    return Folder(row.id, row.path) if row is not None else None


async def plan_folder(connection: AsyncConnection, owner: str, ref: FolderRef) -> Folder:
    """This owner's folder as it is, or as `create_folder` will create it; nothing is created here.

    Raises:
        NotFound: FOLDER_NOT_FOUND, a folder given by name does not exist.
    """
    found = await find_folder(connection, owner, ref)
    if found is not None:
        return found
    if isinstance(ref, FolderId):
        raise failures.folder_not_found(str(ref))
    return Folder(new_id(), ref.path)


async def create_folder(
    connection: AsyncConnection, owner: str, ref: FolderRef, *, folder_id: str | None = None
) -> Folder:
    """This owner's folder; a path is created where it is missing, with its parents, under `folder_id` if one is given.

    The transaction holds the owner's lock.

    Raises:
        NotFound: FOLDER_NOT_FOUND, a folder given by name does not exist.
    """
    found = await find_folder(connection, owner, ref)
    if found is not None:
        return found
    if isinstance(ref, FolderId):
        raise failures.folder_not_found(str(ref))
    rows: list[dict[str, Any]] = [
        {"id": new_id(), "owner": owner, "path": path, "path_key": path_key(path)} for path in ref.with_parents()
    ]
    rows[-1]["id"] = folder_id or rows[-1]["id"]
    await connection.execute(insert(folder).on_conflict_do_nothing(index_elements=["owner", "path_key"]), rows)
    return Folder(rows[-1]["id"], ref.path)


def path_key(path: str) -> bytes:
    """What the unique index holds instead of a path that may be too long for it."""
    return hashlib.sha256(path.encode()).digest()
