"""The engine against a real Postgres."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.database import (
    create_engine,
    is_reachable,
    is_statement_timeout,
    is_unavailable,
    metadata_for,
    sqlalchemy_url,
    wait_until_reachable,
)
from services.common.settings import DatabaseSettings
from tests.support.ports import free_port


class Proxy:
    """A TCP proxy before Postgres that can cut or freeze every connection: an outage without touching the server."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = host, port
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.port = free_port()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def stop(self) -> None:
        """Refuses new connections and drops the open ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection(*self._upstream)
        for source, sink in ((reader, to_writer), (to_reader, writer)):
            task = asyncio.create_task(self._pump(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                await self.flowing.wait()
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    url = make_url(database_url)
    proxy = Proxy(url.host or "127.0.0.1", url.port or 5432)
    await proxy.start()
    yield proxy
    await proxy.stop()


@pytest.fixture
async def through_proxy(database_url: str, proxy: Proxy) -> AsyncIterator[AsyncEngine]:
    url = make_url(database_url).set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
    engine = create_engine(DatabaseSettings(database_url=SecretStr(url)), application_name="proxied")
    yield engine
    await engine.dispose()


async def scalar(engine: AsyncEngine, statement: str) -> object:
    async with engine.connect() as connection:
        return (await connection.execute(sa.text(statement))).scalar()


def test_any_postgres_url_gets_the_psycopg_driver_and_keeps_its_parameters() -> None:
    for scheme in ("postgresql", "postgres", "postgresql+psycopg"):
        url = sqlalchemy_url(f"{scheme}://u:p%40ss@h:1/d?sslmode=require")
        assert url.drivername == "postgresql+psycopg"
        assert (url.password, url.query) == ("p@ss", {"sslmode": "require"})


async def test_a_connection_carries_its_name_and_its_limits(engine: AsyncEngine) -> None:
    assert await scalar(engine, "SHOW application_name") == "tests"
    assert await scalar(engine, "SHOW statement_timeout") == "30s"


async def test_tables_live_in_the_named_schema_and_constraints_have_names(engine: AsyncEngine, schema: str) -> None:
    metadata = metadata_for(schema)
    sa.Table("thing", metadata, sa.Column("id", sa.Text, primary_key=True), sa.Column("name", sa.Text, unique=True))
    async with engine.begin() as connection:
        await connection.execute(sa.schema.CreateSchema(schema))
        await connection.run_sync(metadata.create_all)
        query = "SELECT conname FROM pg_constraint WHERE connamespace = to_regnamespace(:s)::oid AND contype <> 'n'"
        names = (await connection.execute(sa.text(query), {"s": schema})).scalars().all()
    assert set(names) == {"pk_thing", "uq_thing_name"}


async def test_errors_do_not_quote_parameters(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        with pytest.raises(DBAPIError) as error:
            await connection.execute(sa.text("SELECT :prompt / 0"), {"prompt": 7777})
    assert "7777" not in str(error.value)
    assert not is_unavailable(error.value)


async def test_a_constraint_is_the_statements_fault(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.execute(sa.text("CREATE TEMPORARY TABLE once (id int PRIMARY KEY)"))
        await connection.execute(sa.text("INSERT INTO once VALUES (1)"))
        with pytest.raises(IntegrityError) as error:
            await connection.execute(sa.text("INSERT INTO once VALUES (1)"))
    assert not is_unavailable(error.value)


async def test_a_statement_that_takes_too_long_is_ended_by_the_server(database_url: str) -> None:
    settings = DatabaseSettings(database_url=SecretStr(database_url), database_statement_timeout=0.2)
    engine = create_engine(settings, application_name="impatient")
    with pytest.raises(DBAPIError) as error:
        await scalar(engine, "SELECT pg_sleep(30)")
    assert is_statement_timeout(error.value)
    assert not is_unavailable(error.value)
    await engine.dispose()


async def test_a_transaction_that_idles_gives_its_locks_back(database_url: str) -> None:
    settings = DatabaseSettings(database_url=SecretStr(database_url))
    engine = create_engine(settings, application_name="frozen", idle_in_transaction_timeout=0.1)
    async with engine.connect() as frozen:
        await frozen.execute(sa.text("SELECT pg_advisory_xact_lock(7)"))
        await asyncio.sleep(0.5)
        assert await scalar(engine, "SELECT pg_try_advisory_xact_lock(7)")
        with pytest.raises(DBAPIError):
            await frozen.execute(sa.text("SELECT 1"))
    await engine.dispose()


async def test_a_server_that_ends_a_session_is_unavailable_and_the_pool_recovers(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        pid = (await connection.execute(sa.text("SELECT pg_backend_pid()"))).scalar()
        assert await scalar(engine, f"SELECT pg_terminate_backend({pid})")
        with pytest.raises(DBAPIError) as error:
            await connection.execute(sa.text("SELECT 1"))
    assert is_unavailable(error.value)
    assert await scalar(engine, "SELECT 1") == 1


async def test_a_server_that_ends_an_idle_transaction_is_unavailable(database_url: str) -> None:
    settings = DatabaseSettings(database_url=SecretStr(database_url))
    engine = create_engine(settings, application_name="frozen", idle_in_transaction_timeout=0.1)
    async with engine.connect() as frozen:
        await frozen.execute(sa.text("SELECT 1"))
        await asyncio.sleep(0.5)
        with pytest.raises(DBAPIError) as error:
            await frozen.execute(sa.text("SELECT 1"))
    assert is_unavailable(error.value)
    assert is_unavailable(psycopg.errors.IdleInTransactionSessionTimeout())
    await engine.dispose()


async def test_a_server_that_has_become_read_only_is_unavailable_and_its_connection_is_left(database_url: str) -> None:
    settings = DatabaseSettings(database_url=SecretStr(database_url), database_pool_size=1, database_pool_overflow=0)
    engine = create_engine(settings, application_name="writer")
    before = await scalar(engine, "SELECT pg_backend_pid()")
    async with engine.connect() as connection:
        await connection.execute(sa.text("SET TRANSACTION READ ONLY"))
        with pytest.raises(DBAPIError) as error:
            await connection.execute(sa.text("CREATE TABLE never (id int)"))
    assert is_unavailable(error.value)
    assert await scalar(engine, "SELECT pg_backend_pid()") != before
    await engine.dispose()


@pytest.mark.parametrize("error", [psycopg.errors.DeadlockDetected(), psycopg.errors.SerializationFailure()])
def test_a_transaction_that_lost_against_another_may_be_tried_again(error: Exception) -> None:
    assert is_unavailable(error)


async def test_idle_connections_that_died_are_replaced_without_an_error(
    through_proxy: AsyncEngine, proxy: Proxy
) -> None:
    """Without pre-ping the first calls after every database restart would fail."""
    assert await scalar(through_proxy, "SELECT 1") == 1
    await proxy.stop()
    await proxy.start()
    assert await scalar(through_proxy, "SELECT 1") == 1


async def test_nobody_listening_is_unavailable_and_not_reachable(through_proxy: AsyncEngine, proxy: Proxy) -> None:
    await proxy.stop()
    with pytest.raises(DBAPIError) as error:
        await scalar(through_proxy, "SELECT 1")
    assert is_unavailable(error.value)
    assert not await is_reachable(through_proxy)


async def test_an_exhausted_pool_is_unavailable(database_url: str) -> None:
    settings = DatabaseSettings(
        database_url=SecretStr(database_url),
        database_pool_size=1,
        database_pool_overflow=0,
        database_pool_timeout=0.1,
    )
    engine = create_engine(settings, application_name="narrow")
    async with engine.connect():
        with pytest.raises(sa.exc.TimeoutError) as error:
            await scalar(engine, "SELECT 1")
    assert is_unavailable(error.value)
    await engine.dispose()


async def test_a_reachable_database_is_reachable(engine: AsyncEngine) -> None:
    assert await is_reachable(engine)


async def test_a_frozen_database_is_not_reachable_within_the_deadline_and_then_is_again(
    through_proxy: AsyncEngine, proxy: Proxy
) -> None:
    assert await is_reachable(through_proxy)
    proxy.flowing.clear()
    asyncio.get_running_loop().call_later(1, proxy.flowing.set)
    assert not await is_reachable(through_proxy, deadline=0.2)
    assert await is_reachable(through_proxy, deadline=10)


async def test_starting_waits_for_a_database_that_comes_up_later(through_proxy: AsyncEngine, proxy: Proxy) -> None:
    await proxy.stop()
    waiting = asyncio.create_task(wait_until_reachable(through_proxy, seconds=30))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await proxy.start()
    async with asyncio.timeout(20):
        await waiting


async def test_starting_does_not_wait_forever(through_proxy: AsyncEngine, proxy: Proxy) -> None:
    await proxy.stop()
    with pytest.raises(ConnectionError, match=r"did not answer within 0\.5 s"):
        await wait_until_reachable(through_proxy, seconds=0.5)


async def test_a_wrong_password_is_waited_for_no_longer_than_an_absent_server(database_url: str) -> None:
    url = make_url(database_url).set(password="wrong").render_as_string(hide_password=False)
    engine = create_engine(DatabaseSettings(database_url=SecretStr(url)), application_name="stranger")
    with pytest.raises(ConnectionError):
        await wait_until_reachable(engine, seconds=0.2)
    await engine.dispose()


@pytest.mark.parametrize(
    "error",
    [ValueError(), psycopg.errors.UndefinedTable(), psycopg.errors.SyntaxError(), FileNotFoundError(Path("x"))],
)
def test_other_errors_are_not_the_databases_absence(error: Exception) -> None:
    assert not is_unavailable(error)
