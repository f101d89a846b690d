"""Settling what dead processes left."""

import asyncio
import time
from dataclasses import replace

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.database import is_reachable
from services.common.errors import Billed
from services.models.paid_calls.faults import may_pass
from services.models.paid_calls.leases import Leases
from services.models.paid_calls.metrics import PaidCallMetrics
from services.models.paid_calls.outcomes import abandoned
from services.models.paid_calls.records import RUNNING, PaidCall, State, Subjects, dump_error
from services.models.paid_calls.store import PaidCallStore

BATCH = 100

_log = structlog.get_logger(__name__)


class Sweeper:
    """Looks for running calls whose lease has expired, a third of a lease apart."""

    def __init__(
        self, engine: AsyncEngine, store: PaidCallStore, leases: Leases, subjects: Subjects, metrics: PaidCallMetrics
    ) -> None:
        self._engine = engine
        self._store = store
        self._leases = leases
        self._subjects = subjects
        self._metrics = metrics
        self._not_before = 0.0

    async def sweep_forever(self) -> None:
        """Sweeps until cancelled."""
        while True:
            await asyncio.sleep(self._leases.seconds / 3)
            await self._sweep_if_fair()

    async def _sweep_if_fair(self) -> None:
        """After the database was away, every living owner gets a lease's time to renew before it is taken for dead."""
        try:
            if not await is_reachable(self._engine):
                self._not_before = time.monotonic() + self._leases.seconds
            elif time.monotonic() >= self._not_before:
                await self.sweep()
        except Exception as error:
            if not may_pass(error):
                raise
            self._not_before = time.monotonic() + self._leases.seconds
            _log.warning("sweep_waits_for_database", error=type(error).__name__)

    async def sweep(self) -> int:
        """Settles what dead processes left; returns how many calls that were.

        PLANNED was never sent: it failed and cost nothing. CALLING may have been billed, and its provider neither
        honours idempotency keys nor lists what it did: its outcome is unknown, and it is not sent again.
        """
        swept = 0
        for state in RUNNING:
            while len(calls := await self._sweep_batch(state)) == BATCH:
                swept += BATCH
            swept += len(calls)
        return swept

    async def _sweep_batch(self, state: State) -> list[PaidCall]:
        planned = state is State.PLANNED
        values = {
            "state": State.FAILED if planned else State.OUTCOME_UNKNOWN,
            "billed": Billed.NO if planned else Billed.UNKNOWN,
        }
        async with self._engine.begin() as connection:
            held = {call_id for call_id, _ in self._leases.held}
            swept = await self._store.sweep(connection, state, values, held=held, limit=BATCH)
            calls = [(call, self._subjects.name_in(abandoned(call), call)) for call in swept]
            for call, error in calls:
                await self._store.set_error(connection, call, dump_error(error))
                await self._subjects.on_change(connection, replace(call, error=error))
        for call in swept:
            _log.warning("abandoned_call_settled", paid_call=call.id, state=call.state, was=state)
            self._metrics.settled(call)
        return swept
