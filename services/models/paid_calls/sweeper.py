"""Settling what dead processes left."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.database import is_reachable
from services.common.errors import Billed, ServiceError
from services.models.paid_calls.adoption import Adoption
from services.models.paid_calls.faults import may_pass
from services.models.paid_calls.leases import Leases
from services.models.paid_calls.metrics import PaidCallMetrics
from services.models.paid_calls.outcomes import abandoned
from services.models.paid_calls.records import RUNNING, PaidCall, State, Subjects, dump_error
from services.models.paid_calls.store import PaidCallStore

BATCH = 100
ASKED_AT_A_TIME = 8
PATIENCE_SECONDS = 900.0
"""How long a result is looked for when nobody can say whether it is there; then its outcome is unknown."""

_log = structlog.get_logger(__name__)


class Sweeper:
    """Looks for running calls whose lease has expired, a third of a lease apart."""

    def __init__(
        self,
        engine: AsyncEngine,
        store: PaidCallStore,
        leases: Leases,
        subjects: Subjects,
        metrics: PaidCallMetrics,
        adoption: Adoption,
    ) -> None:
        self._engine = engine
        self._store = store
        self._leases = leases
        self._subjects = subjects
        self._metrics = metrics
        self._adoption = adoption
        # Since when nobody can say what became of a call, and which of them the last sweep left for that reason.
        self._asked: dict[str, float] = {}
        self._undecided: set[str] = set()
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
        honours idempotency keys nor lists what it did: unless its result is found elsewhere, its outcome is unknown,
        and it is not sent again.
        """
        self._asked = {call_id: since for call_id, since in self._asked.items() if call_id in self._undecided}
        self._undecided.clear()
        return sum([await self._sweep_state(state) for state in RUNNING])

    async def _sweep_state(self, state: State) -> int:
        """Each call is looked at once."""
        swept, seen = 0, set[str]()
        while True:
            held = {call_id for call_id, _ in self._leases.held}
            async with self._engine.connect() as connection:
                dead = await self._store.expired(connection, state, besides=held | seen, limit=BATCH)
            seen |= {call.id for call in dead}
            lost = dead if state is State.PLANNED else await self._without_result(dead)
            swept += len(await self._give_up(state, lost))
            if len(dead) < BATCH:
                return swept

    async def _without_result(self, dead: Sequence[PaidCall]) -> list[PaidCall]:
        """Those of the calls whose result is lost. One that may be somewhere is left for the next sweep."""
        lost: list[PaidCall] = []
        for start in range(0, len(dead), ASKED_AT_A_TIME):
            some = dead[start : start + ASKED_AT_A_TIME]
            answers = await asyncio.gather(*(self._is_lost(call) for call in some))
            lost += [call for call, is_lost in zip(some, answers, strict=True) if is_lost]
        return lost

    async def _is_lost(self, call: PaidCall) -> bool:
        try:
            return await self._adoption.adopt(call) is None
        except ServiceError as error:
            first_asked = self._asked.setdefault(call.id, time.monotonic())
            if time.monotonic() - first_asked >= PATIENCE_SECONDS:
                return True
            self._undecided.add(call.id)
            _log.warning("result_cannot_be_looked_for", paid_call=call.id, reason=error.reason)
            return False

    async def _give_up(self, state: State, dead: Sequence[PaidCall]) -> list[PaidCall]:
        planned = state is State.PLANNED
        values = {
            "state": State.FAILED if planned else State.OUTCOME_UNKNOWN,
            "billed": Billed.NO if planned else Billed.UNKNOWN,
        }
        if not dead:
            return []
        async with self._engine.begin() as connection:
            swept = await self._store.sweep(connection, state, values, ids=[call.id for call in dead])
            calls = [(call, self._subjects.name_in(abandoned(call), call)) for call in swept]
            for call, error in calls:
                await self._store.set_error(connection, call, dump_error(error))
                await self._subjects.on_change(connection, replace(call, error=error))
        for call in swept:
            _log.warning("abandoned_call_settled", paid_call=call.id, state=call.state, was=state)
            self._metrics.settled(call)
        return swept
