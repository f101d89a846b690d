"""The protocol's statements. Each changes a row only from the states, and under the fence, that it may."""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, func, insert, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Interval

from services.models.paid_calls.records import RUNNING, Intent, PaidCall, Resolution, State
from services.models.paid_calls.tables import NOW, PaidCallTables

# An event carries these columns of its call.
_EVENT = (
    "principal",
    "operation",
    "model",
    "endpoint",
    "subject",
    "state",
    "billed",
    "usage",
    "cost_source",
    "cost_micro_usd",
    "price_date",
)


class PaidCallStore:
    """Reads and writes rows on a connection of the caller's, in its transaction."""

    def __init__(self, tables: PaidCallTables, *, lease_seconds: float) -> None:
        self._calls = tables.paid_call
        self._outbox = tables.usage_outbox
        self._resolutions = tables.resolution
        self._lease = NOW + bindparam("lease", timedelta(seconds=lease_seconds), Interval())

    async def insert(self, connection: AsyncConnection, call_id: str, intent: Intent) -> PaidCall | None:
        """The new row, PLANNED and leased; None: the request id is taken."""
        statement = (
            upsert(self._calls)
            .values(
                id=call_id,
                principal=intent.principal,
                method=intent.method,
                request_id=intent.request_id,
                fingerprint=intent.fingerprint,
                operation=intent.operation,
                model=intent.model,
                endpoint=intent.endpoint,
                subject=intent.subject,
                state=State.PLANNED,
                billed="no",
                fence=1,
                lease_expires_at=self._lease,
            )
            .on_conflict_do_nothing(index_elements=["principal", "method", "request_id"])
            .returning(*self._calls.c)
        )
        return await _one(connection, statement)

    async def reopen(self, connection: AsyncConnection, call: PaidCall, intent: Intent) -> PaidCall | None:
        """The failed row, PLANNED again under the next fence; None: somebody else was faster."""
        statement = (
            update(self._calls)
            .where(self._calls.c.id == call.id, self._calls.c.fence == call.fence)
            .where(self._calls.c.state == State.FAILED, self._calls.c.billed == "no")
            .values(
                state=State.PLANNED,
                fence=call.fence + 1,
                lease_expires_at=self._lease,
                model=intent.model,
                endpoint=intent.endpoint,
                error=None,
                provider_request_id="",
                call_time=None,
                end_time=None,
            )
            .returning(*self._calls.c)
        )
        return await _one(connection, statement)

    async def begin(self, connection: AsyncConnection, call: PaidCall) -> PaidCall | None:
        """CALLING; None: the row was taken away meanwhile. Repeating it after a lost answer is harmless."""
        statement = (
            update(self._calls)
            .where(self._calls.c.id == call.id, self._calls.c.fence == call.fence)
            .where(self._calls.c.state.in_(RUNNING))
            .values(state=State.CALLING, billed="unknown", call_time=NOW, lease_expires_at=self._lease)
            .returning(*self._calls.c)
        )
        return await _one(connection, statement)

    async def settle(self, connection: AsyncConnection, call: PaidCall, values: Mapping[str, Any]) -> PaidCall | None:
        """The row as it ended, with its event; None: it is not ours to settle any more.

        What its owner learns replaces an OUTCOME_UNKNOWN that a sweep put there too early, unless a person has
        resolved it since; and a result replaces one that was found with a loss.
        """
        mistaken = and_(self._calls.c.state == State.OUTCOME_UNKNOWN, self._calls.c.resolve_time.is_(None))
        if values["state"] is State.SUCCEEDED:
            lossy = and_(self._calls.c.state == State.SUCCEEDED, self._calls.c.error.is_not(None))
            mistaken = or_(mistaken, lossy)
        statement = (
            update(self._calls)
            .where(self._calls.c.id == call.id, self._calls.c.fence == call.fence)
            .where(or_(self._calls.c.state.in_(RUNNING), mistaken))
            .values(**values, end_time=NOW)
            .returning(*self._calls.c)
        )
        row = (await connection.execute(statement)).mappings().one_or_none()
        if row is None:
            return None
        await self._announce(connection, [row])
        return PaidCall.from_row(row)

    async def adopt(self, connection: AsyncConnection, call: PaidCall, values: Mapping[str, Any]) -> PaidCall | None:
        """The row, settled with a result that was found, with its event; None: it is settled otherwise, or alive."""
        dead = and_(self._calls.c.state == State.CALLING, self._calls.c.lease_expires_at < NOW)
        unknown = and_(self._calls.c.state == State.OUTCOME_UNKNOWN, self._calls.c.resolve_time.is_(None))
        statement = (
            update(self._calls)
            .where(self._calls.c.id == call.id, self._calls.c.fence == call.fence, or_(dead, unknown))
            .values(**values, end_time=NOW)
            .returning(*self._calls.c)
        )
        row = (await connection.execute(statement)).mappings().one_or_none()
        if row is None:
            return None
        await self._announce(connection, [row])
        return PaidCall.from_row(row)

    async def expired(
        self, connection: AsyncConnection, state: State, *, besides: Collection[str], limit: int
    ) -> list[PaidCall]:
        """Calls in `state` whose lease has run out, the longest first, without those that are named."""
        statement = (
            select(*self._calls.c)
            .where(self._calls.c.state == state, self._calls.c.lease_expires_at < NOW)
            .where(self._calls.c.id.not_in(list(besides)))
            .order_by(self._calls.c.lease_expires_at)
            .limit(limit)
        )
        return [PaidCall.from_row(row) for row in (await connection.execute(statement)).mappings()]

    async def sweep(
        self, connection: AsyncConnection, state: State, values: Mapping[str, Any], *, ids: Collection[str]
    ) -> list[PaidCall]:
        """Settles those of these calls that are still in `state` without a lease, and that nobody is settling."""
        expired = (
            select(self._calls.c.id)
            .where(self._calls.c.state == state, self._calls.c.lease_expires_at < NOW)
            .where(self._calls.c.id.in_(list(ids)))
            .with_for_update(skip_locked=True)
        )
        statement = (
            update(self._calls)
            .where(self._calls.c.id.in_(expired))
            .values(**values, end_time=NOW)
            .returning(*self._calls.c)
        )
        rows = (await connection.execute(statement)).mappings().all()
        await self._announce(connection, [row for row in rows if state is State.CALLING])
        return [PaidCall.from_row(row) for row in rows]

    async def note_resolution(self, connection: AsyncConnection, call: PaidCall, resolution: Resolution) -> bool:
        """Writes down that this word was given; False: its request id is taken."""
        statement = (
            upsert(self._resolutions)
            .values(
                principal=resolution.principal,
                method=resolution.method,
                request_id=resolution.request_id,
                fingerprint=resolution.fingerprint,
                paid_call=call.id,
            )
            .on_conflict_do_nothing()
            .returning(self._resolutions.c.paid_call)
        )
        return (await connection.execute(statement)).one_or_none() is not None

    async def resolution(self, connection: AsyncConnection, resolution: Resolution) -> bytes | None:
        """The fingerprint of the word that was given under this request id."""
        columns = self._resolutions.c
        statement = select(columns.fingerprint).where(
            columns.principal == resolution.principal,
            columns.method == resolution.method,
            columns.request_id == resolution.request_id,
        )
        found = (await connection.execute(statement)).scalar_one_or_none()
        return None if found is None else bytes(found)

    async def resolve(self, connection: AsyncConnection, call: PaidCall, values: Mapping[str, Any]) -> PaidCall | None:
        """The row, settled by a person, with its event; None: its outcome is not unknown."""
        statement = (
            update(self._calls)
            .where(self._calls.c.id == call.id, self._calls.c.state == State.OUTCOME_UNKNOWN)
            .values(**values, resolve_time=NOW, end_time=NOW)
            .returning(*self._calls.c)
        )
        row = (await connection.execute(statement)).mappings().one_or_none()
        if row is None:
            return None
        await self._announce(connection, [row])
        return PaidCall.from_row(row)

    async def set_error(self, connection: AsyncConnection, call: PaidCall, error: Mapping[str, Any]) -> None:
        """Replaces the error's text, for rows whose error names the row itself."""
        await connection.execute(update(self._calls).where(self._calls.c.id == call.id).values(error=error))

    async def renew(self, connection: AsyncConnection, fences: Mapping[str, int]) -> set[tuple[str, int]]:
        """Extends the leases of running rows; returns id and fence of those that are still held under these fences.

        A row that is locked is being settled, and no sweep takes it: waiting for it would cost all others their lease.
        """
        free = (
            select(self._calls.c.id)
            .where(self._calls.c.id.in_(list(fences)), self._calls.c.state.in_(RUNNING))
            .with_for_update(skip_locked=True)
        )
        statement = (
            update(self._calls)
            .where(self._calls.c.id.in_(free))
            .values(lease_expires_at=self._lease)
            .returning(self._calls.c.id, self._calls.c.fence)
        )
        rows = (await connection.execute(statement)).all()
        return {(row.id, row.fence) for row in rows if fences[row.id] == row.fence}

    async def by_request(
        self, connection: AsyncConnection, principal: str, method: str, request_id: str
    ) -> PaidCall | None:
        """The call of that request id."""
        where = (
            self._calls.c.principal == principal,
            self._calls.c.method == method,
            self._calls.c.request_id == request_id,
        )
        return await _one(connection, select(*self._calls.c).where(*where))

    async def by_id(self, connection: AsyncConnection, call_id: str) -> PaidCall | None:
        """The call of that id, whoever owns it."""
        return await _one(connection, select(*self._calls.c).where(self._calls.c.id == call_id))

    async def page(
        self, connection: AsyncConnection, principal: str, *, state: State | None, before: str | None, limit: int
    ) -> list[PaidCall]:
        """At most `limit` calls of the principal, newest first, older than the id `before`."""
        where: list[ColumnElement[bool]] = [self._calls.c.principal == principal]
        if state is not None:
            where.append(self._calls.c.state == state)
        if before is not None:
            where.append(self._calls.c.id < before)
        statement = select(*self._calls.c).where(*where).order_by(self._calls.c.id.desc()).limit(limit)
        return [PaidCall.from_row(row) for row in (await connection.execute(statement)).mappings()]

    async def _announce(self, connection: AsyncConnection, rows: Sequence[Mapping[Any, Any]]) -> None:
        """Events in the same transaction: there is never a settlement without one."""
        if rows:
            events = [{"paid_call": row["id"]} | {name: row[name] for name in _EVENT} for row in rows]
            await connection.execute(insert(self._outbox), events)


async def durable_later(connection: AsyncConnection) -> None:
    """Lets this transaction commit without waiting for the disk.

    Only for what a crash of the database may take back harmlessly: a later synchronous commit makes it durable too.
    """
    await connection.execute(text("SET LOCAL synchronous_commit = off"))


async def limit_statements(connection: AsyncConnection, seconds: float) -> None:
    """Replaces, for this transaction, the time after which the server ends a statement."""
    limit = func.set_config("statement_timeout", str(max(round(seconds * 1000), 1)), True)
    await connection.execute(select(limit))


async def _one(connection: AsyncConnection, statement: Any) -> PaidCall | None:
    row = (await connection.execute(statement)).mappings().one_or_none()
    return None if row is None else PaidCall.from_row(row)
