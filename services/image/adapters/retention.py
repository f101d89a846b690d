"""Deleting what was kept for long enough: a batch a transaction, and nothing that anybody is at work on."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, func, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.common.names import earliest_id
from services.image.adapters.tables import generation, paid_calls, spool
from services.image.domain.generations import GENERATIONS, GenerationState
from services.models.paid_calls import State

NOW = func.statement_timestamp()

_call = paid_calls.paid_call
_ENDED = (GenerationState.SUCCEEDED, GenerationState.PARTIALLY_SUCCEEDED, GenerationState.FAILED)
_SETTLED = (State.SUCCEEDED, State.FAILED)
_SUBJECT_PREFIX = GENERATIONS.format("x").removesuffix("x")


class Retention:
    """Deletes generations with all that belongs to them, and calls that belong to none.

    Events of the usage outbox stay: whoever adds them up deletes them.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def purge_generations(self, older_than: timedelta, *, limit: int) -> int:
        """Deletes at most `limit` generations that ended so long ago; returns how many.

        Not those with bytes in the spool, and not those with a call that is running, unknown, or ended since.
        """
        async with self._engine.begin() as connection:
            found = select(generation.c.id).where(*_old(generation, older_than), generation.c.state.in_(_ENDED))
            found = found.where(~_has_bytes(), ~_has_fresh_call(older_than)).order_by(generation.c.id).limit(limit)
            ids = (await connection.execute(found.with_for_update(skip_locked=True))).scalars().all()
            free = await self._delete_calls(connection, ids, older_than)
            await connection.execute(delete(generation).where(generation.c.id.in_(free)))
        return len(free)

    async def purge_calls(self, older_than: timedelta, *, limit: int) -> int:
        """Deletes at most `limit` calls of helpers, with what they were answered; returns how many."""
        async with self._engine.begin() as connection:
            found = select(_call.c.id).where(_call.c.subject == "", *_old(_call, older_than))
            found = found.where(_call.c.state.in_(_SETTLED)).order_by(_call.c.id).limit(limit)
            ids = (await connection.execute(found.with_for_update(skip_locked=True))).scalars().all()
            await connection.execute(delete(_call).where(_call.c.id.in_(ids)))
        return len(ids)

    async def _delete_calls(self, connection: AsyncConnection, ids: Sequence[str], older_than: timedelta) -> list[str]:
        """Deletes the calls of these generations; returns those of which no call is left.

        A failed call may be tried again at this moment: its row is locked then, and its generation stays.
        """
        subjects = {GENERATIONS.format(generation_id): generation_id for generation_id in ids}
        of_them = select(_call.c.id, _call.c.subject).where(_call.c.subject.in_(list(subjects)))
        calls = {row.id: row.subject for row in (await connection.execute(of_them)).all()}
        settled = of_them.where(~_is_fresh(older_than)).with_for_update(skip_locked=True)
        free = {row.id for row in (await connection.execute(settled)).all()}
        busy = {subject for call_id, subject in calls.items() if call_id not in free}
        gone = [call_id for call_id in free if calls.get(call_id, "") not in busy]
        await connection.execute(delete(_call).where(_call.c.id.in_(gone)))
        return [generation_id for subject, generation_id in subjects.items() if subject not in busy]


def _old(table: Any, older_than: timedelta) -> Sequence[ColumnElement[bool]]:
    """Ids begin with the time, so the first condition is a range of the primary key; the second is exact."""
    boundary = earliest_id(datetime.now(UTC) - older_than)
    return table.c.id < boundary, table.c.end_time < NOW - older_than


def _is_fresh(older_than: timedelta) -> ColumnElement[bool]:
    return or_(_call.c.state.not_in(_SETTLED), _call.c.end_time >= NOW - older_than)


def _has_fresh_call(older_than: timedelta) -> ColumnElement[bool]:
    of_it = _call.c.subject == literal(_SUBJECT_PREFIX).concat(generation.c.id)
    return exists().where(and_(of_it, _is_fresh(older_than)))


def _has_bytes() -> ColumnElement[bool]:
    return exists().where(spool.c.generation == generation.c.id)
