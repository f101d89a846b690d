"""Azure's older surface, spoken to with the SDK's client for it; what arrived at the emulator is the judge."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from typing import Any

import pytest
import pytest_asyncio
from openai._models import FinalRequestOptions
from pydantic import SecretStr

from services.models.endpoints import EndpointClients
from services.models.image_files import EditFiles, PictureFile
from services.models.image_requests import ImageRequest, References, check_image_request
from services.models.images import ImageAdapter
from services.models.registry import Registry, RegistryError, build, endpoint_of, shipped
from services.models.rows import Endpoint
from services.models.text import TextAdapter
from services.models.text_requests import Message, TextCall, TextRequest, check_text_request
from tests.emulator.harness import Emulator, running
from tests.support.media import png

TODAY = date(2026, 11, 23)
VERSION = "2025-04-01-preview"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def emulator() -> AsyncIterator[Emulator]:
    async with running() as started:
        yield started


def registry_at(emulator: Emulator, **fields: Any) -> Registry:
    """Two deployments of the resource."""
    row = {"base_url": f"{emulator.url}/dialects/azure-legacy", "dialect": "azure-legacy", "api_version": VERSION}
    endpoint = Endpoint(**{**row, "auth": "key", "key": SecretStr("made-up"), **fields})
    models = {
        "pictures": {"endpoint": "azure", "profile": "gpt-image-2", "wire_id": "gpt-image-2"},
        "words": {"endpoint": "azure", "profile": "text", "wire_id": "gpt-6-luna"},
    }
    return build(shipped(), {"azure": endpoint}, models)


@asynccontextmanager
async def clients_of(registry: Registry) -> AsyncIterator[EndpointClients]:
    clients = EndpointClients(registry, seconds=20.0, places=4)
    try:
        yield clients
    finally:
        await clients.aclose()


async def draw(registry: Registry, key: str, files: EditFiles | None = None) -> bytes:
    """One picture."""
    references = References(len(files.images)) if files else None
    request = ImageRequest("a harbour", quality="low", safety_identifier="e3b0c442")
    checked = check_image_request(request, registry, today=TODAY, references=references)
    async with clients_of(registry) as clients:
        adapter = ImageAdapter(registry, clients, seconds=20.0, max_answer_bytes=2**24)
        answer = await adapter.make(checked, files, idempotency_key=key, today=TODAY)
    content = answer.images[0].content
    assert content is not None
    return content


async def test_the_path_names_the_deployment_and_the_query_the_version(emulator: Emulator) -> None:
    assert (await draw(registry_at(emulator), "generated")).startswith(b"\x89PNG")
    [arrived] = await emulator.arrived(idempotency_key="generated")
    assert arrived["path"].endswith("/openai/deployments/gpt-image-2/images/generations")
    assert (arrived["query"], arrived["credential"]) == (f"api-version={VERSION}", "api-key")
    assert (arrived["fields"]["quality"], arrived["fields"]["user"]) == ("low", "e3b0c442")
    assert arrived["headers"]["accept-encoding"] == "identity"


async def test_an_edit_goes_the_same_way(emulator: Emulator) -> None:
    await draw(registry_at(emulator), "edited", EditFiles((PictureFile(png(64, 64), "image/png"),)))
    [arrived] = await emulator.arrived(idempotency_key="edited")
    assert arrived["path"].endswith("/openai/deployments/gpt-image-2/images/edits")
    assert (arrived["encoding"], arrived["credential"], arrived["status"]) == ("form", "api-key", 200)


async def test_so_does_a_chat(emulator: Emulator) -> None:
    registry = registry_at(emulator)
    checked = check_text_request(TextRequest((Message("user", ("hello",)),), max_tokens=500), registry, today=TODAY)
    async with clients_of(registry) as clients:
        adapter = TextAdapter(registry, clients, seconds=20.0, max_answer_bytes=2**20)
        call = TextCall(checked, checked.request.messages)
        answer = await adapter.complete(call, idempotency_key="written", today=TODAY)
    assert answer.content
    [arrived] = await emulator.arrived(idempotency_key="written")
    assert arrived["path"].endswith("/openai/deployments/gpt-6-luna/chat/completions")


async def test_a_token_of_entra_id_takes_the_place_of_the_key(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def token() -> str:
        return "a-token-of-entra-id"

    monkeypatch.setattr(EndpointClients, "_token_provider", lambda *_: token)
    await draw(registry_at(emulator, auth="entra", key=None), "entra")
    [arrived] = await emulator.arrived(idempotency_key="entra")
    assert (arrived["credential"], arrived["status"]) == ("bearer", 200)
    assert "api-key" not in arrived["headers"]


@pytest.mark.parametrize(("auth", "credential"), [("key", "api-key"), ("entra", "bearer")])
async def test_no_credential_of_the_environment_is_sent(
    auth: str, credential: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def token() -> str:
        return "a-token-of-entra-id"

    monkeypatch.setattr(EndpointClients, "_token_provider", lambda *_: token)
    for name in ("AZURE_OPENAI_AD_TOKEN", "AZURE_OPENAI_API_KEY"):
        monkeypatch.setenv(name, "somebody-elses")
    registry = registry_at(emulator, auth=auth, **({} if auth == "key" else {"key": None}))
    async with clients_of(registry) as clients:
        sent = (await clients.client("azure")).openai
        options = await sent._prepare_options(FinalRequestOptions(method="get", url="/models"))
    assert "somebody-elses" not in str(options.headers)
    await draw(registry, f"own-{auth}")
    [arrived] = await emulator.arrived(idempotency_key=f"own-{auth}")
    assert arrived["credential"] == credential


async def test_a_failed_call_is_sent_once(emulator: Emulator) -> None:
    prompt = "a harbour"
    fault = await emulator.fault("server_error", prompt)
    with pytest.raises(Exception, match="OUTCOME_UNKNOWN"):
        await draw(registry_at(emulator), "broken")
    assert len(await emulator.arrived(idempotency_key="broken")) == 1
    await emulator.http.delete(f"/faults/{fault['id']}")


@pytest.mark.parametrize(
    ("dialect", "version"), [("azure-legacy", ""), ("azure-v1", VERSION), ("azure-legacy", "tomorrow")]
)
def test_a_version_goes_with_the_surface_that_has_versions(dialect: str, version: str) -> None:
    with pytest.raises(RegistryError, match="api_version"):
        registry_of(dialect, version)


def registry_of(dialect: str, version: str) -> Registry:
    fields = {"base_url": "https://res.openai.azure.com", "dialect": dialect, "api_version": version}
    return build(shipped(), {"azure": endpoint_of("endpoints.azure", fields)}, {})
