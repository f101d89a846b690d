"""A hand-written server of OpenAI's protocol of images and chats on a real port, with a script for what it does wrong.

It shares no code with the suite or its emulator: what it sends and charges is known from here alone.
"""

import asyncio
import base64
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.support.media import png

Behaviour = Callable[["Exchange"], Awaitable[web.StreamResponse]]

USAGE = {
    "input_tokens": 50,
    "input_tokens_details": {"text_tokens": 40, "image_tokens": 10},
    "output_tokens": 1001,
    "output_tokens_details": {"image_tokens": 1001, "text_tokens": 0},
    "total_tokens": 1051,
}


@dataclass(frozen=True)
class Received:
    """One request as it came over the wire."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]


@dataclass
class Exchange:
    """A request and the connection that it came on."""

    server: "OpenAIServer"
    request: web.Request
    received: Received

    def charge(self) -> None:
        """Notes in the ledger that the call was done and costs money."""
        self.server.charges.append(self.received)

    def cut(self) -> None:
        """Resets the connection."""
        assert self.request.transport is not None
        self.request.transport.abort()


@dataclass
class OpenAIServer:
    """What the server saw, charged and sent. `script` holds what to do with the next requests; then it draws."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    charges: list[Received] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    script: deque[Behaviour] = field(default_factory=deque)
    otherwise: Behaviour | None = None

    def then(self, *behaviours: Behaviour) -> None:
        """Adds to the script."""
        self.script.extend(behaviours)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers one call."""
        raw = await request.read()
        received = Received(request.path, dict(request.headers), json.loads(raw) if raw else {})
        self.received.append(received)
        behaviour = self.script.popleft() if self.script else self.otherwise or draws()
        return await behaviour(Exchange(self, request, received))


@asynccontextmanager
async def openai_server(port: int = 0) -> AsyncIterator[OpenAIServer]:
    """A running server."""
    server = OpenAIServer()
    application = web.Application(client_max_size=64 * 1024 * 1024)
    application.router.add_post("/v1/images/generations", server.handle)
    application.router.add_post("/v1/chat/completions", server.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True)
    await site.start()
    host, bound = runner.addresses[0][:2]
    server.url = f"http://{host}:{bound}/v1"
    try:
        yield server
    finally:
        await runner.cleanup()


def draws(
    *, contents: list[bytes] | None = None, usage: Mapping[str, Any] | None = USAGE, width: int = 32, height: int = 24
) -> Behaviour:
    """Charges, and answers with `contents`, or with as many different PNGs as were asked for."""

    async def behave(exchange: Exchange) -> web.StreamResponse:
        exchange.charge()
        count = int(exchange.received.body.get("n", 1))
        first = len(exchange.server.sent)
        images = contents if contents is not None else [png(width, height, seed=first + i) for i in range(count)]
        exchange.server.sent += images
        return answer(images, usage)

    return behave


def answer(images: list[bytes], usage: Mapping[str, Any] | None = USAGE) -> web.Response:
    """The answer of a call that went well."""
    data = [{"b64_json": base64.b64encode(content).decode()} for content in images]
    body: dict[str, Any] = {"created": 1, "data": data}
    if usage is not None:
        body["usage"] = usage
    return web.json_response(body, headers={"x-request-id": "req_hand_written"})


CHAT_USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}


def writes(
    content: object, *, finish: str = "stop", usage: Mapping[str, Any] | None = CHAT_USAGE, **message: Any
) -> Behaviour:
    """Charges, and answers a chat with this content."""
    body: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "choices": [
            {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content} | message}
        ],
    }
    return says(200, body | ({"usage": usage} if usage is not None else {}), charged=True)


def says(status: int, body: object = None, *, charged: bool = False, **headers: str) -> Behaviour:
    """Answers with a status and a JSON body."""

    async def behave(exchange: Exchange) -> web.StreamResponse:
        if charged:
            exchange.charge()
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.json_response(body, status=status, headers={"x-request-id": "req_hand_written", **names})

    return behave


def fails(status: int, code: str | None = None, message: str = "made up", **fields: Any) -> Behaviour:
    """Answers with an error in OpenAI's shape."""
    return says(status, {"error": {"message": message, "type": None, "param": None, "code": code, **fields}})


def sends(body: bytes, content_type: str = "application/json") -> Behaviour:
    """Charges, and answers 200 with these bytes."""

    async def behave(exchange: Exchange) -> web.StreamResponse:
        exchange.charge()
        return web.Response(body=body, content_type=content_type)

    return behave


def cuts(*, after_bytes: int | None = None) -> Behaviour:
    """Charges, and resets the connection: before the answer, or after so many bytes of its body."""

    async def behave(exchange: Exchange) -> web.StreamResponse:
        exchange.charge()
        response = web.StreamResponse(headers={"content-type": "application/json", "content-length": "100000"})
        if after_bytes is not None:
            await response.prepare(exchange.request)
            await response.write(b" " * after_bytes)
            await asyncio.sleep(0.05)
        exchange.cut()
        return response

    return behave


def waits(seconds: float, behaviour: Behaviour | None = None) -> Behaviour:
    """Takes its time, then goes on."""

    async def behave(exchange: Exchange) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await (behaviour or draws())(exchange)

    return behave


def waits_for(event: asyncio.Event, behaviour: Behaviour | None = None) -> Behaviour:
    """Goes on when it is told to."""

    async def behave(exchange: Exchange) -> web.StreamResponse:
        await event.wait()
        return await (behaviour or draws())(exchange)

    return behave
