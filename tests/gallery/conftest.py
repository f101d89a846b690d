"""One gallery for each test module; tests keep apart by their owner."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.conftest import NewDatabase
from tests.gallery.harness import Client, Gallery, running_gallery


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gallery(
    new_database: NewDatabase, azurite: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gallery]:
    async with running_gallery(await new_database(), azurite, tmp_path_factory.mktemp("gallery")) as running:
        yield running


@pytest.fixture
def user(gallery: Gallery) -> Client:
    """A user that owns nothing yet."""
    return gallery.user()
