"""The prompt helpers: paid for once, whatever happens, and answered again for nothing."""

import asyncio
import uuid
from typing import Any

import grpc
import pytest

from contentlab.image.v1 import image_service_pb2 as pb
from tests.image.galleries import ServedGallery
from tests.image.harness import Service, refusal, running_image
from tests.image.helping import CHAT_COST, enhanced, named, paid_call, protected, stored_picture, tells
from tests.support.openai_server import Behaviour, OpenAIServer, cuts, draws, fails, sends, waits_for, writes


@pytest.fixture
def request_id() -> str:
    return str(uuid.uuid4())


async def test_a_prompt_is_made_richer_for_what_the_provider_charged(service: Service, provider: OpenAIServer) -> None:
    provider.then(tells(prompt="a harbour at dusk, wide angle"))
    answer = await enhanced(service, "a harbour")
    assert answer.enhanced_prompt == "a harbour at dusk, wide angle"
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (100, 20)
    assert (answer.cost.source, answer.cost.amount_micro_usd) == (pb.Cost.COMPUTED, CHAT_COST)
    assert answer.model == "gpt-6-luna"
    call = await paid_call(service, answer.paid_call)
    assert (call.state, call.billed, call.operation) == (pb.PaidCall.SUCCEEDED, pb.PaidCall.YES, "enhance")
    assert (call.image_generation, call.owner) == ("", "local")


async def test_brands_are_taken_out_or_the_call_fails_for_good(
    service: Service, provider: OpenAIServer, request_id: str
) -> None:
    brand = {"brand": "Nike", "replacement": "running"}
    provider.then(tells(prompt="running shoes", brands=[brand]))
    answer = await protected(service, "Nike shoes", brands=["Nike"])
    assert (answer.protected_prompt, answer.changed) == ("running shoes", True)

    left = tells(prompt="N I K E shoes", brands=[])
    provider.then(left, left)
    for _ in range(2):
        error = await refusal(protected(service, "Nike shoes", brands=["Nike"], request_id=request_id))
        assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "BRAND_PROTECTION_FAILED")
        assert (error.billed.value, error.retry_safe) == ("yes", False)
    assert len(provider.charges) == 3


async def test_a_prompt_without_brands_stays_as_it_is(service: Service, provider: OpenAIServer) -> None:
    provider.then(tells(prompt="an apple  on a table", brands=[]))
    answer = await protected(service, "an apple on a table", mode=pb.BrandProtection.REPLACE, brands=["Contoso"])
    assert (answer.protected_prompt, answer.changed) == ("an apple on a table", False)
    assert '"replace_with": "Contoso"' in provider.received[0].body["messages"][1]["content"]


async def test_a_suggested_name_is_one_that_no_asset_has(
    service: Service, provider: OpenAIServer, gallery: ServedGallery
) -> None:
    word = f"hafen{uuid.uuid4().hex[:6]}"
    for name in (f"{word}-Dämmerung.png", f"{word}-Dämmerung-2.png"):
        await stored_picture(service, gallery, name)
    provider.then(tells(filename=f"{word}-dämmerung"))
    answer = await named(service, extension="png")
    assert answer.filename == f"{word}-dämmerung-3.png"


async def test_a_name_that_was_answered_stays_the_answer_although_it_is_taken_by_now(
    service: Service, provider: OpenAIServer, gallery: ServedGallery, request_id: str
) -> None:
    word = f"quay{uuid.uuid4().hex[:6]}"
    provider.then(tells(filename=word), draws())
    first = await named(service, request_id=request_id)
    await stored_picture(service, gallery, word)
    assert await named(service, request_id=request_id.upper()) == first
    assert first.filename == word


async def test_an_answer_is_repaired_once_and_both_turns_are_told_and_paid(
    service: Service, provider: OpenAIServer, request_id: str
) -> None:
    provider.then(writes("I would rather talk."), tells(prompt="a rich harbour"))
    answer = await enhanced(service, request_id=request_id)
    assert answer.enhanced_prompt == "a rich harbour"
    assert (answer.usage.input_tokens, answer.cost.amount_micro_usd) == (200, 2 * CHAT_COST)
    assert await enhanced(service, request_id=request_id) == answer
    calls = (await service.stub.ListPaidCalls(pb.ListPaidCallsRequest(page_size=2))).paid_calls
    assert calls[0].name == answer.paid_call
    assert {call.state for call in calls} == {pb.PaidCall.SUCCEEDED}
    keys = {one.headers["idempotency-key"] for one in provider.received}
    assert keys == {call.name.removeprefix("paidCalls/") for call in calls}


async def test_an_answer_that_is_wrong_twice_fails_and_is_not_asked_for_again(
    service: Service, provider: OpenAIServer, request_id: str
) -> None:
    provider.then(writes("no"), writes("still no"))
    for _ in range(2):
        error = await refusal(enhanced(service, request_id=request_id))
        assert (error.reason, error.billed.value) == ("MODEL_ANSWER_INVALID", "yes")
    assert len(provider.received) == 2


@pytest.mark.parametrize("other", [{"prompt": "another"}, {"model": "gpt-6-luna"}])
async def test_the_same_request_id_with_another_body_is_refused(
    other: dict[str, Any], service: Service, provider: OpenAIServer, request_id: str
) -> None:
    provider.then(tells(prompt="rich"))
    await enhanced(service, "one", request_id=request_id)
    error = await refusal(enhanced(service, **{"prompt": "one", "request_id": request_id, **other}))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
    assert len(provider.received) == 1


async def test_ids_are_scoped_to_their_method(service: Service, provider: OpenAIServer, request_id: str) -> None:
    provider.then(tells(prompt="rich"), tells(prompt="plain", brands=[]))
    await enhanced(service, "one", request_id=request_id)
    assert (await protected(service, "one", request_id=request_id)).protected_prompt == "plain"


async def test_twenty_calls_at_once_on_two_replicas_are_one_charge_and_one_answer(
    service: Service, provider: OpenAIServer, request_id: str
) -> None:
    go = asyncio.Event()
    provider.otherwise = waits_for(go, tells(prompt="rich"))
    async with running_image(service.settings, service.selection) as replica:
        asked = [asyncio.ensure_future(enhanced(one, request_id=request_id)) for one in [service, replica] * 10]
        await asyncio.sleep(0.5)
        go.set()
        answers = await asyncio.gather(*asked)
    assert all(answer == answers[0] for answer in answers)
    assert len(provider.received) == 1


async def test_a_client_that_goes_away_finds_its_answer_later(
    service: Service, provider: OpenAIServer, request_id: str
) -> None:
    go = asyncio.Event()
    provider.then(waits_for(go, tells(prompt="rich")))
    request = pb.EnhanceImagePromptRequest(prompt="a harbour", request_id=request_id)
    error = await refusal(service.stub.EnhanceImagePrompt(request, timeout=1.0))
    assert (error.reason, error.billed.value, error.retry_safe) == ("STILL_RUNNING", "unknown", True)
    go.set()
    assert (await enhanced(service, request_id=request_id)).enhanced_prompt == "rich"
    assert len(provider.received) == 1


FAULTS = [
    pytest.param(fails(400, "content_filter"), "CONTENT_REJECTED", "no", False, 0, id="moderation of the input"),
    pytest.param(writes(None, refusal="no"), "CONTENT_REJECTED", "yes", False, 1, id="refusal"),
    pytest.param(fails(429, "insufficient_quota"), "PROVIDER_RATE_LIMITED", "no", True, 0, id="429"),
    pytest.param(fails(500), "OUTCOME_UNKNOWN", "unknown", False, 0, id="500"),
    pytest.param(cuts(), "OUTCOME_UNKNOWN", "unknown", False, 1, id="reset"),
    pytest.param(sends(b"<html>", "text/html"), "PROVIDER_BAD_RESPONSE", "unknown", False, 1, id="HTML"),
    pytest.param(writes("half", finish="length"), "PROVIDER_BAD_RESPONSE", "yes", False, 1, id="cut off"),
]


@pytest.mark.parametrize(("fault", "reason", "billed", "retry_safe", "charges"), FAULTS)
async def test_a_fault_of_the_model_ends_in_its_reason_and_a_replay_pays_only_what_cost_nothing(
    fault: Behaviour,
    reason: str,
    billed: str,
    retry_safe: bool,
    charges: int,
    service: Service,
    provider: OpenAIServer,
    request_id: str,
) -> None:
    provider.then(fault)
    provider.otherwise = tells(prompt="rich")
    error = await refusal(enhanced(service, request_id=request_id))
    assert (error.reason, error.billed.value, error.retry_safe) == (reason, billed, retry_safe)
    assert len(provider.charges) == charges
    if retry_safe:
        assert (await enhanced(service, request_id=request_id)).enhanced_prompt == "rich"
    else:
        again = await refusal(enhanced(service, request_id=request_id))
        assert (again.reason, again.metadata) == (error.reason, error.metadata)
        assert len(provider.received) == 1


async def test_a_request_that_no_model_takes_is_refused_unpaid(service: Service, provider: OpenAIServer) -> None:
    unknown = await refusal(enhanced(service, model="gpt-9"))
    assert (unknown.reason, unknown.metadata["model"]) == ("MODEL_UNKNOWN", "gpt-9")
    assert (await refusal(enhanced(service, "nul\0"))).reason == "INVALID_FIELD"
    assert (await refusal(protected(service, "x", brands=["a\0b"]))).reason == "INVALID_FIELD"
    assert not provider.received
