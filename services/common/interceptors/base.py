"""The one wrapping helper: an interceptor says what happens around a call, this applies it to all four kinds."""

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import grpc
import grpc.aio
from typing_extensions import override

Kind = Literal["unary", "client_stream", "server_stream", "bidi_stream"]
Context = grpc.aio.ServicerContext[Any, Any]
if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]
else:  # generic in its stubs only
    Handler = grpc.RpcMethodHandler
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]

_KINDS: Mapping[tuple[bool, bool], Kind] = {
    (False, False): "unary",
    (True, False): "client_stream",
    (False, True): "server_stream",
    (True, True): "bidi_stream",
}


@dataclass(frozen=True, slots=True)
class Call:
    """One RPC as interceptors see it. `known` is False for a method that the server does not have."""

    service: str
    method: str
    kind: Kind
    known: bool
    context: Context

    @property
    def path(self) -> str:
        """`/package.Service/Method`, as on the wire."""
        return f"/{self.service}/{self.method}"


@dataclass(frozen=True, slots=True)
class WrappedHandler(Handler):
    """A method handler; `known` marks those that stand for a method of the contract."""

    request_streaming: bool
    response_streaming: bool
    request_deserializer: Callable[[bytes], Any] | None = None
    response_serializer: Callable[[Any], bytes] | None = None
    unary_unary: Callable[..., Any] | None = None
    unary_stream: Callable[..., Any] | None = None
    stream_unary: Callable[..., Any] | None = None
    stream_stream: Callable[..., Any] | None = None
    known: bool = True


class CallInterceptor(grpc.aio.ServerInterceptor):
    """An interceptor with a name, a place in the order, and up to four hooks.

    `after` names the interceptors that must run earlier, that is further out. Hooks run in the task of the call,
    so context variables that one sets are seen by the servicer and by every later hook.
    """

    name: ClassVar[str]
    after: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def around(self, call: Call) -> AbstractAsyncContextManager[None]:
        """Surrounds the call: code before, after, and on its exceptions."""

    def enter(self, details: grpc.HandlerCallDetails) -> None:
        """Runs before anything further in, with nothing but the call's metadata; must not raise."""

    def receive(self, call: Call, message: Any) -> Any:
        """Sees, and may replace or refuse by raising, every request message of the call."""
        return message

    def replace(self, handler: Handler | None) -> Handler | None:
        """May exchange (de)serialisers, or supply a handler for an unknown method."""
        return handler

    @override
    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> Handler | None:
        self.enter(details)
        handler = self.replace(await continuation(details))
        return None if handler is None else _wrap(self, handler, details.method)


def _wrap(interceptor: CallInterceptor, handler: Handler, path: str) -> Handler:
    service, _, method = path.removeprefix("/").rpartition("/")
    kind = _KINDS[handler.request_streaming, handler.response_streaming]
    known = getattr(handler, "known", True)
    servicer_method = behaviour_of(handler)
    looks_at_messages = type(interceptor).receive is not CallInterceptor.receive

    def begin(context: Context) -> Call:
        return Call(service, method, kind, known, context)

    def receive(call: Call, request: Any) -> Any:
        if not looks_at_messages:
            return request
        return (
            _Received(interceptor, call, request) if handler.request_streaming else interceptor.receive(call, request)
        )

    async def unary_response(request: Any, context: Context) -> Any:
        call = begin(context)
        async with interceptor.around(call):
            return await servicer_method(receive(call, request), context)

    async def stream_response(request: Any, context: Context) -> None:
        # Written with context.write and not yielded: a generator that gRPC drops on cancellation is closed later by
        # the garbage collector, this coroutine unwinds at once and in its own task.
        call = begin(context)
        async with interceptor.around(call):
            responses = servicer_method(receive(call, request), context)
            if not isinstance(responses, AsyncIterator):
                await responses
                return
            async with _closing(responses):
                async for response in responses:
                    await context.write(response)

    return with_behaviour(handler, stream_response if handler.response_streaming else unary_response)


class _Received:
    """The call's request messages, each through `receive`. No generator: one left unfinished needs closing."""

    def __init__(self, interceptor: CallInterceptor, call: Call, requests: AsyncIterable[Any]) -> None:
        self._interceptor = interceptor
        self._call = call
        self._requests = requests
        self._iterator: AsyncIterator[Any] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._iterator is None:  # not earlier: a servicer need not read at all
            self._iterator = aiter(self._requests)
        return self._interceptor.receive(self._call, await anext(self._iterator))


def _closing(responses: AsyncIterator[Any]) -> AbstractAsyncContextManager[Any]:
    return aclosing(responses) if hasattr(responses, "aclose") else nullcontext()


def behaviour_of(handler: Handler) -> Callable[..., Any]:
    """The servicer's method in a handler, whichever of the four kinds it is."""
    behaviours = (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream)
    return next(behaviour for behaviour in behaviours if behaviour is not None)


def with_behaviour(handler: Handler, behaviour: Callable[..., Any]) -> WrappedHandler:
    """The same handler with another method in it."""
    kind = handler.request_streaming, handler.response_streaming
    return WrappedHandler(
        request_streaming=handler.request_streaming,
        response_streaming=handler.response_streaming,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
        unary_unary=behaviour if kind == (False, False) else None,
        unary_stream=behaviour if kind == (False, True) else None,
        stream_unary=behaviour if kind == (True, False) else None,
        stream_stream=behaviour if kind == (True, True) else None,
        known=getattr(handler, "known", True),
    )


def metadata_of(details: grpc.HandlerCallDetails) -> dict[str, str]:
    """The text metadata of a call; the last of several values wins, binary values are left out."""
    return {key: value for key, value in details.invocation_metadata or () if isinstance(value, str)}


_CODES = {code.value[0]: code for code in grpc.StatusCode} | {code: code for code in grpc.StatusCode}


def outcome_code(context: Context, error: BaseException | None) -> str:
    """The name of the status code that the call ends with, for logs and metrics."""
    if isinstance(error, asyncio.CancelledError):  # the client left or its deadline passed: nobody set a code
        remaining: Any = context.time_remaining()
        expired = remaining is not None and remaining <= 0
        return (grpc.StatusCode.DEADLINE_EXCEEDED if expired else grpc.StatusCode.CANCELLED).name
    code: Any = context.code()  # a number in grpc.aio, whatever its annotation says, and None before any is set
    status = _CODES.get(code or 0, grpc.StatusCode.UNKNOWN)
    if error is not None and status is grpc.StatusCode.OK:
        return grpc.StatusCode.UNKNOWN.name
    return status.name
