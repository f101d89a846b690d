"""Third: one line a call. Never its content."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

import structlog
from typing_extensions import override

from services.common.caller import current_caller
from services.common.interceptors.base import Call, CallInterceptor, outcome_code

_log = structlog.get_logger("access")
_PROBES = frozenset({"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"})


class AccessLogInterceptor(CallInterceptor):
    """Logs rpc, code, duration and ids when a call ends; probes at debug level."""

    name: ClassVar[str] = "access_log"
    after: ClassVar[frozenset[str]] = frozenset({"request_context", "principal"})

    @override
    @asynccontextmanager
    async def around(self, call: Call) -> AsyncIterator[None]:
        start = time.perf_counter()
        outcome: BaseException | None = None
        try:
            yield
        except BaseException as error:
            outcome = error
            raise
        finally:
            self._write(call, outcome_code(call.context, outcome), time.perf_counter() - start)

    def _write(self, call: Call, code: str, seconds: float) -> None:
        caller = current_caller()
        write = _log.debug if call.service in _PROBES else _log.info
        write(
            "call",
            rpc=call.path,
            code=code,
            duration_ms=round(seconds * 1000, 1),
            principal=caller.principal,
            caller_service=caller.service,
            request_id=caller.request_id,
            peer=call.context.peer(),
        )
