"""Deleting generations, paid calls and answers that were kept for as long as the operator says."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog
from prometheus_client import CollectorRegistry, Counter

from services.image.adapters.retention import Retention
from services.models.paid_calls import may_pass

ROUND_SECONDS = 3600.0
BATCH = 100
BREATH_SECONDS = 0.2
"""Between two batches: whoever is served goes first."""

_log = structlog.get_logger(__name__)


class Housekeeping:
    """Many processes may do so at once; each deletes what no other has at hand."""

    def __init__(self, retention: Retention, *, keep: timedelta, registry: CollectorRegistry) -> None:
        self._retention = retention
        self._keep = keep
        self._purged = Counter(
            "contentlab_purged", "What was deleted because its time was over.", ("kind",), registry=registry
        )

    async def purge_forever(self) -> None:
        """Looks for what is old enough about every hour, until cancelled."""
        while True:
            await asyncio.sleep(ROUND_SECONDS * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load only
            try:
                await self.purge()
            except Exception as error:
                if not may_pass(error):
                    raise
                _log.warning("purge_waits_for_database", error=type(error).__name__)

    async def purge(self) -> int:
        """Deletes all that is old enough, in small batches; returns how much that was."""
        kinds: dict[str, Callable[..., Awaitable[int]]] = {
            "generation": self._retention.purge_generations,
            "paid_call": self._retention.purge_calls,
        }
        return sum([await self._purge_kind(kind, purge) for kind, purge in kinds.items()])

    async def _purge_kind(self, kind: str, purge: Callable[..., Awaitable[int]]) -> int:
        total = 0
        while count := await purge(self._keep, limit=BATCH):
            total += count
            self._purged.labels(kind).inc(count)
            await asyncio.sleep(BREATH_SECONDS)
        if total:
            _log.info("purged", kind=kind, count=total)
        return total
