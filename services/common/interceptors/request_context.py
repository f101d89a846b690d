"""First: a request id and a trace for the call, bound to its task, its logs and its trailing metadata."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

import grpc
import structlog
from typing_extensions import override

from services.common.caller import LOCAL, Caller, bind_caller, current_caller
from services.common.interceptors.base import Call, CallInterceptor, metadata_of
from services.common.trace import REQUEST_ID_KEY, continue_trace, request_id_from


class RequestContextInterceptor(CallInterceptor):
    """Takes over or makes the ids, binds them, and sends `x-request-id` back with the answer."""

    name: ClassVar[str] = "request_context"

    @override
    def enter(self, details: grpc.HandlerCallDetails) -> None:
        metadata = metadata_of(details)
        request_id = request_id_from(metadata)
        bind_caller(Caller(LOCAL, None, request_id))
        structlog.contextvars.bind_contextvars(request_id=request_id, trace_id=continue_trace(metadata))

    @override
    @asynccontextmanager
    async def around(self, call: Call) -> AsyncIterator[None]:
        call.context.set_trailing_metadata(((REQUEST_ID_KEY, current_caller().request_id),))
        yield
