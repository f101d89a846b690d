"""Each thing that the emulator does wrong ends as the table of `services/models/README.md` says, streams included."""

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from contentlab.image.v1 import image_service_pb2 as pb
from services.common.errors import ServiceError
from services.common.status import from_status
from tests.emulator.harness import Emulator
from tests.image.galleries import ServedGallery
from tests.image.harness import Service, kinds, refusal, running_image, selection_for
from tests.image.test_edits import PHOTO

_number = itertools.count()

REJECTED = ("CONTENT_REJECTED", "no", False, "FAILED")
THROTTLED = ("PROVIDER_RATE_LIMITED", "no", True, "FAILED")
UNAVAILABLE = ("PROVIDER_UNAVAILABLE", "no", True, "FAILED")
UNKNOWN = ("OUTCOME_UNKNOWN", "unknown", False, "OUTCOME_UNKNOWN")
NO_RESULT = ("PROVIDER_BAD_RESPONSE", "unknown", False, "OUTCOME_UNKNOWN")
PAID_FOR_NOTHING = ("PROVIDER_BAD_RESPONSE", "yes", False, "FAILED")
Ending = tuple[str, str, bool, str]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def service(emulated: Service, emulator: Emulator) -> AsyncIterator[Service]:
    """OpenAI's own dialect: of a failure it says the least."""
    async with running_image(emulated.settings, selection_for(f"{emulator.url}/v1")) as running:
        yield running


async def ending(service: Service, error: ServiceError) -> Ending:
    """What the caller is told and what is written down, which must be the same."""
    generation = await service.get(error.metadata["imageGeneration"])
    call = await service.stub.GetPaidCall(pb.GetPaidCallRequest(name=error.metadata["paidCall"]))
    assert pb.PaidCall.Billed.Name(call.billed).lower() == error.billed.value
    kept = from_status(generation.error)
    assert (kept.reason, kept.billed, kept.retry_safe) == (error.reason, error.billed, error.retry_safe)
    state = pb.ImageGeneration.State.Name(generation.state)
    assert pb.PaidCall.State.Name(call.state) == state
    return error.reason, error.billed.value, error.retry_safe, state


FAULTS = [
    pytest.param("moderation_blocked", {"stage": "input"}, REJECTED, id="blocked input"),
    pytest.param("moderation_blocked", {"stage": "output"}, REJECTED, id="blocked output"),
    pytest.param("content_filter", {"filter_code": "contentFilter"}, REJECTED, id="filter"),
    pytest.param("rate_limit", {"retry_after": 60}, THROTTLED, id="throttled"),
    pytest.param("server_error", {}, UNKNOWN, id="500"),
    pytest.param("server_error", {"charged": True}, UNKNOWN, id="500 after the work"),
    pytest.param("overloaded", {"retry_after": 60}, UNAVAILABLE, id="503 that says that it is overloaded"),
    pytest.param("cut", {"cut_at": "before"}, UNKNOWN, id="closed before the answer"),
    pytest.param("cut", {"cut_at": "middle"}, UNKNOWN, id="closed in the answer"),
    pytest.param("reset", {"reset_at": "read"}, UNKNOWN, id="reset after the request"),
    pytest.param("reset", {"reset_at": "answered"}, UNKNOWN, id="reset before the answer"),
    pytest.param("reset", {"reset_at": "middle"}, UNKNOWN, id="reset in the answer"),
    pytest.param("bad_json", {}, NO_RESULT, id="half a JSON"),
    pytest.param("html", {"status": 200}, NO_RESULT, id="a page"),
    pytest.param("html", {"status": 502}, UNKNOWN, id="a page with 502"),
    pytest.param("html", {"status": 504}, UNKNOWN, id="a page with 504"),
    pytest.param("truncated_base64", {}, PAID_FOR_NOTHING, id="truncated base64"),
]


@pytest.mark.parametrize(("kind", "details", "expected"), [*FAULTS, pytest.param("error_in_200", {}, NO_RESULT)])
async def test_a_fault_of_an_answer_ends_in_its_reason(
    kind: str, details: dict[str, Any], expected: Ending, service: Service, emulator: Emulator
) -> None:
    prompt = f"fault {next(_number)}"
    await emulator.fault(kind, prompt, **details)
    error = await refusal(service.generate(prompt))
    assert await ending(service, error) == expected
    if kind == "moderation_blocked":
        assert error.metadata["stage"] == details["stage"]
    await _called_once(emulator, error)


@pytest.mark.parametrize(
    ("kind", "details", "expected"), [*FAULTS, pytest.param("mid_stream_error", {}, NO_RESULT, id="mid stream")]
)
async def test_a_fault_of_a_stream_ends_in_its_reason_in_band(
    kind: str, details: dict[str, Any], expected: Ending, service: Service, emulator: Emulator
) -> None:
    prompt = f"fault {next(_number)}"
    await emulator.fault(kind, prompt, **details)
    events = await service.streamed(prompt, partial_images=2)
    assert (kinds(events)[0], kinds(events)[-1]) == ("started", "error")
    error = from_status(events[-1].error)
    assert await ending(service, error) == expected
    await _called_once(emulator, error)


@pytest.mark.parametrize("previews", [0, 1], ids=["whole", "streamed"])
async def test_bytes_that_are_no_picture_are_paid_for_and_told_by_the_gallerys_word(
    previews: int, service: Service, emulator: Emulator
) -> None:
    prompt = f"fault {next(_number)}"
    await emulator.fault("wrong_image", prompt)
    events = await service.streamed(prompt, partial_images=previews)
    error, generation = from_status(events[-1].error), await service.get(events[0].started.image_generation)
    assert (error.reason, error.billed.value, error.retry_safe) == ("PROVIDER_BAD_RESPONSE", "yes", False)
    assert generation.state == pb.ImageGeneration.FAILED
    assert generation.cost.amount_micro_usd > 0


async def _called_once(emulator: Emulator, error: ServiceError) -> None:
    key = error.metadata["paidCall"].removeprefix("paidCalls/")
    assert len(await emulator.arrived(idempotency_key=key)) == 1
    assert len(await emulator.charges(idempotency_key=key)) <= 1


HARMLESS = [
    pytest.param("slow", {"delay_seconds": 0.3, "charge_at": "start"}, id="late"),
    pytest.param("slow_drip", {"bytes_per_second": 400_000}, id="slow drip"),
    pytest.param("wrong_mime", {}, id="wrong content type"),
    pytest.param("wrong_mime", {"content_type": "text/html"}, id="said to be a page"),
    pytest.param("wrong_format", {}, id="another format than asked for"),
]


@pytest.mark.parametrize(("kind", "details"), HARMLESS)
@pytest.mark.parametrize("previews", [0, 2], ids=["whole", "streamed"])
async def test_what_is_only_odd_costs_no_picture(
    kind: str, details: dict[str, Any], previews: int, service: Service, emulator: Emulator, gallery: ServedGallery
) -> None:
    prompt = f"odd {next(_number)}"
    await emulator.fault(kind, prompt, **details)
    events = await service.streamed(prompt, partial_images=previews)
    done = events[-1].done
    assert done.state == pb.ImageGeneration.SUCCEEDED
    charge = await emulator.charge(done.steps[0].paid_call.removeprefix("paidCalls/"))
    assert [done.results[0].sha256] == charge["pictures"]
    # What it is, its bytes say, not the provider.
    asset = await gallery.asset(done.assets[0])
    assert asset.mime_type == ("image/jpeg" if kind == "wrong_format" else "image/png")


@pytest.mark.parametrize("kind", ["early_final", "fewer_partials"])
async def test_a_picture_that_comes_before_its_last_preview_is_the_picture(
    kind: str, service: Service, emulator: Emulator
) -> None:
    prompt = f"early {next(_number)}"
    await emulator.fault(kind, prompt)
    events = await service.streamed(prompt, partial_images=3)
    assert kinds(events)[-2:] == ["image", "done"]
    assert kinds(events).count("partial_image") <= 2
    assert events[-1].done.cost.source == pb.Cost.COMPUTED


async def test_of_a_stream_that_is_cut_the_finished_pictures_are_kept(service: Service, emulator: Emulator) -> None:
    prompt = f"cut {next(_number)}"
    await emulator.fault("mid_stream_error", prompt)
    events = await service.streamed(prompt, n=3, partial_images=0)
    assert kinds(events)[-1] == "done", "without previews nothing is streamed, and the fault has nothing to break"
    prompt = f"cut {next(_number)}"
    await emulator.fault("mid_stream_error", prompt)
    events = await service.streamed(prompt, n=3, partial_images=1)
    done = events[-1].done
    assert done.state == pb.ImageGeneration.PARTIALLY_SUCCEEDED
    states = [pb.ImageResult.State.Name(one.state) for one in done.results]
    assert states[0] == "STORED"
    assert states[-1] == "FAILED"
    # All three may have been charged: what the first one cost is not the whole.
    assert done.cost.source == pb.Cost.UNPRICED
    assert done.usage.output_tokens > 0
    [step] = done.steps
    call = await service.stub.GetPaidCall(pb.GetPaidCallRequest(name=step.paid_call))
    assert (call.state, call.billed) == (pb.PaidCall.SUCCEEDED, pb.PaidCall.YES)


@pytest.mark.parametrize("previews", [0, 1], ids=["whole", "streamed"])
async def test_fewer_pictures_than_asked_for_are_kept(previews: int, service: Service, emulator: Emulator) -> None:
    prompt = f"short {next(_number)}"
    await emulator.fault("short", prompt)
    done = (await service.streamed(prompt, n=2, partial_images=previews))[-1].done
    assert done.state == pb.ImageGeneration.PARTIALLY_SUCCEEDED
    error = from_status(done.results[1].error)
    assert (error.reason, error.billed.value) == ("PROVIDER_BAD_RESPONSE", "yes")


@pytest.mark.parametrize("previews", [0, 1], ids=["whole", "streamed"])
async def test_a_provider_that_hangs_leaves_the_outcome_unknown(
    previews: int, service: Service, emulator: Emulator
) -> None:
    prompt = f"hang {next(_number)}"
    await emulator.fault("hang", prompt)
    settings = service.settings.model_copy(update={"provider_seconds": 0.5})
    async with running_image(settings, service.selection) as hasty:
        events = await hasty.streamed(prompt, partial_images=previews)
        assert await ending(hasty, from_status(events[-1].error)) == UNKNOWN


async def test_a_connection_reset_before_the_request_was_read_is_no_reason_to_send_it_again(
    service: Service, emulator: Emulator
) -> None:
    await emulator.http.post(
        "/faults", json={"kind": "reset", "reset_at": "unread", "match": {"endpoint": "/v1/images/generations"}}
    )
    error = await refusal(service.generate("unread"))
    assert await ending(service, error) == UNKNOWN
    assert await emulator.charges(idempotency_key=error.metadata["paidCall"].removeprefix("paidCalls/")) == []


async def test_the_dialect_that_refuses_before_it_charges_may_be_asked_again(
    emulated: Service, emulator: Emulator
) -> None:
    prompt = f"busy {next(_number)}"
    await emulator.fault("overloaded", prompt, retry_after=60)
    error = await refusal(emulated.generate(prompt))
    assert await ending(emulated, error) == UNAVAILABLE
    await emulator.fault("overloaded", f"{prompt} again", retry_after=0.05)
    done = await emulated.generate(f"{prompt} again")
    assert done.state == pb.ImageGeneration.SUCCEEDED, "a short wait is waited for"


async def test_an_edit_fails_as_a_generation_does(service: Service, emulator: Emulator) -> None:
    for kind, expected in (("cut", UNKNOWN), ("moderation_blocked", REJECTED), ("truncated_base64", PAID_FOR_NOTHING)):
        prompt = f"edited {next(_number)}"
        await emulator.fault(kind, prompt)
        error = await refusal(service.edit(PHOTO, prompt=prompt))
        assert await ending(service, error) == expected
        await _called_once(emulator, error)
