"""One suite for every server that speaks the protocol: what is asked for arrives in its dialect, or is refused."""

import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from pydantic import SecretStr

from contentlab.image.v1 import image_service_pb2 as pb
from services.common.status import from_status
from services.models.binding import bind_all
from services.models.registry import build, shipped
from services.models.rows import Endpoint
from services.models.selection import Selection
from tests.emulator.harness import Emulator
from tests.image.galleries import ServedGallery
from tests.image.harness import Service, image_input, kinds, refusal, running_image
from tests.image.test_edits import MASK, PHOTO, arrived, digests, sha256
from tests.support.media import png


@dataclass(frozen=True)
class Server:
    """One server: where it is, which model it is asked for, and what it does in its own way."""

    dialect: str
    root: str = "/v1"
    wire_id: str = "gpt-image-2"
    auth: str = "key"
    has_usage: bool = True
    mask_field: str = "mask"
    edits: bool = True
    streams: bool = True
    # Fields beyond those that were asked for.
    adds: tuple[tuple[str, str], ...] = ()
    sends_model: bool = True
    quality: str = "low"
    refused: tuple[tuple[str, Any], ...] = ()

    @property
    def is_priced(self) -> bool:
        """Whether it is one of OpenAI's models with OpenAI's usage."""
        return self.wire_id == "gpt-image-2"


_LOCAL: dict[str, Any] = {"auth": "none", "streams": False}
_QWEN = "Qwen/Qwen-Image"
SERVERS = [
    Server("openai", refused=(("quality", "max"), ("seed", 7), ("complexity", "low"), ("output_format", "gif"))),
    Server(
        "azure-v1", root="/openai/v1", refused=(("output_format", "webp"), ("quality", "xhigh"), ("quality", "max"))
    ),
    Server("litellm", wire_id="openai/gpt-image-2"),
    Server(
        "vllm-omni",
        wire_id=_QWEN,
        has_usage=False,
        mask_field="mask_image",
        sends_model=False,
        quality="",
        refused=(
            ("quality", "low"),
            ("background", "opaque"),
            ("moderation", "low"),
            ("size", "auto"),
            ("safety_identifier", "x"),
            ("output_format", "svg"),
        ),
        **_LOCAL,
    ),
    Server(
        "sglang",
        wire_id=_QWEN,
        mask_field="",
        quality="lossless",
        adds=(("response_format", "b64_json"),),
        refused=(("quality", "low"), ("moderation", "low"), ("size", "auto"), ("complexity", "high")),
        **_LOCAL,
    ),
    Server(
        "localai",
        wire_id="sd-3.5-medium-ggml",
        has_usage=False,
        edits=False,
        quality="",
        adds=(("response_format", "b64_json"),),
        refused=(
            ("quality", "high"),
            ("background", "opaque"),
            ("output_format", "jpeg"),
            ("size", "auto"),
            ("output_format", "webp"),
        ),
        **_LOCAL,
    ),
]


@dataclass(frozen=True)
class Spoken:
    """The service in front of one server."""

    server: Server
    service: Service


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=SERVERS, ids=[one.dialect for one in SERVERS])
async def spoken(request: pytest.FixtureRequest, emulated: Service, emulator: Emulator) -> AsyncIterator[Spoken]:
    server: Server = request.param
    endpoint = Endpoint(
        base_url=f"{emulator.url}/dialects/{server.dialect}{server.root}",
        dialect=server.dialect,
        auth=server.auth,  # type: ignore[arg-type]  # a word of the table above
        key=SecretStr("sk-a-made-up-key") if server.auth == "key" else None,
    )
    async with running_image(emulated.settings, Selection("registry", _registry(server, endpoint))) as running:
        yield Spoken(server, running)


def _registry(server: Server, endpoint: Endpoint) -> Any:
    if server.is_priced:
        return bind_all(shipped(), "here", endpoint, "", "")
    row = {"endpoint": "here", "profile": "pass-through", "wire_id": server.wire_id}
    return build(shipped(), {"here": endpoint}, {"theirs": row})


async def test_a_picture_is_made_and_stored_and_costs_what_is_known(
    spoken: Spoken, emulator: Emulator, gallery: ServedGallery
) -> None:
    server = spoken.server
    fields = {"size": "1024x1024", "n": 2, "output_format": "png"} | (
        {"quality": server.quality} if server.quality else {}
    )
    generation = await spoken.service.generate("a lighthouse", **fields)
    assert generation.state == pb.ImageGeneration.SUCCEEDED
    assert [result.mime_type for result in generation.results] == ["image/png"] * 2
    assert all((result.width_px, result.height_px) == (1024, 1024) for result in generation.results)
    entry = await arrived(emulator, spoken.service, generation)
    model = {"model": server.wire_id} if server.sends_model else {}
    assert entry["fields"] == {"prompt": "a lighthouse", **fields, **model, **dict(server.adds)}
    assert entry["credential"] == ("bearer" if server.auth == "key" else None)
    assert generation.HasField("usage") == server.has_usage
    charge = await emulator.charge(generation.steps[0].paid_call.removeprefix("paidCalls/"))
    if server.is_priced:
        assert generation.cost.amount_micro_usd == charge["cost_micro_usd"]
    else:
        assert (generation.cost.source, generation.cost.HasField("amount_micro_usd")) == (pb.Cost.UNPRICED, False)
    assert sha256(await gallery.content(generation.assets[0])) in charge["pictures"]


async def test_an_edit_reaches_the_server_in_its_form(spoken: Spoken, emulator: Emulator) -> None:
    server = spoken.server
    if not server.edits:
        error = await refusal(spoken.service.edit(PHOTO))
        assert (error.reason, error.violations[0].field) == ("UNSUPPORTED_PARAMETER", "model")
        return
    generation = await spoken.service.edit(PHOTO, png(96, 64, seed=3), size="1024x1024")
    assert generation.state == pb.ImageGeneration.SUCCEEDED
    fields = (await arrived(emulator, spoken.service, generation))["fields"]
    assert digests(fields["image[]"]) == [sha256(PHOTO), sha256(png(96, 64, seed=3))]
    one = await spoken.service.edit(PHOTO, size="1024x1024")
    assert digests((await arrived(emulator, spoken.service, one))["fields"]["image"]) == [sha256(PHOTO)]


async def test_a_mask_is_sent_under_the_name_that_the_server_reads_or_refused(
    spoken: Spoken, emulator: Emulator
) -> None:
    server = spoken.server
    call = spoken.service.edit(PHOTO, mask=image_input(MASK), size="1024x1024")
    if not server.edits or not server.mask_field:
        assert (await refusal(call)).reason == "UNSUPPORTED_PARAMETER"
        return
    fields = (await arrived(emulator, spoken.service, await call))["fields"]
    assert {name for name in fields if "mask" in name} == {server.mask_field}
    assert digests(fields[server.mask_field]) == [sha256(MASK)]


async def test_previews_are_real_or_refused_and_a_stream_without_them_always_ends_well(spoken: Spoken) -> None:
    if spoken.server.streams:
        events = await spoken.service.streamed("x", partial_images=2, size="1024x1024")
        assert (kinds(events)[0], kinds(events)[-2:]) == ("started", ["image", "done"])
        assert events[-1].done.cost.source == (pb.Cost.COMPUTED if spoken.server.is_priced else pb.Cost.UNPRICED)
    else:
        error = await refusal(spoken.service.streamed("x", partial_images=2, size="1024x1024"))
        assert (error.reason, error.violations[0].field) == ("UNSUPPORTED_PARAMETER", "partial_images")
    assert kinds(await spoken.service.streamed("x", size="1024x1024")) == ["started", "image", "done"]


async def test_what_the_server_would_drop_without_a_word_is_refused_by_name(spoken: Spoken, emulator: Emulator) -> None:
    before = (await emulator.arrived())[-1:]
    for name, value in spoken.server.refused:
        error = await refusal(spoken.service.generate(**{"size": "1024x1024", name: value}))
        assert (error.reason, error.violations[0].field) == ("UNSUPPORTED_PARAMETER", name)
    assert (await emulator.arrived())[-1:] == before


async def test_the_registry_shows_what_the_server_takes(spoken: Spoken) -> None:
    server = spoken.server
    models = (await spoken.service.stub.ListImageModels(pb.ListImageModelsRequest())).image_models
    model = models[0]
    assert ("edit" in model.operations, model.max_partial_images > 0) == (server.edits, server.streams)
    assert (model.max_references > 0) == server.edits
    taken = {"quality": model.qualities, "output_format": model.output_formats, "size": model.size_rule.fixed}
    for name, value in server.refused:
        assert value not in taken.get(name, ()), f"{name} {value} is not offered"


_number = itertools.count()


async def test_a_refusal_of_content_is_one_error_whatever_its_shape(spoken: Spoken, emulator: Emulator) -> None:
    prompt = f"forbidden {next(_number)}"
    await emulator.fault("content_filter" if spoken.server.dialect == "azure-v1" else "moderation_blocked", prompt)
    error = await refusal(spoken.service.generate(prompt, size="1024x1024"))
    # Servers of one's own have no filter, and no word for one.
    reason = "CONTENT_REJECTED" if spoken.server.auth == "key" else "PROVIDER_REJECTED"
    assert (error.reason, error.billed.value, error.retry_safe) == (reason, "no", False)


async def test_throttling_and_a_broken_server_are_told_alike(spoken: Spoken, emulator: Emulator) -> None:
    prompt = f"trouble {next(_number)}"
    await emulator.fault("rate_limit", prompt, retry_after=60)
    throttled = await refusal(spoken.service.generate(prompt, size="1024x1024"))
    assert (throttled.reason, throttled.billed.value, throttled.retry_after) == ("PROVIDER_RATE_LIMITED", "no", 60.0)
    await emulator.fault("server_error", prompt)
    broken = await refusal(spoken.service.generate(prompt, size="1024x1024"))
    expected = ("PROVIDER_UNAVAILABLE", "no") if spoken.server.auth == "none" else ("OUTCOME_UNKNOWN", "unknown")
    assert (broken.reason, broken.billed.value) == expected


async def test_a_model_that_the_server_does_not_have_is_the_operators_matter(
    spoken: Spoken, emulator: Emulator
) -> None:
    server = spoken.server
    if not server.sends_model or server.dialect == "sglang":
        return
    endpoint = spoken.service.selection.registry.endpoints["here"]
    row = {"endpoint": "here", "profile": "pass-through", "wire_id": "no-such-model"}
    selection = Selection("registry", build(shipped(), {"here": endpoint}, {"theirs": row}))
    async with running_image(spoken.service.settings, selection) as other:
        events = await other.streamed("x", size="1024x1024")
    error = from_status(events[-1].error)
    assert error.reason in ("PROVIDER_MISCONFIGURED", "PROVIDER_REJECTED")
    assert error.billed.value == "no"
