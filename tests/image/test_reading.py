"""What the service shows: generations and paid calls of their owner, models, and how it is set up."""

import uuid
from collections.abc import AsyncIterator
from datetime import date
from typing import Any

import grpc
import pytest
import pytest_asyncio

from contentlab.image.v1 import image_service_pb2 as pb
from services.common.caller import PRINCIPAL_KEY, SERVICE_KEY, TOKEN_KEY
from services.models.selection import select
from tests.image.galleries import TOKEN
from tests.image.harness import Service, refusal, running_image
from tests.support.openai_server import OpenAIServer, fails


def as_user(principal: str) -> tuple[tuple[str, str], ...]:
    """A user that the gateway vouches for."""
    return ((TOKEN_KEY, TOKEN), (SERVICE_KEY, "gateway"), (PRINCIPAL_KEY, principal))


async def make(service: Service, principal: str, count: int, **fields: Any) -> list[str]:
    """Names of so many new generations of the principal."""
    names = []
    for _ in range(count):
        request = pb.GenerateImagesRequest(prompt="a harbour", **fields)
        names.append((await service.stub.GenerateImages(request, metadata=as_user(principal), timeout=30)).name)
    return names


@pytest.fixture
def owner() -> str:
    return f"owner-{uuid.uuid4().hex}"


async def test_generations_are_listed_newest_first_and_page_by_page(
    service: Service, provider: OpenAIServer, owner: str
) -> None:
    names = await make(service, owner, 5)
    found, token = [], ""
    while True:
        request = pb.ListImageGenerationsRequest(page_size=2, page_token=token)
        page = await service.stub.ListImageGenerations(request, metadata=as_user(owner))
        assert len(page.image_generations) <= 2
        found += [one.name for one in page.image_generations]
        token = page.next_page_token
        if not token:
            break
    assert found == names[::-1]


async def test_lists_can_be_narrowed_to_a_state(service: Service, provider: OpenAIServer, owner: str) -> None:
    await make(service, owner, 2)
    provider.then(fails(400))
    await refusal(make(service, owner, 1))
    failed = pb.ListImageGenerationsRequest(state=pb.ImageGeneration.FAILED)
    generations = (await service.stub.ListImageGenerations(failed, metadata=as_user(owner))).image_generations
    assert [one.state for one in generations] == [pb.ImageGeneration.FAILED]
    paid = pb.ListPaidCallsRequest(state=pb.PaidCall.SUCCEEDED)
    calls = (await service.stub.ListPaidCalls(paid, metadata=as_user(owner))).paid_calls
    assert [one.billed for one in calls] == [pb.PaidCall.YES] * 2


async def test_a_list_has_short_prompts_and_a_generation_the_whole(
    service: Service, provider: OpenAIServer, owner: str
) -> None:
    long = "ö" * 5000
    request = pb.GenerateImagesRequest(prompt=long)
    made = await service.stub.GenerateImages(request, metadata=as_user(owner), timeout=30)
    assert made.prompt == long
    [listed] = (
        await service.stub.ListImageGenerations(pb.ListImageGenerationsRequest(), metadata=as_user(owner))
    ).image_generations
    assert listed.prompt == long[:200]


async def test_what_belongs_to_others_is_not_there(service: Service, provider: OpenAIServer, owner: str) -> None:
    [name] = await make(service, owner, 1)
    generation = await service.stub.GetImageGeneration(pb.GetImageGenerationRequest(name=name), metadata=as_user(owner))
    assert generation.owner == owner
    call = generation.steps[0].paid_call
    for attempt, reason in (
        (service.stub.GetImageGeneration(pb.GetImageGenerationRequest(name=name)), "GENERATION_NOT_FOUND"),
        (service.stub.GetPaidCall(pb.GetPaidCallRequest(name=call)), "PAID_CALL_NOT_FOUND"),
    ):
        error = await refusal(attempt)
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, reason)
        assert error.metadata["name"] in (name, call)
    listed = await service.stub.ListImageGenerations(pb.ListImageGenerationsRequest(page_size=200))
    assert name not in [one.name for one in listed.image_generations]


async def test_one_owners_request_id_is_not_anothers(service: Service, provider: OpenAIServer, owner: str) -> None:
    request_id = str(uuid.uuid4())
    mine = await make(service, owner, 1, request_id=request_id)
    theirs = await make(service, f"{owner}-2", 1, request_id=request_id)
    assert mine != theirs
    assert len(provider.charges) == 2


async def test_a_page_token_of_another_list_is_refused(service: Service, provider: OpenAIServer, owner: str) -> None:
    await make(service, owner, 2)
    page = await service.stub.ListImageGenerations(pb.ListImageGenerationsRequest(page_size=1), metadata=as_user(owner))
    stolen = pb.ListImageGenerationsRequest(page_size=1, page_token=page.next_page_token)
    error = await refusal(service.stub.ListImageGenerations(stolen))
    assert error.reason == "INVALID_PAGE_TOKEN"


@pytest.mark.parametrize(
    ("method", "request_message"),
    [
        ("GetImageGeneration", pb.GetImageGenerationRequest(name="imageGenerations/none")),
        ("GetPaidCall", pb.GetPaidCallRequest(name="paidCalls/none")),
        ("GetImageModel", pb.GetImageModelRequest(name="imageModels/dall-e-9")),
    ],
)
async def test_what_is_not_there_is_not_found(method: str, request_message: Any, service: Service) -> None:
    error = await refusal(getattr(service.stub, method)(request_message))
    assert (error.code, error.metadata["name"]) == (grpc.StatusCode.NOT_FOUND, request_message.name)


async def test_models_are_listed_with_the_default_first_and_without_the_retired(service: Service) -> None:
    shown = (await service.stub.ListImageModels(pb.ListImageModelsRequest())).image_models
    assert (shown[0].name, shown[0].is_default) == ("imageModels/gpt-image-2", True)
    assert sum(model.is_default for model in shown) == 1
    assert "imageModels/gpt-image-1" not in [model.name for model in shown]
    everything = (await service.stub.ListImageModels(pb.ListImageModelsRequest(show_retired=True))).image_models
    [retired] = [model for model in everything if model.lifecycle == pb.ImageModel.RETIRED]
    assert (retired.name, retired.shutdown_date) == ("imageModels/gpt-image-1", "2026-10-23")
    assert retired.replacement == "gpt-image-2.5-flare"


async def test_models_are_paged(service: Service) -> None:
    found, token = [], ""
    while True:
        page = await service.stub.ListImageModels(pb.ListImageModelsRequest(page_size=3, page_token=token))
        found += [model.name for model in page.image_models]
        token = page.next_page_token
        if not token:
            break
    whole = (await service.stub.ListImageModels(pb.ListImageModelsRequest())).image_models
    assert found == [model.name for model in whole]


async def test_a_model_tells_what_it_takes_and_costs(service: Service) -> None:
    model = await service.stub.GetImageModel(pb.GetImageModelRequest(name="imageModels/gpt-image-2.6-flare"))
    assert list(model.operations) == ["generate", "edit"]
    assert model.size_rule.free
    assert (model.size_rule.grid_px, model.size_rule.max_edge_px, model.size_rule.max_aspect_ratio) == (16, 3840, 3)
    assert (model.size_rule.min_pixels, model.size_rule.max_pixels) == (655_360, 8_294_400)
    assert "max" in model.qualities
    assert "complexity" in model.parameters
    assert (model.max_images, model.max_references, model.max_prompt_chars) == (10, 16, 32_000)
    assert (model.price.output_image_micro_usd, model.price.effective_date) == (30_000_000, "2026-04-21")
    assert not model.price.HasField("output_text_micro_usd"), "an unknown price is not zero"
    assert model.lifecycle == pb.ImageModel.ACTIVE
    fixed = await service.stub.GetImageModel(pb.GetImageModelRequest(name="imageModels/gpt-image-1.5"))
    assert not fixed.size_rule.free
    assert fixed.size_rule.grid_px == 0
    assert fixed.lifecycle == pb.ImageModel.DEPRECATED


async def test_the_environment_tells_no_secret_and_no_address(service: Service, provider: OpenAIServer) -> None:
    environment = await service.stub.GetImageEnvironment(pb.GetImageEnvironmentRequest())
    assert (environment.provider, environment.default_model) == ("openai", "gpt-image-2")
    [endpoint] = environment.endpoints
    assert (endpoint.endpoint, endpoint.dialect, endpoint.auth, endpoint.configured) == ("here", "openai", "key", True)
    assert environment.max_inline_bytes == 20_000_000
    assert environment.text_model == "gpt-6-luna"
    text = str(environment)
    assert "sk-" not in text
    assert "127.0.0.1" not in text


@pytest_asyncio.fixture(loop_scope="session")
async def old_service(service: Service) -> AsyncIterator[Service]:
    """The default model is one that ends soon."""
    settings = service.settings.model_copy(update={"image_model": "gpt-image-1.5"})
    async with running_image(settings, select(settings, {"CDN_BLOB_URL": "x", "AOAI_API_VERSION": "y"})) as running:
        yield running


async def test_the_environment_warns_of_what_an_operator_should_look_at(old_service: Service) -> None:
    environment = await old_service.stub.GetImageEnvironment(pb.GetImageEnvironmentRequest())
    assert environment.provider == "emulator"
    warnings = "\n".join(environment.warnings)
    assert "AOAI_API_VERSION" in warnings
    assert "gpt-image-1.5 will be shut down on 2026-12-01; use gpt-image-2" in warnings


async def test_a_model_is_refused_from_the_day_after_its_last(service: Service, provider: OpenAIServer) -> None:
    async with running_image(service.settings, service.selection, today=date(2026, 12, 2)) as later:
        error = await refusal(later.generate(model="gpt-image-1.5"))
    assert (error.reason, error.metadata["replacement"]) == ("MODEL_RETIRED", "gpt-image-2")
    assert provider.received == []
    assert (await service.generate(model="gpt-image-1.5")).state == pb.ImageGeneration.SUCCEEDED


async def test_payments_are_counted(service: Service, provider: OpenAIServer) -> None:
    labels = {"operation": "generate", "model": "gpt-image-2.5-flare"}
    await service.generate(model="gpt-image-2.5-flare")
    provider.then(fails(400))
    await refusal(service.generate(model="gpt-image-2.5-flare"))
    paid = {**labels, "state": "SUCCEEDED", "billed": "yes"}
    assert service.metric("contentlab_paid_calls_total", **paid) == 1
    assert service.metric("contentlab_paid_calls_total", **{**labels, "state": "FAILED", "billed": "no"}) == 1
    assert service.metric("contentlab_tokens_total", **labels, kind="output_image") == 1001
    assert service.metric("contentlab_cost_micro_usd_total", **labels) == 30_310
