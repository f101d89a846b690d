"""Handing over an answer that has been charged, and noticing whether it left whole."""

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from emulator.ledger import Outcome

CONNECTION = "emulator.connection"
"""Key of the scope's state under which the server puts the request's connection."""

_log = logging.getLogger("emulator")

# How often a slow drip lets something through.
_DRIP_SECONDS = 0.05
_NO_LINGER = struct.pack("ii", 1, 0)


class Connection(Protocol):
    """What an asyncio transport can do that ASGI has no word for."""

    def close(self) -> None:
        """Close after what has been written."""

    def abort(self) -> None:
        """Close at once."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """The socket, among other things."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is not an error, unless a fault makes it look like one.

    Attributes:
        parts: one JSON body, or the events of a stream in their order.
        streams: sent as server-sent events, `pause` seconds apart.
        delay: seconds before the first byte.
        cut: close the connection before the first byte or in the middle.
        hold: seconds to keep the connection open without a byte before it is closed.
        reset: a cut is a TCP reset, not an orderly close.
        rate: bytes a second that are let through.
        content_type: instead of the right one.
    """

    parts: Sequence[bytes]
    streams: bool = False
    pause: float = 0.0
    delay: float = 0.0
    cut: Literal["before", "middle"] | None = None
    hold: float | None = None
    reset: bool = False
    rate: int | None = None
    status: int = 200
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Delivery(Response):
    """Sends an Answer and reports once how that ended, also when it is cancelled."""

    def __init__(self, answer: Answer, report: Callable[[Outcome], None]) -> None:
        right = "text/event-stream" if answer.streams else "application/json"
        super().__init__(headers={"content-type": answer.content_type or right, **answer.headers})
        self._answer = answer
        self._report = report
        del self.headers["content-length"]
        if not answer.streams:
            self.headers["content-length"] = str(sum(map(len, answer.parts)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        outcome: Outcome = "cut"
        try:
            outcome = await self._deliver(Request(scope, receive), send)
        except asyncio.CancelledError:
            # The server stops. It would answer 500, as if the call had failed before it was charged.
            if connection := getattr(Request(scope).state, CONNECTION, None):
                connection.abort()
            raise
        finally:
            self._report(outcome)

    async def _deliver(self, request: Request, send: Send) -> Outcome:
        await asyncio.sleep(self._answer.delay)
        if self._answer.hold is not None:
            await _gone_within(request, self._answer.hold)
            return await _hang_up(request, at_once=True)
        if self._answer.cut == "before":
            return await _hang_up(request, at_once=True, reset=self._answer.reset)
        await send({"type": "http.response.start", "status": self._answer.status, "headers": self.raw_headers})
        if self._answer.cut == "middle":
            await self._send_half(send)
            return await _hang_up(request, at_once=self._answer.reset, reset=self._answer.reset)
        for index, part in enumerate(self._answer.parts):
            if index:
                await asyncio.sleep(self._answer.pause)
            if self._answer.rate is not None:
                await self._drip(request, send, part, self._answer.rate)
                continue
            await send({"type": "http.response.body", "body": part, "more_body": True})
        # An empty message waits until the client has taken what was written before.
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        gone = await request.is_disconnected()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return "cut" if gone else "answered"

    async def _drip(self, request: Request, send: Send, part: bytes, rate: int) -> None:
        """Send `part` a little at a time. A client that has left ends it: nobody takes the rest."""
        step = max(1, round(rate * _DRIP_SECONDS))
        for start in range(0, len(part), step):
            piece = part[start : start + step]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(len(piece) / rate)
            if await request.is_disconnected():
                return

    async def _send_half(self, send: Send) -> None:
        whole = b"".join(self._answer.parts)
        await send({"type": "http.response.body", "body": whole[: len(whole) // 2], "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": True})


async def _gone_within(request: Request, seconds: float) -> None:
    """Return when the client has gone away or the time is over."""
    try:
        async with asyncio.timeout(seconds):
            while (await request.receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return


class Reset(Response):
    """Resets the connection and answers nothing."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hang up."""
        await _hang_up(Request(scope, receive), at_once=True, reset=True)


async def _hang_up(request: Request, *, at_once: bool, reset: bool = False) -> Outcome:
    connection: Connection | None = getattr(request.state, CONNECTION, None)
    if connection is None:
        _log.error("this server gives no access to connections, so a cut cannot be emulated")
        return "cut"
    if reset and (raw := connection.get_extra_info("socket")) is not None:
        # A socket that does not linger is closed with a RST, and what it still had to send is lost.
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    if at_once:
        connection.abort()
    else:
        connection.close()
    await _gone_within(request, 5.0)
    return "cut"
