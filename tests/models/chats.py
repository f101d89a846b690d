"""Calls of one language model at a server, and whoever asks it in turns."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Any, TypeVar

from pydantic import BaseModel, SecretStr

from services.models.endpoints import EndpointClients
from services.models.failures import CallFailed
from services.models.registry import Registry, build, shipped
from services.models.rows import Endpoint
from services.models.structured import Formats, Obtained, Task, obtain
from services.models.text import TextAdapter, TextAnswer
from services.models.text_requests import Message, Rung, Schema, TextCall, TextRequest, check_text_request

ShapeT = TypeVar("ShapeT", bound=BaseModel)
ValueT = TypeVar("ValueT")

TODAY = date(2026, 11, 23)
KEY = "sk-a-made-up-key-0123456789"
SCHEMA = Schema("Answer", {"type": "object", "properties": {}, "required": [], "additionalProperties": False})


def registry_at(url: str, *, dialect: str = "openai", **row: Any) -> Registry:
    """A registry of one language model `m`."""
    endpoint = Endpoint(base_url=url, dialect=dialect, auth="key", key=SecretStr(KEY))
    default = {"profile": "text", "endpoint": "here", "wire_id": "wire-model", "price": "gpt-6-luna"}
    return build(shipped(), {"here": endpoint}, {"m": default | row})


@dataclass
class Chats:
    """One model; `calls` are those that were made of it, `formats` what was learned of its server."""

    registry: Registry
    clients: EndpointClients
    adapter: TextAdapter
    calls: list[TextCall] = field(default_factory=list)
    formats: Formats = field(default_factory=Formats)

    async def complete(
        self,
        *parts: Any,
        rung: Rung | None = None,
        max_tokens: int = 500,
        key: str = "the-key-of-this-call",
        model: str = "",
    ) -> TextAnswer:
        """One call with one message of the user's."""
        request = TextRequest((Message("user", parts or ("hello",)),), max_tokens=max_tokens, model=model)
        checked = check_text_request(request, self.registry, today=TODAY)
        call = TextCall(checked, request.messages, rung=rung, schema=SCHEMA)
        return await self.adapter.complete(call, idempotency_key=key, today=TODAY)

    async def failure(self, *parts: Any, **arguments: Any) -> CallFailed:
        """The failure that the call ends with."""
        try:
            answer = await self.complete(*parts, **arguments)
        except CallFailed as failed:
            return failed
        raise AssertionError(f"no failure but {answer.content!r}")

    async def ask(self, call: TextCall) -> TextAnswer:
        """What a service does in the paid-call protocol."""
        self.calls.append(call)
        return await self.adapter.complete(call, idempotency_key=f"turn-{call.turn}", today=TODAY)

    async def obtain(self, task: Task[ShapeT, ValueT]) -> Obtained[ValueT]:
        """The task's value, in as many turns as it takes."""
        checked = check_text_request(task.request, self.registry, today=TODAY)
        return await obtain(task, checked, self.ask, self.formats)

    @property
    def rungs(self) -> list[tuple[int, Rung | None]]:
        """Turn and rung of each call."""
        return [(call.turn, call.rung) for call in self.calls]


@asynccontextmanager
async def chats(registry: Registry, *, seconds: float = 10.0, max_answer_bytes: int = 2**22) -> AsyncIterator[Chats]:
    """Calls of the registry's models."""
    clients = EndpointClients(registry, seconds=seconds, places=4)
    try:
        adapter = TextAdapter(registry, clients, seconds=seconds, max_answer_bytes=max_answer_bytes)
        yield Chats(registry, clients, adapter)
    finally:
        await clients.aclose()
