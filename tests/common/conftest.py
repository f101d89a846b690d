"""Fixtures of the common plumbing's tests: the real Postgres."""

import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from deploy.local.postgres import ensure_postgres, stop_postgres
from services.common.database import create_engine
from services.common.settings import DatabaseSettings
from tests.support.ports import free_port


@pytest.fixture(scope="session")
async def database_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A Postgres for these tests: TEST_DATABASE_URL, or one started from the wheel and stopped at the end."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield given
        return
    home: Path = tmp_path_factory.mktemp("postgres")
    yield await ensure_postgres(home, free_port(), environment={})
    await stop_postgres(home)


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
