"""What many tests share: a real Postgres, a real Azurite, and databases of their own on it."""

import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql

from deploy.local.postgres import ensure_postgres, remove_postgres
from tests.support.azurite import running_azurite
from tests.support.logs import plain_logs
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[1]

NewDatabase = Callable[[], Awaitable[str]]

plain_logs()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """URL of a Postgres of this test run; its databases are the tests' to make."""
    home = tmp_path_factory.mktemp("postgres")
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    yield await ensure_postgres(home, free_port(), environment=environment)
    await remove_postgres(home)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def new_database(postgres_url: str) -> NewDatabase:
    """Makes an empty database and returns its URL."""

    async def make() -> str:
        name = f"test_{uuid.uuid4().hex}"
        async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as connection:
            await connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return postgres_url.rpartition("/")[0] + f"/{name}"

    return make


@pytest_asyncio.fixture(loop_scope="session")
async def database_url(new_database: NewDatabase) -> str:
    """An empty database of this one test."""
    return await new_database()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def azurite(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Connection string of an Azurite of this test run."""
    async with running_azurite(tmp_path_factory.mktemp("azurite")) as running:
        yield running.connection_string
