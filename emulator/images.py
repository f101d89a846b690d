"""POST /v1/images/generations and /v1/images/edits: from the request to the bytes of its answer."""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from time import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from emulator.bodies import read_form, read_json
from emulator.desk import Desk, PaidCall, Result
from emulator.drawing.editing import Inputs
from emulator.drawing.pictures import PictureSpec, numbered
from emulator.errors import ApiError, unsupported
from emulator.faults import Order
from emulator.image_params import ImageRequest, from_form, parse
from emulator.models import Catalogue
from emulator.settings import Settings
from emulator.studio import Drawn, Studio
from emulator.uploads import decode, split
from emulator.usage import cost_micro_usd, image_usage, input_image_tokens, output_image_tokens, text_tokens

SEED_HEADER = "x-emulator-seed"

_NO_PICTURE = b"These bytes are not a picture.\n" * 8


@dataclass(frozen=True, slots=True)
class Images:
    """The Images API of one emulator."""

    settings: Settings
    catalogue: Catalogue
    studio: Studio
    desk: Desk

    async def generate(self, request: Request) -> Response:
        """Pictures from a prompt."""
        raw = await read_json(request, self.settings.max_json_bytes, self.settings.body_seconds)
        wanted = parse(raw, self.catalogue)
        return await self._serve(request, wanted, None, raw)

    async def edit(self, request: Request) -> Response:
        """Pictures from a prompt and other pictures."""
        form = await read_form(request, self.settings.max_media_bytes, self.settings.body_seconds)
        try:
            fields, uploads = await split(form)
        finally:
            await form.close()
        raw = from_form(fields)
        parse(raw, self.catalogue, edit=True)  # before the files, which take longer
        inputs = await self.studio.run(lambda: decode(uploads))
        wanted = parse(raw, self.catalogue, edit=True, first_image=inputs.images[0].size)
        if inputs.markup is not None and not (wanted.model.image and wanted.model.image.markup):
            raise unsupported("markup", "'markup' is not supported by this model.")
        return await self._serve(request, wanted, inputs, raw)

    async def _serve(
        self, request: Request, wanted: ImageRequest, inputs: Inputs | None, raw: Mapping[str, Any]
    ) -> Response:
        seed = self._seed(request)
        call = PaidCall(
            endpoint=request.url.path,
            operation="generate" if inputs is None else "edit",
            model=wanted.model.id,
            text=wanted.prompt,
            streams=wanted.stream,
            parameters={name: value for name, value in raw.items() if name not in ("prompt", "model")}
            | ({"images": len(inputs.images), "mask": inputs.editable is not None} if inputs else {}),
        )

        async def work(fault: Order | None) -> Result:
            specs = numbered(_spec(wanted, seed), wanted.n)
            drawn = await self.studio.pictures(specs, inputs, str(request.state.request_id))
            return _result(wanted, inputs, _spoilt(drawn, fault))

        return await self.desk.serve(request, call, work)

    def _seed(self, request: Request) -> int:
        given = request.headers.get(SEED_HEADER, str(self.settings.seed))
        if not given.isdecimal() or len(given) > 18:
            raise ApiError(400, f"'{SEED_HEADER}' must be a non-negative integer.", param=SEED_HEADER)
        return int(given)


def _spec(wanted: ImageRequest, seed: int) -> PictureSpec:
    return PictureSpec(
        prompt=wanted.prompt,
        width=wanted.width,
        height=wanted.height,
        seed=seed,
        transparent=wanted.transparent,
        output_format=wanted.output_format,
        compression=wanted.compression,
        partials=wanted.partial_images,
    )


def _spoilt(drawn: list[Drawn], fault: Order | None) -> list[Drawn]:
    match fault.kind if fault else None:
        case "wrong_image":
            digest = hashlib.sha256(_NO_PICTURE).hexdigest()
            return [Drawn(base64.b64encode(_NO_PICTURE), digest, each.partials) for each in drawn]
        case "short" if fault:
            return drawn[: max(0, len(drawn) - fault.missing)]
        case _:
            return drawn


def _result(wanted: ImageRequest, inputs: Inputs | None, drawn: list[Drawn]) -> Result:
    text_in = text_tokens(wanted.prompt)
    image_in = sum(input_image_tokens(*image.size) for image in inputs.images) if inputs else 0
    each_out = output_image_tokens(wanted.width, wanted.height, wanted.quality)
    out = each_out * wanted.n  # pictures that a fault leaves out are charged too
    operation = "image_generation" if inputs is None else "image_edit"
    usage = image_usage(text_in, image_in, out)
    if wanted.stream:
        parts = []
        for index, picture in enumerate(drawn):
            # The events of one request add up to its charge: the first carries what was put in.
            share = image_usage(*((text_in, image_in) if index == 0 else (0, 0)), each_out, streamed=True)
            parts += _events(operation, wanted, picture, share)
    else:
        parts = [_body(wanted, drawn, usage)]
    cost = cost_micro_usd(wanted.model.price, text_in, image_in, out)
    return Result(parts, usage, cost, wanted.n, tuple(picture.sha256 for picture in drawn))


def _facts(wanted: ImageRequest) -> dict[str, Any]:
    facts = {
        "background": wanted.background,
        "output_format": wanted.output_format,
        "quality": wanted.quality,
        "size": wanted.size,
    }
    return facts | ({"safety_identifier": wanted.safety_identifier} if wanted.safety_identifier else {})


def _body(wanted: ImageRequest, drawn: list[Drawn], usage: Mapping[str, Any]) -> bytes:
    head = json.dumps({"created": int(time()), **_facts(wanted), "usage": usage}).encode()
    # Base64 needs no escaping: joined as bytes, megabytes of it cost no JSON encoding.
    data = b",".join(b'{"b64_json":"%b"}' % picture.b64 for picture in drawn)
    return b'%b,"data":[%b]}' % (head[:-1], data)


def _events(operation: str, wanted: ImageRequest, picture: Drawn, usage: Mapping[str, Any]) -> list[bytes]:
    facts = {"created_at": int(time()), **_facts(wanted)}
    safety = {"safety_identifier": facts.pop("safety_identifier")} if wanted.safety_identifier else {}
    events = [
        _event(f"{operation}.partial_image", {**facts, "partial_image_index": index}, b64)
        for index, b64 in enumerate(picture.partials)
    ]
    return [*events, _event(f"{operation}.completed", {**facts, **safety, "usage": usage}, picture.b64)]


def _event(name: str, facts: Mapping[str, Any], b64: bytes) -> bytes:
    head = json.dumps({"type": name, **facts}).encode()
    return b'event: %b\ndata: %b,"b64_json":"%b"}\n\n' % (name.encode(), head[:-1], b64)
