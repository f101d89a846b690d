"""Postgres: one async SQLAlchemy Core engine a process, one explicit schema a service."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import psycopg
import structlog
from sqlalchemy import MetaData, event, text
from sqlalchemy.engine import URL, ExceptionContext, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from services.common.settings import DatabaseSettings

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

NO_SETTINGS: Mapping[str, str] = MappingProxyType({})

_ABSENT = (psycopg.errors.ReadOnlySqlTransaction, psycopg.errors.IdleInTransactionSessionTimeout)
"""Not of psycopg's OperationalError: a server that has become a standby, and one that ended a frozen transaction."""

_log = structlog.get_logger(__name__)


def metadata_for(schema: str) -> MetaData:
    """The MetaData of a service's tables: its schema is named in every statement, `search_path` plays no part."""
    return MetaData(schema=schema, naming_convention=NAMING_CONVENTION)


def sqlalchemy_url(database_url: str) -> URL:
    """DATABASE_URL (postgresql://...) with the psycopg 3 driver named; query parameters such as sslmode are kept."""
    return make_url(database_url).set(drivername="postgresql+psycopg")


def connect_arguments(
    *,
    connect_timeout: int,
    application_name: str,
    statement_timeout: float = 0,
    idle_in_transaction_timeout: float = 0,
    server_settings: Mapping[str, str] = NO_SETTINGS,
) -> dict[str, str | int]:
    """libpq parameters that notice a dead server: keepalives after 15 s, gone after 30 s unacknowledged.

    `statement_timeout` and `idle_in_transaction_timeout` (seconds, 0: none) are enforced by the server, whatever has
    become of the client. `server_settings` are more of the server's, for these connections only; no value has a space.
    """
    limits = {
        "statement_timeout": statement_timeout,
        "idle_in_transaction_session_timeout": idle_in_transaction_timeout,
    }
    given = {name: str(round(seconds * 1000)) for name, seconds in limits.items() if seconds} | dict(server_settings)
    options = " ".join(f"-c {name}={value}" for name, value in given.items())
    return {
        **({"options": options} if options else {}),
        "connect_timeout": connect_timeout,
        "application_name": application_name,
        "keepalives": 1,
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
    }


def create_engine(
    settings: DatabaseSettings,
    *,
    application_name: str,
    idle_in_transaction_timeout: float = 0,
    server_settings: Mapping[str, str] = NO_SETTINGS,
) -> AsyncEngine:
    """The engine of this process; `await engine.dispose()` at the end.

    `idle_in_transaction_timeout` (seconds, 0: none) frees the locks of a process that was frozen in a transaction.
    `server_settings` are of the server's, for this engine's connections.
    """
    engine = create_async_engine(
        sqlalchemy_url(settings.database_url.get_secret_value()),
        pool_size=settings.database_pool_size,
        max_overflow=settings.database_pool_overflow,
        pool_timeout=settings.database_pool_timeout,
        pool_pre_ping=True,
        # Exceptions and logs would otherwise quote the parameters, that is prompts.
        hide_parameters=True,
        connect_args=connect_arguments(
            connect_timeout=settings.database_connect_timeout,
            application_name=application_name,
            statement_timeout=settings.database_statement_timeout,
            idle_in_transaction_timeout=idle_in_transaction_timeout,
            server_settings=server_settings,
        ),
    )
    event.listen(engine.sync_engine, "handle_error", _leave_standby)
    return engine


def _leave_standby(context: ExceptionContext) -> None:
    """After a failover a connection to the old primary stays alive and read-only: the next one may lead elsewhere."""
    if isinstance(context.original_exception, psycopg.errors.ReadOnlySqlTransaction):
        context.is_disconnect = True
        context.invalidate_pool_on_disconnect = False


async def is_reachable(engine: AsyncEngine, *, deadline: float = 2.0) -> bool:
    """Whether a query is answered within `deadline` seconds: a readiness check.

    On a frozen server psycopg takes up to 10 s more to give the query up.
    """
    try:
        async with asyncio.timeout(deadline), engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
    except (TimeoutError, OSError) as error:
        _log.warning("database_unreachable", error=type(error).__name__)
        return False
    except Exception as error:
        if not is_unavailable(error):
            raise
        _log.warning("database_unreachable", error=type(error).__name__)
        return False
    return True


async def wait_until_reachable(engine: AsyncEngine, *, seconds: float) -> None:
    """Waits for a database that is still starting.

    Raises:
        ConnectionError: it did not answer in time.
    """
    end = time.monotonic() + seconds
    pause = 0.1
    while not await is_reachable(engine):
        if time.monotonic() + pause > end:
            raise ConnectionError(f"the database did not answer within {seconds:g} s")
        await asyncio.sleep(pause)
        pause = min(pause * 2, 2.0)


def is_statement_timeout(error: BaseException) -> bool:
    """Whether the server ended a statement because it took too long."""
    return any(isinstance(cause, psycopg.errors.QueryCanceled) for cause in _causes(error))


def is_unavailable(error: BaseException) -> bool:
    """Whether the database, and not the statement, is at fault: connection lost or refused, server stopping or
    read-only, too many connections, pool exhausted, deadlock. Trying again later can help; whether that is safe the
    caller knows."""
    return any(_is_connectivity(cause) for cause in _causes(error))


def _is_connectivity(error: BaseException) -> bool:
    match error:
        case PoolTimeoutError():
            return True
        case psycopg.InternalError():
            return isinstance(error, _ABSENT)
        case psycopg.OperationalError() | psycopg.InterfaceError():
            return not isinstance(error, psycopg.errors.QueryCanceled)
        case DBAPIError():
            return error.connection_invalidated or (
                isinstance(error, OperationalError | InterfaceError)
                and not isinstance(error.orig, psycopg.errors.QueryCanceled)
            )
        case _:
            return False


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.orig if isinstance(error, DBAPIError) else error.__cause__
