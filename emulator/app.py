"""The ASGI application: routes, keys, the limit on open calls, and one shape for every error."""

import hmac
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import perf_counter

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emulator.chat import Chat
from emulator.control import Control
from emulator.desk import Desk
from emulator.errors import ApiError, internal, overloaded
from emulator.faults import FaultBook
from emulator.images import Images
from emulator.ledger import Ledger
from emulator.models import Catalogue
from emulator.settings import Settings
from emulator.studio import Studio

Endpoint = Callable[[Request], Awaitable[Response]]

_log = logging.getLogger("emulator")


def create_app(settings: Settings) -> Starlette:
    """A whole emulator. Its ledger is open while the application's lifespan lasts."""
    ledger, faults = Ledger(settings.ledger), FaultBook()
    studio, catalogue = Studio(prerendered=settings.prerendered), Catalogue(settings.today)
    desk = Desk(settings, ledger, faults)
    images = Images(settings, catalogue, studio, desk)
    chat = Chat(settings, catalogue, desk)
    control = Control(settings, ledger, faults)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await ledger.open()
        try:
            yield
        finally:
            await ledger.close()
            studio.close()

    async def models(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": [model.card() for model in catalogue.alive()]})

    async def model(request: Request) -> Response:
        return JSONResponse(catalogue.get(request.path_params["id"]).card())

    keys, door = _Keys(settings.require_key), _Door(settings.max_in_flight)
    routes = [
        Route("/v1/images/generations", keys.demanded(door.counted(images.generate)), methods=["POST"]),
        Route("/v1/images/edits", keys.demanded(door.counted(images.edit)), methods=["POST"]),
        Route("/v1/chat/completions", keys.demanded(door.counted(chat.complete)), methods=["POST"]),
        Route("/v1/models", keys.demanded(models)),
        Route("/v1/models/{id}", keys.demanded(model)),
        Route("/ledger", keys.demanded_if_strict(control.read_ledger), methods=["GET"]),
        Route("/ledger", keys.demanded_if_strict(control.reset_ledger), methods=["DELETE"]),
        Route("/faults", keys.demanded_if_strict(control.list_faults), methods=["GET"]),
        Route("/faults", keys.demanded_if_strict(control.add_fault), methods=["POST"]),
        Route("/faults", keys.demanded_if_strict(control.remove_faults), methods=["DELETE"]),
        Route("/faults/{id}", keys.demanded_if_strict(control.remove_faults), methods=["DELETE"]),
        Route("/healthz", control.health),
    ]
    return Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[Middleware(_Envelope)],
        exception_handlers={
            ApiError: _api_error,
            HTTPException: _http_error,
            ClientDisconnect: _nobody_left,
            Exception: _bug,
        },
    )


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


class _Envelope:
    """Gives every request an id, and every response the headers that OpenAI's have."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, started = f"req_{secrets.token_hex(16)}", perf_counter()
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                spent = round((perf_counter() - started) * 1000)
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode()),
                    (b"openai-processing-ms", str(spent).encode()),
                    (b"openai-version", b"2020-10-01"),
                ]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _answered(error: ApiError) -> Response:
    return JSONResponse(error.body(), error.status, error.headers)


async def _api_error(_: Request, error: Exception) -> Response:
    return _answered(error) if isinstance(error, ApiError) else await _bug(_, error)


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    match status:
        case 404:
            return _answered(
                ApiError(404, f"Unknown request URL: {request.method} {request.url.path}.", code="unknown_url")
            )
        case 405:
            return _answered(
                ApiError(405, f"Not allowed to {request.method} on {request.url.path}.", code="method_not_supported")
            )
        case 400:
            return _answered(
                ApiError(400, "We could not parse the multipart form of your request.", code="invalid_form")
            )
        case _:
            return _answered(internal())


async def _nobody_left(request: Request, _: Exception) -> Response:
    """The client went away while it sent its body: there is nobody to answer."""
    _log.info("the client of %s left before its request was complete", request.state.request_id)
    return Response(status_code=499)


async def _bug(request: Request, _: Exception) -> Response:
    _log.error("request %s ran into a bug", getattr(request.state, "request_id", "-"))
    return _answered(internal())
