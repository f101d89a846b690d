"""Generations and their pictures in Postgres."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import case, cast, func, null, select, text, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.common.errors import ServiceError
from services.image.adapters import analyses
from services.image.adapters.rows import from_inputs, from_placement, to_generation, to_picture
from services.image.adapters.tables import generation, paid_calls, picture
from services.image.domain.generations import (
    GENERATIONS,
    MAIN_OPERATIONS,
    Facts,
    Generation,
    GenerationState,
    NewGeneration,
    Picture,
    PictureState,
)
from services.image.domain.steps import Prepared
from services.models.money import Cost
from services.models.paid_calls import PaidCall, State
from services.models.paid_calls.records import dump_error
from services.models.usage import Usage

NOW = func.statement_timestamp()

# What the main call's state means for its generation; SUCCEEDED is written with the pictures.
_FOLLOWS: Mapping[State, GenerationState] = {
    State.PLANNED: GenerationState.PENDING,
    State.CALLING: GenerationState.RUNNING,
    State.FAILED: GenerationState.FAILED,
    State.OUTCOME_UNKNOWN: GenerationState.OUTCOME_UNKNOWN,
}


async def create(connection: AsyncConnection, new: NewGeneration) -> None:
    """Writes the generation down as PENDING; one that failed without cost is made new under the same name."""
    values = {
        "operation": new.operation,
        "state": GenerationState.PENDING,
        "prompt": new.prompt,
        "model": new.model,
        "parameters": dict(new.parameters),
        "placement": from_placement(new.placement),
        "inputs": from_inputs(new.inputs),
        "pipeline": new.steps.to_json(),
    }
    statement = upsert(generation).values(id=new.id, owner=new.owner, request_id=new.request_id, **values)
    again = {**values, "error": None, "end_time": None, "update_time": NOW}
    await connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=again))


async def prepare(connection: AsyncConnection, generation_id: str, prepared: Prepared) -> None:
    """Writes down what the steps before the picture came to."""
    values = {
        "final_prompt": func.coalesce(func.nullif(prepared.prompt, generation.c.prompt), ""),
        "revisions": [one.to_json() for one in prepared.revisions],
        "suggested_name": prepared.suggested_name,
        "notes": [dump_error(one) for one in prepared.notes],
    }
    await connection.execute(update(generation).where(generation.c.id == generation_id).values(values))


async def note(connection: AsyncConnection, generation_id: str, error: ServiceError) -> None:
    """Adds what an optional step that failed has to say."""
    more = generation.c.notes.concat(cast([dump_error(error)], JSONB))
    where = generation.c.id == generation_id
    await connection.execute(update(generation).where(where).values(notes=more, update_time=NOW))


async def run_again(connection: AsyncConnection, call: PaidCall) -> None:
    """Makes the generation of a call that was opened in the place of another PENDING again."""
    values = {"state": GenerationState.PENDING, "error": None, "end_time": None, "update_time": NOW}
    where = generation.c.id == GENERATIONS.parse(call.subject)
    await connection.execute(update(generation).where(where).values(values))


async def follow(connection: AsyncConnection, call: PaidCall) -> None:
    """Lets the generation follow its main call."""
    if call.operation not in MAIN_OPERATIONS:
        return
    values = {
        "state": _FOLLOWS[call.state],
        "update_time": NOW,
        "error": None if call.error is None else dump_error(call.error),
        "end_time": None if call.running else NOW,
        **_accounting(call.usage, call.cost),
    }
    generation_id = GENERATIONS.parse(call.subject)
    await connection.execute(update(generation).where(generation.c.id == generation_id).values(values))


async def keep(
    connection: AsyncConnection, generation_id: str, pictures: Sequence[Picture], usage: Usage | None, cost: Cost
) -> None:
    """Writes down what the provider made: STORING, with one row a picture."""
    values = {
        "state": GenerationState.STORING,
        "error": None,
        "end_time": None,
        "update_time": NOW,
        **_accounting(usage, cost),
    }
    await connection.execute(update(generation).where(generation.c.id == generation_id).values(values))
    rows = [{"generation": generation_id, **_picture_columns(one)} for one in pictures]
    statement = upsert(picture)
    # There are rows already when the call was taken for dead and some of its pictures were found.
    again = {column.name: column for column in statement.excluded if not column.primary_key}
    await connection.execute(statement.on_conflict_do_update(index_elements=["generation", "index"], set_=again), rows)
    await analyses.plan(connection, generation_id)


async def lock(connection: AsyncConnection, generation_id: str) -> None:
    """Makes changes to one generation's pictures wait for each other, so that the last one sees them all."""
    await connection.execute(select(generation.c.id).where(generation.c.id == generation_id).with_for_update())


async def set_picture(connection: AsyncConnection, generation_id: str, one: Picture) -> None:
    """Replaces what is known of a picture that was SPOOLED."""
    where = (picture.c.generation == generation_id, picture.c.index == one.index)
    values: dict[str, Any] = {
        "state": one.state,
        "error": None if one.error is None else dump_error(one.error),
        **(asdict(one.facts) if one.facts else {}),
    }
    await connection.execute(update(picture).where(*where, picture.c.state == PictureState.SPOOLED).values(values))


async def picture_states(connection: AsyncConnection, generation_id: str) -> list[PictureState]:
    """The states of a generation's pictures, in order."""
    statement = select(picture.c.state).where(picture.c.generation == generation_id).order_by(picture.c.index)
    return [PictureState(state) for state in (await connection.execute(statement)).scalars()]


async def annotate(connection: AsyncConnection, generation_id: str, error: Mapping[str, Any]) -> None:
    """Adds what an optional step that failed has to say."""
    await connection.execute(update(generation).where(generation.c.id == generation_id).values(error=error))


async def end(
    connection: AsyncConnection, generation_id: str, state: GenerationState, error: Mapping[str, Any] | None
) -> None:
    """Ends a generation that is STORING."""
    where = (generation.c.id == generation_id, generation.c.state == GenerationState.STORING)
    values: dict[str, Any] = {"state": state, "end_time": NOW, "update_time": NOW}
    if error is not None:
        values["error"] = error
    await connection.execute(update(generation).where(*where).values(values))


async def store_again(connection: AsyncConnection, generation_id: str, indexes: Sequence[int]) -> None:
    """Makes pictures that were refused SPOOLED again, and their generation STORING."""
    again = (picture.c.generation == generation_id, picture.c.index.in_(indexes))
    failed = (*again, picture.c.state == PictureState.FAILED)
    await connection.execute(update(picture).where(*failed).values(state=PictureState.SPOOLED, error=None))
    # What an optional step had to say stays; why nothing was stored does not.
    kept_error = case((generation.c.state == GenerationState.FAILED, null()), else_=generation.c.error)
    values = {"state": GenerationState.STORING, "error": kept_error, "end_time": None, "update_time": NOW}
    await connection.execute(update(generation).where(generation.c.id == generation_id).values(values))


class Generations:
    """Reads generations with their pictures and paid steps."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def get(self, generation_id: str, *, owner: str | None = None) -> Generation | None:
        """The generation of that id; of another owner's there is none."""
        where = [generation.c.id == generation_id]
        if owner is not None:
            where.append(generation.c.owner == owner)
        found = await self._read(select(generation).where(*where))
        return found[0] if found else None

    async def page(
        self, owner: str, *, state: GenerationState | None, before: str | None, limit: int
    ) -> list[Generation]:
        """At most `limit` generations of the owner, newest first, older than the id `before`."""
        where = [generation.c.owner == owner]
        if state is not None:
            where.append(generation.c.state == state)
        if before is not None:
            where.append(generation.c.id < before)
        return await self._read(select(generation).where(*where).order_by(generation.c.id.desc()).limit(limit))

    async def state(self, generation_id: str) -> GenerationState | None:
        """The state alone, for those who wait for it to change."""
        async with self._engine.connect() as connection:
            statement = select(generation.c.state).where(generation.c.id == generation_id)
            state = (await connection.execute(statement)).scalar_one_or_none()
        return None if state is None else GenerationState(state)

    async def _read(self, statement: Any) -> list[Generation]:
        """Three statements, however many generations; one snapshot, so that states and pictures agree."""
        async with self._engine.connect() as connection:
            await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            rows = (await connection.execute(statement)).mappings().all()
            if not rows:
                return []
            ids = [row["id"] for row in rows]
            ordered = (
                select(picture).where(picture.c.generation.in_(ids)).order_by(picture.c.generation, picture.c.index)
            )
            pictures = (await connection.execute(ordered)).mappings().all()
            calls_table = paid_calls.paid_call
            subjects = [GENERATIONS.format(generation_id) for generation_id in ids]
            of_them = select(calls_table).where(calls_table.c.subject.in_(subjects)).order_by(calls_table.c.id)
            calls = (await connection.execute(of_them)).mappings().all()
        by_generation: defaultdict[str, list[Picture]] = defaultdict(list)
        for row in pictures:
            by_generation[row["generation"]].append(to_picture(row))
        by_subject: defaultdict[str, list[PaidCall]] = defaultdict(list)
        for row in calls:
            by_subject[row["subject"]].append(PaidCall.from_row(row))
        return [to_generation(row, by_generation[row["id"]], by_subject[GENERATIONS.format(row["id"])]) for row in rows]


def _picture_columns(one: Picture) -> dict[str, Any]:
    facts = asdict(one.facts or Facts(""))
    return {
        "index": one.index,
        "state": one.state,
        "asset_id": one.asset_id,
        "sha256": one.sha256,
        "size_bytes": one.size_bytes,
        **facts,
        **_accounting(one.usage, one.cost),
        "error": None if one.error is None else dump_error(one.error),
    }


def _accounting(usage: Usage | None, cost: Cost | None) -> dict[str, Any]:
    return {
        "usage": None if usage is None else usage.to_json(),
        "cost_source": None if cost is None else cost.source,
        "cost_micro_usd": None if cost is None else cost.micro_usd,
    }
