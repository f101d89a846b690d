"""The image adapter: one request of a registry's model over the OpenAI protocol, sent once, answered with raw bytes."""

import asyncio
import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from services.common.errors import Billed, ServiceError
from services.models.endpoints import EndpointClients
from services.models.exchange import Terms, exchange, json_object
from services.models.failures import CallFailed, bad_response, content_rejected, is_content_rejection
from services.models.image_requests import CheckedImageRequest, wire_body
from services.models.money import UNPRICED, Cost, TokenPrice, cost_of
from services.models.registry import Registry
from services.models.rows import Dialect, TextModel
from services.models.usage import Usage, image_usage, sane_count

# Decoding below this is faster than handing it to a thread.
INLINE_BYTES = 64 * 1024
# Decoding takes the answer's size in memory once more, and holds the interpreter: not all answers at once.
DECODERS = 2
# A whole number of base64's groups. Between two chunks other threads, the event loop's first of all, get their turn.
DECODE_CHUNK = 4 * 1024 * 1024
_FROM_URL_ALPHABET = str.maketrans("-_", "+/")
# As long as what an error may carry allows.
_ADDRESS = re.compile(r"https?://[!-~]{1,900}")


@dataclass(frozen=True, slots=True)
class Image:
    """One image of an answer: its bytes as the provider sent them, or, in our words, what is wrong with it.

    `address` is where the provider says that it is.
    """

    content: bytes | None
    problem: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class ImageAnswer:
    """What the provider answered, in its order. `raw_usage` is its own words."""

    images: tuple[Image, ...]
    usage: Usage | None
    raw_usage: Mapping[str, Any] | None
    cost: Cost
    price: TokenPrice | None
    provider_request_id: str


class ImageAdapter:
    """Calls image models. It never repeats a call: who may, and how often, the caller decides."""

    def __init__(self, registry: Registry, clients: EndpointClients, *, seconds: float, max_answer_bytes: int) -> None:
        self._registry = registry
        self._clients = clients
        self._terms = Terms(seconds, max_answer_bytes)
        self._decoding = asyncio.Semaphore(DECODERS)

    async def generate(self, checked: CheckedImageRequest, *, idempotency_key: str, today: date) -> ImageAnswer:
        """Makes images from a prompt.

        Raises:
            CallFailed: typed, with `billed`.
        """
        dialect = self._registry.dialect(checked.model)
        client = await self._clients.client(checked.model.endpoint)
        body = wire_body(checked, send_model=dialect.send_model, response_format=dialect.response_format)
        rest = {name: value for name, value in body.items() if name != "prompt"}
        call = client.openai.images.with_streaming_response.generate(
            prompt=body["prompt"],
            extra_body=rest,
            extra_headers={**client.headers, "Idempotency-Key": idempotency_key},
        )
        answer, request_id = await exchange(
            call, self._terms, client=client, dialect=dialect, endpoint=checked.model.endpoint
        )
        if len(answer) <= INLINE_BYTES:
            return self._read(answer, request_id, checked, dialect, today)
        async with self._decoding:
            return await asyncio.to_thread(self._read, answer, request_id, checked, dialect, today)

    def _read(
        self, answer: bytearray, request_id: str, checked: CheckedImageRequest, dialect: Dialect, today: date
    ) -> ImageAnswer:
        """What the answer says. It is emptied: its images are as large as it is."""
        data = json_object(answer, request_id)
        price = self._registry.price(checked.model, today)
        usage = image_usage(data.get("usage"), dialect.usage)
        cost = _with_author(cost_of(usage, price), self._author_cost(data.get("svg_usage"), today))
        images = _images(data.get("data"))
        if all(image.content is None for image in images):
            problem = _no_result(data, images, Billed.YES if usage else Billed.UNKNOWN)
            raise CallFailed(problem, request_id, usage=usage, cost=cost)
        raw: dict[str, Any] = {name: data[name] for name in ("usage", "svg_usage") if name in data}
        return ImageAnswer(images, usage, raw, cost, price, request_id)

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


def _images(items: object) -> tuple[Image, ...]:
    return tuple(_image(item) for item in items) if isinstance(items, list) else ()


def _image(item: object) -> Image:
    fields = item if isinstance(item, Mapping) else {}
    encoded, address = fields.get("b64_json"), fields.get("url")
    if not encoded and isinstance(address, str) and address.startswith("data:"):
        encoded = address
    if not isinstance(encoded, str) or not encoded:
        # An address is not followed: it could lead anywhere. Who has paid for what is there is told of it.
        known = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
        return Image(None, "an image has no b64_json", known[0] if known else "")
    try:
        return Image(_decoded(encoded))
    except ValueError:
        return Image(None, "an image is not base64")


def _decoded(text: str) -> bytes:
    """Bytes of base64, however it is written: they have been paid for.

    Raises:
        ValueError: it is none, or of nothing.
    """
    try:
        content = _strictly_decoded(text)
    except ValueError:
        content = _strictly_decoded(_tidy(text))
    if not content:
        raise ValueError("no bytes")
    return content


def _strictly_decoded(text: str) -> bytes:
    content = bytearray()
    for start in range(0, len(text), DECODE_CHUNK):
        content += base64.b64decode(text[start : start + DECODE_CHUNK], validate=True)
    return bytes(content)


def _tidy(text: str) -> str:
    """Without a data URL's head and white space, in the common alphabet, padded."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    text = "".join(text.split()).rstrip("=").translate(_FROM_URL_ALPHABET)
    return text + "=" * (-len(text) % 4)
