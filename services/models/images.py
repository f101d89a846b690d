"""The image adapter: one request of a registry's model over the OpenAI protocol, sent once, answered with raw bytes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

from openai import AsyncAPIResponse, Omit

from services.common.errors import Billed, ServiceError
from services.models.endpoints import Client, EndpointClients
from services.models.exchange import Terms, converse, exchange, json_object
from services.models.failures import CallFailed, bad_response, content_rejected, is_content_rejection
from services.models.image_bytes import Image, images_of
from services.models.image_files import EditFiles
from services.models.image_requests import CheckedImageRequest, wire_body
from services.models.image_streams import Event, ImageStream, OnPreview, unseen
from services.models.money import UNPRICED, Cost, TokenPrice, cost_of
from services.models.registry import Registry
from services.models.rows import Dialect, TextModel
from services.models.usage import Usage, image_usage, sane_count

# Decoding below this is faster than handing it to a thread.
INLINE_BYTES = 64 * 1024
# Decoding takes the answer's size in memory once more, and holds the interpreter: not all answers at once.
DECODERS = 2
# Tells the SDK to hand over the answer before its body is read; what its `with_streaming_response` sends, too.
RAW_RESPONSE_HEADER = "X-Stainless-Raw-Response"

Call = AbstractAsyncContextManager[AsyncAPIResponse[Any]]


@dataclass(frozen=True, slots=True)
class ImageAnswer:
    """What the provider answered, in its order. `raw_usage` is its own words."""

    images: tuple[Image, ...]
    usage: Usage | None
    raw_usage: Mapping[str, Any] | None
    cost: Cost
    price: TokenPrice | None
    provider_request_id: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What has to be known of a request to read its answer."""

    checked: CheckedImageRequest
    dialect: Dialect
    today: date
    has_pictures: bool

    def usage(self, raw: object) -> Usage | None:
        """The usage in one answer or event."""
        return image_usage(raw, self.dialect.usage, has_image_inputs=self.has_pictures)


@asynccontextmanager
async def _post(
    client: Client,
    headers: Mapping[str, str | Omit],
    body: Mapping[str, Any],
    form: list[tuple[str, tuple[str, bytes, str]]] | None,
) -> AsyncIterator[AsyncAPIResponse[Any]]:
    """The SDK's call with the answer's body unread. The form's names are the dialect's, so it is put together here."""
    kind = {} if form is None else {"Content-Type": "multipart/form-data"}
    response = await client.openai.post(
        "/images/generations" if form is None else "/images/edits",
        cast_to=AsyncAPIResponse[Any],
        body=dict(body),
        files=form,
        options={"headers": {**headers, **kind, RAW_RESPONSE_HEADER: "stream"}, "security": {"bearer_auth": True}},
    )
    try:
        yield response
    finally:
        await response.close()


class ImageAdapter:
    """Calls image models. It never repeats a call: who may, and how often, the caller decides."""

    def __init__(self, registry: Registry, clients: EndpointClients, *, seconds: float, max_answer_bytes: int) -> None:
        self._registry = registry
        self._clients = clients
        self._terms = Terms(seconds, max_answer_bytes)
        self._decoding = asyncio.Semaphore(DECODERS)

    async def make(
        self,
        checked: CheckedImageRequest,
        files: EditFiles | None = None,
        *,
        idempotency_key: str,
        today: date,
        on_preview: OnPreview = unseen,
    ) -> ImageAnswer:
        """Makes images from a prompt, or with `files` from these and a prompt.

        `on_preview` gets what comes before the images, where the request asks for it.

        Raises:
            CallFailed: typed, with `billed`.
        """
        dialect = self._registry.dialect(checked.model)
        client = await self._clients.client(checked.model.endpoint)
        headers = {**client.headers, "Idempotency-Key": idempotency_key}
        body = wire_body(
            checked,
            send_model=dialect.send_model,
            response_format=dialect.response_format,
            user_field=dialect.user_field,
        )
        call = _post(client, headers, body, files.form(dialect.mask_field) if files else None)
        reading = Reading(checked, dialect, today, has_pictures=files is not None)
        if checked.partial_images:
            return await self._streamed(call, client, reading, on_preview)
        answer, request_id = await exchange(
            call, self._terms, client=client, dialect=dialect, endpoint=checked.model.endpoint
        )
        return await self._read_somewhere(answer, request_id, reading)

    async def _streamed(self, call: Call, client: Client, reading: Reading, on_preview: OnPreview) -> ImageAnswer:
        endpoint = reading.checked.model.endpoint
        stream = ImageStream(
            wanted=reading.checked.request.n,
            max_bytes=self._terms.max_answer_bytes,
            on_preview=on_preview,
            in_thread=self._parsed_somewhere,
        )
        try:
            await converse(call, stream.read, self._terms, client=client, dialect=reading.dialect, endpoint=endpoint)
        except CallFailed:
            # What is finished has been paid for, whatever became of the rest.
            if not stream.completed:
                raise
            stream.broken = True
        if stream.whole is not None:
            return await self._read_somewhere(stream.whole, stream.request_id, reading)
        return self._gathered(stream, reading)

    async def _read_somewhere(self, answer: bytearray, request_id: str, reading: Reading) -> ImageAnswer:
        if len(answer) <= INLINE_BYTES:
            return self._read(answer, request_id, reading)
        async with self._decoding:
            return await asyncio.to_thread(self._read, answer, request_id, reading)

    async def _parsed_somewhere(self, parse: Callable[[bytes], Event], data: bytes) -> Event:
        if len(data) <= INLINE_BYTES:
            return parse(data)
        async with self._decoding:
            return await asyncio.to_thread(parse, data)

    def _read(self, answer: bytearray, request_id: str, reading: Reading) -> ImageAnswer:
        """What the answer says. It is emptied: its images are as large as it is."""
        data = json_object(answer, request_id)
        price = self._registry.price(reading.checked.model, reading.today)
        usage = reading.usage(data.get("usage"))
        cost = _with_author(cost_of(usage, price), self._author_cost(data.get("svg_usage"), reading.today))
        images = images_of(data.get("data"))
        if all(image.content is None for image in images):
            problem = _no_result(data, images, Billed.YES if usage else Billed.UNKNOWN)
            raise CallFailed(problem, request_id, usage=usage, cost=cost)
        raw: dict[str, Any] = {name: data[name] for name in ("usage", "svg_usage") if name in data}
        return ImageAnswer(images, usage, raw, cost, price, request_id)

    def _gathered(self, stream: ImageStream, reading: Reading) -> ImageAnswer:
        """The images of a stream. The cost is known only if every one of them came, and told what it used."""
        price = self._registry.price(reading.checked.model, reading.today)
        told = [reading.usage(one.usage) for one in stream.completed]
        known = [usage for usage in told if usage is not None]
        usage = sum(known[1:], known[0]) if known else None
        entire = len(stream.completed) >= reading.checked.request.n and not stream.broken and len(known) == len(told)
        cost = cost_of(usage, price) if entire else UNPRICED
        images = tuple(one.image for one in stream.completed)
        if all(image.content is None for image in images):
            problem = _no_result({}, images, Billed.YES if usage else Billed.UNKNOWN)
            raise CallFailed(problem, stream.request_id, usage=usage, cost=cost)
        raw = {"usage": [one.usage for one in stream.completed]}
        return ImageAnswer(images, usage, raw, cost, price, stream.request_id)

    def _author_cost(self, svg_usage: object, today: date) -> Cost | None:
        """What the language model that wrote an SVG costs, which is billed beside the image; None: there was none."""
        if not isinstance(svg_usage, Mapping):
            return None
        found = self._registry.find(TextModel, str(svg_usage.get("model", "")))
        tokens_in, tokens_out = (sane_count(svg_usage.get(name)) for name in ("input_tokens", "output_tokens"))
        if found is None or tokens_in is None or tokens_out is None:
            return UNPRICED
        usage = Usage(input_text_tokens=tokens_in, output_text_tokens=tokens_out)
        return cost_of(usage, self._registry.price(found[1], today))


def _with_author(image: Cost, author: Cost | None) -> Cost:
    if author is None:
        return image
    if image.micro_usd is None or author.micro_usd is None:
        return UNPRICED
    return Cost(image.source, image.micro_usd + author.micro_usd)


def _no_result(data: Mapping[str, Any], images: tuple[Image, ...], billed: Billed) -> ServiceError:
    """What an answer without a single image means. A 200 proves nothing free: what was filtered may have been made."""
    error = data.get("error")
    if isinstance(error, Mapping) and is_content_rejection(error):
        return content_rejected(error, billed=billed)
    if error and not images:
        return bad_response("it is an error in the guise of success", billed=billed)
    if not images:
        return bad_response("it has no images", billed=billed)
    address = next((image.address for image in images if image.address), "")
    return bad_response(images[0].problem, billed=billed, metadata={"imageUrl": address} if address else {})
