"""Writes a document of a row, never over a newer one.

Who writes has read the row under a lock of its database connection, but the writing may outlive the connection: it then
reaches storage late, after another process has written what came next. So each writing replaces exactly the version
that it has looked at, and a version that is newer than the row stays.
"""

from collections.abc import Callable

import structlog

from services.gallery.domain import failures
from services.gallery.domain.assets import Asset
from services.gallery.domain.document import MIME_TYPE, from_document, to_document
from services.gallery.domain.folder_document import from_folder_document, to_folder_document
from services.gallery.domain.folders import FolderRecord
from services.gallery.ports import (
    NO_VERSION,
    BlobConflict,
    BlobKey,
    BlobMissing,
    BlobStore,
    document_key,
    folder_document_key,
)

TRIES = 16
"""Each that fails is one that somebody else's succeeded: as many repetitions of an upload at once get through."""

_log = structlog.get_logger(__name__)


async def write_asset_document(blobs: BlobStore, asset: Asset, *, is_first: bool = False) -> None:
    """Makes `asset.json` that of this asset; `is_first`: as a rule there is none yet, which saves looking.

    Raises:
        Unavailable: STORAGE_UNAVAILABLE, or there is a newer one, or others are writing it.
    """
    key = document_key(asset.media.media_type, asset.id)
    await _write(blobs, key, asset, to_document(asset), from_document, is_first=is_first)


async def write_folder_document(blobs: BlobStore, folder: FolderRecord) -> None:
    """The same for a folder's document."""
    key = folder_document_key(folder.id)
    await _write(blobs, key, folder, to_folder_document(folder), from_folder_document, is_first=False)


async def _write(
    blobs: BlobStore,
    key: BlobKey,
    item: Asset | FolderRecord,
    data: bytes,
    parse: Callable[[bytes], Asset | FolderRecord],
    *,
    is_first: bool,
) -> None:
    for attempt in range(TRIES):
        version = NO_VERSION
        if attempt or not is_first:
            try:
                present, version = await blobs.load(key)
            except BlobMissing:
                present = b""
            if present == data:
                return
            if _is_newer(present, item, parse):
                _log.warning("document_is_newer", blob=key.name)
                break
        try:
            await blobs.replace(key, data, mime_type=MIME_TYPE, over=version)
        except BlobConflict:
            _log.info("document_changed_meanwhile", blob=key.name)
        else:
            return
    raise failures.document_contended(item.name)


def _is_newer(document: bytes, item: Asset | FolderRecord, parse: Callable[[bytes], Asset | FolderRecord]) -> bool:
    """By revision and time: an index restored from a backup counts revisions again, at a later time."""
    try:
        present = parse(document)
    except (ValueError, KeyError, TypeError):
        return False
    return present.revision > item.revision and present.update_time >= item.update_time
