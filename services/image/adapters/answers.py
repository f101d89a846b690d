"""What language models answered, kept as long as the paid call that it came of."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.image.adapters.tables import answer
from services.models.json_answers import MAX_CHARS


def storable(content: str) -> str:
    """An answer as it is kept, and so as it is read: no more of it is ever looked at, and no column takes a NUL."""
    return content[:MAX_CHARS].replace("\0", "")


async def keep(connection: AsyncConnection, call_id: str, content: str) -> None:
    """Writes down what a model wrote, in the transaction that settles its call."""
    statement = upsert(answer).values(paid_call=call_id, content=content)
    await connection.execute(statement.on_conflict_do_update(index_elements=["paid_call"], set_={"content": content}))


class Answers:
    """Reads what was kept, and keeps what an intent came to."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def content(self, call_id: str) -> str | None:
        """What the model wrote in that call."""
        async with self._engine.connect() as connection:
            statement = select(answer.c.content).where(answer.c.paid_call == call_id)
            content: str | None = (await connection.execute(statement)).scalar_one_or_none()
        return content

    async def result(self, call_id: str) -> Mapping[str, Any] | None:
        """What the intent whose first call this is was answered; None: nothing yet."""
        async with self._engine.connect() as connection:
            statement = select(answer.c.result).where(answer.c.paid_call == call_id)
            result: Mapping[str, Any] | None = (await connection.execute(statement)).scalar_one_or_none()
        return result

    async def put_result(self, call_id: str, result: Mapping[str, Any]) -> Mapping[str, Any]:
        """Keeps the answer of an intent and returns it, or the one that it has been given before."""
        statement = upsert(answer).values(paid_call=call_id, result=dict(result))
        first = func.coalesce(answer.c.result, statement.excluded.result)
        statement = statement.on_conflict_do_update(index_elements=["paid_call"], set_={"result": first})
        async with self._engine.begin() as connection:
            kept: Mapping[str, Any] = (await connection.execute(statement.returning(answer.c.result))).scalar_one()
        return kept
