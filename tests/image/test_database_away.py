"""While the database is away nobody is told more of the money than is known, and nothing is paid."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest_asyncio
from psycopg import sql
from pydantic import SecretStr

from contentlab.image.v1 import image_service_pb2 as pb
from tests.image.harness import Service, refusal, running_image
from tests.support.openai_server import OpenAIServer


@pytest_asyncio.fixture(loop_scope="session")
async def alone(service: Service, database_url: str) -> AsyncIterator[Service]:
    """A service with a database of its own."""
    settings = service.settings.model_copy(update={"database_url": SecretStr(database_url)})
    async with running_image(settings, service.selection) as running:
        yield running


@asynccontextmanager
async def away(postgres_url: str, service: Service) -> AsyncIterator[None]:
    """The service's database ends every session and takes no new one."""
    name = service.settings.database_url.get_secret_value().rpartition("/")[2]
    allow = "ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}"
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as admin:
        await admin.execute(sql.SQL(allow).format(sql.Identifier(name), sql.SQL("false")))
        try:
            await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
            yield
        finally:
            await admin.execute(sql.SQL(allow).format(sql.Identifier(name), sql.SQL("true")))


async def test_a_request_id_that_was_paid_for_is_not_said_to_have_cost_nothing(
    alone: Service, provider: OpenAIServer, postgres_url: str
) -> None:
    request_id = str(uuid.uuid4())
    first = await alone.generate(request_id=request_id)
    async with away(postgres_url, alone):
        error = await refusal(alone.generate(request_id=request_id))
    assert (error.reason, error.billed.value, error.retry_safe) == ("UNAVAILABLE", "unknown", True)
    assert await alone.generate(request_id=request_id) == first
    assert len(provider.charges) == 1


async def test_a_call_without_a_request_id_cost_nothing(
    alone: Service, provider: OpenAIServer, postgres_url: str
) -> None:
    async with away(postgres_url, alone):
        error = await refusal(alone.generate())
    assert (error.reason, error.billed.value, error.retry_safe) == ("UNAVAILABLE", "no", True)
    assert provider.charges == []
    assert (await alone.generate()).state == pb.ImageGeneration.SUCCEEDED
