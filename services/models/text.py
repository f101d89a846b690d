"""The text adapter: one call of a language model over Chat Completions, sent once, answered with its text."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, cast

from openai.types.chat import ChatCompletionMessageParam

from services.common.errors import Billed, ServiceError
from services.models.endpoints import EndpointClients
from services.models.exchange import Terms, exchange, json_object
from services.models.failures import CallFailed, bad_response, content_rejected, is_content_rejection
from services.models.money import Cost, TokenPrice, cost_of
from services.models.registry import Registry
from services.models.text_requests import TextCall, wire_body, wire_messages
from services.models.usage import ChatUsage, Usage, chat_usage

REFUSED_FORMAT = "refusedFormat"
"""Metadata of an error: the rung that the server does not take. Nothing was billed, and a lower one may do."""

# What servers call the thing in their complaints.
_FORMAT_WORDS = ("response_format", "json_schema", "json_object", "structured output", "guided_json")
# One half of a pair that stands for a character: no UTF-8, and so no column, no message and no file, holds it.
_HALVES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class TextAnswer:
    """What the model wrote, whole. None: the provider does not say. `raw_usage` is its own words."""

    content: str
    finish_reason: str
    usage: Usage | None
    raw_usage: Mapping[str, Any] | None
    cost: Cost
    price: TokenPrice | None
    provider_request_id: str
    image_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class TextAdapter:
    """Calls language models. It never repeats a call: who may, and how often, the caller decides."""

    def __init__(self, registry: Registry, clients: EndpointClients, *, seconds: float, max_answer_bytes: int) -> None:
        self._registry = registry
        self._clients = clients
        self._terms = Terms(seconds, max_answer_bytes)

    async def complete(self, call: TextCall, *, idempotency_key: str, today: date) -> TextAnswer:
        """One answer.

        Raises:
            CallFailed: typed, with `billed`. A refusal and an answer that was cut off have been paid for.
        """
        model = call.checked.model
        dialect = self._registry.dialect(model)
        client = await self._clients.client(model.endpoint)
        # Pictures become base64, a third larger than they are.
        messages = await asyncio.to_thread(wire_messages, call.messages)
        body = wire_body(call)
        sent = client.openai.chat.completions.with_streaming_response.create(
            messages=cast("list[ChatCompletionMessageParam]", messages),
            model=body.pop("model"),
            extra_body=body,
            extra_headers={**client.headers, "Idempotency-Key": idempotency_key},
        )
        try:
            answer, request_id = await exchange(
                sent, self._terms, client=client, dialect=dialect, endpoint=model.endpoint
            )
        except CallFailed as failed:
            if call.rung not in (None, "prompt") and _refuses_format(failed.error):
                failed.error.metadata[REFUSED_FORMAT] = call.rung
            raise
        return self._read(answer, request_id, call, today)

    def _read(self, answer: bytearray, request_id: str, call: TextCall, today: date) -> TextAnswer:
        data = json_object(answer, request_id)
        used = chat_usage(data.get("usage"))
        price = self._registry.price(call.checked.model, today)
        cost = cost_of(used.usage, price)
        said = _said(data, used, call.checked.max_tokens)
        if isinstance(said, ServiceError):
            raise CallFailed(said, request_id, usage=used.usage, cost=cost)
        return TextAnswer(
            content=said[0],
            finish_reason=said[1],
            usage=used.usage,
            raw_usage={"usage": data["usage"]} if "usage" in data else {},
            cost=cost,
            price=price,
            provider_request_id=request_id,
            image_tokens=used.image_tokens,
            cached_tokens=used.cached_tokens,
            reasoning_tokens=used.reasoning_tokens,
        )


def _refuses_format(error: ServiceError) -> bool:
    """Whether a server says that it does not know the way in which JSON was asked for. It costs nothing to say so."""
    told = error.metadata
    if error.reason != "PROVIDER_REJECTED" or told.get("providerStatus") not in ("400", "422"):
        return False
    if "providerParam" in told:
        return told["providerParam"].startswith("response_format")
    return any(word in error.message for word in _FORMAT_WORDS)


def _said(data: Mapping[str, Any], used: ChatUsage, max_tokens: int) -> tuple[str, str] | ServiceError:
    """What the model wrote and why it ended, or why there is nothing of use. What it wrote has been paid for."""
    choices = data.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(choice, Mapping) or not isinstance(message, Mapping):
        return _no_choice(data, used)
    finish_reason, text = str(choice.get("finish_reason") or ""), _text(message)
    if message.get("refusal") or finish_reason == "content_filter":
        details = {"moderation_stage": "output", "categories": _filtered(choice)}
        return content_rejected({"moderation_details": details}, billed=Billed.YES)
    if finish_reason == "length":
        return bad_response(f"it was cut off after {max_tokens} tokens", billed=Billed.YES)
    return (text, finish_reason) if text.strip() else bad_response("it has no text", billed=Billed.YES)


def _no_choice(data: Mapping[str, Any], used: ChatUsage) -> ServiceError:
    """What an answer without anything said means. Only its usage tells whether it was paid for."""
    billed = Billed.YES if used.usage else Billed.UNKNOWN
    error = data.get("error")
    if isinstance(error, Mapping) and is_content_rejection(error):
        return content_rejected(error, billed=billed)
    if error:
        return bad_response("it is an error in the guise of success", billed=billed)
    return bad_response("it has no message", billed=billed)


def _filtered(choice: Mapping[str, Any]) -> list[str] | None:
    """The categories for which Azure's filter cut the answer off."""
    results = choice.get("content_filter_results")
    if not isinstance(results, Mapping):
        return None
    found = [str(name) for name, row in results.items() if isinstance(row, Mapping) and row.get("filtered") is True]
    return found or None


def _text(message: Mapping[str, Any]) -> str:
    """The message's text; some servers answer in parts, as they are asked."""
    content = message.get("content")
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, Mapping)]
        content = "".join(text for text in texts if isinstance(text, str))
    return _HALVES.sub("\ufffd", content) if isinstance(content, str) else ""
