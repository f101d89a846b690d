"""Removes what clients have put into storage and nobody needs any more."""

import asyncio

import structlog

from services.gallery.adapters.staging import Staging, Swept
from services.gallery.ports import BlobStore, staging_key

PAUSE_SECONDS = 60.0
AT_A_TIME = 20
WORKERS = 4
"""Uploads that one process sweeps at a time."""

_log = structlog.get_logger(__name__)


class StagingSweep:
    """Sweeps uploads whose time is over, and completed ones while their link lives.

    Any number of processes may do it at once.
    """

    def __init__(self, staging: Staging, blobs: BlobStore) -> None:
        self._staging = staging
        self._blobs = blobs

    async def run_forever(self) -> None:
        """Sweeps until cancelled."""
        while True:
            if not await self.sweep():
                await asyncio.sleep(PAUSE_SECONDS)

    async def sweep(self) -> int:
        """Sweeps up to AT_A_TIME uploads: how many there were. What fails is tried again when its lease ends."""
        claimed = await self._staging.claim(limit=AT_A_TIME)
        waiting = iter(claimed)

        async def work() -> None:
            for upload in waiting:
                await self._sweep(upload)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(WORKERS, len(claimed))):
                group.create_task(work())
        return len(claimed)

    async def _sweep(self, upload: Swept) -> None:
        try:
            await self._blobs.discard(staging_key(upload.id))
        except Exception as error:  # whatever one client has made of its blob, the others' are swept
            _log.warning("staged_upload_not_swept", upload=upload.id, error=type(error).__name__)
        else:
            await self._staging.swept(upload)
