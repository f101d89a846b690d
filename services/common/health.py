"""grpc.health.v1 that tells the truth: from the first moment, after every readiness poll, and while draining."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog
from grpc_health.v1 import health, health_pb2

Ready = Callable[[], Awaitable[bool]]

POLL_SECONDS = 1.0
CHECK_SECONDS = 3.0
FAILURES_BEFORE_NOT_SERVING = 2
"""One slow answer under load takes nobody out of the gateway's rotation; a second one does."""

_log = structlog.get_logger(__name__)


class HealthServicer:
    """The library's servicer; Watch ends when the server drains, and List is there."""

    def __init__(self, draining: asyncio.Event) -> None:
        self._statuses = health.aio.HealthServicer()
        self._draining = draining
        self._drained = False
        self.Check = self._statuses.Check
        self._listed: dict[str, health_pb2.HealthCheckResponse] = {}

    async def List(self, request: health_pb2.HealthListRequest, context: Any) -> health_pb2.HealthListResponse:  # noqa: N802
        """The status of every service."""
        return health_pb2.HealthListResponse(statuses=dict(self._listed))

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:  # noqa: N802 - gRPC's name
        """Streams the status of one service until the client leaves or the server drains."""
        watching = asyncio.ensure_future(self._statuses.Watch(request, context))
        draining = asyncio.ensure_future(self._draining.wait())
        try:
            await asyncio.wait({watching, draining}, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                await watching
        finally:
            watching.cancel()
            draining.cancel()
            await asyncio.gather(watching, draining, return_exceptions=True)

    async def set(self, service: str, *, serving: bool) -> None:
        """Sets one service's status; without effect once draining has begun."""
        if self._drained:
            return
        states = health_pb2.HealthCheckResponse
        status = states.SERVING if serving else states.NOT_SERVING
        self._listed[service] = states(status=status)
        await self._statuses.set(service, status)

    async def begin_drain(self) -> None:
        """NOT_SERVING for everything, for good."""
        self._drained = True
        for status in self._listed.values():
            status.status = health_pb2.HealthCheckResponse.NOT_SERVING
        await self._statuses.enter_graceful_shutdown()


class Readiness:
    """Polls `ready` and keeps the status of the overall server ("") and of every service."""

    def __init__(self, servicer: HealthServicer, services: Sequence[str], ready: Ready) -> None:
        self._servicer = servicer
        self._names = ("", *services)
        self._ready = ready
        self._failures = FAILURES_BEFORE_NOT_SERVING
        self._serving: bool | None = None
        self._check: asyncio.Task[bool] | None = None

    async def poll_forever(self, interval: float) -> None:
        """Polls until cancelled."""
        try:
            while True:
                await self.poll()
                await asyncio.sleep(interval)
        finally:
            if self._check is not None:
                self._check.cancel()

    async def poll(self) -> None:
        """One poll: success serves at once, failure only when it repeats."""
        if await self._is_ready():
            self._failures = 0
        else:
            self._failures += 1
        await self.set_serving(self._failures < FAILURES_BEFORE_NOT_SERVING)

    async def set_serving(self, serving: bool) -> None:
        """Publishes the status, and logs it when it changed."""
        if serving is self._serving:
            return
        self._serving = serving
        for name in self._names:
            await self._servicer.set(name, serving=serving)
        _log.info("health", serving=serving)

    async def _is_ready(self) -> bool:
        """Runs the check, at most one at a time; one that hangs counts as failed until it has ended.

        Its end is not waited for: cancelling a query on a frozen database takes the driver many seconds.
        """
        if self._check is None or self._check.done():
            self._check = asyncio.create_task(_run(self._ready))
        done, _ = await asyncio.wait({self._check}, timeout=CHECK_SECONDS)
        if not done:
            if not self._check.cancelling():  # a second time would disturb its clean-up
                self._check.cancel()
            return False
        error = self._check.exception() if not self._check.cancelled() else None
        if error is not None:
            _log.warning("readiness_check_failed", error=type(error).__name__, exc_info=error)
        return not self._check.cancelled() and error is None and self._check.result()


async def _run(ready: Ready) -> bool:
    return await ready()
