"""One call that enhances, protects, generates, names, stores and analyses: each step paid once and told."""

import asyncio
import uuid
from typing import Any

import grpc
import pytest

from contentlab.gallery.v1 import gallery_service_pb2 as gallery_pb
from contentlab.image.v1 import image_service_pb2 as pb
from services.common.status import from_status
from tests.emulator.harness import Emulator
from tests.image.galleries import ServedGallery
from tests.image.harness import Service, refusal, running_image, until
from tests.image.helping import CHAT_COST, SEEN, by_step, steps_of, tells
from tests.support.media import png
from tests.support.openai_server import Behaviour, OpenAIServer, cuts, fails, says, waits_for, writes

NIKE = pb.BrandProtection(mode=pb.BrandProtection.NEUTRALIZE, brands=["Nike"])
ALL: dict[str, Any] = {
    "enhance_prompt": True,
    "brand_protection": NIKE,
    "suggest_display_name": True,
    "analyze": True,
    "analysis_instructions": "cranes",
}
STEPS = ["enhance", "protect", "suggest_filename", "generate", "analyze"]


@pytest.fixture
def request_id() -> str:
    return str(uuid.uuid4())


def operations(generation: pb.ImageGeneration) -> list[str]:
    return [step.operation for step in generation.steps]


def failed(generation: pb.ImageGeneration) -> list[str]:
    return [step.operation for step in generation.steps if step.HasField("error")]


async def test_one_call_does_all_and_tells_what_each_step_was_and_cost(
    service: Service, provider: OpenAIServer, gallery: ServedGallery
) -> None:
    provider.otherwise = by_step()
    made = await service.generate("a harbour", n=2, **ALL)
    assert steps_of(provider.received) == [*STEPS, "analyze"]
    assert operations(made) == [*STEPS, "analyze"]
    assert provider.received[3].body["prompt"] == made.final_prompt == "a rich harbour with a sign"
    assert made.prompt == "a harbour"
    assert (made.state, failed(made), made.HasField("error")) == (pb.ImageGeneration.SUCCEEDED, [], False)
    assert {step.cost.amount_micro_usd for step in made.steps if step.operation != "generate"} == {CHAT_COST}
    assert made.cost.amount_micro_usd == sum(step.cost.amount_micro_usd for step in made.steps)
    assert made.usage.input_tokens == sum(step.usage.input_tokens for step in made.steps)
    assert await service.get(made.name) == made

    assets = [await gallery.asset(name) for name in made.assets]
    assert sum(asset.cost.amount_micro_usd for asset in assets) == made.cost.amount_micro_usd
    assert sum(asset.usage.output_tokens for asset in assets) == made.usage.output_tokens
    for number, asset in enumerate(assets, 1):
        assert asset.prompt == made.final_prompt
        assert asset.display_name == f"rich-harbour ({number})"
        assert [(one.step, one.previous_prompt, one.model) for one in asset.prompt_revisions] == [
            (gallery_pb.PromptRevision.ENHANCED, "a harbour", "gpt-6-luna"),
            (gallery_pb.PromptRevision.BRAND_PROTECTED, "a rich harbour with a Nike sign", "gpt-6-luna"),
        ]
        assert (asset.analysis.description, asset.analysis.instructions) == (SEEN["description"], "cranes")
        assert not asset.has_transparency


async def test_every_step_is_a_paid_call_of_the_generation(service: Service, provider: OpenAIServer) -> None:
    provider.otherwise = by_step()
    made = await service.generate(**ALL)
    for step in made.steps:
        call = await service.stub.GetPaidCall(pb.GetPaidCallRequest(name=step.paid_call))
        assert (call.image_generation, call.state) == (made.name, pb.PaidCall.SUCCEEDED)


async def test_a_replay_pays_and_asks_for_nothing(service: Service, provider: OpenAIServer, request_id: str) -> None:
    provider.otherwise = by_step()
    first = await service.generate(request_id=request_id, **ALL)
    asked = len(provider.received)
    assert await service.generate(request_id=request_id, **ALL) == first
    assert len(provider.received) == asked
    error = await refusal(service.generate(request_id=request_id, **(ALL | {"enhance_prompt": False})))
    assert error.reason == "REQUEST_ID_REUSED"


OPTIONAL = [
    pytest.param("enhance", fails(429, "insufficient_quota"), "PROVIDER_RATE_LIMITED", 0, id="enhance, 429"),
    pytest.param("enhance", cuts(), "OUTCOME_UNKNOWN", None, id="enhance, reset"),
    pytest.param("enhance", writes("no"), "MODEL_ANSWER_INVALID", 2 * CHAT_COST, id="enhance, no JSON"),
    pytest.param("suggest_filename", says(500), "OUTCOME_UNKNOWN", None, id="name, 500"),
    pytest.param("suggest_filename", writes(None, refusal="no"), "CONTENT_REJECTED", CHAT_COST, id="name, refused"),
    pytest.param("analyze", fails(400, "content_filter"), "CONTENT_REJECTED", 0, id="analyse, moderated"),
    pytest.param("analyze", writes("no"), "MODEL_ANSWER_INVALID", 2 * CHAT_COST, id="analyse, no JSON"),
]


@pytest.mark.parametrize(("step", "fault", "reason", "cost"), OPTIONAL)
async def test_an_optional_step_that_fails_loses_no_picture_and_is_told(
    step: str, fault: Behaviour, reason: str, cost: int | None, service: Service, provider: OpenAIServer,
    gallery: ServedGallery,
) -> None:  # fmt: skip
    provider.otherwise = by_step(**{step: fault})
    made = await service.generate("a harbour", **ALL)
    assert made.state == pb.ImageGeneration.SUCCEEDED
    assert from_status(made.error).reason == reason
    assert failed(made) == [step]
    asset = await gallery.asset(made.assets[0])
    assert asset.HasField("analysis") == (step != "analyze")
    assert (asset.display_name == "rich-harbour") == (step != "suggest_filename")
    if cost is None:
        assert (made.cost.source, asset.cost.source) == (pb.Cost.UNPRICED, gallery_pb.Cost.UNPRICED)
        return
    spent = sum(each.cost.amount_micro_usd for each in made.steps if each.operation == step)
    assert spent == cost
    assert made.cost.amount_micro_usd == asset.cost.amount_micro_usd
    assert made.cost.amount_micro_usd == sum(each.cost.amount_micro_usd for each in made.steps)


PROTECTION = [
    pytest.param(tells(prompt="a Nike harbour", brands=[]), "BRAND_PROTECTION_FAILED", "yes", False, id="brand left"),
    pytest.param(fails(429, "insufficient_quota"), "PROVIDER_RATE_LIMITED", "no", True, id="429"),
    pytest.param(cuts(), "OUTCOME_UNKNOWN", "unknown", False, id="reset"),
]


@pytest.mark.parametrize(("fault", "cause", "billed", "retry_safe"), PROTECTION)
async def test_protection_that_fails_ends_the_call_before_a_picture_is_paid(
    fault: Behaviour, cause: str, billed: str, retry_safe: bool, service: Service, provider: OpenAIServer,
    request_id: str,
) -> None:  # fmt: skip
    provider.otherwise = by_step(protect=fault)
    error = await refusal(service.generate("a Nike harbour", brand_protection=NIKE, request_id=request_id))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "BRAND_PROTECTION_FAILED")
    assert (error.metadata["cause"], error.billed.value, error.retry_safe) == (cause, billed, retry_safe)
    assert "generate" not in steps_of(provider.received)
    kept = await service.get(error.metadata["imageGeneration"])
    assert kept.state == pb.ImageGeneration.FAILED
    assert from_status(kept.error).billed == error.billed

    provider.otherwise = by_step()
    if retry_safe:
        made = await service.generate("a Nike harbour", brand_protection=NIKE, request_id=request_id)
        assert (made.state, made.name) == (pb.ImageGeneration.SUCCEEDED, kept.name)
    else:
        again = await refusal(service.generate("a Nike harbour", brand_protection=NIKE, request_id=request_id))
        assert (again.reason, again.metadata) == (error.reason, error.metadata)
        assert "generate" not in steps_of(provider.received)


async def test_protection_may_be_allowed_to_fail(service: Service, provider: OpenAIServer) -> None:
    provider.otherwise = by_step(protect=fails(400, "content_filter"))
    wanted = pb.BrandProtection(mode=pb.BrandProtection.REPLACE, brands=["Contoso"], allow_failure=True)
    made = await service.generate("a Nike harbour", brand_protection=wanted)
    assert (made.state, made.final_prompt, failed(made)) == (pb.ImageGeneration.SUCCEEDED, "", ["protect"])


async def test_a_picture_that_fails_says_that_its_steps_were_paid_and_they_are_not_paid_again(
    service: Service, provider: OpenAIServer, request_id: str
) -> None:
    provider.otherwise = by_step(generate=fails(429, "insufficient_quota"))
    error = await refusal(service.generate(request_id=request_id, **ALL))
    assert (error.reason, error.billed.value, error.retry_safe) == ("PROVIDER_RATE_LIMITED", "yes", True)
    provider.otherwise = by_step()
    made = await service.generate(request_id=request_id, **ALL)
    assert steps_of(provider.received) == ["enhance", "protect", "suggest_filename", "generate", "generate", "analyze"]
    assert (made.state, operations(made)) == (pb.ImageGeneration.SUCCEEDED, STEPS)


async def test_a_name_for_people_has_no_brand_that_had_to_go(
    service: Service, provider: OpenAIServer, gallery: ServedGallery
) -> None:
    provider.otherwise = by_step()
    made = await service.generate("a Nike harbour", brand_protection=NIKE)
    assert (await gallery.asset(made.assets[0])).display_name == "a rich harbour with a sign"


async def test_what_changes_nothing_is_no_revision(
    service: Service, provider: OpenAIServer, gallery: ServedGallery
) -> None:
    provider.otherwise = by_step(protect=tells(prompt="a harbour", brands=[]))
    made = await service.generate("a harbour", brand_protection=NIKE)
    assert made.final_prompt == ""
    assert not (await gallery.asset(made.assets[0])).prompt_revisions


async def test_a_caller_on_another_replica_gets_the_analyses_too(
    service: Service, provider: OpenAIServer, request_id: str
) -> None:
    go = asyncio.Event()
    provider.otherwise = by_step(analyze=waits_for(go, tells(**SEEN)))
    async with running_image(service.settings, service.selection) as replica:
        asked = [asyncio.ensure_future(one.generate(request_id=request_id, **ALL)) for one in (service, replica)]

        async def looking() -> bool:
            return "analyze" in steps_of(provider.received)

        await until(looking)
        await asyncio.sleep(0.5)
        go.set()
        first, second = await asyncio.gather(*asked)
    assert first == second
    assert operations(first) == STEPS
    assert len(provider.charges) == len(STEPS)


async def test_validation_alone_asks_no_language_model(service: Service, provider: OpenAIServer) -> None:
    await service.generate(validate_only=True, **ALL)
    assert not provider.received


async def test_an_edit_has_the_same_steps_and_all_costs_what_the_emulator_charged(
    emulated: Service, emulator: Emulator, gallery: ServedGallery
) -> None:
    await emulator.http.delete("/ledger")
    image = pb.ImageInput(inline=png(64, 64))
    request = pb.EditImagesRequest(prompt="a harbour", images=[image], output_format="png", **ALL)
    made = await emulated.stub.EditImages(request, timeout=60)
    assert operations(made) == ["enhance", "protect", "suggest_filename", "edit", "analyze"]
    assert failed(made) == []
    asset = await gallery.asset(made.assets[0])
    assert asset.prompt == (made.final_prompt or "a harbour")
    assert asset.analysis.description
    charges = await emulator.charges()
    assert len(charges) == len(made.steps)
    assert sum(charge["cost_micro_usd"] for charge in charges) == made.cost.amount_micro_usd
    assert asset.cost.amount_micro_usd == made.cost.amount_micro_usd
    keys = {charge["idempotency_key"] for charge in charges}
    assert keys == {step.paid_call.removeprefix("paidCalls/") for step in made.steps}


async def test_a_stream_has_the_same_steps_and_ends_after_the_analyses(
    service: Service, provider: OpenAIServer
) -> None:
    provider.otherwise = by_step()
    request = pb.StreamGenerateImagesRequest(prompt="a harbour", **ALL)
    events = [event async for event in service.stub.StreamGenerateImages(request, timeout=60)]
    assert [event.WhichOneof("event") for event in events] == ["started", "image", "done"]
    assert operations(events[-1].done) == STEPS
