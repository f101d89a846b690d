"""Processes that pay, over a real Postgres and a provider that is a function."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry
from sqlalchemy import Column, Table, Text, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from services.common.database import metadata_for, sqlalchemy_url
from services.common.names import ResourceName
from services.models.money import Cost, CostSource
from services.models.paid_calls import (
    Intent,
    Lease,
    Opened,
    PaidCall,
    PaidCallMetrics,
    PaidCalls,
    Performed,
    State,
    Subjects,
    fingerprint,
    paid_call_tables,
)
from services.models.usage import Usage

LEASE = 1.0

metadata = metadata_for("paying")
tables = paid_call_tables(metadata)
result = Table("result", metadata, Column("subject", Text, primary_key=True), Column("value", Text))


@dataclass
class Payer:
    """One process that pays. `calls` counts what its provider was asked."""

    engine: AsyncEngine
    paid: PaidCalls
    registry: CollectorRegistry
    changes: list[tuple[str, State]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    called: asyncio.Event = field(default_factory=asyncio.Event)

    async def open(self, **fields: Any) -> Opened:
        return await self.paid.open(intent(**fields), nothing)

    async def pay(self, opened: Opened, outcome: Any = "a picture", *, after: asyncio.Event | None = None) -> PaidCall:
        """Runs the call; `outcome` is its value or the exception it ends with."""

        async def perform(lease: Lease) -> Performed[str]:
            lease.check()
            self.calls.append(opened.call.id)
            self.called.set()
            if after is not None:
                await after.wait()
            if isinstance(outcome, Exception):
                raise outcome
            return performed(outcome)

        return await self.paid.run(opened, perform, keep, place=place)

    async def read(self, call_id: str) -> PaidCall:
        call = await self.paid.get(call_id, principal="somebody")
        assert call is not None
        return call

    async def events(self, call_id: str) -> list[Any]:
        statement = select(tables.usage_outbox).where(tables.usage_outbox.c.paid_call == call_id)
        async with self.engine.connect() as connection:
            rows = await connection.execute(statement.order_by(tables.usage_outbox.c.id))
            return list(rows.mappings())

    async def kept(self, subject: str) -> str | None:
        async with self.engine.connect() as connection:
            rows = await connection.execute(select(result.c.value).where(result.c.subject == subject))
            return rows.scalar_one_or_none()


def intent(**fields: Any) -> Intent:
    values = {
        "principal": "somebody",
        "method": "GenerateImages",
        "request_id": str(uuid.uuid4()),
        "fingerprint": fingerprint("GenerateImages", {"prompt": "x"}),
        "operation": "generate",
        "model": "m",
        "endpoint": "e",
        "subject": f"things/{uuid.uuid4().hex}",
    }
    return Intent(**(values | fields))


def performed(value: str) -> Performed[str]:
    cost = Cost(CostSource.COMPUTED, 1234)
    return Performed(value, Usage(output_image_tokens=5), {"odd\0": "\ud800\0", "n": 5}, cost, None, "req\x00_1")


async def nothing(connection: AsyncConnection, call: PaidCall) -> None:
    """Writes down nothing beside the intent."""


async def keep(connection: AsyncConnection, call: PaidCall, done: Performed[str]) -> None:
    await connection.execute(insert(result).values(subject=call.subject, value=done.value))


@asynccontextmanager
async def place() -> AsyncIterator[None]:
    yield


@asynccontextmanager
async def process(url: str, *, at_work: bool = True, lease: float = LEASE, options: str = "") -> AsyncIterator[Payer]:
    """A process with an engine of its own; not `at_work`, it neither renews nor sweeps: it looks dead."""
    arguments = {"options": options} if options else {}
    engine = create_async_engine(sqlalchemy_url(url), hide_parameters=True, connect_args=arguments)
    lease_engine = create_async_engine(sqlalchemy_url(url), pool_size=1)
    changes: list[tuple[str, State]] = []
    registry = CollectorRegistry()

    async def follow(connection: AsyncConnection, call: PaidCall) -> None:
        changes.append((call.id, call.state))

    paid = PaidCalls(
        engine,
        tables,
        lease_seconds=lease,
        subjects=Subjects(ResourceName("paidCalls/{paid_call}"), "thing", follow),
        metrics=PaidCallMetrics(registry),
        lease_engine=lease_engine,
    )
    async with AsyncExitStack() as stack:
        stack.push_async_callback(engine.dispose)
        stack.push_async_callback(lease_engine.dispose)
        if at_work:
            await stack.enter_async_context(paid.at_work())
        yield Payer(engine, paid, registry, changes)
