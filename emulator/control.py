"""What the tests ask the emulator about itself: its ledger, its faults, what arrived on the wire, its health."""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from emulator import __version__
from emulator.bodies import read_json
from emulator.errors import ApiError
from emulator.faults import FaultBook, Order
from emulator.ledger import Ledger, Query
from emulator.settings import Settings
from emulator.wire import WireLog

_MAX_ROWS = 10_000
_FILTERS = frozenset({"since", "idempotency_key", "after", "limit"})
_WIRE_FILTERS = frozenset({"after", "limit", "idempotency_key", "dialect", "path", "request_id"})

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Control:
    """The control endpoints of one emulator."""

    settings: Settings
    ledger: Ledger
    faults: FaultBook
    wire: WireLog

    def endpoints(self) -> list[tuple[str, str, Endpoint]]:
        """Path, method and handler of each; all but the health are kept by the key, if one is required."""
        return [
            ("/ledger", "GET", self.read_ledger),
            ("/ledger", "DELETE", self.reset_ledger),
            ("/faults", "GET", self.list_faults),
            ("/faults", "POST", self.add_fault),
            ("/faults", "DELETE", self.remove_faults),
            ("/faults/{id}", "DELETE", self.remove_faults),
            ("/requests", "GET", self.read_requests),
            ("/requests", "DELETE", self.forget_requests),
        ]

    async def health(self, request: Request) -> Response:
        """200 while calls can be charged, else 503."""
        healthy = self.ledger.healthy
        body = {
            "status": "ok" if healthy else "the ledger is closed",
            "version": __version__,
            "prerendered": self.settings.prerendered,
        }
        return JSONResponse(body, 200 if healthy else 503)

    async def read_ledger(self, request: Request) -> Response:
        """The charges, oldest first, with totals."""
        return JSONResponse(await self.ledger.read(_query(request)))

    async def reset_ledger(self, request: Request) -> Response:
        """Forget every charge."""
        return JSONResponse({"deleted": await self.ledger.reset()})

    async def list_faults(self, request: Request) -> Response:
        """Every fault and how often it has hit."""
        return JSONResponse({"object": "list", "data": self.faults.shown()})

    async def add_fault(self, request: Request) -> Response:
        """Order a fault."""
        raw = await read_json(request, self.settings.max_json_bytes, self.settings.body_seconds)
        try:
            order = Order.model_validate(raw)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            param = ".".join(map(str, first["loc"]))
            raise ApiError(
                400, f"Invalid fault: {param}: {first['msg']}.", param=param, code="invalid_fault"
            ) from error
        return JSONResponse(self.faults.add(order), 201)

    async def remove_faults(self, request: Request) -> Response:
        """Forget all faults, or the one in the path."""
        one = request.path_params.get("id")
        removed = self.faults.remove(None if one is None else [one])
        if one is not None and not removed:
            raise ApiError(404, f"There is no fault '{one}'.", param="id", code="fault_not_found")
        return JSONResponse({"deleted": removed})

    async def read_requests(self, request: Request) -> Response:
        """What arrived on the wire, oldest first."""
        given = _known(request, _WIRE_FILTERS)
        wanted = {name: text for name, text in given.items() if name not in ("after", "limit")}
        after, limit = _number(given, "after", 0, 2**62), _number(given, "limit", 1000, 1000)
        return JSONResponse(self.wire.shown(after, limit, wanted))

    async def forget_requests(self, request: Request) -> Response:
        """Forget what arrived."""
        return JSONResponse({"deleted": self.wire.clear()})


def _known(request: Request, names: frozenset[str]) -> dict[str, str]:
    given = dict(request.query_params)
    for name in given:
        if name not in names:
            raise ApiError(400, f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")
    return given


def _query(request: Request) -> Query:
    given = _known(request, _FILTERS)
    return Query(
        since=_moment(given["since"]) if "since" in given else None,
        idempotency_key=given.get("idempotency_key"),
        after=_number(given, "after", 0, 2**62),
        limit=_number(given, "limit", 1000, _MAX_ROWS),
    )


def _moment(text: str) -> float:
    """Unix seconds or RFC 3339; a time without a zone is UTC."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            message = "'since' must be Unix seconds or an RFC 3339 time."
            raise ApiError(400, message, param="since", code="invalid_value") from error
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(seconds):
        raise ApiError(400, "'since' must be finite.", param="since", code="invalid_value")
    return seconds


def _number(given: dict[str, str], name: str, default: int, most: int) -> int:
    text = given.get(name, str(default))
    if not (text.isascii() and text.isdecimal()) or len(text) > 19 or int(text) > most:
        raise ApiError(400, f"'{name}' must be an integer from 0 to {most}.", param=name, code="invalid_value")
    return int(text)
