"""Restores the index from storage alone: folders from their documents, then assets from theirs, then counts.

Nothing in storage is changed, and nothing in the index that is newer; a break does no harm, doing it again goes on. A
folder's own document tells its path; an asset's tells it only where that one is missing.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TypeVar

from services.gallery.adapters.restoring import Restored, Restoring
from services.gallery.domain.assets import Asset, MediaType
from services.gallery.domain.document import from_document
from services.gallery.domain.folder_document import from_folder_document
from services.gallery.domain.folders import FolderPath, FolderRecord
from services.gallery.domain.media import BY_MIME_TYPE
from services.gallery.ports import FOLDER_PREFIX, MAX_DOCUMENT_BYTES, BlobFacts, BlobMissing, BlobStore
from services.gallery.progress import Steps
from services.gallery.stored import DOCUMENT, ORIGINAL, StoredAsset, stored_assets

BATCH = 100
"""Documents read at a time, READERS of them at once, and written in one transaction."""

READERS = 16

_T = TypeVar("_T")


class UnreadableError(Exception):
    """Why something in storage cannot be restored, in words for a person."""


@dataclass
class Summary:
    """What came of it. `assets` and `folders` were looked at; `written` assets were missing or older."""

    assets: int = 0
    written: int = 0
    removed: int = 0
    folders: int = 0
    problems: list[str] = field(default_factory=list)


class Rebuild:
    """One run."""

    def __init__(self, blobs: BlobStore, restoring: Restoring, steps: Steps) -> None:
        self._blobs = blobs
        self._restoring = restoring
        self._steps = steps
        self._summary = Summary()

    async def run(self) -> Summary:
        """Everything, from both containers."""
        await self._restore_folders()
        for kind in MediaType:
            async with aclosing(stored_assets(self._blobs, kind)) as listing:
                async for batch in _batches(stored async for _, stored in listing):
                    await self._restore_assets(batch)
        await self._restoring.finish(changed=self._summary.written > 0)
        return self._summary

    async def _restore_folders(self) -> None:
        above: set[tuple[str, str]] = set()
        async with aclosing(self._blobs.walk(MediaType.IMAGE, FOLDER_PREFIX)) as listing:
            async for batch in _batches(listing):
                read = await asyncio.gather(*(self._read_folder(facts) for facts in batch))
                folders = [folder for folder in read if folder is not None]
                for refused in await self._restoring.folders(folders):
                    self._problem(refused.name, f"another folder has its path, and gets its assets: {refused.path}")
                above |= {(folder.owner, path) for folder in folders for path in _parents(folder)}
                self._summary.folders += len(folders)
        await self._restoring.parents(above)

    async def _read_folder(self, facts: BlobFacts) -> FolderRecord | None:
        try:
            folder = from_folder_document(await read_document(self._blobs, facts))
            if f"{FOLDER_PREFIX}{folder.id}.json" != facts.key.name:
                raise ValueError("it is another folder's")
        except (UnreadableError, ValueError, KeyError, TypeError) as error:
            self._problem(facts.key.name, f"is no folder's document: {_told(error)}")
            return None
        return folder

    async def _restore_assets(self, batch: list[StoredAsset]) -> None:
        turns = asyncio.Semaphore(READERS)

        async def read(stored: StoredAsset) -> Restored | None:
            async with turns:
                try:
                    return Restored(await read_asset(self._blobs, stored), stored.variants)
                except UnreadableError as error:
                    self._problem(f"assets/{stored.id}", str(error))
                    return None

        found = [item for item in await asyncio.gather(*map(read, batch)) if item is not None]
        if found:
            outcome = await self._restoring.assets(found)
            self._summary.written += outcome.written
            self._summary.removed += outcome.removed
        self._summary.assets += len(found)
        self._steps.advance(len(batch))

    def _problem(self, name: str, description: str) -> None:
        self._summary.problems.append(f"{name}: {description}")


async def read_asset(blobs: BlobStore, stored: StoredAsset) -> Asset:
    """The asset that a document describes, whose original is there and has the size that the document says.

    Raises:
        UnreadableError: it is not so.
    """
    document, original = stored.blobs.get(DOCUMENT), stored.blobs.get(ORIGINAL)
    if document is None:
        raise UnreadableError(f"has no {DOCUMENT}")
    try:
        asset = from_document(await read_document(blobs, document))
        known = BY_MIME_TYPE[asset.media.mime_type].media_type
        if (asset.id, asset.media.media_type, known) != (stored.id, stored.media_type, stored.media_type):
            raise ValueError("it is another asset's")
    except (ValueError, KeyError, TypeError) as error:
        raise UnreadableError(f"{DOCUMENT} cannot be read: {_told(error)}") from error
    if original is None:
        raise UnreadableError("the original is missing")
    if original.size != asset.media.size_bytes:
        raise UnreadableError(f"the original has {original.size} bytes, not {asset.media.size_bytes}")
    if original.sha256 and original.sha256 != asset.media.sha256:
        raise UnreadableError("the original is another one than the document says, by its SHA-256")
    return asset


async def read_document(blobs: BlobStore, facts: BlobFacts) -> bytes:
    """A small blob, whole, as it is now.

    Raises:
        UnreadableError: it is too large for a document, or is gone.
    """
    for _ in range(3):
        if facts.size > MAX_DOCUMENT_BYTES:
            raise UnreadableError(f"{facts.key.name} is too large for a document")
        try:
            pieces = blobs.read(facts.key, start=0, length=facts.size, etag=facts.etag)
            return b"".join([piece async for piece in pieces]) if facts.size else b""
        except BlobMissing:
            # Replaced since it was listed: a mirror is at work.
            try:
                facts = await blobs.facts(facts.key)
            except BlobMissing:
                break
    raise UnreadableError(f"{facts.key.name} is gone, or changes all the time")


async def _batches(items: AsyncIterator[_T]) -> AsyncGenerator[list[_T], None]:
    batch: list[_T] = []
    async for item in items:
        batch.append(item)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _parents(folder: FolderRecord) -> tuple[str, ...]:
    """The path right above; `create_folder` makes all above that one."""
    return FolderPath(folder.path).with_parents()[:-1][-1:]


def _told(error: Exception) -> str:
    """Never the document's own text: only what kind of mistake it has."""
    return str(error) if isinstance(error, UnreadableError) else type(error).__name__
