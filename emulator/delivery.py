"""Handing over an answer that has been charged, and noticing whether it left whole."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from emulator.ledger import Outcome

CONNECTION = "emulator.connection"
"""Key of the scope's state under which the server puts the request's connection."""

_log = logging.getLogger("emulator")


class Connection(Protocol):
    """What an asyncio transport can do that ASGI has no word for."""

    def close(self) -> None:
        """Close after what has been written."""

    def abort(self) -> None:
        """Close at once."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A 200 answer.

    Attributes:
        parts: one JSON body, or the events of a stream in their order.
        streams: sent as server-sent events, `pause` seconds apart.
        delay: seconds before the first byte.
        cut: close the connection before the first byte or in the middle.
        hold: seconds to keep the connection open without a byte before it is closed.
    """

    parts: Sequence[bytes]
    streams: bool = False
    pause: float = 0.0
    delay: float = 0.0
    cut: Literal["before", "middle"] | None = None
    hold: float | None = None


class Delivery(Response):
    """Sends an Answer and reports once how that ended, also when it is cancelled."""

    def __init__(self, answer: Answer, report: Callable[[Outcome], None]) -> None:
        super().__init__(media_type="text/event-stream" if answer.streams else "application/json")
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
            return await _hang_up(request, at_once=True)
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if self._answer.cut == "middle":
            await self._send_half(send)
            return await _hang_up(request, at_once=False)
        for index, part in enumerate(self._answer.parts):
            if index:
                await asyncio.sleep(self._answer.pause)
            await send({"type": "http.response.body", "body": part, "more_body": True})
        # An empty message waits until the client has taken what was written before.
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        gone = await request.is_disconnected()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return "cut" if gone else "answered"

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


async def _hang_up(request: Request, *, at_once: bool) -> Outcome:
    connection: Connection | None = getattr(request.state, CONNECTION, None)
    if connection is None:
        _log.error("this server gives no access to connections, so a cut cannot be emulated")
        return "cut"
    if at_once:
        connection.abort()
    else:
        connection.close()
    await _gone_within(request, 5.0)
    return "cut"
