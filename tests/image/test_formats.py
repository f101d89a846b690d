"""GIF and SVG: asked for with their own parameters, stored as they came, priced with the model that wrote them."""

from typing import Any

import pytest

from contentlab.image.v1 import image_service_pb2 as pb
from tests.emulator.harness import Emulator
from tests.image.galleries import ServedGallery
from tests.image.harness import Service, refusal
from tests.image.test_edits import PHOTO, arrived

FLARE = "gpt-image-2.6-flare"


async def test_a_gif_has_the_frames_that_were_asked_for(
    emulated: Service, emulator: Emulator, gallery: ServedGallery
) -> None:
    generation = await emulated.generate(model=FLARE, output_format="gif", frame_count=3, frame_duration_ms=120)
    [result] = generation.results
    assert (result.mime_type, generation.cost.source) == ("image/gif", pb.Cost.COMPUTED)
    fields = (await arrived(emulator, emulated, generation))["fields"]
    assert (fields["frame_count"], fields["frame_duration_ms"]) == (3, 120)
    content = await gallery.content(generation.assets[0])
    assert content.startswith(b"GIF8")
    assert content.count(b"\x21\xf9\x04") == 3, "graphic control extensions, one a frame"


async def test_an_svg_costs_what_its_author_costs_too(emulated: Service, emulator: Emulator) -> None:
    generation = await emulated.generate(
        model=FLARE, output_format="svg", svg_model="gpt-6.1-terra", svg_reasoning_effort="low"
    )
    assert generation.results[0].mime_type == "image/svg+xml"
    fields = (await arrived(emulator, emulated, generation))["fields"]
    assert fields["svg"] == {"model": "gpt-6.1-terra", "reasoning": {"effort": "low"}}
    charge = await emulator.charge(generation.steps[0].paid_call.removeprefix("paidCalls/"))
    # Two amounts, rounded up each by itself here.
    assert 0 <= generation.cost.amount_micro_usd - charge["cost_micro_usd"] <= 1
    assert charge["cost_micro_usd"] > generation.usage.output_tokens * 30


async def test_an_svg_of_an_author_without_a_price_is_unpriced(emulated: Service) -> None:
    generation = await emulated.generate(model=FLARE, output_format="svg", svg_model="gpt-5.1")
    assert (generation.state, generation.cost.source) == (pb.ImageGeneration.SUCCEEDED, pb.Cost.UNPRICED)
    assert not generation.cost.HasField("amount_micro_usd")


@pytest.mark.parametrize(
    ("output_format", "fields", "wire"),
    [
        pytest.param("gif", {"frame_count": 2}, {"frame_count": "2"}, id="gif"),
        pytest.param(
            "svg",
            {"svg_model": "gpt-6-luna", "svg_reasoning_effort": "none"},
            {"svg[model]": "gpt-6-luna", "svg[reasoning][effort]": "none"},
            id="svg",
        ),
    ],
)
async def test_edits_make_them_too(
    output_format: str, fields: dict[str, Any], wire: dict[str, str], emulated: Service, emulator: Emulator
) -> None:
    generation = await emulated.edit(PHOTO, model=FLARE, output_format=output_format, **fields)
    assert generation.results[0].mime_type.startswith(f"image/{output_format}")
    sent = (await arrived(emulator, emulated, generation))["fields"]
    assert {name: sent[name] for name in wire} == wire


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"output_format": "gif"}, "output_format"),
        ({"output_format": "svg", "model": FLARE, "n": 2}, "n"),
        ({"frame_count": 2, "model": FLARE}, "frame_count"),
        ({"svg_model": "gpt-6-luna", "model": FLARE}, "svg_model"),
        ({"output_format": "svg", "model": FLARE, "svg_reasoning_effort": "low"}, "svg_reasoning_effort"),
        ({"output_format": "gif", "model": FLARE, "output_compression": 50}, "output_compression"),
        ({"output_format": "gif", "model": FLARE, "background": "transparent"}, "background"),
    ],
)
async def test_what_does_not_go_together_is_refused(fields: dict[str, Any], field: str, emulated: Service) -> None:
    error = await refusal(emulated.generate(**fields))
    assert (error.reason, error.violations[0].field) == ("UNSUPPORTED_PARAMETER", field)
