"""Pictures that are to be analysed as soon as the gallery has them."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, exists, func, literal, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.image.adapters.tables import analysis, generation, picture
from services.image.domain.generations import PictureState

NOW = func.statement_timestamp()
FIRST_SECONDS = 2.0
"""How long after the pictures are written down the first who is free may take them, should their maker not."""


@dataclass(frozen=True, slots=True)
class Due:
    """One picture to be analysed."""

    generation_id: str
    index: int
    attempts: int


async def plan(connection: AsyncConnection, generation_id: str) -> None:
    """Writes down, with a generation's pictures, that they are to be analysed, if that was asked for."""
    wanted = generation.c.pipeline["analyze"].as_boolean()
    first = NOW + timedelta(seconds=FIRST_SECONDS)
    rows = (
        select(picture.c.generation, picture.c.index, literal(0), first)
        .join_from(picture, generation, picture.c.generation == generation.c.id)
        .where(picture.c.generation == generation_id, wanted)
    )
    columns = ["generation", "index", "attempts", "next_attempt_time"]
    await connection.execute(upsert(analysis).from_select(columns, rows).on_conflict_do_nothing())


class Analyses:
    """Hands out what is due, and takes note of what came of it."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    async def claim(self, limit: int, *, hold_seconds: float, generation_id: str | None = None) -> list[Due]:
        """At most `limit` stored pictures that are due, or those of one generation, due or not; nobody else gets them
        for `hold_seconds`."""
        key = (analysis.c.generation, analysis.c.index)
        mine = analysis.c.generation == generation_id if generation_id else analysis.c.next_attempt_time <= NOW
        chosen = (
            select(*key)
            .join(picture, (picture.c.generation == key[0]) & (picture.c.index == key[1]))
            .where(mine, picture.c.state == PictureState.STORED)
            .order_by(analysis.c.next_attempt_time)
            .limit(limit)
            .with_for_update(skip_locked=True, of=analysis)
        )
        statement = (
            update(analysis)
            .where(tuple_(*key).in_(chosen))
            .values(next_attempt_time=NOW + timedelta(seconds=hold_seconds), attempts=analysis.c.attempts + 1)
            .returning(*key, analysis.c.attempts)
        )
        async with self.engine.begin() as connection:
            rows = (await connection.execute(statement)).all()
        return [Due(*row) for row in rows]

    async def postpone(self, due: Due, seconds: float) -> None:
        """The next attempt may be made then."""
        where = (analysis.c.generation == due.generation_id, analysis.c.index == due.index)
        values = {"next_attempt_time": NOW + timedelta(seconds=seconds)}
        async with self.engine.begin() as connection:
            await connection.execute(update(analysis).where(*where).values(values))

    async def remain(self, generation_id: str) -> bool:
        """Whether a stored picture of the generation is still to be analysed."""
        of_it = (analysis.c.generation == generation_id, picture.c.state == PictureState.STORED)
        same = (picture.c.generation == analysis.c.generation) & (picture.c.index == analysis.c.index)
        async with self.engine.connect() as connection:
            statement = select(exists().where(*of_it, same))
            return bool((await connection.execute(statement)).scalar_one())


async def done(connection: AsyncConnection, due: Due) -> bool:
    """The picture needs no further attempt; False: somebody else has said so already."""
    where = (analysis.c.generation == due.generation_id, analysis.c.index == due.index)
    return (await connection.execute(delete(analysis).where(*where))).rowcount > 0
