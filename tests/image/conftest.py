"""One image service, gallery and provider for each test module; tests that break one of them make their own."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.conftest import NewDatabase
from tests.emulator.harness import Emulator
from tests.emulator.harness import running as running_emulator
from tests.image.galleries import TOKEN, ServedGallery, StoredGallery
from tests.image.harness import Service, image_settings, running_image, selection_for
from tests.support.openai_server import OpenAIServer, openai_server


@pytest.fixture(scope="session")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The suite's service token, in a file."""
    path: Path = tmp_path_factory.mktemp("credentials") / "service-token"
    path.write_text(TOKEN, encoding="ascii")
    return str(path)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stored_gallery(new_database: NewDatabase, azurite: str, token_file: str) -> StoredGallery:
    return StoredGallery(await new_database(), azurite, token_file, secrets.token_hex(6))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gallery(stored_gallery: StoredGallery) -> AsyncIterator[ServedGallery]:
    async with stored_gallery.served() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared_provider() -> AsyncIterator[OpenAIServer]:
    async with openai_server() as server:
        yield server


@pytest.fixture
def provider(shared_provider: OpenAIServer) -> OpenAIServer:
    """The provider, with nothing seen and nothing planned."""
    shared_provider.received.clear()
    shared_provider.charges.clear()
    shared_provider.sent.clear()
    shared_provider.script.clear()
    shared_provider.otherwise = None
    return shared_provider


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def image_database(new_database: NewDatabase) -> str:
    return await new_database()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def service(
    image_database: str, gallery: ServedGallery, shared_provider: OpenAIServer, token_file: str
) -> AsyncIterator[Service]:
    settings = image_settings(image_database, gallery_target=gallery.address, service_token_file=token_file)
    async with running_image(settings, selection_for(shared_provider.url)) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def emulator() -> AsyncIterator[Emulator]:
    async with running_emulator() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def emulated(
    image_database: str, gallery: ServedGallery, emulator: Emulator, token_file: str
) -> AsyncIterator[Service]:
    """The service with every shipped model at the emulator."""
    settings = image_settings(image_database, gallery_target=gallery.address, service_token_file=token_file)
    selection = selection_for(f"{emulator.url}/v1", dialect="emulator")
    async with running_image(settings, selection) as running:
        yield running
