"""A prompt becomes stored pictures: the provider's bytes, with all that is known of them."""

import hashlib
import uuid
from typing import Any

import grpc
import pytest

from contentlab.image.v1 import image_service_pb2 as pb
from services.common.status import from_status
from tests.image.galleries import ServedGallery
from tests.image.harness import Service, refusal
from tests.support.media import png
from tests.support.openai_server import USAGE, OpenAIServer, draws, fails

COST = 40 * 5 + 10 * 8 + 1001 * 30


async def test_the_stored_bytes_are_the_ones_that_the_provider_sent(
    service: Service, provider: OpenAIServer, gallery: ServedGallery
) -> None:
    generation = await service.generate("a lighthouse at dusk", n=2)
    assert generation.state == pb.ImageGeneration.SUCCEEDED
    assert len(generation.assets) == 2
    for name, result, sent in zip(generation.assets, generation.results, provider.sent, strict=True):
        asset = await gallery.asset(name)
        assert await gallery.content(name) == sent
        assert asset.sha256 == result.sha256 == hashlib.sha256(sent).hexdigest()
        assert (result.mime_type, result.width_px, result.height_px) == ("image/png", 32, 24)
        assert (result.size_bytes, result.asset, result.state) == (len(sent), name, pb.ImageResult.STORED)
        assert result.has_transparency is False


async def test_an_asset_carries_where_it_comes_from(
    service: Service, provider: OpenAIServer, gallery: ServedGallery
) -> None:
    generation = await service.generate(
        "灯台と夕暮れ",
        n=3,
        size="1024x1024",
        quality="low",
        tags=["sea", "夜"],
        folder="trips/2026",
        display_name="Lamp",
    )
    assets = [await gallery.asset(name) for name in generation.assets]
    for number, asset in enumerate(assets, start=1):
        assert asset.prompt == "灯台と夕暮れ"
        assert asset.model == "gpt-image-2"
        assert asset.origin == generation.name
        assert asset.owner == "local"
        assert asset.folder_path == "trips/2026"
        assert list(asset.tags) == ["sea", "夜"]
        assert asset.display_name == f"Lamp ({number})"
        assert (
            dict(asset.parameters) == {"n": "3", "size": "1024x1024", "quality": "low"} == dict(generation.parameters)
        )
    assert sum(asset.cost.amount_micro_usd for asset in assets) == generation.cost.amount_micro_usd == COST
    for kind in ("input_tokens", "output_tokens", "input_text_tokens", "input_image_tokens", "output_image_tokens"):
        assert sum(getattr(asset.usage, kind) for asset in assets) == getattr(generation.usage, kind)


async def test_usage_and_cost_are_told_with_their_one_step(service: Service, provider: OpenAIServer) -> None:
    generation = await service.generate()
    assert generation.usage.output_tokens == USAGE["output_tokens"]
    assert (generation.cost.source, generation.cost.amount_micro_usd) == (pb.Cost.COMPUTED, COST)
    [step] = generation.steps
    assert (step.operation, step.model) == ("generate", "gpt-image-2")
    assert (step.usage, step.cost) == (generation.usage, generation.cost)
    call = await service.stub.GetPaidCall(pb.GetPaidCallRequest(name=step.paid_call))
    assert (call.state, call.billed, call.image_generation) == (pb.PaidCall.SUCCEEDED, pb.PaidCall.YES, generation.name)
    assert (call.endpoint, call.provider_request_id) == ("here", "req_hand_written")
    assert generation.HasField("end_time")
    assert not generation.HasField("error")


async def test_without_usage_the_cost_is_unknown_and_not_nothing(service: Service, provider: OpenAIServer) -> None:
    provider.then(draws(usage=None))
    generation = await service.generate()
    assert generation.state == pb.ImageGeneration.SUCCEEDED
    assert generation.cost.source == pb.Cost.UNPRICED
    assert not generation.cost.HasField("amount_micro_usd")
    assert not generation.HasField("usage")


async def test_transparency_is_read_from_the_pixels_and_not_from_the_request(
    service: Service, provider: OpenAIServer
) -> None:
    provider.then(draws(contents=[png(8, 8, mode="RGBA")]), draws(contents=[png(8, 8)]))
    assert (await service.generate()).results[0].has_transparency is True
    opaque = await service.generate(background="transparent")
    assert opaque.results[0].has_transparency is False


async def test_a_name_is_made_of_the_prompt(service: Service, provider: OpenAIServer, gallery: ServedGallery) -> None:
    generation = await service.generate("A red apple:\n on a table / in the sun, seen from very far above and beyond")
    asset = await gallery.asset(generation.assets[0])
    assert asset.display_name == "A red apple on a table in the sun, seen from very far above"


async def test_the_model_gets_what_was_asked_for(service: Service, provider: OpenAIServer) -> None:
    await service.generate(
        "x",
        model="gpt-image-2.6-flare",
        n=2,
        size="1536x864",
        quality="max",
        background="opaque",
        output_format="jpeg",
        output_compression=80,
        moderation="low",
        complexity="high",
        safety_identifier="e3b0c442",
    )
    assert provider.received[0].body == {
        "prompt": "x",
        "model": "gpt-image-2.6-flare",
        "n": 2,
        "size": "1536x864",
        "quality": "max",
        "background": "opaque",
        "output_format": "jpeg",
        "output_compression": 80,
        "moderation": "low",
        "complexity": "high",
        "safety_identifier": "e3b0c442",
    }


async def test_more_images_than_were_asked_for_are_kept_too(service: Service, provider: OpenAIServer) -> None:
    provider.then(draws(contents=[png(8, 8, seed=1), png(8, 8, seed=2)]))
    generation = await service.generate(n=1)
    assert generation.state == pb.ImageGeneration.SUCCEEDED
    assert len(generation.assets) == 2


async def test_two_equal_pictures_of_one_call_are_two_assets(service: Service, provider: OpenAIServer) -> None:
    same = png(8, 8)
    provider.then(draws(contents=[same, same]))
    generation = await service.generate(n=2)
    assert len(set(generation.assets)) == 2


@pytest.mark.parametrize(
    ("fields", "code", "reason", "field"),
    [
        pytest.param({"prompt": ""}, "INVALID_ARGUMENT", "INVALID_FIELD", "prompt", id="no prompt"),
        pytest.param({"prompt": "a\0b"}, "INVALID_ARGUMENT", "INVALID_FIELD", "prompt", id="a NUL"),
        pytest.param({"tags": ["a\0b"]}, "INVALID_ARGUMENT", "INVALID_FIELD", "tags", id="a NUL in a tag"),
        pytest.param({"n": 0}, "INVALID_ARGUMENT", "INVALID_FIELD", "n", id="none"),
        pytest.param({"n": 11}, "INVALID_ARGUMENT", "INVALID_FIELD", "n", id="eleven"),
        pytest.param({"request_id": "x"}, "INVALID_ARGUMENT", "INVALID_FIELD", "request_id", id="no uuid"),
        pytest.param({"model": "dall-e-9"}, "INVALID_ARGUMENT", "MODEL_UNKNOWN", "model", id="unknown model"),
        pytest.param({"size": "1000x1001"}, "INVALID_ARGUMENT", "UNSUPPORTED_PARAMETER", "size", id="size"),
        pytest.param(
            {"background": "transparent", "output_format": "jpeg"},
            "INVALID_ARGUMENT",
            "UNSUPPORTED_PARAMETER",
            "background",
            id="transparent jpeg",
        ),
        pytest.param({"model": "gpt-image-1"}, "FAILED_PRECONDITION", "MODEL_RETIRED", None, id="retired"),
        pytest.param({"folder": "a//b"}, "INVALID_ARGUMENT", "INVALID_FIELD", "folder", id="no path"),
        pytest.param({"folder": "folders/none"}, "INVALID_ARGUMENT", "INVALID_FIELD", "folder", id="no such folder"),
        pytest.param(
            {"analysis_instructions": "x"},
            "INVALID_ARGUMENT",
            "INVALID_FIELD",
            "analysis_instructions",
            id="instructions",
        ),
    ],
)
async def test_a_request_that_cannot_be_is_refused_before_it_costs(
    fields: dict[str, Any], code: str, reason: str, field: str | None, service: Service, provider: OpenAIServer
) -> None:
    before = await everything(service)
    error = await refusal(service.generate(**{"prompt": "a harbour", **fields}))
    assert (error.code, error.reason) == (grpc.StatusCode[code], reason)
    assert (error.billed.value, error.retry_safe) == ("no", False)
    assert field is None or field in {violation.field for violation in error.violations}
    assert provider.received == []
    assert await everything(service) == before, "nothing is written down"


async def everything(service: Service) -> int:
    """How many generations and paid calls there are."""
    generations = await service.stub.ListImageGenerations(pb.ListImageGenerationsRequest(page_size=200))
    calls = await service.stub.ListPaidCalls(pb.ListPaidCallsRequest(page_size=200))
    return len(generations.image_generations) + len(calls.paid_calls)


async def test_validate_only_says_what_would_be_asked_for_and_pays_nothing(
    service: Service, provider: OpenAIServer
) -> None:
    before = await everything(service)
    preview = await service.generate("x", n=2, quality="low", validate_only=True, request_id=str(uuid.uuid4()))
    assert (preview.name, preview.state, preview.model) == ("", 0, "gpt-image-2")
    assert dict(preview.parameters) == {"n": "2", "quality": "low"}
    assert provider.received == []
    assert await everything(service) == before
    error = await refusal(service.generate("x", size="10x10", validate_only=True))
    assert error.reason == "UNSUPPORTED_PARAMETER"


async def test_a_display_name_of_ones_own_needs_no_suggestion(
    service: Service, provider: OpenAIServer, gallery: ServedGallery
) -> None:
    generation = await service.generate(display_name="Mine", suggest_display_name=True)
    assert (await gallery.asset(generation.assets[0])).display_name == "Mine"


async def test_an_error_that_is_kept_is_the_one_that_was_told(service: Service, provider: OpenAIServer) -> None:
    provider.then(fails(400, "moderation_blocked", moderation_details={"moderation_stage": "input"}))
    told = await refusal(service.generate("a forbidden thing"))
    kept = await service.get(told.metadata["imageGeneration"])
    assert kept.state == pb.ImageGeneration.FAILED
    error = from_status(kept.error)
    assert (error.reason, error.metadata, error.billed) == (told.reason, told.metadata, told.billed)
    assert error.metadata["stage"] == "input"
