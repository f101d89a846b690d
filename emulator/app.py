"""The ASGI application: routes, keys, the limit on open calls, and one shape for every error."""

import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from emulator.chat import Chat
from emulator.control import Control
from emulator.delivery import Reset
from emulator.desk import Desk
from emulator.envelope import Envelope, answered
from emulator.errors import ApiError, internal, overloaded
from emulator.faults import FaultBook
from emulator.images import Images
from emulator.ledger import Ledger
from emulator.settings import Settings
from emulator.shelf import Shelf
from emulator.studio import Studio
from emulator.surfaces import Surfaces
from emulator.wire import WireLog

Endpoint = Callable[[Request], Awaitable[Response]]

_log = logging.getLogger("emulator")


def create_app(settings: Settings) -> Starlette:
    """A whole emulator. Its ledger is open while the application's lifespan lasts."""
    ledger, faults, wire, shelf = Ledger(settings.ledger), FaultBook(), WireLog(), Shelf()
    studio, surfaces = Studio(prerendered=settings.prerendered), Surfaces(settings)
    desk = Desk(settings, ledger, faults)
    images = Images(settings, studio, desk, wire, shelf)
    chat = Chat(settings, desk, wire)
    control = Control(settings, ledger, faults, wire)
    keys, door = _Keys(settings.require_key), _Door(settings.max_in_flight)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await ledger.open()
        try:
            yield
        finally:
            await ledger.close()
            studio.close()

    async def models(request: Request) -> Response:
        return JSONResponse({"object": "list", "data": request.state.surface.cards()})

    async def model(request: Request) -> Response:
        return JSONResponse(request.state.surface.card(request.path_params["id"]))

    def paid(endpoint: str, handler: Endpoint) -> Endpoint:
        return keys.demanded(door.counted(_unless_reset(desk, endpoint, handler)))

    served: dict[str, tuple[str, Endpoint]] = {
        "/images/generations": ("POST", paid("/v1/images/generations", images.generate)),
        "/images/edits": ("POST", paid("/v1/images/edits", images.edit)),
        "/chat/completions": ("POST", paid("/v1/chat/completions", chat.complete)),
        "/models": ("GET", keys.demanded(models)),
        "/models/{id:path}": ("GET", keys.demanded(model)),
    }
    routes = [
        Route(base + path, _on(roots, path, handler), methods=[method])
        for base, roots in _BASES.items()
        for path, (method, handler) in served.items()
    ]
    routes += [
        Route(path, keys.demanded_if_strict(handler), methods=[method]) for path, method, handler in control.endpoints()
    ]
    routes += [Route("/generated-images/{name}", shelf.get), Route("/healthz", control.health)]

    async def api_error(request: Request, error: Exception) -> Response:
        told = error if isinstance(error, ApiError) else internal()
        wire.refused(request, told)
        return answered(request, told)

    return Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[Middleware(Envelope, surfaces=surfaces, wire=wire)],
        exception_handlers={
            ApiError: api_error,
            HTTPException: _http_error,
            ClientDisconnect: _nobody_left,
            Exception: _bug,
        },
    )


# Where the endpoints begin, and for the dialects of which root.
_BASES: dict[str, tuple[str, ...]] = {
    "/v1": ("v1",),
    "/openai/v1": ("azure-v1",),
    "/openai/deployments/{deployment}": ("deployments",),
    "/openai": ("deployments",),
}


def _on(roots: tuple[str, ...], path: str, handler: Endpoint) -> Endpoint:
    """`handler`, for the dialects that have it there; for others there is nothing at this address."""

    async def served(request: Request) -> Response:
        dialect = request.state.surface.dialect
        lists_models = path.startswith("/models")
        if dialect.root not in roots or (path == "/images/edits" and not dialect.edits):
            raise HTTPException(404)
        # There, only the list of models is not below a deployment; and nothing is found without a version.
        misplaced = ("deployment" in request.path_params) is lists_models
        if dialect.root == "deployments" and (misplaced or "api-version" not in request.query_params):
            raise HTTPException(404)
        return await handler(request)

    return served


def _unless_reset(desk: Desk, endpoint: str, handler: Endpoint) -> Endpoint:
    async def met(request: Request) -> Response:
        return Reset() if desk.reset_unread(request, endpoint) else await handler(request)

    return met


class _Keys:
    """Who may call: anyone with a key, or the holder of the one key."""

    def __init__(self, required: str | None) -> None:
        self._required = required

    def demanded(self, endpoint: Endpoint) -> Endpoint:
        async def guarded(request: Request) -> Response:
            self._check(request)
            return await endpoint(request)

        return guarded

    def demanded_if_strict(self, endpoint: Endpoint) -> Endpoint:
        return endpoint if self._required is None else self.demanded(endpoint)

    def _check(self, request: Request) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        # Azure's clients send their key in a header of its own.
        given = key.strip() if scheme.lower() == "bearer" else request.headers.get("api-key", "").strip()
        if not given and self._required is None and request.state.surface.dialect.keyless:
            return
        if not given:
            message = "You didn't provide an API key. Send it as 'Authorization: Bearer YOUR_KEY'."
            raise ApiError(401, message)
        if self._required is not None and not hmac.compare_digest(given.encode(), self._required.encode()):
            raise ApiError(401, "Incorrect API key provided.", code="invalid_api_key")


class _Door:
    """Lets in a bounded number of paid calls; their bodies are read only behind it."""

    def __init__(self, most: int) -> None:
        self._free = most

    def counted(self, endpoint: Endpoint) -> Endpoint:
        async def entered(request: Request) -> Response:
            if self._free <= 0:
                raise overloaded()
            self._free -= 1
            try:
                return _Leaving(await endpoint(request), self._left)
            except BaseException:
                self._left()
                raise

        return entered

    def _left(self) -> None:
        self._free += 1


class _Leaving(Response):
    """A response that tells when it has been sent, or could not be."""

    def __init__(self, inner: Response, left: Callable[[], None]) -> None:
        super().__init__()
        self._inner = inner
        self._left_door = left

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._inner(scope, receive, send)
        finally:
            self._left_door()


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    method, path = request.method, request.url.path
    match status:
        case 404 if request.state.surface.dialect.errors in ("azure", "localai"):
            told = ApiError(404, "Resource not found")
        case 404:
            told = ApiError(404, f"Unknown request URL: {method} {path}.", code="unknown_url")
        case 405:
            told = ApiError(405, f"Not allowed to {method} on {path}.", code="method_not_supported")
        case 400:
            told = ApiError(400, "We could not parse the multipart form of your request.", code="invalid_form")
        case _:
            told = internal()
    return answered(request, told)


async def _nobody_left(request: Request, _: Exception) -> Response:
    """The client went away while it sent its body: there is nobody to answer."""
    _log.info("the client of %s left before its request was complete", request.state.request_id)
    return Response(status_code=499)


async def _bug(request: Request, _: Exception) -> Response:
    _log.error("request %s ran into a bug", getattr(request.state, "request_id", "-"))
    return answered(request, internal())
