"""A provider on a real port, and the adapter in front of it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pytest_asyncio
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.schema import CreateSchema

from services.common.database import sqlalchemy_url
from services.models.endpoints import EndpointClients
from services.models.failures import CallFailed
from services.models.image_requests import ImageRequest, check_image_request
from services.models.image_streams import OnPreview, unseen
from services.models.images import ImageAdapter, ImageAnswer
from services.models.registry import build, shipped
from services.models.rows import Endpoint
from tests.conftest import NewDatabase
from tests.models.payers import Payer, metadata, process
from tests.support.openai_server import OpenAIServer, openai_server

TODAY = date(2026, 11, 23)
KEY = "sk-a-made-up-key-0123456789"


@pytest_asyncio.fixture(loop_scope="session")
async def provider() -> AsyncIterator[OpenAIServer]:
    async with openai_server() as server:
        yield server


@dataclass
class Calls:
    """Makes calls of one model at the provider; closes its clients at the end."""

    url: str
    clients: list[EndpointClients] = field(default_factory=list)

    async def generate(
        self,
        *,
        dialect: str = "openai",
        auth: str = "key",
        organization: str = "",
        seconds: float = 10.0,
        max_answer_bytes: int = 2**24,
        profile: str = "pass-through",
        price: str = "gpt-image-2",
        partial_images: int = 0,
        on_preview: OnPreview = unseen,
        **fields: Any,
    ) -> ImageAnswer:
        """One call of the adapter."""
        endpoint = Endpoint(
            base_url=self.url,
            dialect=dialect,
            auth=auth,  # type: ignore[arg-type]  # parametrised by tests
            key=SecretStr(KEY) if auth == "key" else None,
            organization=organization,
        )
        row = {"endpoint": "here", "profile": profile, "wire_id": "wire-model", "price": price}
        writer = {"endpoint": "here", "profile": "text", "price": "gpt-6-luna"}
        registry = build(shipped(), {"here": endpoint}, {"m": row, "writer": writer})
        clients = EndpointClients(registry, seconds=seconds, places=4)
        self.clients.append(clients)
        adapter = ImageAdapter(registry, clients, seconds=seconds, max_answer_bytes=max_answer_bytes)
        request = ImageRequest(**{"prompt": "a harbour", **fields})
        checked = check_image_request(request, registry, today=TODAY, partial_images=partial_images)
        key = "the-key-of-this-call"
        return await adapter.make(checked, idempotency_key=key, today=TODAY, on_preview=on_preview)

    async def failure(self, **arguments: Any) -> CallFailed:
        """The failure that the call ends with."""
        try:
            answer = await self.generate(**arguments)
        except CallFailed as failed:
            return failed
        raise AssertionError(f"no failure but {len(answer.images)} images")


@pytest_asyncio.fixture(loop_scope="session")
async def calls(provider: OpenAIServer) -> AsyncIterator[Calls]:
    made = Calls(provider.url)
    yield made
    for clients in made.clients:
        await clients.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def schema(new_database: NewDatabase) -> str:
    url = await new_database()
    engine = create_async_engine(sqlalchemy_url(url))
    async with engine.begin() as connection:
        await connection.execute(CreateSchema("paying"))
        await connection.run_sync(metadata.create_all)
    await engine.dispose()
    return url


@pytest_asyncio.fixture(loop_scope="session")
async def payer(schema: str) -> AsyncIterator[Payer]:
    async with process(schema) as running:
        yield running
