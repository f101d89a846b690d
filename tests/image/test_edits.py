"""Pictures from pictures: what the model is given, what is refused before it costs, and where results come from."""

import asyncio
import hashlib
import uuid
from typing import Any

import grpc
import pytest
from PIL import Image

from contentlab.gallery.v1 import gallery_service_pb2 as gallery_pb
from contentlab.image.v1 import image_service_pb2 as pb
from tests.emulator.harness import Emulator
from tests.image.galleries import ServedGallery
from tests.image.harness import Service, image_input, refusal, running_image
from tests.support.media import encoded, png

PHOTO, MASK = png(96, 64, seed=1), png(96, 64, mode="RGBA", seed=2)
PARENTS = gallery_pb.Parent.Relation


async def stored(service: Service) -> str:
    """Name of a new asset: a PNG of 1024x1024."""
    generation = await service.generate("a lighthouse", size="1024x1024")
    return generation.assets[0]


async def arrived(emulator: Emulator, service: Service, generation: pb.ImageGeneration) -> dict[str, Any]:
    """What the emulator got for the generation's main call."""
    key = generation.steps[-1].paid_call.removeprefix("paidCalls/")
    [entry] = await emulator.arrived(idempotency_key=key)
    return entry


def digests(files: Any) -> list[str]:
    return [one["sha256"] for one in (files if isinstance(files, list) else [files])]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def test_one_inline_picture_reaches_the_model_as_it_was_sent(emulated: Service, emulator: Emulator) -> None:
    generation = await emulated.edit(PHOTO, prompt="at night", quality="low")
    assert (generation.state, generation.operation) == (pb.ImageGeneration.SUCCEEDED, pb.ImageGeneration.EDIT)
    entry = await arrived(emulator, emulated, generation)
    fields = entry["fields"]
    assert (entry["path"], entry["encoding"]) == ("/v1/images/edits", "form")
    assert digests(fields["image"]) == [sha256(PHOTO)]
    assert {name: fields[name] for name in fields if name != "image"} == {
        "prompt": "at night",
        "model": "gpt-image-2",
        "n": "1",
        "quality": "low",
    }
    assert dict(generation.parameters) == {"n": "1", "quality": "low"}
    [step] = generation.steps
    assert (step.operation, step.cost.source) == ("edit", pb.Cost.COMPUTED)
    assert generation.usage.input_image_tokens > 0
    charge = await emulator.charge(step.paid_call.removeprefix("paidCalls/"))
    assert charge["cost_micro_usd"] == generation.cost.amount_micro_usd


async def test_assets_and_bytes_travel_together_and_are_the_parents_of_the_result(
    emulated: Service, emulator: Emulator, gallery: ServedGallery
) -> None:
    first, second = await stored(emulated), await stored(emulated)
    generation = await emulated.edit(first, PHOTO, second, second, n=2, model="gpt-image-2.5-flare")
    fields = (await arrived(emulator, emulated, generation))["fields"]
    sent = [await gallery.content(first), PHOTO, *[await gallery.content(second)] * 2]
    assert digests(fields["image[]"]) == [sha256(content) for content in sent]
    assert len(generation.assets) == 2
    for name in generation.assets:
        asset = await gallery.asset(name)
        assert [(parent.asset, PARENTS.Name(parent.relation)) for parent in asset.parents] == [
            (first, "EDITED_FROM"),
            (second, "REFERENCE"),
        ]


async def test_a_mask_and_a_markup_are_parents_too(
    emulated: Service, emulator: Emulator, gallery: ServedGallery
) -> None:
    photo = await stored(emulated)
    overlay = (await emulated.generate("x", size="1024x1024", background="transparent")).assets[0]
    masked = await emulated.edit(photo, mask=image_input(overlay))
    marked = await emulated.edit(photo, markup=image_input(overlay), model="gpt-image-2.5-flare")
    for generation, field in ((masked, "mask"), (marked, "markup")):
        fields = (await arrived(emulator, emulated, generation))["fields"]
        assert digests(fields[field]) == [sha256(await gallery.content(overlay))]
        asset = await gallery.asset(generation.assets[0])
        assert [(one.asset, PARENTS.Name(one.relation)) for one in asset.parents] == [
            (photo, "EDITED_FROM"),
            (overlay, field.upper()),
        ]


async def test_inline_pictures_leave_no_parents(emulated: Service, gallery: ServedGallery) -> None:
    generation = await emulated.edit(PHOTO, mask=image_input(MASK))
    assert not (await gallery.asset(generation.assets[0])).parents


async def test_sixteen_pictures_are_taken(emulated: Service, emulator: Emulator) -> None:
    generation = await emulated.edit(*[png(16, 16, seed=index) for index in range(16)])
    assert len((await arrived(emulator, emulated, generation))["fields"]["image[]"]) == 16


async def test_jpeg_and_webp_are_sent_with_their_own_types(emulated: Service, emulator: Emulator) -> None:
    picture = Image.new("RGB", (40, 30), "teal")
    generation = await emulated.edit(encoded(picture, "JPEG"), encoded(picture, "WEBP"))
    files = (await arrived(emulator, emulated, generation))["fields"]["image[]"]
    assert [one["content_type"] for one in files] == ["image/jpeg", "image/webp"]


@pytest.mark.parametrize(
    ("images", "fields", "code", "reason", "field"),
    [
        pytest.param([], {}, "INVALID_ARGUMENT", "INVALID_FIELD", "images", id="no image"),
        pytest.param([PHOTO] * 17, {}, "INVALID_ARGUMENT", "INVALID_FIELD", "images", id="seventeen"),
        pytest.param([b"no image"], {}, "INVALID_ARGUMENT", "INVALID_IMAGE", "images[0]", id="no picture"),
        pytest.param(
            [PHOTO, b"GIF89a" + bytes(40)], {}, "INVALID_ARGUMENT", "INVALID_IMAGE", "images[1]", id="another type"
        ),
        pytest.param(["assets/c0"], {}, "NOT_FOUND", "ASSET_NOT_FOUND", None, id="no such asset"),
        pytest.param(
            [PHOTO],
            {"mask": image_input(png(64, 96, mode="RGBA"))},
            "INVALID_ARGUMENT",
            "INVALID_IMAGE",
            "mask",
            id="a mask of another size",
        ),
        pytest.param(
            [PHOTO],
            {"mask": image_input(encoded(Image.new("RGB", (96, 64)), "JPEG"))},
            "INVALID_ARGUMENT",
            "INVALID_IMAGE",
            "mask",
            id="a mask that is no PNG",
        ),
        pytest.param(
            [PHOTO], {"mask": image_input(PHOTO)}, "INVALID_ARGUMENT", "INVALID_IMAGE", "mask", id="an opaque mask"
        ),
        pytest.param(
            [png(1100, 1100)],
            {"mask": image_input(png(1100, 1100, mode="RGBA"))},
            "INVALID_ARGUMENT",
            "INVALID_IMAGE",
            "mask",
            id="a mask of more than 4 MB",
        ),
        pytest.param(
            [PHOTO],
            {"markup": image_input(MASK)},
            "INVALID_ARGUMENT",
            "UNSUPPORTED_PARAMETER",
            "markup",
            id="markup where the model has none",
        ),
        pytest.param(
            [PHOTO],
            {"mask": image_input(MASK), "markup": image_input(MASK), "model": "gpt-image-2.5-flare"},
            "INVALID_ARGUMENT",
            "INVALID_FIELD",
            "markup",
            id="mask and markup",
        ),
        pytest.param(
            [PHOTO],
            {"input_fidelity": "high"},
            "INVALID_ARGUMENT",
            "UNSUPPORTED_PARAMETER",
            "input_fidelity",
            id="input fidelity where the model has none",
        ),
        pytest.param(
            [PHOTO],
            {"input_fidelity": "high", "model": "gpt-image-1-mini"},
            "INVALID_ARGUMENT",
            "UNSUPPORTED_PARAMETER",
            "input_fidelity",
            id="an input fidelity that the model has not",
        ),
        pytest.param(
            [PHOTO],
            {"mask": image_input(MASK), "model": "gpt-image-2.6-flare", "output_format": "gif"},
            "INVALID_ARGUMENT",
            "UNSUPPORTED_PARAMETER",
            "mask",
            id="a mask for a gif",
        ),
    ],
)
async def test_an_edit_that_cannot_be_is_refused_before_it_costs(
    images: list[str | bytes],
    fields: dict[str, Any],
    code: str,
    reason: str,
    field: str | None,
    emulated: Service,
    emulator: Emulator,
) -> None:
    before = (await emulator.arrived())[-1:]
    error = await refusal(emulated.edit(*images, **fields))
    assert (error.code, error.reason, error.billed.value) == (grpc.StatusCode[code], reason, "no")
    assert field is None or field in {violation.field for violation in error.violations}
    assert (await emulator.arrived())[-1:] == before, "the model is not asked"


async def test_an_asset_that_is_no_png_jpeg_or_webp_is_nothing_to_edit(emulated: Service) -> None:
    svg = (await emulated.generate("x", model="gpt-image-2.6-flare", output_format="svg")).assets[0]
    assert (await refusal(emulated.edit(svg))).reason == "INVALID_IMAGE"


async def test_inline_pictures_may_have_20_mb_together_and_no_more(emulated: Service) -> None:
    part = png(1000, 1000, seed=5)  # 3 MB
    error = await refusal(emulated.edit(*[part] * 7))
    assert (error.reason, [violation.field for violation in error.violations]) == ("INVALID_FIELD", ["images"])
    assert (await emulated.edit(*[part] * 6)).state == pb.ImageGeneration.SUCCEEDED


async def test_the_same_edit_twice_is_one_and_another_picture_is_another_request(
    emulated: Service, emulator: Emulator
) -> None:
    request_id = str(uuid.uuid4())
    first = await emulated.edit(PHOTO, request_id=request_id)
    assert await emulated.edit(PHOTO, request_id=request_id) == first
    for other in ([png(96, 64, seed=9)], [PHOTO, PHOTO], [(await stored(emulated))]):
        assert (await refusal(emulated.edit(*other, request_id=request_id))).reason == "REQUEST_ID_REUSED"
    assert (await refusal(emulated.edit(PHOTO, mask=image_input(MASK), request_id=request_id))).reason == (
        "REQUEST_ID_REUSED"
    )
    assert len(await emulator.charges(idempotency_key=first.steps[0].paid_call.removeprefix("paidCalls/"))) == 1


async def test_a_request_id_of_a_generation_is_free_for_an_edit(emulated: Service) -> None:
    request_id = str(uuid.uuid4())
    first = await emulated.generate(request_id=request_id)
    assert (await emulated.edit(PHOTO, request_id=request_id)).name != first.name


async def test_validate_only_checks_the_pictures_and_pays_nothing(emulated: Service, emulator: Emulator) -> None:
    before = (await emulator.arrived())[-1:]
    preview = await emulated.edit(PHOTO, mask=image_input(MASK), validate_only=True)
    assert (preview.name, preview.operation) == ("", pb.ImageGeneration.EDIT)
    assert (await refusal(emulated.edit(b"x", validate_only=True))).reason == "INVALID_IMAGE"
    assert (await emulator.arrived())[-1:] == before


async def test_an_edit_of_assets_survives_a_small_room_and_one_that_never_fits_is_refused(
    emulated: Service, gallery: ServedGallery
) -> None:
    photo = await stored(emulated)
    size = (await gallery.asset(photo)).size_bytes
    settings = emulated.settings.model_copy(update={"max_reference_bytes": size + 10})
    async with running_image(settings, emulated.selection) as narrow:
        ended = await asyncio.gather(*(narrow.edit(photo) for _ in range(4)))
        assert {one.state for one in ended} == {pb.ImageGeneration.SUCCEEDED}, "one after the other"
        assert (await narrow.edit(photo, photo)).state == pb.ImageGeneration.SUCCEEDED, "fetched once"
        error = await refusal(narrow.edit(photo, await stored(emulated)))
        assert (error.reason, error.violations[0].field) == ("INVALID_FIELD", "images")


async def test_pictures_that_cannot_be_had_from_the_gallery_cost_nothing(emulated: Service) -> None:
    settings = emulated.settings.model_copy(update={"gallery_target": "127.0.0.1:1"})
    async with running_image(settings, emulated.selection) as alone:
        error = await refusal(alone.edit("assets/c0"))
    assert (error.reason, error.billed.value, error.retry_safe) == ("UNAVAILABLE", "no", True)
