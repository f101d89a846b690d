"""Fifth: whatever goes wrong further in leaves as a typed status, and nothing else does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, ClassVar

import grpc
import grpc.aio
import structlog
from typing_extensions import override

from services.common.caller import current_caller
from services.common.database import is_statement_timeout, is_unavailable
from services.common.errors import (
    Billed,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    Reason,
    ServiceError,
    Unavailable,
    Unimplemented,
)
from services.common.interceptors.base import (
    Call,
    CallInterceptor,
    Context,
    Handler,
    WrappedHandler,
    behaviour_of,
    with_behaviour,
)
from services.common.interceptors.methods import is_read_only
from services.common.interceptors.principal import raise_refusal
from services.common.status import abort

_log = structlog.get_logger(__name__)


class Undecodable:
    """Stands for request bytes that are no message of the method's request type."""


class ErrorInterceptor(CallInterceptor):
    """`paid_methods` are the methods (`/package.Service/Method`) in which money may have been spent when an
    unforeseen error comes: their answer then says `billed: unknown`, all others' `billed: no`."""

    name: ClassVar[str] = "errors"
    after: ClassVar[frozenset[str]] = frozenset({"request_context", "principal", "access_log", "metrics"})

    def __init__(self, paid_methods: frozenset[str] = frozenset()) -> None:
        self._paid_methods = paid_methods

    @override
    def replace(self, handler: Handler | None) -> Handler | None:
        if handler is None:
            return _UNKNOWN_METHOD
        decode = _decoding(handler.request_deserializer)
        serialize = handler.response_serializer
        if serialize is None or handler.response_streaming:  # a stream's messages are serialised within `around`
            return replace(with_behaviour(handler, behaviour_of(handler)), request_deserializer=decode)
        serialising = with_behaviour(handler, _serialising(behaviour_of(handler), serialize))
        return replace(serialising, request_deserializer=decode, response_serializer=None)

    @override
    def receive(self, call: Call, message: Any) -> Any:
        if isinstance(message, Undecodable):
            raise InvalidArgument(
                Reason.MALFORMED_REQUEST, f"The request is not a valid message of {call.path}: it cannot be decoded."
            )
        return message

    @override
    @asynccontextmanager
    async def around(self, call: Call) -> AsyncIterator[None]:
        try:
            raise_refusal()
            yield
        except (grpc.aio.AbortError, asyncio.CancelledError):
            raise
        except grpc.aio.InternalError as error:
            # gRPC's core has nobody to send a message to: the client has left, and the cancellation is on its way.
            raise asyncio.CancelledError from error
        except Exception as error:
            request_id = current_caller().request_id
            typed = self.translate(call.path, error, request_id)
            structlog.contextvars.bind_contextvars(reason=typed.reason)  # for the access log
            try:
                await abort(call.context, typed, request_id=request_id)
            except grpc.aio.InternalError as unsent:
                raise asyncio.CancelledError from unsent

    def translate(self, path: str, error: Exception, request_id: str) -> ServiceError:
        """The typed error for any exception; one that no row of the table knows is a bug, and logged as such."""
        if isinstance(error, ServiceError):
            if isinstance(error, Internal):
                _log.error("internal_error", rpc=path, reason=error.reason, exc_info=error)
            return error
        billed = Billed.UNKNOWN if path in self._paid_methods else Billed.NO
        for applies, make in TRANSLATIONS:
            if applies(error):
                if make is not _not_implemented:
                    _log.warning("call_failed", rpc=path, error=type(error).__name__, exc_info=error)
                return make(billed, is_read_only(path))
        _log.error("unexpected_error", rpc=path, error=type(error).__name__, exc_info=error)
        return Internal(Reason.INTERNAL_ERROR, f"internal error; quote request id {request_id}", billed=billed)


def _not_implemented(billed: Billed, read_only: bool) -> ServiceError:
    return Unimplemented(Reason.NOT_IMPLEMENTED, "This method is not implemented by this server.")


def _unavailable(billed: Billed, read_only: bool) -> ServiceError:
    # How far the method had come is not known here, so only a method without effects is safe to repeat.
    return Unavailable(
        Reason.UNAVAILABLE,
        "A part that this service needs is not reachable for the moment.",
        billed=billed,
        retry_safe=read_only,
        retry_after=1.0,
    )


def _deadline_exceeded(billed: Billed, read_only: bool) -> ServiceError:
    return DeadlineExceeded(
        Reason.DEADLINE_EXCEEDED, "The call did not finish in time.", billed=billed, retry_safe=read_only
    )


def _is_rpc(*codes: grpc.StatusCode) -> Callable[[Exception], bool]:
    return lambda error: isinstance(error, grpc.aio.AioRpcError) and error.code() in codes


TRANSLATIONS: tuple[tuple[Callable[[Exception], bool], Callable[[Billed, bool], ServiceError]], ...] = (
    # Generated base servicers raise it, synchronously, for every method that a service does not override.
    (lambda error: isinstance(error, NotImplementedError), _not_implemented),
    (is_unavailable, _unavailable),
    # A sibling that stops cancels what is still running after its grace.
    (_is_rpc(grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED), _unavailable),
    (_is_rpc(grpc.StatusCode.DEADLINE_EXCEEDED), _deadline_exceeded),
    (is_statement_timeout, _deadline_exceeded),
    (lambda error: isinstance(error, TimeoutError), _deadline_exceeded),
)
"""Foreign exceptions with a known meaning, the first row that applies. What is not here is INTERNAL_ERROR."""


def _decoding(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """gRPC answers an exception of a deserialiser with its text; a marker message is refused like any other."""
    if deserialize is None:
        return None

    def decode(data: bytes) -> Any:
        try:
            return deserialize(data)
        except Exception:
            return Undecodable()

    return decode


def _serialising(servicer_method: Callable[..., Any], serialize: Callable[[Any], bytes]) -> Callable[..., Any]:
    """A servicer that returns the wrong thing is a bug like any other; gRPC would answer with the exception's text."""

    async def method(request: Any, context: Context) -> bytes:
        return serialize(await servicer_method(request, context))

    return method


async def _unknown_method(requests: Any, context: Context) -> None:
    raise Unimplemented(Reason.NOT_IMPLEMENTED, "This server does not have this method.")


_UNKNOWN_METHOD = WrappedHandler(
    request_streaming=True, response_streaming=True, stream_stream=_unknown_method, known=False
)
