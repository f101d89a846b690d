"""A generation told while it is made: previews, pictures, the end; and whoever goes away loses nothing."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio

from contentlab.image.v1 import image_service_pb2 as pb
from services.common.status import from_status
from services.image import previews
from tests.emulator.harness import Emulator
from tests.emulator.harness import running as running_emulator
from tests.image.galleries import ServedGallery
from tests.image.harness import Service, image_input, kinds, refusal, running_image, selection_for
from tests.image.test_edits import MASK, PHOTO, arrived


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def slow_emulator() -> AsyncIterator[Emulator]:
    """Its streams take their time."""
    async with running_emulator(latency=1.0) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def slow(emulated: Service, slow_emulator: Emulator) -> AsyncIterator[Service]:
    selection = selection_for(f"{slow_emulator.url}/v1", dialect="emulator")
    async with running_image(emulated.settings, selection) as running:
        yield running


def partials(events: list[pb.StreamImagesResponse]) -> list[pb.StreamImagesResponse.PartialImage]:
    return [event.partial_image for event in events if event.HasField("partial_image")]


async def test_previews_come_before_the_picture_and_the_end_is_the_whole_generation(
    slow: Service, slow_emulator: Emulator, gallery: ServedGallery
) -> None:
    events = await slow.streamed("a lighthouse", partial_images=3, quality="low")
    assert kinds(events) == ["started", *["partial_image"] * 3, "image", "done"]
    started, done = events[0].started, events[-1].done
    assert (started.image_generation, started.request_id) == (done.name, done.request_id)
    assert await slow.get(done.name) == done
    assert [one.partial_index for one in partials(events)] == [0, 1, 2]
    for preview in partials(events):
        assert (preview.mime_type, preview.index) == ("image/png", 0)
        assert preview.content.startswith(b"\x89PNG")
    assert events[-2].image == done.results[0]
    assert await gallery.content(done.assets[0])
    assert (done.state, done.cost.source) == (pb.ImageGeneration.SUCCEEDED, pb.Cost.COMPUTED)
    fields = (await arrived(slow_emulator, slow, done))["fields"]
    assert (fields["stream"], fields["partial_images"]) == (True, 3)
    assert dict(done.parameters) == {"n": "1", "quality": "low"}


async def test_the_events_of_several_pictures_add_up_to_the_charge(slow: Service, slow_emulator: Emulator) -> None:
    events = await slow.streamed(n=2, partial_images=1)
    assert kinds(events) == ["started", "partial_image", "partial_image", "image", "image", "done"]
    assert [one.index for one in partials(events)] == [0, 1]
    charge = await slow_emulator.charge(events[-1].done.steps[0].paid_call.removeprefix("paidCalls/"))
    assert events[-1].done.cost.amount_micro_usd == charge["cost_micro_usd"]


async def test_edits_stream_too(slow: Service, slow_emulator: Emulator) -> None:
    events = await slow.streamed_edit(PHOTO, mask=image_input(MASK), partial_images=2)
    assert kinds(events) == ["started", "partial_image", "partial_image", "image", "done"]
    done = events[-1].done
    assert done.operation == pb.ImageGeneration.EDIT
    fields = (await arrived(slow_emulator, slow, done))["fields"]
    assert (fields["stream"], fields["partial_images"]) == ("true", "2")


async def test_without_previews_the_answer_is_not_streamed_and_the_events_are_the_same(
    emulated: Service, emulator: Emulator
) -> None:
    events = await emulated.streamed()
    assert kinds(events) == ["started", "image", "done"]
    assert "stream" not in (await arrived(emulator, emulated, events[-1].done))["fields"]


async def test_a_preview_above_the_limit_is_scaled_down(slow: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(previews, "MAX_PREVIEW_BYTES", 20_000)
    monkeypatch.setattr(previews, "EDGES_PX", (512, 96))
    shown = partials(await slow.streamed(partial_images=1, size="1024x1024"))
    assert shown, "it is there, only smaller"
    assert all(len(one.content) <= 20_000 for one in shown)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"partial_images": 4}, "partial_images"),
        ({"partial_images": 1, "output_format": "gif", "model": "gpt-image-2.6-flare"}, "partial_images"),
        ({"size": "10x10"}, "size"),
    ],
)
async def test_what_cannot_be_is_refused_before_anything_is_started(
    fields: dict[str, Any], field: str, emulated: Service
) -> None:
    error = await refusal(emulated.streamed(**fields))
    assert (error.code, error.violations[0].field) == (grpc.StatusCode.INVALID_ARGUMENT, field)


async def test_validate_only_streams_what_would_be_asked_for(emulated: Service) -> None:
    [event] = await emulated.streamed(validate_only=True)
    assert (event.done.name, event.done.model) == ("", "gpt-image-2")


async def test_a_reader_who_goes_away_loses_nothing_and_attaches_again(
    slow: Service, slow_emulator: Emulator, gallery: ServedGallery
) -> None:
    request_id = str(uuid.uuid4())
    request = pb.StreamGenerateImagesRequest(prompt="x", partial_images=2, request_id=request_id)
    call = slow.stub.StreamGenerateImages(request, timeout=30)
    async for event in call:
        if event.HasField("partial_image"):
            break
    call.cancel()
    again = await slow.streamed("x", partial_images=2, request_id=request_id)
    done = again[-1].done
    assert (kinds(again)[0], kinds(again)[-2:]) == ("started", ["image", "done"])
    assert await slow.generate("x", request_id=request_id) == done, "without a stream it is the same"
    key = done.steps[0].paid_call.removeprefix("paidCalls/")
    assert len(await slow_emulator.charges(idempotency_key=key)) == 1
    assert await gallery.content(done.assets[0])
    late = await slow.streamed("x", request_id=request_id)
    assert kinds(late) == ["started", "image", "done"]
    assert late[-1].done == done


async def test_a_second_replica_tells_the_end_without_previews(slow: Service) -> None:
    request_id = str(uuid.uuid4())
    async with running_image(slow.settings, slow.selection) as replica:
        first = asyncio.create_task(slow.streamed("x", partial_images=1, request_id=request_id))
        await asyncio.sleep(0.4)
        second = await replica.streamed("x", partial_images=1, request_id=request_id)
    assert kinds(second) == ["started", "image", "done"]
    assert second[-1].done == (await first)[-1].done


async def test_a_failure_is_told_in_band_as_the_call_without_a_stream_tells_it(
    emulated: Service, emulator: Emulator
) -> None:
    await emulator.fault("moderation_blocked", "forbidden", stage="input", times=1)
    request_id = str(uuid.uuid4())
    events = await emulated.streamed("forbidden", partial_images=1, request_id=request_id)
    assert kinds(events) == ["started", "error"]
    told, plain = from_status(events[-1].error), await refusal(emulated.generate("forbidden", request_id=request_id))
    assert (told.code, told.reason, told.billed, told.metadata) == (
        plain.code,
        plain.reason,
        plain.billed,
        plain.metadata,
    )
    assert told.reason == "CONTENT_REJECTED"


async def test_a_reader_without_patience_is_told_that_it_goes_on(slow: Service) -> None:
    request_id = str(uuid.uuid4())
    request = pb.StreamGenerateImagesRequest(prompt="x", request_id=request_id)
    events = [event async for event in slow.stub.StreamGenerateImages(request, timeout=0.8)]
    assert kinds(events) == ["started", "error"]
    error = from_status(events[-1].error)
    assert (error.reason, error.retry_safe) == ("STILL_RUNNING", True)
    assert kinds(await slow.streamed("x", request_id=request_id))[-1] == "done"
