"""Two gateways for all tests of this folder: one as it ships, one that loses patience fast."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from gateway.settings import Times
from tests.gateway.harness import Gateway, running_gateway

IMPATIENT = Times(
    read=1,
    write=1,
    paid=1.5,
    watch=30,
    watch_idle=30,
    transfer=30,
    transfer_idle=30,
    request_idle=0.5,
    request_headers=0.5,
)


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def shared_gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with running_gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def shared_impatient(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with running_gateway(tmp_path_factory.mktemp("impatient"), IMPATIENT) as running:
        yield running


@pytest.fixture
def gateway(shared_gateway: Gateway) -> Iterator[Gateway]:
    """The gateway as it ships, its services' scripts empty."""
    yield shared_gateway
    for script in shared_gateway.scripts.values():
        script.reset()


@pytest.fixture
def impatient(shared_impatient: Gateway) -> Iterator[Gateway]:
    """A gateway whose deadlines are a second or so."""
    yield shared_impatient
    for script in shared_impatient.scripts.values():
        script.reset()
