"""`OPENAI_BASE_URL` names the provider: a server that shares nothing with the suite and its emulator."""

import hashlib
import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio
from PIL import Image

from tests.support.errors import rest_error
from tests.support.openai_server import OpenAIServer, openai_server, waits
from tests.support.ports import free_port
from tests.support.stack import Stack, running_stack

PROVIDER_SECONDS = 2


@dataclass
class Abroad:
    """A suite whose provider is the hand-written server on `port`; a test may take the server away."""

    stack: Stack
    port: int


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def abroad(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Abroad]:
    home: Path = tmp_path_factory.mktemp("abroad")
    port = free_port()
    async with running_stack(
        home,
        OPENAI_BASE_URL=f"http://127.0.0.1:{port}/v1",
        IMAGE_MODEL="our-painter",
        CONTENTLAB_PROVIDER_SECONDS=str(PROVIDER_SECONDS),
    ) as stack:
        yield Abroad(stack, port)


@pytest_asyncio.fixture(loop_scope="session")
async def provider(abroad: Abroad) -> AsyncIterator[OpenAIServer]:
    async with openai_server(abroad.port) as server:
        yield server


async def generate(abroad: Abroad, **request: object) -> httpx2.Response:
    async with abroad.stack.client() as client:
        return await client.post("/api/v1/images:generate", json=request)


async def test_the_stored_bytes_are_those_that_the_provider_sent(abroad: Abroad, provider: OpenAIServer) -> None:
    answer = await generate(abroad, prompt="a lighthouse at dusk", n=2)
    assert answer.status_code == 200, answer.text
    generation = answer.json()
    assert [received.body["model"] for received in provider.received] == ["our-painter"]
    assert [received.body["prompt"] for received in provider.received] == ["a lighthouse at dusk"]
    async with abroad.stack.client() as client:
        for name, sent in zip(generation["assets"], provider.sent, strict=True):
            content = (await client.get(f"/api/v1/{name}:download")).content
            assert hashlib.sha256(content).hexdigest() == hashlib.sha256(sent).hexdigest()
            with Image.open(io.BytesIO(content)) as picture:
                assert picture.format == "PNG"


async def test_a_model_without_a_price_is_unpriced_and_not_free(abroad: Abroad, provider: OpenAIServer) -> None:
    generation = (await generate(abroad, prompt="priceless")).json()
    assert len(provider.charges) == 1
    assert generation["cost"] == {"source": "UNPRICED"}


async def test_a_provider_that_is_down_costs_nothing_and_may_be_asked_again(abroad: Abroad) -> None:
    error = rest_error(await generate(abroad, prompt="nobody at home"))
    assert (error.status, error.reason, error.billed) == (503, "PROVIDER_UNAVAILABLE", "no")
    assert error.metadata["retrySafe"] == "true"


async def test_a_provider_that_is_too_slow_leaves_the_outcome_unknown(abroad: Abroad, provider: OpenAIServer) -> None:
    provider.then(waits(PROVIDER_SECONDS * 3))
    error = rest_error(await generate(abroad, prompt="too slow"))
    assert (error.status, error.reason, error.billed) == (504, "OUTCOME_UNKNOWN", "unknown")
    assert len(provider.received) == 1, "a call whose outcome is not known is never made again"
