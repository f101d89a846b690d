"""What has an unknown outcome is settled by its owner's word, and may be run again as a new paid call."""

import asyncio
import uuid
from functools import partial
from typing import Any

import grpc
import pytest
from pydantic import SecretStr

from contentlab.image.v1 import image_service_pb2 as pb
from services.common.caller import PRINCIPAL_KEY, SERVICE_KEY, TOKEN_KEY
from services.common.status import from_status
from services.image import making
from services.models.paid_calls.leases import Leases
from tests.emulator.harness import Emulator
from tests.image.abandoned import abandon, first_of, renews_nothing
from tests.image.galleries import TOKEN, ServedGallery, StoredGallery
from tests.image.harness import Service, image_input, refusal, running_image, until
from tests.support.media import png
from tests.support.openai_server import OpenAIServer, cuts, fails, waits_for
from tests.support.ports import free_port

YES, NO = pb.PaidCall.YES, pb.PaidCall.NO


@pytest.fixture
def request_id() -> str:
    return str(uuid.uuid4())


async def unknown(service: Service, provider: OpenAIServer, **fields: Any) -> pb.ImageGeneration:
    """A generation whose answer was cut off."""
    provider.then(cuts())
    error = await refusal(service.generate(**fields))
    assert error.reason == "OUTCOME_UNKNOWN"
    return await service.get(error.metadata["imageGeneration"])


async def resolve(
    service: Service, name: str, billed: pb.PaidCall.Billed.ValueType = YES, **fields: Any
) -> pb.ImageGeneration:
    request = pb.ResolveImageGenerationRequest(name=name, billed=billed, **fields)
    generation: pb.ImageGeneration = await service.stub.ResolveImageGeneration(request, timeout=30)
    return generation


@pytest.mark.parametrize(("billed", "said"), [(YES, "yes"), (NO, "no")])
async def test_a_generation_is_settled_by_its_owners_word(
    billed: pb.PaidCall.Billed.ValueType, said: str, service: Service, provider: OpenAIServer, request_id: str
) -> None:
    asked = await unknown(service, provider, request_id=request_id)
    resolved = await resolve(service, asked.name, billed, note="the bill says so")
    error = from_status(resolved.error)
    assert (resolved.state, error.billed.value) == (pb.ImageGeneration.FAILED, said)
    assert resolved.HasField("end_time")
    call = await service.stub.GetPaidCall(pb.GetPaidCallRequest(name=asked.steps[0].paid_call))
    assert (call.state, call.billed, call.resolution_note) == (pb.PaidCall.FAILED, billed, "the bill says so")
    assert call.cost.source == (pb.Cost.UNPRICED if billed == YES else 0)
    # The request that it was for is not made anew under its old id.
    assert (await refusal(service.generate(request_id=request_id))).billed.value == said
    assert len(provider.received) == 1


async def test_a_generation_runs_again_under_its_name_as_a_new_paid_call(
    service: Service, provider: OpenAIServer, gallery: ServedGallery, request_id: str
) -> None:
    fields: dict[str, Any] = {
        "n": 2,
        "size": "1536x1024",
        "quality": "high",
        "tags": ["harbour"],
        "request_id": request_id,
    }
    asked = await unknown(service, provider, **fields)
    resolved = await resolve(service, asked.name, NO, run_again=True)
    assert (resolved.name, resolved.state) == (asked.name, pb.ImageGeneration.SUCCEEDED)
    first, second = provider.received
    assert first.body == second.body
    assert len({dict(one.headers)["idempotency-key"] for one in (first, second)}) == 2
    assert [await gallery.content(name) for name in resolved.assets] == provider.sent
    assert (await gallery.asset(resolved.assets[0])).tags == ["harbour"]
    calls = [await service.stub.GetPaidCall(pb.GetPaidCallRequest(name=step.paid_call)) for step in resolved.steps]
    assert [call.state for call in calls] == [pb.PaidCall.FAILED, pb.PaidCall.SUCCEEDED]
    # Whoever repeats the first request finds what it became.
    assert (await service.generate(**fields)).assets == resolved.assets
    assert len(provider.received) == 2


@pytest.mark.parametrize(("billed", "source"), [(NO, pb.Cost.COMPUTED), (YES, pb.Cost.UNPRICED)])
async def test_the_cost_of_what_was_lost_is_part_of_the_whole(
    billed: pb.PaidCall.Billed.ValueType,
    source: pb.Cost.Source.ValueType,
    service: Service,
    provider: OpenAIServer,
) -> None:
    asked = await unknown(service, provider)
    assert (await resolve(service, asked.name, billed, run_again=True)).cost.source == source


async def test_the_same_word_counts_once_and_another_under_its_id_is_refused(
    service: Service, provider: OpenAIServer, request_id: str
) -> None:
    asked = await unknown(service, provider)
    first = await resolve(service, asked.name, run_again=True, request_id=request_id)
    again = await resolve(service, asked.name, run_again=True, request_id=request_id)
    assert again == first
    assert len(provider.received) == 2
    error = await refusal(resolve(service, asked.name, NO, run_again=True, request_id=request_id))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")


async def test_a_second_attempt_that_is_lost_too_is_resolved_anew(service: Service, provider: OpenAIServer) -> None:
    asked = await unknown(service, provider)
    provider.then(cuts())
    assert (await resolve(service, asked.name, run_again=True)).state == pb.ImageGeneration.OUTCOME_UNKNOWN
    assert (await resolve(service, asked.name, run_again=True)).state == pb.ImageGeneration.SUCCEEDED
    assert len(provider.received) == 3


async def test_how_a_second_attempt_failed_is_in_the_generation(service: Service, provider: OpenAIServer) -> None:
    asked = await unknown(service, provider)
    provider.then(fails(400, "moderation_blocked"))
    resolved = await resolve(service, asked.name, NO, run_again=True)
    assert resolved.state == pb.ImageGeneration.FAILED
    assert from_status(resolved.error).reason == "CONTENT_REJECTED"


async def test_pictures_that_are_there_after_all_win_over_the_owners_word(
    service: Service, provider: OpenAIServer
) -> None:
    made = await service.generate()
    await abandon(service, made.name, state="OUTCOME_UNKNOWN")
    resolved = await resolve(service, made.name, NO, run_again=True)
    assert (resolved.state, resolved.assets) == (pb.ImageGeneration.SUCCEEDED, made.assets)
    assert resolved.cost == made.cost
    call = await service.stub.GetPaidCall(pb.GetPaidCallRequest(name=made.steps[0].paid_call))
    assert (call.state, call.billed) == (pb.PaidCall.SUCCEEDED, YES)
    assert len(provider.received) == 1


async def test_nothing_is_resolved_while_the_gallery_cannot_be_asked(
    service: Service, stored_gallery: StoredGallery, provider: OpenAIServer, database_url: str
) -> None:
    port = free_port()
    update = {"gallery_target": f"127.0.0.1:{port}", "database_url": SecretStr(database_url)}
    async with running_image(service.settings.model_copy(update=update), service.selection) as alone:
        async with stored_gallery.served(port):
            made = await alone.generate()
        await abandon(alone, made.name, state="OUTCOME_UNKNOWN")
        error = await refusal(resolve(alone, made.name, run_again=True))
        assert (error.code, error.retry_safe) == (grpc.StatusCode.UNAVAILABLE, True)
        assert (await alone.get(made.name)).state == pb.ImageGeneration.OUTCOME_UNKNOWN
    assert len(provider.received) == 1


async def test_a_paid_call_is_settled_with_its_generation(service: Service, provider: OpenAIServer) -> None:
    asked = await unknown(service, provider)
    request = pb.ResolvePaidCallRequest(name=asked.steps[0].paid_call, billed=NO, note="free", request_id="")
    call = await service.stub.ResolvePaidCall(request, timeout=10)
    assert (call.state, call.billed, call.resolution_note) == (pb.PaidCall.FAILED, NO, "free")
    assert (await service.get(asked.name)).state == pb.ImageGeneration.FAILED
    error = await refusal(service.stub.ResolvePaidCall(request, timeout=10))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_RESOLVABLE")


async def test_only_what_is_unknown_can_be_resolved(service: Service, provider: OpenAIServer) -> None:
    made = await service.generate()
    error = await refusal(resolve(service, made.name))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_RESOLVABLE")
    assert await service.get(made.name) == made


async def test_what_belongs_to_others_is_not_there(service: Service, provider: OpenAIServer) -> None:
    asked = await unknown(service, provider)
    stranger = ((TOKEN_KEY, TOKEN), (SERVICE_KEY, "gateway"), (PRINCIPAL_KEY, "somebody-else"))
    generation = pb.ResolveImageGenerationRequest(name=asked.name, billed=NO)
    call = pb.ResolvePaidCallRequest(name=asked.steps[0].paid_call, billed=NO)
    errors = [
        await refusal(service.stub.ResolveImageGeneration(generation, metadata=stranger, timeout=10)),
        await refusal(service.stub.ResolvePaidCall(call, metadata=stranger, timeout=10)),
    ]
    assert [error.reason for error in errors] == ["GENERATION_NOT_FOUND", "PAID_CALL_NOT_FOUND"]
    assert {error.code for error in errors} == {grpc.StatusCode.NOT_FOUND}
    assert (await service.get(asked.name)).state == pb.ImageGeneration.OUTCOME_UNKNOWN


@pytest.mark.parametrize("fields", [{}, {"billed": pb.PaidCall.UNKNOWN}, {"billed": YES, "note": "a\0b"}])
async def test_a_word_that_says_nothing_is_refused(
    fields: dict[str, Any], service: Service, provider: OpenAIServer
) -> None:
    asked = await unknown(service, provider)
    request = pb.ResolveImageGenerationRequest(name=asked.name, **fields)
    error = await refusal(service.stub.ResolveImageGeneration(request, timeout=10))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert (await service.get(asked.name)).state == pb.ImageGeneration.OUTCOME_UNKNOWN


async def lost_edit(service: Service, emulator: Emulator, *images: str | bytes, **fields: Any) -> pb.ImageGeneration:
    """An edit whose answer was cut off."""
    prompt = f"an edit that is lost {uuid.uuid4()}"
    await emulator.fault("cut", prompt)
    error = await refusal(service.edit(*images, prompt=prompt, **fields))
    assert error.reason == "OUTCOME_UNKNOWN"
    return await service.get(error.metadata["imageGeneration"])


async def test_an_edit_of_assets_runs_again_with_the_same_pictures(emulated: Service, emulator: Emulator) -> None:
    photos = [(await emulated.generate("a lighthouse", n=1)).assets[0] for _ in range(2)]
    overlay = (await emulated.generate("x", background="transparent")).assets[0]
    asked = await lost_edit(emulated, emulator, *photos, mask=image_input(overlay), quality="low")
    resolved = await resolve(emulated, asked.name, YES, run_again=True)
    assert (resolved.state, resolved.operation) == (pb.ImageGeneration.SUCCEEDED, pb.ImageGeneration.EDIT)
    keys = [step.paid_call.removeprefix("paidCalls/") for step in resolved.steps]
    first, second = [(await emulator.arrived(idempotency_key=key))[0]["fields"] for key in keys]
    assert first == second
    assert {"image[]", "mask", "quality"} <= first.keys()


async def test_an_edit_of_inline_pictures_is_settled_but_not_run_again(emulated: Service, emulator: Emulator) -> None:
    asked = await lost_edit(emulated, emulator, png(96, 64))
    error = await refusal(resolve(emulated, asked.name, run_again=True))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_RESOLVABLE")
    assert (await resolve(emulated, asked.name)).state == pb.ImageGeneration.FAILED


async def test_pictures_that_come_later_than_the_word_are_in_the_gallery_and_change_nothing_else(
    service: Service, provider: OpenAIServer, gallery: ServedGallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their process was frozen while the provider worked, and taken for dead."""
    monkeypatch.setattr(Leases, "renew", renews_nothing)
    monkeypatch.setattr(making, "STRAIGHT_SECONDS", 0.0)
    go = asyncio.Event()
    provider.then(waits_for(go))
    call = asyncio.ensure_future(refusal(service.generate("a late harbour")))
    name = await until(partial(first_of, service, pb.ImageGeneration.RUNNING))
    async with running_image(service.settings, service.selection) as second:
        await second.ended(name, "OUTCOME_UNKNOWN")
        resolved = await resolve(second, name, NO)
    go.set()
    error = await call
    assert (error.reason, error.billed.value) == ("OUTCOME_UNKNOWN", "no")
    assert await service.get(name) == resolved
    [asset] = await gallery.assets_of(name)
    assert await gallery.content(asset.name) == provider.sent[0]
