"""Whatever the provider does wrong: the caller is told what it cost, it is called once, and the record agrees."""

import json

import grpc
import pytest

from contentlab.image.v1 import image_service_pb2 as pb
from services.models.binding import bind_all
from services.models.registry import shipped
from services.models.rows import Endpoint
from services.models.selection import Selection
from tests.image.harness import Service, refusal, running_image, selection_for
from tests.support.media import png
from tests.support.openai_server import USAGE, Behaviour, OpenAIServer, cuts, draws, fails, says, sends, waits

TRUNCATED = json.dumps({"data": [{"b64_json": "AAAAA"}], "usage": USAGE}).encode()


@pytest.mark.parametrize(
    ("behaviour", "code", "reason", "billed", "state"),
    [
        pytest.param(
            fails(400, "moderation_blocked"), "INVALID_ARGUMENT", "CONTENT_REJECTED", "no", "FAILED", id="blocked"
        ),
        pytest.param(fails(400), "INVALID_ARGUMENT", "PROVIDER_REJECTED", "no", "FAILED", id="400"),
        pytest.param(fails(401), "INTERNAL", "PROVIDER_MISCONFIGURED", "no", "FAILED", id="401"),
        pytest.param(fails(404), "INTERNAL", "PROVIDER_MISCONFIGURED", "no", "FAILED", id="404"),
        pytest.param(
            says(429, {"error": {}}, retry_after="60"),
            "RESOURCE_EXHAUSTED",
            "PROVIDER_RATE_LIMITED",
            "no",
            "FAILED",
            id="429",
        ),
        pytest.param(
            says(503, {"error": {"code": "overloaded"}}, retry_after="60"),
            "UNAVAILABLE",
            "PROVIDER_UNAVAILABLE",
            "no",
            "FAILED",
            id="overloaded",
        ),
        pytest.param(fails(500), "DEADLINE_EXCEEDED", "OUTCOME_UNKNOWN", "unknown", "OUTCOME_UNKNOWN", id="500"),
        pytest.param(cuts(), "DEADLINE_EXCEEDED", "OUTCOME_UNKNOWN", "unknown", "OUTCOME_UNKNOWN", id="reset"),
        pytest.param(
            cuts(after_bytes=99), "DEADLINE_EXCEEDED", "OUTCOME_UNKNOWN", "unknown", "OUTCOME_UNKNOWN", id="cut off"
        ),
        pytest.param(sends(b"<html>"), "INTERNAL", "PROVIDER_BAD_RESPONSE", "unknown", "OUTCOME_UNKNOWN", id="html"),
        pytest.param(sends(TRUNCATED), "INTERNAL", "PROVIDER_BAD_RESPONSE", "yes", "FAILED", id="truncated base64"),
    ],
)
async def test_a_failure_says_what_it_cost_and_the_record_agrees(
    behaviour: Behaviour, code: str, reason: str, billed: str, state: str, service: Service, provider: OpenAIServer
) -> None:
    provider.otherwise = behaviour
    error = await refusal(service.generate())
    assert (error.code, error.reason, error.billed.value) == (grpc.StatusCode[code], reason, billed)
    generation = await service.get(error.metadata["imageGeneration"])
    call = await service.stub.GetPaidCall(pb.GetPaidCallRequest(name=error.metadata["paidCall"]))
    assert pb.ImageGeneration.State.Name(generation.state) == state == pb.PaidCall.State.Name(call.state)
    assert pb.PaidCall.Billed.Name(call.billed).lower() == billed
    assert (generation.error, call.image_generation) == (call.error, generation.name)
    assert not generation.results
    assert len(provider.received) == 1


async def test_a_provider_that_throttles_tells_how_long_to_wait(service: Service, provider: OpenAIServer) -> None:
    provider.then(says(429, {"error": {}}, retry_after="60"))
    error = await refusal(service.generate())
    assert (error.retry_after, error.retry_safe) == (60.0, True)


async def test_a_short_wait_is_waited_for_and_paid_once(service: Service, provider: OpenAIServer) -> None:
    provider.then(says(429, {"error": {}}, retry_after_ms="50"))
    assert (await service.generate()).state == pb.ImageGeneration.SUCCEEDED
    assert (len(provider.received), len(provider.charges)) == (2, 1)
    keys = {received.headers["idempotency-key"] for received in provider.received}
    assert len(keys) == 1, "both attempts name the same paid call"


async def test_a_charge_for_nothing_is_accounted_for(service: Service, provider: OpenAIServer) -> None:
    provider.then(sends(TRUNCATED))
    error = await refusal(service.generate())
    generation = await service.get(error.metadata["imageGeneration"])
    assert generation.cost.amount_micro_usd > 0
    assert generation.usage.output_tokens == USAGE["output_tokens"]


async def test_a_provider_that_takes_too_long_leaves_the_outcome_unknown(
    service: Service, provider: OpenAIServer
) -> None:
    provider.then(waits(30))
    settings = service.settings.model_copy(update={"provider_seconds": 0.5})
    async with running_image(settings, service.selection) as hasty:
        error = await refusal(hasty.generate())
    assert (error.code, error.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "OUTCOME_UNKNOWN")
    assert (error.billed.value, error.retry_safe) == ("unknown", False)


async def test_a_call_without_a_token_of_entra_id_is_recorded_as_failed_and_unpaid(
    service: Service, provider: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    endpoint = Endpoint(base_url=provider.url, auth="entra")
    selection = Selection("registry", bind_all(shipped(), "here", endpoint, "", ""))
    async with running_image(service.settings, selection) as other:
        error = await refusal(other.generate())
        generation = await other.get(error.metadata["imageGeneration"])
    assert (error.reason, error.billed.value) == ("PROVIDER_MISCONFIGURED", "no")
    assert generation.state == pb.ImageGeneration.FAILED
    assert not provider.received


async def test_a_503_is_what_the_dialect_says(service: Service, provider: OpenAIServer) -> None:
    provider.otherwise = says(503, {"error": {"message": "busy"}}, retry_after="60")
    assert (await refusal(service.generate())).reason == "OUTCOME_UNKNOWN"
    async with running_image(service.settings, selection_for(provider.url, dialect="emulator")) as other:
        error = await refusal(other.generate())
    assert (error.reason, error.billed.value) == ("PROVIDER_UNAVAILABLE", "no")


async def test_fewer_images_than_asked_for_are_kept_and_the_rest_is_told(
    service: Service, provider: OpenAIServer
) -> None:
    provider.then(draws(contents=[png(8, 8, seed=1), png(8, 8, seed=2)]))
    generation = await service.generate(n=3)
    assert generation.state == pb.ImageGeneration.PARTIALLY_SUCCEEDED
    assert [pb.ImageResult.State.Name(one.state) for one in generation.results] == ["STORED", "STORED", "FAILED"]
    assert len(generation.assets) == 2
    assert not generation.results[2].asset


async def test_an_image_that_is_none_leaves_the_others(service: Service, provider: OpenAIServer) -> None:
    provider.then(draws(contents=[png(8, 8, seed=1), b"this is no image at all", png(8, 8, seed=2)]))
    generation = await service.generate(n=3)
    assert generation.state == pb.ImageGeneration.PARTIALLY_SUCCEEDED
    assert [pb.ImageResult.State.Name(one.state) for one in generation.results] == ["STORED", "FAILED", "STORED"]
    assert generation.cost.amount_micro_usd > 0


async def test_a_call_whose_every_image_is_none_fails_and_was_billed(service: Service, provider: OpenAIServer) -> None:
    provider.then(draws(contents=[b"this is no image at all"]))
    error = await refusal(service.generate())
    assert (error.code, error.reason, error.billed.value) == (grpc.StatusCode.INTERNAL, "PROVIDER_BAD_RESPONSE", "yes")
