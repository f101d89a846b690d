"""AnalyzeImage: what a model is shown, what is kept on the asset, and how often it is paid for."""

import base64
import io
import uuid
from typing import Any

import grpc
import pytest
from PIL import Image

from contentlab.gallery.v1 import gallery_service_pb2 as gallery_pb
from contentlab.image.v1 import image_service_pb2 as pb
from services.common.errors import Unavailable
from services.image.adapters import library
from services.image.adapters.library import Library
from tests.image.galleries import ServedGallery
from tests.image.harness import Service, refusal
from tests.image.helping import CHAT_COST, SEEN, analyzed, stored_picture, tells
from tests.support.media import png
from tests.support.openai_server import OpenAIServer, Received, draws, writes


@pytest.fixture
def request_id() -> str:
    return str(uuid.uuid4())


def shown(received: Received) -> tuple[tuple[int, int], list[str]]:
    """The size of the picture that the model was shown, and the texts beside it."""
    parts = received.body["messages"][1]["content"]
    [url] = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    content = base64.b64decode(url.partition(",")[2])
    return Image.open(io.BytesIO(content)).size, [part["text"] for part in parts if part["type"] == "text"]


async def test_inline_bytes_are_described_with_the_callers_instructions(
    service: Service, provider: OpenAIServer
) -> None:
    provider.then(tells(**SEEN))
    answer = await analyzed(service, inline=png(64, 48), instructions="look at the cranes")
    assert answer.analysis == pb.ImageAnalysis(**SEEN)
    assert answer.cost.amount_micro_usd == CHAT_COST
    size, texts = shown(provider.received[0])
    assert size == (64, 48)
    assert texts[0] == '{"focus": "look at the cranes"}'


async def test_of_an_asset_that_is_large_the_preview_is_looked_at(
    service: Service, provider: OpenAIServer, gallery: ServedGallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.then(draws(width=1400, height=700), tells(**SEEN), tells(**SEEN))
    asset = (await service.generate()).assets[0]
    await analyzed(service, asset=asset)
    assert shown(provider.received[-1])[0] == (1400, 700)
    monkeypatch.setattr(library, "LARGE_PIXELS", 1000 * 1000 - 1)
    monkeypatch.setattr(library, "LARGE_BYTES", 1000)
    await analyzed(service, asset=asset)
    assert shown(provider.received[-1])[0] == (1024, 512)


async def test_an_analysis_is_kept_on_the_asset_once_however_often_it_is_asked_for(
    service: Service, provider: OpenAIServer, gallery: ServedGallery, request_id: str
) -> None:
    before = await stored_picture(service, gallery)
    provider.then(tells(**SEEN))
    fields: dict[str, Any] = {"asset": before.name, "save": True, "instructions": "cranes", "request_id": request_id}
    first = await analyzed(service, **fields)
    assert await analyzed(service, **fields) == first
    after = await gallery.asset(before.name)
    kept = after.analysis
    assert (kept.description, list(kept.tags), kept.model) == (SEEN["description"], SEEN["tags"], "gpt-6-luna")
    assert kept.instructions == "cranes"
    assert after.cost.amount_micro_usd == before.cost.amount_micro_usd + CHAT_COST
    assert after.usage.input_tokens == before.usage.input_tokens + 100
    assert len(provider.received) == 2


async def test_without_being_told_to_nothing_is_kept_on_the_asset(
    service: Service, provider: OpenAIServer, gallery: ServedGallery
) -> None:
    asset = await stored_picture(service, gallery)
    provider.then(tells(**SEEN))
    await analyzed(service, asset=asset.name)
    assert (await gallery.asset(asset.name)).etag == asset.etag


async def test_a_gallery_that_is_away_when_the_analysis_is_paid_gets_it_with_the_next_attempt(
    service: Service,
    provider: OpenAIServer,
    gallery: ServedGallery,
    request_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asset = await stored_picture(service, gallery)
    provider.then(tells(**SEEN))

    async def away(*_: object, **__: object) -> None:
        raise Unavailable("UNAVAILABLE", "not there")

    with monkeypatch.context() as patched:
        patched.setattr(Library, "annotate", away)
        error = await refusal(analyzed(service, asset=asset.name, save=True, request_id=request_id))
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "STORAGE_FAILED")
    assert (error.billed.value, error.retry_safe) == ("yes", True)
    await analyzed(service, asset=asset.name, save=True, request_id=error.metadata["analysisRequestId"])
    assert (await gallery.asset(asset.name)).analysis.description == SEEN["description"]
    assert len(provider.received) == 2


async def test_what_cannot_be_looked_at_is_refused_unpaid(
    service: Service, provider: OpenAIServer, gallery: ServedGallery
) -> None:
    missing = await refusal(analyzed(service, asset="assets/nothing"))
    assert (missing.code, missing.reason) == (grpc.StatusCode.NOT_FOUND, "ASSET_NOT_FOUND")
    assert missing.metadata["name"] == "assets/nothing"
    broken = await refusal(analyzed(service, inline=b"no picture"))
    assert (broken.code, broken.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_IMAGE")
    assert broken.violations[0].field == "image.inline"
    pointless = await refusal(analyzed(service, inline=png(8, 8), save=True))
    assert (pointless.reason, pointless.violations[0].field) == ("INVALID_FIELD", "save")
    assert not provider.received


async def test_an_asset_in_the_bin_is_not_there(
    service: Service, provider: OpenAIServer, gallery: ServedGallery
) -> None:
    asset = await stored_picture(service, gallery)
    request = gallery_pb.DeleteAssetRequest(name=asset.name)
    await gallery.stub.DeleteAsset(request, metadata=gallery.metadata, timeout=10)
    assert (await refusal(analyzed(service, asset=asset.name))).reason == "ASSET_NOT_FOUND"
    assert len(provider.received) == 1


async def test_the_same_request_id_with_other_bytes_is_refused(
    service: Service, provider: OpenAIServer, request_id: str
) -> None:
    provider.then(tells(**SEEN))
    await analyzed(service, inline=png(8, 8, seed=1), request_id=request_id)
    error = await refusal(analyzed(service, inline=png(8, 8, seed=2), request_id=request_id))
    assert error.reason == "REQUEST_ID_REUSED"
    assert len(provider.received) == 1


async def test_an_answer_without_a_description_is_asked_for_once_more(service: Service, provider: OpenAIServer) -> None:
    provider.then(tells(**(SEEN | {"description": ""})), writes("```json\n{}\n```"))
    error = await refusal(analyzed(service))
    assert (error.reason, error.billed.value) == ("MODEL_ANSWER_INVALID", "yes")
