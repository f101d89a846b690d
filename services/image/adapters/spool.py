"""Finished bytes in Postgres, which the gallery did not take at once, until it has them."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, func, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.image.adapters import generations
from services.image.adapters.tables import spool
from services.image.domain.generations import Delivery, Picture, PictureState, Spooled, state_of
from services.models.paid_calls.records import dump_error
from services.models.paid_calls.store import durable_later

NOW = func.statement_timestamp()


async def put(
    connection: AsyncConnection,
    generation_id: str,
    contents: Mapping[int, bytes],
    *,
    refused: Collection[int],
    hold_seconds: float,
) -> None:
    """Spools pictures; until `hold_seconds` are over only their maker delivers them, and `refused` ones nobody."""
    due = NOW + timedelta(seconds=hold_seconds)
    # One statement a picture: a multi-row one would hold every copy of all of them at once.
    for index, content in contents.items():
        row = {"generation": generation_id, "index": index, "content": content}
        await connection.execute(insert(spool).values(row | {"next_attempt_time": None if index in refused else due}))


async def conclude(connection: AsyncConnection, generation_id: str, deliveries: Sequence[Delivery]) -> None:
    """What deliveries that have been taken note of mean for their generation: with the last one, its end."""
    for note in (one.note for one in deliveries if one.note):
        await generations.annotate(connection, generation_id, dump_error(note))
    states = await generations.picture_states(connection, generation_id)
    if PictureState.SPOOLED not in states:
        await generations.end(connection, generation_id, state_of(states), _error_of(states, deliveries))


class Spool:
    """Hands out what is due and takes note of what came of it."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def claim(self, limit: int, *, hold_seconds: float) -> list[Spooled]:
        """At most `limit` pictures that are due, the longest overdue first; nobody else gets them meanwhile."""
        key = (spool.c.generation, spool.c.index)
        due = (
            select(*key)
            .where(spool.c.next_attempt_time <= NOW)
            .order_by(spool.c.next_attempt_time)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        statement = (
            update(spool)
            .where(tuple_(*key).in_(due))
            .values(next_attempt_time=NOW + timedelta(seconds=hold_seconds))
            .returning(*key, spool.c.attempts, (NOW - spool.c.create_time).label("waited"))
        )
        async with self._engine.begin() as connection:
            await durable_later(connection)
            rows = (await connection.execute(statement)).mappings().all()
        return [Spooled(row["generation"], row["index"], row["attempts"], row["waited"]) for row in rows]

    async def content(self, one: Spooled) -> bytes | None:
        """The bytes; None: somebody else has delivered them."""
        statement = select(spool.c.content).where(*_is(one.generation_id, one.index))
        async with self._engine.connect() as connection:
            content = (await connection.execute(statement)).scalar_one_or_none()
        return None if content is None else bytes(content)

    async def postpone(self, generation_id: str, index: int, seconds: float) -> None:
        """The gallery did not take it this time."""
        values = {"attempts": spool.c.attempts + 1, "next_attempt_time": NOW + timedelta(seconds=seconds)}
        async with self._engine.begin() as connection:
            await durable_later(connection)
            await connection.execute(update(spool).where(*_is(generation_id, index)).values(values))

    async def settle(self, generation_id: str, deliveries: Sequence[Delivery]) -> None:
        """Takes note of pictures that are stored or refused for good, and ends the generation with the last one.

        Bytes that are stored leave the spool; refused ones stay in it until the operator has them tried again.
        Should the database crash and forget this, they are delivered again, and the gallery finds what it has.
        """
        async with self._engine.begin() as connection:
            await durable_later(connection)
            await generations.lock(connection, generation_id)
            for one in deliveries:
                await self._settle_one(connection, generation_id, one)
            await conclude(connection, generation_id, deliveries)

    async def _settle_one(self, connection: AsyncConnection, generation_id: str, one: Delivery) -> None:
        state = PictureState.FAILED if one.error else PictureState.STORED
        await generations.set_picture(
            connection, generation_id, Picture(one.index, state, facts=one.facts, error=one.error)
        )
        where = _is(generation_id, one.index)
        if one.error:
            await connection.execute(update(spool).where(*where).values(next_attempt_time=None))
        else:
            await connection.execute(delete(spool).where(*where))

    async def count(self) -> tuple[int, int]:
        """How many pictures the gallery still has to take, and how many it has refused for good."""
        refused = spool.c.next_attempt_time.is_(None)
        statement = select(func.count().filter(~refused), func.count().filter(refused)).select_from(spool)
        async with self._engine.connect() as connection:
            row = (await connection.execute(statement)).one()
        return row[0], row[1]

    async def requeue_refused(self) -> int:
        """Makes every picture that was refused for good due again, as if it were new; returns how many."""
        refused = spool.c.next_attempt_time.is_(None)
        async with self._engine.begin() as connection:
            keys = (await connection.execute(select(spool.c.generation, spool.c.index).where(refused))).all()
            for generation_id, indexes in _by_generation(keys).items():
                await generations.lock(connection, generation_id)
                await generations.store_again(connection, generation_id, indexes)
                where = (spool.c.generation == generation_id, spool.c.index.in_(indexes), refused)
                values = {"next_attempt_time": NOW, "attempts": 0, "create_time": NOW}
                await connection.execute(update(spool).where(*where).values(values))
        return len(keys)

    async def forget_refused(self, older_than: timedelta) -> int:
        """Deletes bytes that were refused for good; returns how many pictures' that were."""
        statement = delete(spool).where(spool.c.next_attempt_time.is_(None), spool.c.create_time < NOW - older_than)
        async with self._engine.begin() as connection:
            return (await connection.execute(statement)).rowcount


def _by_generation(keys: Iterable[Any]) -> Mapping[str, list[int]]:
    indexes: defaultdict[str, list[int]] = defaultdict(list)
    for generation_id, index in keys:
        indexes[generation_id].append(index)
    return dict(sorted(indexes.items()))


def _is(generation_id: str, index: int) -> tuple[Any, Any]:
    return spool.c.generation == generation_id, spool.c.index == index


def _error_of(states: Sequence[PictureState], deliveries: Sequence[Delivery]) -> dict[str, Any] | None:
    """A generation without a single picture ends with the error of its last one."""
    errors = [one.error for one in deliveries if one.error] if PictureState.STORED not in states else []
    return dump_error(errors[-1]) if errors else None
