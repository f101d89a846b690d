"""What many tests share: a real Postgres, a real Azurite, and databases of their own on it."""

import asyncio
import base64
import contextlib
import os
import secrets
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql

from deploy.local.azurite import ACCOUNT, PACKAGE, azurite_command
from deploy.local.postgres import ensure_postgres, remove_postgres
from deploy.local.toolchain import find_node
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[1]
AZURITE_START_SECONDS = 30.0

NewDatabase = Callable[[], Awaitable[str]]


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
    node = find_node()
    assert node is not None, "no Node to run Azurite on: `make setup`"
    port, key = free_port(), base64.b64encode(secrets.token_bytes(64)).decode()
    process = await asyncio.create_subprocess_exec(
        *azurite_command(node, ROOT / PACKAGE, tmp_path_factory.mktemp("azurite"), port),
        env={**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{key}"},
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(AZURITE_START_SECONDS):
            while not await _listens(port):
                assert process.returncode is None, "Azurite ended before it listened"
                await asyncio.sleep(0.05)
        endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
        yield f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={key};BlobEndpoint={endpoint};"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        async with asyncio.timeout(30):
            await process.wait()


async def _listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return True
    return False
