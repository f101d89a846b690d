"""Writing down what came of a call: it is all that anybody will know of the money."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Generic, TypeVar

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.common.errors import Billed
from services.models.failures import CallFailed
from services.models.money import UNPRICED, Cost
from services.models.paid_calls.faults import may_pass
from services.models.paid_calls.metrics import PaidCallMetrics
from services.models.paid_calls.outcomes import accounting, plain, printable
from services.models.paid_calls.records import PaidCall, State, Subjects, dump_error
from services.models.paid_calls.store import PaidCallStore, limit_statements
from services.models.usage import Usage

T = TypeVar("T")
Settle = Callable[[AsyncConnection], Awaitable[PaidCall | None]]

# Hundreds of megabytes of pictures go to a slow disk: no reason to begin again, and again.
STATEMENT_SECONDS = 600.0
# How long a settlement that is being written outlives the cancellation of its call.
LAST_SECONDS = 5.0
LONGEST_PAUSE = 2.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Performed(Generic[T]):
    """What a call gave, and what it cost."""

    value: T
    usage: Usage | None
    raw_usage: Mapping[str, Any] | None
    cost: Cost
    price_date: date | None
    provider_request_id: str


Keep = Callable[[AsyncConnection, PaidCall, Performed[T]], Awaitable[None]]


class Settlements:
    """Settles calls, however long the database takes to come back."""

    def __init__(self, engine: AsyncEngine, store: PaidCallStore, subjects: Subjects, metrics: PaidCallMetrics) -> None:
        self._engine = engine
        self._store = store
        self._subjects = subjects
        self._metrics = metrics

    async def success(self, call: PaidCall, performed: Performed[T], keep: Keep[T]) -> PaidCall | None:
        """The row as it ended, with what `keep` wrote in the same transaction; None: there is no such row any more.

        Should the numbers be such as no column holds, the result is kept without them: they can be found again.
        """
        try:
            return await self._outliving(call, State.SUCCEEDED, self._succeed(call, performed, keep))
        except Exception as error:
            _log.error("settled_without_numbers", paid_call=call.id, error=type(error).__name__, exc_info=error)
            bare = replace(performed, usage=None, raw_usage=None, cost=UNPRICED, price_date=None)
            return await self._outliving(call, State.SUCCEEDED, self._succeed(call, bare, keep))

    async def failure(self, call: PaidCall, failed: CallFailed) -> PaidCall | None:
        """The row as it ended; None: there is no such row any more."""
        state = State.OUTCOME_UNKNOWN if failed.error.billed is Billed.UNKNOWN else State.FAILED
        try:
            return await self._outliving(call, state, self._fail(call, state, failed, failed.usage, failed.cost))
        except Exception as error:
            _log.error("settled_without_numbers", paid_call=call.id, error=type(error).__name__, exc_info=error)
            cost = None if failed.cost is None else UNPRICED
            return await self._outliving(call, state, self._fail(call, state, failed, None, cost))

    def _succeed(self, call: PaidCall, performed: Performed[T], keep: Keep[T]) -> Settle:
        values = {
            "state": State.SUCCEEDED,
            "billed": Billed.YES,
            "provider_request_id": printable(performed.provider_request_id),
            "raw_usage": plain(performed.raw_usage),
            "price_date": performed.price_date,
            "error": None,
            **accounting(performed.usage, performed.cost),
        }

        async def settle(connection: AsyncConnection) -> PaidCall | None:
            settled = await self._store.settle(connection, call, values)
            if settled is not None:
                await keep(connection, settled, performed)
            return settled

        return settle

    def _fail(self, call: PaidCall, state: State, failed: CallFailed, usage: Usage | None, cost: Cost | None) -> Settle:
        error = self._subjects.name_in(failed.error, call)
        values = {
            "state": state,
            "billed": error.billed,
            "provider_request_id": printable(failed.provider_request_id),
            "error": dump_error(error),
            **accounting(usage, cost),
        }

        async def settle(connection: AsyncConnection) -> PaidCall | None:
            settled = await self._store.settle(connection, call, values)
            if settled is not None:
                await self._subjects.on_change(connection, settled)
            return settled

        return settle

    async def _outliving(self, call: PaidCall, state: State, settle: Settle) -> PaidCall | None:
        """A process that ends gives what is known already a few seconds to be written down."""
        task = asyncio.create_task(self._settled(call, state, settle), name=f"settlement of {call.id}")
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task}, timeout=LAST_SECONDS)
            raise
        finally:
            task.cancel()

    async def _settled(self, call: PaidCall, state: State, settle: Settle) -> PaidCall | None:
        """Commits the settlement, as often as it takes.

        A commit whose answer was lost is found to have happened: the row has then ended under our own fence.
        """
        pause = 0.1
        with self._metrics.waiting() as waits:
            while True:
                try:
                    settled, found = await self._attempt(call, settle)
                    break
                except Exception as error:
                    if not may_pass(error):
                        raise
                    waits()
                    _log.warning("settlement_waits_for_database", paid_call=call.id, error=type(error).__name__)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
        if found is None:
            _log.error("paid_call_vanished", paid_call=call.id, state=state)
        elif settled is not None or (found.fence, found.state) == (call.fence, state):
            self._metrics.settled(found)
        else:
            _log.warning("settlement_came_too_late", paid_call=call.id, state=found.state, billed=found.billed)
        return found

    async def _attempt(self, call: PaidCall, settle: Settle) -> tuple[PaidCall | None, PaidCall | None]:
        """What was settled, and the row as it is. A connection that fails is not used again: one that was made to a
        standby never takes writes."""
        async with self._engine.begin() as connection:
            try:
                await limit_statements(connection, STATEMENT_SECONDS)
                settled = await settle(connection)
                return settled, settled or await self._store.by_id(connection, call.id)
            except DBAPIError:
                await connection.invalidate()
                raise
