"""Settling calls whose process is dead and whose result is evidently there all the same."""

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.errors import Billed
from services.models.paid_calls.metrics import PaidCallMetrics
from services.models.paid_calls.outcomes import accounting
from services.models.paid_calls.records import PaidCall, State, Subjects, dump_error
from services.models.paid_calls.store import PaidCallStore

_log = structlog.get_logger(__name__)


class Adoption:
    """Looks for results with `Subjects.find`, and settles what it finds."""

    def __init__(self, engine: AsyncEngine, store: PaidCallStore, subjects: Subjects, metrics: PaidCallMetrics) -> None:
        self._engine = engine
        self._store = store
        self._subjects = subjects
        self._metrics = metrics

    async def adopt(self, call: PaidCall) -> PaidCall | None:
        """The call, SUCCEEDED with the result that was found; None: none was, or somebody was faster.

        Raises:
            ServiceError: nobody can look for the moment.
        """
        found = await self._subjects.find(call) if self._subjects.find else None
        if found is None:
            return None
        loss = self._subjects.name_in(found.loss, call) if found.loss else None
        values = {
            "state": State.SUCCEEDED,
            "billed": Billed.YES,
            "error": None if loss is None else dump_error(loss),
            **accounting(found.usage, found.cost),
        }
        async with self._engine.begin() as connection:
            settled = await self._store.adopt(connection, call, values)
            if settled is not None:
                await found.keep(connection, settled)
        if settled is not None:
            _log.warning("result_adopted", paid_call=call.id, was=call.state, is_complete=found.loss is None)
            self._metrics.settled(settled)
        return settled
