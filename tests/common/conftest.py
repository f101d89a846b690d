"""Fixtures of the common plumbing's tests: the real Postgres."""

import os
import secrets
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.database import create_engine
from services.common.settings import DatabaseSettings


@pytest.fixture(scope="session")
def database_url(postgres_url: str) -> str:
    """One database for all of these tests: each works in a schema of its own."""
    return postgres_url


@pytest.fixture
def database_settings(database_url: str) -> DatabaseSettings:
    return DatabaseSettings(database_url=SecretStr(database_url))


@pytest.fixture
async def engine(database_settings: DatabaseSettings) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(database_settings, application_name="tests")
    yield engine
    await engine.dispose()


@pytest.fixture
async def schema(engine: AsyncEngine) -> AsyncIterator[str]:
    """The name of a schema that does not exist yet; dropped afterwards."""
    name = f"test_{secrets.token_hex(6)}"
    yield name
    async with engine.begin() as connection:
        await connection.execute(text(f"DROP SCHEMA IF EXISTS {name} CASCADE"))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings under test come from the test alone."""
    for name in list(os.environ):
        if name.startswith("CONTENTLAB_") or name == "DATABASE_URL":
            monkeypatch.delenv(name)
