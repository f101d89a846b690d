"""One emulator for all tests that do not need their own."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.emulator.harness import Emulator, running


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def emulator() -> AsyncIterator[Emulator]:
    async with running() as started:
        yield started
