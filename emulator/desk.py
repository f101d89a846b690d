"""The way of every paid call: fault, work, charge, answer, in this order and in this one place."""

import asyncio
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request

from emulator.delivery import Answer, Delivery
from emulator.error_shapes import shaped
from emulator.errors import ApiError, internal
from emulator.faults import IDLE, REFUSALS, Call, FaultBook, Order
from emulator.ledger import Charge, Ledger, LedgerUnavailable, Outcome
from emulator.refusals import refusal
from emulator.settings import Settings
from emulator.surfaces import Surface

_log = logging.getLogger("emulator")

_HTML = (
    b"<!DOCTYPE html>\n<html><head><title>Please wait</title></head>"
    b"<body><h1>Please wait</h1><p>A gateway in front of the provider says this.</p></body></html>\n"
)


@dataclass(frozen=True, slots=True)
class PaidCall:
    """A request that has been checked and is about to cost money.

    Attributes:
        endpoint: as OpenAI has it, whatever the dialect calls it.
        text: the prompt, or a chat's text parts joined by line feeds.
        parameters: what else was asked, for the ledger; no pictures, no text.
    """

    endpoint: str
    operation: str
    model: str
    text: str
    streams: bool
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Result:
    """What the work came to: the answer, and what it costs."""

    parts: Sequence[bytes]
    usage: Mapping[str, Any]
    cost_micro_usd: int
    n: int = 1
    pictures: tuple[str, ...] = ()


Work = Callable[[Order | None], Awaitable[Result]]
"""Does the work of a call, spoilt in the way of a fault if there is one."""


class Desk:
    """Serves paid calls. A charge is durable before the first byte of its answer leaves."""

    def __init__(self, settings: Settings, ledger: Ledger, faults: FaultBook) -> None:
        self._latency = 0.0 if settings.prerendered else settings.latency
        self._ledger = ledger
        self._faults = faults

    async def serve(self, request: Request, call: PaidCall, work: Work) -> Delivery:
        """Work, charge and answer. Raises the ApiError of a fault, charged or not."""
        request_id = str(request.state.request_id)
        surface: Surface = request.state.surface
        fault = self._faults.take(_arrived(request, call.endpoint, call), request_id)
        if fault is not None and fault.kind in REFUSALS and not fault.is_charged:
            raise refusal(fault)
        if fault is not None and fault.kind in IDLE and not fault.is_charged:
            nothing = Result([b""], {}, 0)
            return Delivery(_spoilt(Answer(nothing.parts, call.streams), fault, surface, call), lambda _: None)
        if fault is not None and fault.kind == "slow" and fault.charge_at == "end":
            await asyncio.sleep(fault.delay)
        result = await self._work(call, work, fault)
        row = await self._charge(request, call, result) if fault is None or fault.is_charged else None
        # No await from here to the delivery: a charged call always comes to an outcome.
        if fault is not None and fault.kind in REFUSALS:
            self._settle(row, "cut")
            raise refusal(fault)
        answer = self._answer(call, result, fault, surface)
        return Delivery(answer, lambda outcome: self._settle(row, outcome))

    def reset_unread(self, request: Request, endpoint: str) -> bool:
        """Whether a fault wants this call's connection reset before its body is read."""
        return self._faults.take(_arrived(request, endpoint), str(request.state.request_id)) is not None

    async def _work(self, call: PaidCall, work: Work, fault: Order | None) -> Result:
        started = asyncio.get_running_loop().time()
        result = await work(fault)
        # Drawing counts towards the latency, as it would be part of a model's.
        spent = asyncio.get_running_loop().time() - started
        share = self._latency / max(1, len(result.parts)) if call.streams else self._latency
        await asyncio.sleep(max(0.0, share - spent))
        return result

    async def _charge(self, request: Request, call: PaidCall, result: Result) -> int:
        try:
            return await self._ledger.charge(
                Charge(
                    endpoint=call.endpoint,
                    model=call.model,
                    operation=call.operation,
                    prompt_sha256=hashlib.sha256(call.text.encode()).hexdigest(),
                    n=result.n,
                    parameters=call.parameters,
                    usage=result.usage,
                    cost_micro_usd=result.cost_micro_usd,
                    request_id=str(request.state.request_id),
                    idempotency_key=request.headers.get("idempotency-key"),
                    pictures=result.pictures,
                    dialect=request.state.dialect,
                )
            )
        except LedgerUnavailable as error:
            _log.exception("a charge could not be recorded; the call is refused and costs nothing")
            raise internal() from error

    def _settle(self, row: int | None, outcome: Outcome) -> None:
        if row is None:
            return
        try:
            self._ledger.settle(row, outcome)
        except LedgerUnavailable:
            _log.warning("the outcome of charge %d could not be recorded", row)

    def _answer(self, call: PaidCall, result: Result, fault: Order | None, surface: Surface) -> Answer:
        pause = self._latency / max(1, len(result.parts)) if call.streams else 0.0
        headers = {}
        if surface.dialect.cost_header and not call.streams:
            headers["x-litellm-response-cost"] = str(result.cost_micro_usd / 1_000_000)
        answer = Answer(result.parts, call.streams, pause, headers=headers)
        return answer if fault is None else _spoilt(answer, fault, surface, call)


def _arrived(request: Request, endpoint: str, call: PaidCall | None = None) -> Call:
    return Call(
        endpoint,
        call.model if call else "",
        call.text if call else "",
        streams=call is not None and call.streams,
        dialect=request.state.surface.dialect.name,
        headers=request.headers,
        unread=call is None,
    )


def _spoilt(answer: Answer, fault: Order, surface: Surface, call: PaidCall) -> Answer:
    """The answer as it leaves under a fault; what spoils the content itself has been done by the work."""
    match fault.kind:
        case "slow" if fault.charge_at == "start":
            return replace(answer, delay=fault.delay)
        case "cut":
            return replace(answer, cut=fault.cut_at)
        case "reset":
            return replace(answer, cut="middle" if fault.reset_at == "middle" else "before", reset=True)
        case "slow_drip":
            return replace(answer, rate=fault.bytes_per_second)
        case "wrong_mime":
            return replace(answer, content_type=fault.content_type)
        case "html":
            return Answer([_HTML], content_type="text/html; charset=utf-8", status=fault.status)
        case "error_in_200":
            error = ApiError(500, "The server had an error while processing your request.", kind="server_error")
            body = shaped(error, surface.dialect.errors, chat=call.operation == "chat")
            return Answer([json.dumps(body).encode()])
        case "hang":
            return replace(answer, hold=fault.delay)
        case "bad_json":
            return replace(answer, parts=[*answer.parts[:-1], _broken(answer.parts[-1], answer.streams)])
        case "mid_stream_error":
            return replace(answer, parts=[*answer.parts[: len(answer.parts) // 2], _error_event()])
        case _:
            return answer


def _broken(part: bytes, streams: bool) -> bytes:
    """Whole as far as HTTP goes, but its JSON ends too early."""
    half = part[: len(part) // 2]
    return half + b"\n\n" if streams else half


def _error_event() -> bytes:
    error = ApiError(500, "The server had an error while processing your request.", kind="server_error")
    error.code = "server_error"
    return f"event: error\ndata: {json.dumps({'type': 'error', **error.body()})}\n\n".encode()
