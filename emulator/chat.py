"""POST /v1/chat/completions: an answer that fits what was asked for, made of the words and pictures that were sent."""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from emulator.bodies import read_json
from emulator.chat_params import ChatRequest, parse
from emulator.desk import Desk, PaidCall, Result
from emulator.faults import Order
from emulator.plausible import Topic, free_text, subject_of
from emulator.schema_answers import answer
from emulator.settings import Settings
from emulator.usage import chat_usage, cost_micro_usd, plain_chat_usage, seen_image_tokens, text_tokens
from emulator.vision import Seen, decode_data_url, look
from emulator.wire import WireLog

_REFUSAL = "I'm sorry, but I can't help with that request."
_CHUNK_LETTERS = 24
_PLURALS = frozenset(
    {"tags", "keywords", "products", "brands", "colours", "colors", "labels", "items", "objects", "suggestions"}
)


@dataclass(frozen=True, slots=True)
class _Reply:
    """What the model says, in the message's terms."""

    content: str | None
    refusal: str | None
    finish_reason: str

    @property
    def tokens(self) -> int:
        return text_tokens(self.content if self.content is not None else self.refusal or "")


@dataclass(frozen=True, slots=True)
class Chat:
    """Chat completions of one emulator."""

    settings: Settings
    desk: Desk
    wire: WireLog

    async def complete(self, request: Request) -> Response:
        """One completion, whole or as a stream of chunks."""
        raw = await read_json(request, self.settings.max_media_bytes, self.settings.body_seconds, self.wire)
        if "deployment" in request.path_params:
            raw["model"] = request.path_params["deployment"]
        wanted = parse(raw, request.state.surface)
        seen = await asyncio.to_thread(_look_at_all, wanted)
        content = await asyncio.to_thread(_content, wanted, seen)
        call = PaidCall(
            endpoint="/v1/chat/completions",
            operation="chat",
            model=wanted.model.id,
            text=wanted.text,
            streams=wanted.stream,
            parameters={
                "mode": wanted.mode,
                "messages": len(wanted.messages),
                "images": len(seen),
                "stream": wanted.stream,
                "max_tokens": wanted.max_tokens,
            },
        )

        async def work(fault: Order | None) -> Result:
            refused = fault is not None and fault.kind == "refusal"
            reply = _Reply(None, _REFUSAL, "stop") if refused else _reply(content, wanted.max_tokens)
            plain = request.state.surface.dialect.plain_chat_usage
            return _result(wanted, seen, reply, str(request.state.request_id), plain=plain)

        return await self.desk.serve(request, call, work)


def _look_at_all(wanted: ChatRequest) -> tuple[Seen, ...]:
    return tuple(look(decode_data_url(image.url, image.param), image.param) for image in wanted.images)


def _content(wanted: ChatRequest, seen: tuple[Seen, ...]) -> str:
    last = max((index for index, message in enumerate(wanted.messages) if message.role == "user"), default=0)
    others = [message.text for index, message in enumerate(wanted.messages) if index != last]
    subject = subject_of(wanted.messages[last].text)
    topic = Topic(subject, "\n".join(others) or wanted.messages[last].text, seen)
    schema = wanted.schema if wanted.mode == "json_schema" else _schema_in(wanted.text)
    if schema is None and wanted.mode == "json_object":
        schema = _keys_in(wanted.text)
    if schema is None:
        return free_text(topic)
    return json.dumps(answer(schema, topic), ensure_ascii=False)


def _schema_in(text: str) -> Mapping[str, Any] | None:
    """The first JSON schema of an object that is written out in `text`: how a model without schemas is told one."""
    decoder = json.JSONDecoder()
    for brace in re.finditer(r"\{", text):
        try:
            value, _ = decoder.raw_decode(text, brace.start())
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and isinstance(value.get("properties"), dict):
            return value
    return None


def _keys_in(text: str) -> Mapping[str, Any]:
    """A schema with the keys that `text` names in quotes; plurals are lists. Without any, one key `answer`."""
    names = dict.fromkeys(re.findall(r"[\"'`]([A-Za-z_][A-Za-z0-9_]{1,40})[\"'`]", text)) or {"answer": None}
    strings = {"type": "string"}
    return {
        "type": "object",
        "properties": {
            name: {"type": "array", "items": strings} if name.lower() in _PLURALS else strings for name in names
        },
        "required": list(names),
    }


def _reply(content: str, max_tokens: int | None) -> _Reply:
    if max_tokens is None or text_tokens(content) <= max_tokens:
        return _Reply(content, None, "stop")
    # A token is four bytes here; half a letter at the end is dropped.
    return _Reply(content.encode()[: 4 * max_tokens].decode(errors="ignore"), None, "length")


def _result(wanted: ChatRequest, seen: tuple[Seen, ...], reply: _Reply, request_id: str, *, plain: bool) -> Result:
    details = [image.detail for image in wanted.images]
    text_in = text_tokens(wanted.text)
    image_in = sum(
        seen_image_tokens(each.width, each.height, detail) for each, detail in zip(seen, details, strict=True)
    )
    usage = chat_usage(text_in, image_in, reply.tokens)
    head = {
        "id": f"chatcmpl-{request_id.removeprefix('req_')}",
        "created": int(time()),
        "model": wanted.model.id,
    } | ({} if plain else {"service_tier": "default", "system_fingerprint": "fp_emulator"})
    told = plain_chat_usage(usage) if plain else usage
    parts = list(_chunks(head, reply, told if wanted.include_usage else None)) if wanted.stream else []
    return Result(
        parts or [_whole(head, reply, told)],
        usage,
        cost_micro_usd(wanted.model.price, text_in, image_in, reply.tokens),
    )


def _whole(head: Mapping[str, Any], reply: _Reply, usage: Mapping[str, Any]) -> bytes:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": reply.content,
        "refusal": reply.refusal,
        "annotations": [],
    }
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reply.finish_reason}
    return json.dumps({**head, "object": "chat.completion", "choices": [choice], "usage": usage}).encode()


def _chunks(head: Mapping[str, Any], reply: _Reply, usage: Mapping[str, Any] | None) -> Iterator[bytes]:
    """The events of a stream; with `usage` each carries that field, null until the last."""
    field, text = ("content", reply.content) if reply.content is not None else ("refusal", reply.refusal or "")
    deltas: list[tuple[dict[str, Any], str | None]] = [({"role": "assistant", field: ""}, None)]
    deltas += [({field: text[start : start + _CHUNK_LETTERS]}, None) for start in range(0, len(text), _CHUNK_LETTERS)]
    deltas.append(({}, reply.finish_reason))
    for delta, finish in deltas:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        yield _chunk(head, [choice], {} if usage is None else {"usage": None})
    if usage is not None:
        yield _chunk(head, [], {"usage": usage})
    yield b"data: [DONE]\n\n"


def _chunk(head: Mapping[str, Any], choices: list[dict[str, Any]], extra: Mapping[str, Any]) -> bytes:
    body = {**head, "object": "chat.completion.chunk", "choices": choices, **extra}
    return f"data: {json.dumps(body)}\n\n".encode()
