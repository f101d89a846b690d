"""One intent is paid for once: however often, from however many places, and however impatiently it is asked for."""

import asyncio
import uuid
from typing import Any

import grpc
import pytest

from contentlab.image.v1 import image_service_pb2 as pb
from tests.image.galleries import ServedGallery
from tests.image.harness import Service, refusal, running_image, selection_for, until
from tests.support.openai_server import OpenAIServer, cuts, fails, waits_for
from tests.support.ports import free_port


def new_id() -> str:
    return str(uuid.uuid4())


async def test_the_same_request_id_returns_the_first_result(service: Service, provider: OpenAIServer) -> None:
    request_id = new_id()
    first = await service.generate(request_id=request_id, n=2)
    assert first.request_id == request_id
    again = await service.generate(request_id=request_id.upper(), n=2)
    assert again == first
    assert len(provider.charges) == 1


async def test_without_a_request_id_every_call_is_an_intent(service: Service, provider: OpenAIServer) -> None:
    first, second = await service.generate(), await service.generate()
    assert first.name != second.name
    assert first.request_id != second.request_id
    assert len(provider.charges) == 2


@pytest.mark.parametrize(
    "other", [{"prompt": "another"}, {"n": 2}, {"tags": ["x"]}, {"model": "gpt-image-2"}, {"display_name": "x"}]
)
async def test_the_same_request_id_with_another_body_is_refused(
    other: dict[str, Any], service: Service, provider: OpenAIServer
) -> None:
    request_id = new_id()
    await service.generate("one", request_id=request_id)
    error = await refusal(service.generate(**{"prompt": "one", "request_id": request_id, **other}))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
    assert error.billed.value == "no"
    assert len(provider.charges) == 1


async def test_twenty_calls_at_once_with_one_request_id_are_one_charge_and_one_answer(
    service: Service, provider: OpenAIServer
) -> None:
    request_id = new_id()
    answers = await asyncio.gather(*(service.generate(request_id=request_id) for _ in range(20)))
    assert all(answer == answers[0] for answer in answers)
    assert answers[0].state == pb.ImageGeneration.SUCCEEDED
    assert len(provider.charges) == 1


async def test_a_second_replica_attaches_to_the_first_ones_call(
    service: Service, provider: OpenAIServer, shared_provider: OpenAIServer
) -> None:
    request_id, go = new_id(), asyncio.Event()
    provider.then(waits_for(go))
    async with running_image(service.settings, service.selection) as replica:
        mine = asyncio.create_task(service.generate(request_id=request_id))
        await asyncio.sleep(0.3)
        theirs = [asyncio.create_task(replica.generate(request_id=request_id)) for _ in range(5)]
        await asyncio.sleep(0.3)
        go.set()
        answers = await asyncio.gather(mine, *theirs)
    assert all(answer == answers[0] for answer in answers)
    assert len(provider.charges) == 1


async def test_one_who_cannot_wait_is_told_and_can_attach_again(service: Service, provider: OpenAIServer) -> None:
    request_id, go = new_id(), asyncio.Event()
    provider.then(waits_for(go))
    error = await refusal(service.generate(request_id=request_id, timeout=1.0))
    assert (error.code, error.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "STILL_RUNNING")
    assert (error.billed.value, error.retry_safe) == ("unknown", True)
    running = await service.get(error.metadata["imageGeneration"])
    assert running.state == pb.ImageGeneration.RUNNING
    go.set()
    assert (await service.generate(request_id=request_id)).name == running.name
    assert len(provider.charges) == 1


async def test_repeating_without_a_request_id_would_pay_twice_and_is_not_called_safe(
    service: Service, provider: OpenAIServer
) -> None:
    go = asyncio.Event()
    provider.then(waits_for(go))
    error = await refusal(service.generate(timeout=1.0))
    assert (error.reason, error.retry_safe) == ("STILL_RUNNING", False)
    go.set()
    await service.ended(error.metadata["imageGeneration"], "SUCCEEDED")


async def test_a_client_that_goes_away_loses_nothing(
    service: Service, provider: OpenAIServer, gallery: ServedGallery
) -> None:
    request_id, go = new_id(), asyncio.Event()
    provider.then(waits_for(go))
    call = service.stub.GenerateImages(pb.GenerateImagesRequest(prompt="x", request_id=request_id), timeout=30)
    await asyncio.sleep(0.3)
    call.cancel()
    [generation] = [
        one
        for one in (await service.stub.ListImageGenerations(pb.ListImageGenerationsRequest())).image_generations
        if one.request_id == request_id
    ]
    go.set()
    ended = await service.ended(generation.name, "SUCCEEDED")
    assert await gallery.content(ended.assets[0]) == provider.sent[-1]
    assert len(provider.charges) == 1


async def test_an_unknown_outcome_is_the_result_for_good_and_never_called_again(
    service: Service, provider: OpenAIServer
) -> None:
    request_id = new_id()
    provider.then(cuts())
    first = await refusal(service.generate(request_id=request_id))
    again = await refusal(service.generate(request_id=request_id))
    assert (first.reason, again.reason) == ("OUTCOME_UNKNOWN", "OUTCOME_UNKNOWN")
    assert first.metadata == again.metadata
    assert len(provider.received) == 1


async def test_a_refusal_of_content_is_the_result_for_good(service: Service, provider: OpenAIServer) -> None:
    request_id = new_id()
    provider.then(fails(400, "moderation_blocked"))
    for _ in range(2):
        assert (await refusal(service.generate(request_id=request_id))).reason == "CONTENT_REJECTED"
    assert len(provider.received) == 1


async def test_what_cost_nothing_and_may_pass_is_tried_again_with_the_same_id(
    service: Service, provider: OpenAIServer
) -> None:
    request_id = new_id()
    provider.then(fails(429, "insufficient_quota"))
    failed = await refusal(service.generate(request_id=request_id))
    assert (failed.reason, failed.retry_safe) == ("PROVIDER_RATE_LIMITED", True)
    assert (await service.get(failed.metadata["imageGeneration"])).state == pb.ImageGeneration.FAILED
    made = await service.generate(request_id=request_id)
    assert made.name == failed.metadata["imageGeneration"]
    assert made.state == pb.ImageGeneration.SUCCEEDED
    assert not made.HasField("error")
    assert len(provider.charges) == 1


async def test_more_generations_than_there_may_be_are_turned_away_unpaid(
    service: Service, provider: OpenAIServer, shared_provider: OpenAIServer, image_database: str
) -> None:
    go = asyncio.Event()
    provider.otherwise = waits_for(go)
    settings = service.settings.model_copy(update={"max_generations": 2})
    async with running_image(settings, service.selection) as small:
        running = [asyncio.create_task(small.generate()) for _ in range(2)]
        await asyncio.sleep(0.5)
        error = await refusal(small.generate())
        go.set()
        await asyncio.gather(*running)
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
    assert (error.billed.value, error.retry_safe) == ("no", True)
    assert len(provider.received) == 2


async def test_forty_at_once_do_not_pass_a_limit_of_two(service: Service, provider: OpenAIServer) -> None:
    go = asyncio.Event()
    provider.otherwise = waits_for(go)
    settings = service.settings.model_copy(update={"max_generations": 2})
    async with running_image(settings, service.selection) as small:
        asked = [asyncio.create_task(small.generate()) for _ in range(40)]
        _, pending = await asyncio.wait(asked, timeout=10, return_when=asyncio.ALL_COMPLETED)
        go.set()
        ended = await asyncio.gather(*asked, return_exceptions=True)
        assert len(pending) == len(provider.charges) == 2
        assert sum(isinstance(one, pb.ImageGeneration) for one in ended) == 2
        # Every place is free again.
        again = await asyncio.gather(*(small.generate() for _ in range(2)))
    assert {one.state for one in again} == {pb.ImageGeneration.SUCCEEDED}


async def test_a_place_is_free_again_after_a_refusal(service: Service, provider: OpenAIServer) -> None:
    settings = service.settings.model_copy(update={"max_generations": 1})
    async with running_image(settings, service.selection) as small:
        request_id = new_id()
        await small.generate("one", request_id=request_id)
        for _ in range(3):
            assert (await refusal(small.generate("two", request_id=request_id))).reason == "REQUEST_ID_REUSED"
        assert (await small.generate()).state == pb.ImageGeneration.SUCCEEDED


async def test_a_client_that_goes_away_early_leaves_no_intent_that_nobody_works_at(
    service: Service, provider: OpenAIServer
) -> None:
    """Wherever the cancellation falls: what is written down is worked at."""
    settings = service.settings.model_copy(update={"lease_seconds": 60.0})
    async with running_image(settings, service.selection) as running:
        await running.generate()
        prompt = f"early {new_id()}"
        for attempt in range(60):
            request = pb.GenerateImagesRequest(prompt=prompt, request_id=new_id())
            call = running.stub.GenerateImages(request, timeout=30)
            await asyncio.sleep(0.002 + attempt * 0.0005)
            call.cancel()

        async def settled() -> bool:
            request = pb.ListImageGenerationsRequest(page_size=100)
            listed = (await running.stub.ListImageGenerations(request)).image_generations
            return all(one.state == pb.ImageGeneration.SUCCEEDED for one in listed if one.prompt == prompt)

        assert await until(settled)


async def test_no_more_calls_than_allowed_are_at_the_provider_at_a_time(
    service: Service, provider: OpenAIServer
) -> None:
    go = asyncio.Event()
    provider.otherwise = waits_for(go)
    settings = service.settings.model_copy(update={"provider_calls": 2})
    async with running_image(settings, service.selection) as narrow:
        running = [asyncio.create_task(narrow.generate()) for _ in range(5)]

        async def called() -> bool:
            return len(provider.received) >= 2

        await until(called)
        await asyncio.sleep(0.5)
        states = (await narrow.stub.ListImageGenerations(pb.ListImageGenerationsRequest(page_size=5))).image_generations
        assert len(provider.received) == 2
        assert sorted(pb.ImageGeneration.State.Name(one.state) for one in states) == ["PENDING"] * 3 + ["RUNNING"] * 2
        go.set()
        assert {answer.state for answer in await asyncio.gather(*running)} == {pb.ImageGeneration.SUCCEEDED}


async def test_work_without_a_client_is_finished_before_the_process_ends(
    service: Service, provider: OpenAIServer
) -> None:
    go = asyncio.Event()
    provider.then(waits_for(go))
    settings = service.settings.model_copy(update={"drain_seconds": 20.0})
    async with running_image(settings, service.selection) as ending:
        call = ending.stub.GenerateImages(pb.GenerateImagesRequest(prompt="x"), timeout=30)
        await asyncio.sleep(0.5)
        call.cancel()
        [generation] = (
            await ending.stub.ListImageGenerations(pb.ListImageGenerationsRequest(page_size=1))
        ).image_generations
        asyncio.get_running_loop().call_later(0.5, go.set)
    assert (await service.get(generation.name)).state == pb.ImageGeneration.SUCCEEDED


async def test_work_that_outlasts_the_drain_is_cut_off_and_its_outcome_unknown(
    service: Service, provider: OpenAIServer
) -> None:
    go = asyncio.Event()
    provider.then(waits_for(go))
    settings = service.settings.model_copy(update={"drain_seconds": 0.2})
    async with running_image(settings, service.selection) as ending:
        call = asyncio.create_task(ending.generate())
        await asyncio.sleep(0.5)
        [generation] = (
            await ending.stub.ListImageGenerations(pb.ListImageGenerationsRequest(page_size=1))
        ).image_generations
    await asyncio.gather(call, return_exceptions=True)
    go.set()
    ended = await service.ended(generation.name, "OUTCOME_UNKNOWN")
    assert ended.HasField("error")


async def test_a_provider_that_is_not_there_costs_nothing(service: Service) -> None:
    selection = selection_for(f"http://127.0.0.1:{free_port()}/v1")
    async with running_image(service.settings, selection) as lonely:
        error = await refusal(lonely.generate())
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "PROVIDER_UNAVAILABLE")
    assert (error.billed.value, error.retry_safe) == ("no", True)
