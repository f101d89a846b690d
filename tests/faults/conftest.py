"""Each fault campaign has a suite of its own, since it breaks it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.support.stack import Stack, running_stack


@pytest_asyncio.fixture(loop_scope="session")
async def own_stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with running_stack(tmp_path / "home", CONTENTLAB_LEASE_SECONDS="6") as running:
        yield running
