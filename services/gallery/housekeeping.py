"""What the gallery does by itself: purges what is overdue, sweeps what uploads left, removes blobs that have to go.

Every decision is a transaction of the index (see `adapters/attempts.py`); the blobs go afterwards, however often that
takes. Nothing is ever removed because storage has it and the index does not. Several processes may do it all at once.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from services.gallery.adapters.attempts import Attempts
from services.gallery.adapters.purges import Purges
from services.gallery.adapters.removals import RemovalBatch, Removals
from services.gallery.domain.assets import MediaType
from services.gallery.domain.removals import Removal
from services.gallery.ports import BlobFacts, BlobStore, folder_document_key

REMOVAL_PAUSE_SECONDS = 1.0
SWEEP_PAUSE_SECONDS = 60.0
TRIM_PAUSE_SECONDS = 3600.0
TOMBSTONE_AGE = timedelta(days=30)
BATCH = 50
WORKERS = 4
"""Removals of one batch that are at storage at a time."""

_log = structlog.get_logger(__name__)


class Housekeeping:
    """`limit`: the age at which what an upload left is swept."""

    def __init__(
        self,
        attempts: Attempts,
        purges: Purges,
        removals: Removals,
        blobs: BlobStore,
        *,
        limit: timedelta,
        registry: CollectorRegistry,
    ) -> None:
        self._attempts = attempts
        self._purges = purges
        self._removals = removals
        self._blobs = blobs
        self._limit = limit
        self._purged = Counter(
            "contentlab_gallery_purged_assets", "Assets purged because their time had passed.", registry=registry
        )
        self._abandoned = Counter(
            "contentlab_gallery_abandoned_uploads", "Uploads whose leftovers were ordered removed.", registry=registry
        )
        self._removed = Counter(
            "contentlab_gallery_removed_blobs", "Blobs removed: of purged assets and broken uploads.", registry=registry
        )
        self._waiting = Gauge(
            "contentlab_gallery_removals_waiting",
            "Assets whose blobs have to go and are still there.",
            registry=registry,
        )

    @property
    def tasks(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What has to run for as long as the process does."""
        sweep_pause = min(SWEEP_PAUSE_SECONDS, self._limit.total_seconds() / 4)
        return {
            "purge": lambda: _repeat(self.purge_some, sweep_pause),
            "sweep": lambda: _repeat(self.sweep_some, sweep_pause),
            "asset_removals": lambda: _repeat(self.remove_some_assets, REMOVAL_PAUSE_SECONDS),
            "folder_removals": lambda: _repeat(self.remove_some_folders, REMOVAL_PAUSE_SECONDS),
            "trim": lambda: _repeat(self.trim, TRIM_PAUSE_SECONDS),
        }

    async def purge_some(self) -> int:
        """Purges assets whose time has passed; how many."""
        number = await self._purges.purge_overdue(BATCH)
        self._purged.inc(number)
        if number:
            _log.info("purged", assets=number)
        return number

    async def sweep_some(self) -> int:
        """Decides over uploads that have been under way for longer than they may; how many."""
        found = await self._attempts.left_over(self._limit, number=BATCH)
        for asset_id in found:
            if await self._attempts.abandon(asset_id, self._limit):
                self._abandoned.inc()
                _log.info("upload_abandoned", asset=asset_id)
        return len(found)

    async def remove_some_assets(self) -> int:
        """Removes the blobs of some assets that have to go; of how many.

        Raises:
            ExceptionGroup: of what storage said, once all the others are gone.
        """
        async with self._removals.of_assets(BATCH) as batch:
            failed = await _remove_all(batch, self._remove_asset)
        self._waiting.set(await self._removals.count_waiting())
        return _outcome(batch, failed)

    async def remove_some_folders(self) -> int:
        """The same for the documents of deleted folders."""
        async with self._removals.of_folders(BATCH) as batch:
            failed = await _remove_all(batch, lambda removal: self._blobs.delete(folder_document_key(removal.id)))
        return _outcome(batch, failed)

    async def trim(self) -> int:
        """Forgets old tombstones; 0, for there is no more to do at once."""
        await self._removals.trim(TOMBSTONE_AGE)
        return 0

    async def _remove_asset(self, removal: Removal) -> None:
        found = [facts for kind in MediaType async for facts in self._blobs.walk(kind, f"{removal.id}/")]
        # The document first: whatever comes in between, `rebuild-index` never brings back what was purged.
        for facts in sorted(found, key=_is_no_document):
            await self._blobs.delete(facts.key, etag=facts.etag)
            self._removed.inc()


def _is_no_document(facts: BlobFacts) -> bool:
    return not facts.key.name.endswith("/asset.json")


async def _repeat(some: Callable[[], Awaitable[int]], pause: float) -> None:
    while True:
        if not await some():
            await asyncio.sleep(pause)


async def _remove_all(batch: RemovalBatch, remove: Callable[[Removal], Awaitable[None]]) -> list[Exception]:
    waiting, failed = iter(batch.items), []

    async def work() -> None:
        for removal in waiting:
            try:
                await remove(removal)
            except Exception as error:
                failed.append(error)
            else:
                batch.gone.append(removal)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(WORKERS, len(batch.items))):
            group.create_task(work())
    return failed


def _outcome(batch: RemovalBatch, failed: list[Exception]) -> int:
    if failed:
        raise ExceptionGroup("blobs could not be removed", failed)
    return len(batch.gone)
