"""Opening, running and settling paid calls."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.common.background import background_tasks
from services.common.errors import Billed, Internal, ServiceError, Unavailable
from services.common.names import new_id
from services.models.failures import CallFailed, outcome_unknown
from services.models.paid_calls.adoption import Adoption
from services.models.paid_calls.faults import may_pass
from services.models.paid_calls.leases import Lease, Leases
from services.models.paid_calls.metrics import PaidCallMetrics
from services.models.paid_calls.outcomes import not_begun
from services.models.paid_calls.records import Intent, InTransaction, Opened, PaidCall, Resolution, State, Subjects
from services.models.paid_calls.resolving import Resolved, Resolver, request_id_reused
from services.models.paid_calls.settlement import Keep, Performed, Settlements
from services.models.paid_calls.store import PaidCallStore, durable_later
from services.models.paid_calls.sweeper import Sweeper
from services.models.paid_calls.tables import PaidCallTables

T = TypeVar("T")

_log = structlog.get_logger(__name__)


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
        self._adoption = Adoption(engine, self._store, subjects, metrics)
        self._sweeper = Sweeper(engine, self._store, self._leases, subjects, metrics, self._adoption)
        self._resolver = Resolver(engine, self._store, subjects, self._adoption)
        self._settlements = Settlements(engine, self._store, subjects, metrics)
        self._subjects = subjects

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

    async def resolve(
        self,
        call: PaidCall,
        resolution: Resolution,
        *,
        again: Intent | None = None,
        create: InTransaction | None = None,
    ) -> Resolved:
        """Settles a call of unknown outcome by a person's word.

        With `again` a new call is opened in the same transaction, with what `create` writes down for it; it is the
        caller's to run. Should the result be found after all, or the word have been given before, nothing is opened.

        Raises:
            FailedPrecondition: NOT_RESOLVABLE.
            InvalidArgument: REQUEST_ID_REUSED.
            Unavailable: nobody can say for the moment whether the result is there.
        """
        until = self._leases.deadline()

        async def begin(connection: AsyncConnection, _: PaidCall) -> Opened:
            if again is None:
                raise ValueError("there is no intent to begin")
            new = await self._store.insert(connection, new_id(), again)
            if new is None:
                raise request_id_reused()
            if create is not None:
                await create(connection, new)
            return Opened(new, is_ours=True, lease_until=until)

        return await self._resolver.resolve(call, resolution, begin if again is not None else None)

    async def run(
        self,
        opened: Opened,
        perform: Callable[[Lease], Awaitable[Performed[T]]],
        keep: Keep[T],
        *,
        place: Callable[[], AbstractAsyncContextManager[None]],
        prepare: Callable[[], Awaitable[None]] | None = None,
    ) -> PaidCall:
        """Waits for a `place`, makes the call once and settles it; `keep` writes the result in the same transaction.

        `prepare` comes before it all, while the call is PLANNED: whatever it ends with, this call has cost nothing.

        `perform` calls `lease.check()` right before it sends anything. The database may come and go: what the call
        gave is held until it is written down. Cancellation leaves the row to the sweep, as a crash does; a settlement
        under way gets a few seconds more.

        Raises:
            ServiceError: how the call failed; it is settled then.
        """
        call = opened.call
        with self._leases.holding(opened) as lease:
            try:
                if prepare is not None:
                    await self._prepare(prepare)
                async with place():
                    call = await self._begin(call, lease)
                    performed = await self._perform(call, lease, perform)
            except CallFailed as failed:
                ended = await self._settlements.failure(call, failed)
                # Under a later fence the row tells of another attempt, which is none of ours; and a database that
                # crashed may have forgotten it.
                is_ours = ended is not None and ended.fence == call.fence
                raise (ended.error if ended and is_ours else None) or failed.error from None
            settled = await self._settlements.success(call, performed, keep)
        if settled is None:
            raise Internal("INTERNAL_ERROR", "The paid call has vanished from the database.", billed=Billed.YES)
        if settled.state is not State.SUCCEEDED:
            _log.error("result_came_after_resolution", paid_call=call.id, state=settled.state, billed=settled.billed)
            raise settled.error or outcome_unknown()
        return settled

    async def _prepare(self, prepare: Callable[[], Awaitable[None]]) -> None:
        try:
            await prepare()
        except ServiceError as error:
            error.billed = Billed.NO
            raise CallFailed(error) from error
        except Exception as error:
            if not may_pass(error):
                raise
            raise CallFailed(not_begun("The database went away before the call was sent.")) from error

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


def _refuse_other_body(call: PaidCall, fingerprint: bytes) -> None:
    if call.fingerprint != fingerprint:
        raise request_id_reused()
