"""What killed and frozen processes leave."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from contentlab.image.v1 import image_service_pb2 as pb
from services.common.database import sqlalchemy_url
from services.image.domain.generations import GENERATIONS
from services.models.paid_calls.leases import Leases
from tests.image.harness import Service

_NUMBERS = "usage = NULL, cost_source = NULL, cost_micro_usd = NULL, error = NULL, end_time = NULL"


@asynccontextmanager
async def transaction(service: Service) -> AsyncIterator[AsyncConnection]:
    """A transaction in the service's database, from outside of it."""
    engine = create_async_engine(sqlalchemy_url(service.settings.database_url.get_secret_value()))
    try:
        async with engine.begin() as connection:
            yield connection
    finally:
        await engine.dispose()


async def abandon(service: Service, name: str, *, state: str = "CALLING") -> None:
    """Takes the settlement of a generation's call back, as if its process had died right before it."""
    names = {"subject": name, "id": GENERATIONS.parse(name)}
    generation_state = "RUNNING" if state == "CALLING" else state
    async with transaction(service) as connection:
        await connection.execute(text("DELETE FROM image.picture WHERE generation = :id"), {"id": names["id"]})
        await connection.execute(
            text(f"UPDATE image.generation SET state = :state, {_NUMBERS} WHERE id = :id"),  # noqa: S608 - a constant
            {"id": names["id"], "state": generation_state},
        )
        await connection.execute(
            text(
                f"UPDATE image.paid_call SET state = :state, billed = 'unknown', {_NUMBERS}, "  # noqa: S608
                "lease_expires_at = now() - interval '1 second' WHERE subject = :subject"
            ),
            {"subject": names["subject"], "state": state},
        )


async def renews_nothing(leases: Leases) -> bool:
    """In the place of `Leases.renew`: the process looks dead to the others, and does not know it."""
    return True


async def first_of(service: Service, state: pb.ImageGeneration.State.ValueType) -> str:
    """Name of the newest generation in a state."""
    request = pb.ListImageGenerationsRequest(page_size=1, state=state)
    found = (await service.stub.ListImageGenerations(request, timeout=10)).image_generations
    return found[0].name if found else ""
