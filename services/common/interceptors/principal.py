"""Second: who is calling. A refusal is raised further in, so that it is logged, counted and typed like any other."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import ClassVar

import grpc
import structlog
from typing_extensions import override

from services.common.caller import bind_caller, current_caller, identify
from services.common.errors import Reason, ResourceExhausted, ServiceError
from services.common.interceptors.base import Call, CallInterceptor, metadata_of

MAX_METADATA_BYTES = 16 * 1024
"""More is refused with a typed error; gRPC itself cuts at twice that (`server.SERVER_OPTIONS`) and untyped."""

_refusal: ContextVar[ServiceError | None] = ContextVar("contentlab_refusal", default=None)


class PrincipalInterceptor(CallInterceptor):
    """Binds the `Caller` that the call's metadata proves."""

    name: ClassVar[str] = "principal"
    after: ClassVar[frozenset[str]] = frozenset({"request_context"})

    def __init__(self, service_token: str | None) -> None:
        self._service_token = service_token

    @override
    def enter(self, details: grpc.HandlerCallDetails) -> None:
        try:
            _check_size(details)
            caller = identify(
                metadata_of(details), service_token=self._service_token, request_id=current_caller().request_id
            )
        except ServiceError as refusal:
            _refusal.set(refusal)
            return
        bind_caller(caller)
        structlog.contextvars.bind_contextvars(principal=caller.principal)

    @override
    @asynccontextmanager
    async def around(self, call: Call) -> AsyncIterator[None]:
        yield


def raise_refusal() -> None:
    """Raises what the principal interceptor has found wrong with the present call, if anything."""
    refusal = _refusal.get()
    if refusal is not None:
        raise refusal


def _check_size(details: grpc.HandlerCallDetails) -> None:
    # As HTTP/2 counts (RFC 9113, 6.5.2): 32 bytes for each field.
    size = sum(len(key) + len(value) + 32 for key, value in details.invocation_metadata or ())
    if size > MAX_METADATA_BYTES:
        raise ResourceExhausted(
            Reason.METADATA_TOO_LARGE,
            f"The call's metadata has {size} bytes; at most {MAX_METADATA_BYTES} are accepted.",
            metadata={"maxBytes": str(MAX_METADATA_BYTES)},
        )
