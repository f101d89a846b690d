"""Opening, running and settling paid calls."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any, Generic, TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.common.background import background_tasks
from services.common.errors import Billed, Internal, InvalidArgument, ServiceError, Unavailable
from services.common.names import new_id
from services.models.failures import CallFailed, outcome_unknown
from services.models.money import Cost
from services.models.paid_calls.faults import may_pass
from services.models.paid_calls.leases import Lease, Leases
from services.models.paid_calls.metrics import PaidCallMetrics
from services.models.paid_calls.outcomes import accounting, not_begun, plain, printable
from services.models.paid_calls.records import Intent, InTransaction, Opened, PaidCall, State, Subjects, dump_error
from services.models.paid_calls.store import PaidCallStore, durable_later
from services.models.paid_calls.sweeper import Sweeper
from services.models.paid_calls.tables import PaidCallTables
from services.models.usage import Usage

T = TypeVar("T")

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


class PaidCalls:
    """The protocol over one service's tables."""

    def __init__(
        self,
        engine: AsyncEngine,
        tables: PaidCallTables,
        *,
        lease_seconds: float,
        subjects: Subjects,
        metrics: PaidCallMetrics,
        lease_engine: AsyncEngine | None = None,
    ) -> None:
        """`lease_engine` has connections for the leases alone, so that they are renewed however busy the others are."""
        self._engine = engine
        self._store = PaidCallStore(tables, lease_seconds=lease_seconds)
        self._leases = Leases(lease_engine or engine, self._store, seconds=lease_seconds)
        self._sweeper = Sweeper(engine, self._store, self._leases, subjects, metrics)
        self._subjects = subjects
        self._metrics = metrics

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Renews leases and sweeps within the block; calls may be run only in it."""
        tasks = {"leases": self._leases.renew_forever, "sweep": self._sweeper.sweep_forever}
        async with background_tasks(tasks):
            yield

    async def sweep(self) -> int:
        """Sweeps now; returns how many calls were settled."""
        return await self._sweeper.sweep()

    async def find(self, principal: str, method: str, request_id: str, fingerprint: bytes) -> PaidCall | None:
        """The call of that request id, if it is not to be run again.

        Raises:
            InvalidArgument: REQUEST_ID_REUSED.
        """
        async with self._engine.connect() as connection:
            call = await self._store.by_request(connection, principal, method, request_id)
        if call is None:
            return None
        _refuse_other_body(call, fingerprint)
        return None if call.may_run_again else call

    async def get(self, call_id: str, *, principal: str) -> PaidCall | None:
        """The principal's call of that id."""
        async with self._engine.connect() as connection:
            call = await self._store.by_id(connection, call_id)
        return call if call is not None and call.principal == principal else None

    async def page(self, principal: str, *, state: State | None, before: str | None, limit: int) -> list[PaidCall]:
        """At most `limit` of the principal's calls, newest first, older than the id `before`."""
        async with self._engine.connect() as connection:
            return await self._store.page(connection, principal, state=state, before=before, limit=limit)

    async def open(self, intent: Intent, create: InTransaction) -> Opened:
        """Writes the intent down as PLANNED, and with `create` what it is for, or finds what its request id stands for.

        `create` runs again, for the same subject, when a failed call is tried once more.

        Raises:
            InvalidArgument: REQUEST_ID_REUSED.
        """
        until = self._leases.deadline()
        async with self._engine.begin() as connection:
            # Should the database crash and forget the row, CALLING cannot be committed and nothing is paid.
            await durable_later(connection)
            call = await self._store.insert(connection, new_id(), intent)
            if call is None:
                call = await self._store.by_request(connection, intent.principal, intent.method, intent.request_id)
                if call is None:
                    raise Unavailable("UNAVAILABLE", "The call was removed while it was looked up.", retry_safe=True)
                _refuse_other_body(call, intent.fingerprint)
                again = await self._store.reopen(connection, call, intent) if call.may_run_again else None
                if again is None:
                    return Opened(call, is_ours=False)
                call = again
            await create(connection, call)
        return Opened(call, is_ours=True, lease_until=until)

    async def run(
        self,
        opened: Opened,
        perform: Callable[[Lease], Awaitable[Performed[T]]],
        keep: Callable[[AsyncConnection, PaidCall, Performed[T]], Awaitable[None]],
        *,
        place: Callable[[], AbstractAsyncContextManager[None]],
    ) -> PaidCall:
        """Waits for a `place`, makes the call once and settles it; `keep` writes the result in the same transaction.

        `perform` calls `lease.check()` right before it sends anything. The database may come and go: what the call
        gave is held until it is written down. Cancellation leaves the row to the sweep, as a crash does.

        Raises:
            ServiceError: how the call failed; it is settled then.
        """
        call = opened.call
        with self._leases.holding(opened) as lease:
            try:
                async with place():
                    call = await self._begin(call, lease)
                    performed = await self._perform(call, lease, perform)
            except CallFailed as failed:
                settled = await self._settle_failure(call, failed)
                # Under a later fence the row tells of another attempt, which is none of ours.
                raise (settled.error if settled.fence == call.fence else None) or failed.error from None
            settled = await self._settle_success(call, performed, keep)
        if settled.state is not State.SUCCEEDED:
            _log.error("result_came_after_resolution", paid_call=call.id, state=settled.state, billed=settled.billed)
            raise settled.error or outcome_unknown()
        return settled

    async def _begin(self, call: PaidCall, lease: Lease) -> PaidCall:
        """Commits CALLING, with a fresh lease, before a byte is sent.

        Raises:
            CallFailed: it could not be; nothing was sent.
        """
        until = self._leases.deadline()
        try:
            async with self._engine.begin() as connection:
                begun = await self._store.begin(connection, call)
                if begun is not None:
                    await self._subjects.on_change(connection, begun)
        except Exception as error:
            if not may_pass(error):
                raise
            raise CallFailed(not_begun("The database went away before the call was sent.")) from error
        if begun is None:
            raise CallFailed(not_begun("The call was given up before it was sent."))
        lease.until = until
        return begun

    async def _perform(
        self, call: PaidCall, lease: Lease, perform: Callable[[Lease], Awaitable[Performed[T]]]
    ) -> Performed[T]:
        try:
            return await perform(lease)
        except CallFailed:
            raise
        except ServiceError as error:
            raise CallFailed(error) from error
        except Exception as error:
            # A bug of ours, and nobody knows whether the provider has worked meanwhile.
            _log.error("paid_call_broke", paid_call=call.id, error=type(error).__name__, exc_info=error)
            raise CallFailed(outcome_unknown()) from error

    async def _settle_success(
        self,
        call: PaidCall,
        performed: Performed[T],
        keep: Callable[[AsyncConnection, PaidCall, Performed[T]], Awaitable[None]],
    ) -> PaidCall:
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

        return await self._settled(call, settle)

    async def _settle_failure(self, call: PaidCall, failed: CallFailed) -> PaidCall:
        error = self._subjects.name_in(failed.error, call)
        unknown = error.billed is Billed.UNKNOWN
        values = {
            "state": State.OUTCOME_UNKNOWN if unknown else State.FAILED,
            "billed": error.billed,
            "provider_request_id": printable(failed.provider_request_id),
            "error": dump_error(error),
            **accounting(failed.usage, failed.cost),
        }

        async def settle(connection: AsyncConnection) -> PaidCall | None:
            settled = await self._store.settle(connection, call, values)
            if settled is not None:
                await self._subjects.on_change(connection, settled)
            return settled

        return await self._settled(call, settle)

    async def _settled(
        self, call: PaidCall, settle: Callable[[AsyncConnection], Awaitable[PaidCall | None]]
    ) -> PaidCall:
        """Commits the settlement, however long the database takes to come back: it is all that is known of the money.

        A commit whose answer was lost is found to have happened: the row has then ended under our own fence.
        """
        pause = 0.1
        while True:
            try:
                async with self._engine.begin() as connection:
                    settled = await settle(connection)
                    found = settled or await self._store.by_id(connection, call.id)
            except Exception as error:
                if not may_pass(error):
                    raise
                _log.warning("settlement_waits_for_database", paid_call=call.id, error=type(error).__name__)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 2.0)
                continue
            if settled is not None:
                self._metrics.settled(settled)
            if found is None:
                raise Internal("INTERNAL_ERROR", "The paid call has vanished from the database.", billed=Billed.UNKNOWN)
            if settled is None:
                _log.warning("settlement_came_too_late", paid_call=call.id, state=found.state, billed=found.billed)
            return found


def _refuse_other_body(call: PaidCall, fingerprint: bytes) -> None:
    if call.fingerprint != fingerprint:
        raise InvalidArgument.field("request_id", "was used with another request; take a new one", "REQUEST_ID_REUSED")
