"""Brings `asset.json` and the folders' documents after their rows, within seconds, for as long as the process runs."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from services.gallery.adapters.mirror import Batch, Mirror
from services.gallery.documents import write_asset_document, write_folder_document
from services.gallery.domain.assets import Asset
from services.gallery.domain.folders import FolderRecord
from services.gallery.ports import BlobStore

PAUSE_SECONDS = 1.0
BATCH = 50
"""A slow document holds up the marks of its batch, not the other documents."""

WRITERS = 16
"""Documents that one batch writes at a time."""

_T = TypeVar("_T", Asset, FolderRecord)
_log = structlog.get_logger(__name__)


class Mirroring:
    """Any number of processes may do it at once."""

    def __init__(self, mirror: Mirror, blobs: BlobStore) -> None:
        self._mirror = mirror
        self._blobs = blobs

    async def mirror_assets(self) -> None:
        """Writes the documents of changed assets, for ever."""
        await _repeat(self.mirror_some_assets)

    async def mirror_folders(self) -> None:
        """Writes the documents of new and renamed folders, for ever."""
        await _repeat(self.mirror_some_folders)

    async def mirror_some_assets(self) -> int:
        """Writes the documents of some changed assets; how many.

        Raises:
            ExceptionGroup: of what storage said, once all the others are written and marked.
        """
        async with self._mirror.assets(BATCH) as batch:
            failed = await _write_all(batch, self._write_asset)
        return _outcome(batch, failed)

    async def mirror_some_folders(self) -> int:
        """The same for folders."""
        async with self._mirror.folders(BATCH) as batch:
            failed = await _write_all(batch, self._write_folder)
        return _outcome(batch, failed)

    async def _write_asset(self, asset: Asset) -> None:
        await write_asset_document(self._blobs, asset)

    async def _write_folder(self, folder: FolderRecord) -> None:
        await write_folder_document(self._blobs, folder)


async def _repeat(mirror_some: Callable[[], Awaitable[int]]) -> None:
    while True:
        try:
            number = await mirror_some()
        except ExceptionGroup as group:  # each is left alone for a while, and must not hold up the others
            kinds = sorted({type(error).__name__ for error in group.exceptions})
            _log.warning("documents_not_written", number=len(group.exceptions), errors=kinds)
            number = 0
        if not number:
            await asyncio.sleep(PAUSE_SECONDS)


async def _write_all(batch: Batch[_T], write: Callable[[_T], Awaitable[None]]) -> list[Exception]:
    """Writes a batch, WRITERS at a time; what could not be written stays behind and is tried again."""
    waiting, failed = iter(batch.items), []

    async def work() -> None:
        for item in waiting:
            try:
                await write(item)
            except Exception as error:
                failed.append(error)
            else:
                batch.written.append(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(WRITERS, len(batch.items))):
            group.create_task(work())
    return failed


def _outcome(batch: Batch[_T], failed: list[Exception]) -> int:
    if failed:
        raise ExceptionGroup("documents could not be written", failed)
    return len(batch.written)
