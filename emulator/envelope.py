"""Around every request: which dialect it speaks, its id, its entry in the log, and the headers of its response."""

import secrets
from time import perf_counter

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emulator.error_shapes import shaped
from emulator.errors import ApiError
from emulator.surfaces import Surface, Surfaces
from emulator.wire import ENTRY, WireLog

_CONTROL = ("/ledger", "/faults", "/requests", "/healthz")


class Envelope:
    """Finds a request's dialect, gives it an id, notes it, and gives responses the headers that the dialect has."""

    def __init__(self, app: ASGIApp, surfaces: Surfaces, wire: WireLog) -> None:
        self._app, self._surfaces, self._wire = app, surfaces, wire

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse a dialect that does not exist."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, started = f"req_{secrets.token_hex(16)}", perf_counter()
        surface, wrong = self._enter(scope, request_id)
        entry = scope["state"].get(ENTRY)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                if entry is not None:
                    entry.status = message["status"]
                message["headers"] = [*message["headers"], *_headers(surface, request_id, started)]
            await send(message)

        if wrong is not None:
            await answered(Request(scope), wrong)(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)

    def _enter(self, scope: Scope, request_id: str) -> tuple[Surface, ApiError | None]:
        """Read the dialect off the path, which goes on without it."""
        path, surface, wrong = str(scope["path"]), self._surfaces.default, None
        state = scope.setdefault("state", {})
        state.update(request_id=request_id, prefix="", dialect=self._surfaces.default_name)
        if path.startswith("/dialects/"):
            _, _, name, *rest = path.split("/", 3)
            try:
                surface = self._surfaces.named(name)
                state.update(prefix=f"/dialects/{name}", dialect=name)
            except ValueError as error:
                wrong = ApiError(404, f"Unknown dialect: {error}.", code="unknown_dialect")
            scope["path"] = "/" + "".join(rest)
        state["surface"] = surface
        if not path.startswith(_CONTROL):
            state[ENTRY] = self._wire.begin(scope, request_id, state["dialect"], path)
        return surface, wrong


def _headers(surface: Surface, request_id: str, started: float) -> list[tuple[bytes, bytes]]:
    headers = [(name.encode(), request_id.encode()) for name in surface.dialect.id_headers]
    if surface.dialect.errors == "openai":
        spent = round((perf_counter() - started) * 1000)
        headers += [(b"openai-processing-ms", str(spent).encode()), (b"openai-version", b"2020-10-01")]
    return headers


def answered(request: Request, error: ApiError) -> Response:
    """The response to a refused request, in the shape of its dialect."""
    body = shaped(error, request.state.surface.dialect.errors, chat="/chat/" in request.url.path)
    return JSONResponse(body, error.status, error.headers)
