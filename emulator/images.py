"""POST /v1/images/generations and /v1/images/edits: from the request to the bytes of its answer."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from emulator import image_answers
from emulator.bodies import read_form, read_json
from emulator.desk import Desk, PaidCall, Result
from emulator.drawing.editing import Inputs
from emulator.drawing.pictures import PictureSpec, numbered
from emulator.errors import ApiError, unsupported
from emulator.faults import Order
from emulator.image_params import ImageRequest, from_form, parse
from emulator.settings import Settings
from emulator.shelf import Shelf
from emulator.studio import Drawn, Studio
from emulator.surfaces import Surface
from emulator.uploads import decode, split
from emulator.usage import (
    cost_micro_usd,
    image_usage,
    input_image_tokens,
    output_image_tokens,
    svg_usage,
    text_tokens,
)
from emulator.wire import WireLog

SEED_HEADER = "x-emulator-seed"

_GENERATIONS, _EDITS = "/v1/images/generations", "/v1/images/edits"
_NO_PICTURE = b"These bytes are not a picture.\n" * 8


@dataclass(frozen=True, slots=True)
class Images:
    """The Images API of one emulator."""

    settings: Settings
    studio: Studio
    desk: Desk
    wire: WireLog
    shelf: Shelf

    async def generate(self, request: Request) -> Response:
        """Pictures from a prompt."""
        raw = await read_json(request, self.settings.max_json_bytes, self.settings.body_seconds, self.wire)
        raw = _deployed(request, raw)
        wanted = parse(raw, request.state.surface)
        return await self._serve(request, wanted, None, raw)

    async def edit(self, request: Request) -> Response:
        """Pictures from a prompt and other pictures."""
        surface: Surface = request.state.surface
        form = await read_form(request, self.settings.max_media_bytes, self.settings.body_seconds, self.wire)
        try:
            fields, uploads = await split(form, surface.dialect.reading)
        finally:
            await form.close()
        raw = _deployed(request, from_form(fields))
        early = parse(raw, surface, edit=True)  # before the files, which take longer
        if uploads.mask is not None and early.format.name in ("gif", "svg"):
            raise unsupported("mask", f"'mask' is not supported with output format '{early.format.name}'.")
        inputs = await self.studio.run(lambda: decode(uploads))
        wanted = parse(raw, surface, edit=True, first_image=inputs.images[0].size)
        if inputs.markup is not None and not (wanted.model.image and wanted.model.image.markup):
            raise unsupported("markup", "'markup' is not supported by this model.")
        return await self._serve(request, wanted, inputs, raw)

    async def _serve(
        self, request: Request, wanted: ImageRequest, inputs: Inputs | None, raw: Mapping[str, Any]
    ) -> Response:
        seed = self._seed(request)
        call = PaidCall(
            endpoint=_GENERATIONS if inputs is None else _EDITS,
            operation="generate" if inputs is None else "edit",
            model=wanted.model.id,
            text=wanted.prompt,
            streams=wanted.stream,
            parameters={name: value for name, value in raw.items() if name not in ("prompt", "model")}
            | ({"images": len(inputs.images), "mask": inputs.editable is not None} if inputs else {}),
        )

        async def work(fault: Order | None) -> Result:
            specs = numbered(_spec(wanted, seed, fault), wanted.n)
            drawn = await self.studio.pictures(specs, inputs, str(request.state.request_id))
            return self._result(request, wanted, inputs, _spoilt(drawn, fault), fault)

        return await self.desk.serve(request, call, work)

    def _result(
        self, request: Request, wanted: ImageRequest, inputs: Inputs | None, drawn: list[Drawn], fault: Order | None
    ) -> Result:
        dialect = request.state.surface.dialect
        text_in = text_tokens(wanted.prompt)
        image_in = sum(input_image_tokens(*image.size) for image in inputs.images) if inputs else 0
        each_out = output_image_tokens(wanted.width, wanted.height, wanted.quality) * wanted.format.frames
        out = each_out * wanted.n  # pictures that a fault leaves out are charged too
        usage = image_usage(text_in, image_in, out)
        cost = cost_micro_usd(wanted.model.price, text_in, image_in, out)
        if author := wanted.format.author:
            size = sum(len(picture.b64) * 3 // 4 - picture.b64[-2:].count(b"=") for picture in drawn)
            usage["svg_usage"] = svg_usage(author.model.id, text_in, size, author.effort)
            written = usage["svg_usage"]
            cost += cost_micro_usd(author.model.price, written["input_tokens"], 0, written["output_tokens"])
        if wanted.stream:
            operation = "image_generation" if inputs is None else "image_edit"
            parts = []
            for index, picture in enumerate(drawn):
                # The events of one request add up to its charge: the first carries what was put in.
                share = image_usage(*((text_in, image_in) if index == 0 else (0, 0)), each_out, streamed=True)
                events = image_answers.events(operation, wanted, picture, share)
                early = dialect.early_final or (fault is not None and fault.kind == "early_final")
                parts += [*events[:-2], events[-1], events[-2]] if early and len(events) > 1 else events
        else:
            urls = [self.shelf.put(request, wanted.format.name, picture) for picture in drawn if wanted.answer == "url"]
            parts = [image_answers.body(wanted, dialect, drawn, usage, str(request.state.request_id), urls)]
        return Result(parts, usage, cost, wanted.n, tuple(picture.sha256 for picture in drawn))

    def _seed(self, request: Request) -> int:
        given = request.headers.get(SEED_HEADER, str(self.settings.seed))
        if not given.isdecimal() or len(given) > 18:
            raise ApiError(400, f"'{SEED_HEADER}' must be a non-negative integer.", param=SEED_HEADER)
        return int(given)


def _deployed(request: Request, raw: dict[str, Any]) -> dict[str, Any]:
    """Where the path names the model, the body's name counts for nothing."""
    deployment = request.path_params.get("deployment")
    return raw if deployment is None else raw | {"model": deployment}


def _spec(wanted: ImageRequest, seed: int, fault: Order | None) -> PictureSpec:
    name = wanted.format.name
    if fault is not None and fault.kind == "wrong_format":
        name = "jpeg" if name == "png" else "png"
    return PictureSpec(
        prompt=wanted.prompt,
        width=wanted.width,
        height=wanted.height,
        seed=seed,
        transparent=wanted.transparent and name != "jpeg",
        output_format=name,
        compression=wanted.format.compression,
        partials=wanted.partial_images,
        frames=wanted.format.frames,
        frame_ms=wanted.format.frame_ms,
    )


def _spoilt(drawn: list[Drawn], fault: Order | None) -> list[Drawn]:
    match fault.kind if fault else None:
        case "wrong_image":
            digest = hashlib.sha256(_NO_PICTURE).hexdigest()
            return [Drawn(base64.b64encode(_NO_PICTURE), digest, each.partials) for each in drawn]
        case "truncated_base64":
            return [replace(each, b64=_truncated(each.b64)) for each in drawn]
        case "short" if fault:
            return drawn[: max(0, len(drawn) - fault.missing)]
        case "fewer_partials" if fault:
            return [replace(each, partials=each.partials[: -fault.missing]) for each in drawn]
        case _:
            return drawn


def _truncated(b64: bytes) -> bytes:
    """Two thirds of it and one letter: no base64 has a length of 4k + 1."""
    return b64[: len(b64) * 2 // 3 // 4 * 4 + 1]
