"""`kill -9` between the steps of one call: what was paid is found again, and nothing is paid twice."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from contentlab.gallery.v1 import gallery_service_pb2 as gallery_pb
from contentlab.image.v1 import image_service_pb2 as pb
from services.common.database import sqlalchemy_url
from services.common.errors import Unavailable
from services.common.status import from_status
from services.image.adapters.library import Library
from tests.image.galleries import ServedGallery, silent_server
from tests.image.harness import Service, refusal, running_image, until
from tests.image.helping import SEEN, by_step, enhanced, steps_of, tells
from tests.image.test_crash import process_of
from tests.support.openai_server import OpenAIServer, waits_for

NIKE = pb.BrandProtection(mode=pb.BrandProtection.NEUTRALIZE, brands=["Nike"])
NEVER = asyncio.Event()


@pytest.fixture
def request_id() -> str:
    return str(uuid.uuid4())


def reaches(provider: OpenAIServer, step: str) -> Callable[[], Awaitable[bool]]:
    """Whether a call for that step has come to the provider."""

    async def look() -> bool:
        return step in steps_of(provider.received)

    return look


async def killed_in(step: str, service: Service, provider: OpenAIServer, gallery: ServedGallery, **fields: Any) -> None:
    """A process that dies while the provider works at a step."""
    provider.otherwise = by_step(**{step: waits_for(NEVER)})
    async with process_of(service, gallery=gallery.address, provider=provider.url) as doomed:
        request = pb.GenerateImagesRequest(prompt="a harbour", **fields)
        call = asyncio.ensure_future(doomed.stub.GenerateImages(request, timeout=60))
        await until(reaches(provider, step))
        await doomed.kill()
        await asyncio.gather(call, return_exceptions=True)
    provider.otherwise = by_step()


async def test_a_process_killed_after_the_enhancement_leaves_it_to_the_next_who_asks(
    service: Service, provider: OpenAIServer, gallery: ServedGallery, request_id: str
) -> None:
    fields: dict[str, Any] = {"enhance_prompt": True, "suggest_display_name": True, "request_id": request_id}
    await killed_in("suggest_filename", service, provider, gallery, **fields)
    # The generation itself cost nothing when the lease is over, and the same request id makes it.
    failed = await refusal(service.generate(timeout=30, **fields))
    assert (failed.reason, failed.billed.value, failed.retry_safe) == ("UNAVAILABLE", "yes", True)
    made = await service.generate(timeout=30, **fields)
    assert steps_of(provider.received) == ["enhance", "suggest_filename", "generate"]
    assert (made.state, made.final_prompt) == (pb.ImageGeneration.SUCCEEDED, "a rich harbour with a Nike sign")
    told = {step.operation: step for step in made.steps}
    assert from_status(told["suggest_filename"].error).reason == "OUTCOME_UNKNOWN"
    assert told["enhance"].paid_call in {call.name for call in await succeeded_calls(service)}
    assert made.cost.source == pb.Cost.UNPRICED


async def succeeded_calls(service: Service) -> list[pb.PaidCall]:
    request = pb.ListPaidCallsRequest(state=pb.PaidCall.SUCCEEDED, page_size=50)
    return list((await service.stub.ListPaidCalls(request)).paid_calls)


async def test_a_process_killed_while_brands_are_taken_out_makes_no_picture_without(
    service: Service, provider: OpenAIServer, gallery: ServedGallery, request_id: str
) -> None:
    fields: dict[str, Any] = {"brand_protection": NIKE, "request_id": request_id}
    await killed_in("protect", service, provider, gallery, **fields)
    failed = await refusal(service.generate(timeout=30, **fields))
    assert failed.reason == "UNAVAILABLE"
    error = await refusal(service.generate(timeout=30, **fields))
    assert (error.reason, error.metadata["cause"]) == ("BRAND_PROTECTION_FAILED", "OUTCOME_UNKNOWN")
    assert (error.billed.value, error.retry_safe) == ("unknown", False)
    assert steps_of(provider.received) == ["protect"]


async def test_a_process_killed_while_a_picture_is_analysed_loses_the_analysis_alone(
    service: Service, provider: OpenAIServer, gallery: ServedGallery, request_id: str
) -> None:
    fields: dict[str, Any] = {"analyze": True, "request_id": request_id}
    await killed_in("analyze", service, provider, gallery, **fields)
    made = await service.generate(timeout=30, **fields)
    assert made.state == pb.ImageGeneration.SUCCEEDED
    assert from_status(made.error).reason == "OUTCOME_UNKNOWN"
    assert steps_of(provider.received) == ["generate", "analyze"]
    asset = await gallery.asset(made.assets[0])
    assert not asset.HasField("analysis")
    assert (asset.cost.source, made.cost.source) == (gallery_pb.Cost.UNPRICED, pb.Cost.UNPRICED)


async def test_a_picture_whose_process_is_killed_before_it_is_stored_is_analysed_all_the_same(
    service: Service, provider: OpenAIServer, gallery: ServedGallery, request_id: str, database_url: str
) -> None:
    provider.otherwise = by_step()
    own = service.settings.model_copy(update={"database_url": type(service.settings.database_url)(database_url)})
    async with running_image(own, service.selection):
        pass  # its schema
    alone = Service(service.stub, service.channel, own, service.selection, service.metrics)
    request = pb.GenerateImagesRequest(prompt="a harbour", analyze=True, request_id=request_id)
    async with silent_server() as nowhere, process_of(alone, gallery=nowhere, provider=provider.url) as doomed:
        call = asyncio.ensure_future(doomed.stub.GenerateImages(request, timeout=60))

        async def kept() -> bool:
            listed = await doomed.stub.ListImageGenerations(pb.ListImageGenerationsRequest(), timeout=10)
            return [one.state for one in listed.image_generations] == [pb.ImageGeneration.STORING]

        await until(kept)
        await doomed.kill()
        await asyncio.gather(call, return_exceptions=True)

    async with running_image(own, service.selection) as restarted:
        made = await restarted.stub.GenerateImages(request, timeout=60)
        assert [step.operation for step in made.steps] == ["generate", "analyze"]
        assert (await gallery.asset(made.assets[0])).analysis.description == SEEN["description"]
        assert await restarted.stub.GenerateImages(request, timeout=60) == made
    assert steps_of(provider.charges) == ["generate", "analyze"]


async def test_an_analysis_that_the_gallery_does_not_take_is_handed_to_it_again_and_paid_once(
    service: Service, provider: OpenAIServer, gallery: ServedGallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.otherwise = by_step()
    refused = 0
    original = Library.annotate

    async def away_twice(self: Library, *arguments: Any, **fields: Any) -> None:
        nonlocal refused
        if refused < 2:
            refused += 1
            if refused == 2:
                # Taken, but nobody lives to see it.
                await original(self, *arguments, **fields)
            raise Unavailable("UNAVAILABLE", "not there")
        await original(self, *arguments, **fields)

    monkeypatch.setattr(Library, "annotate", away_twice)
    made = await service.generate(analyze=True)
    assert not made.HasField("error")

    async def ended() -> bool:
        return refused == 2 and not await still_due(service, made)

    await until(ended)
    asset = await gallery.asset(made.assets[0])
    assert asset.analysis.description == SEEN["description"]
    assert asset.cost.amount_micro_usd == made.cost.amount_micro_usd
    assert steps_of(provider.received) == ["generate", "analyze"]


async def still_due(service: Service, made: pb.ImageGeneration) -> bool:
    """Whether a picture of the generation is still to be analysed."""
    engine = create_async_engine(sqlalchemy_url(service.settings.database_url.get_secret_value()))
    async with engine.connect() as connection:
        statement = text("SELECT count(*) FROM image.analysis WHERE generation = :id")
        found = (await connection.execute(statement, {"id": made.name.partition("/")[2]})).scalar_one()
    await engine.dispose()
    return bool(found)


async def test_a_helper_whose_process_is_killed_has_an_unknown_outcome_and_is_not_asked_again(
    service: Service, provider: OpenAIServer, gallery: ServedGallery, request_id: str
) -> None:
    provider.then(waits_for(NEVER))
    provider.otherwise = tells(prompt="rich")
    async with process_of(service, gallery=gallery.address, provider=provider.url) as doomed:
        request = pb.EnhanceImagePromptRequest(prompt="a harbour", request_id=request_id)
        call = asyncio.ensure_future(doomed.stub.EnhanceImagePrompt(request, timeout=60))
        await until(reaches(provider, "enhance"))
        await doomed.kill()
        await asyncio.gather(call, return_exceptions=True)
    for _ in range(2):
        error = await refusal(enhanced(service, request_id=request_id))
        assert (error.reason, error.billed.value) == ("OUTCOME_UNKNOWN", "unknown")
    assert len(provider.received) == 1
