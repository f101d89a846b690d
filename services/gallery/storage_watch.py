"""Whether storage answers, for whoever watches the service: as a metric and in the log.

It is no part of readiness. Reading and listing need the index alone, and a call that needs storage says
STORAGE_UNAVAILABLE itself; a gallery taken out of rotation could say neither.
"""

import asyncio

import structlog
from prometheus_client import CollectorRegistry, Gauge

from services.gallery.ports import BlobStore

POLL_SECONDS = 5.0

_log = structlog.get_logger(__name__)


class StorageWatch:
    """Asks storage every few seconds."""

    def __init__(self, blobs: BlobStore, registry: CollectorRegistry) -> None:
        self._blobs = blobs
        self._reachable = True  # the service starts only once storage has answered
        self._gauge = Gauge(
            "contentlab_storage_reachable", "1 while blob storage answers, 0 while it does not.", registry=registry
        )
        self._gauge.set(1)

    async def poll_forever(self) -> None:
        """Asks until cancelled; logs every change."""
        while True:
            reachable = await self._blobs.is_reachable()
            if reachable is not self._reachable:
                self._reachable = reachable
                self._gauge.set(reachable)
                _log.warning("storage", reachable=reachable)
            await asyncio.sleep(POLL_SECONDS)
