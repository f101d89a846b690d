"""Fourth: the counters and the histogram that go-grpc-prometheus made the convention."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

from prometheus_client import CollectorRegistry, Counter, Histogram
from typing_extensions import override

from services.common.interceptors.base import Call, CallInterceptor, outcome_code

# Seconds. Lookups take milliseconds, paid calls minutes, their deadline is 900 s.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)


class MetricsInterceptor(CallInterceptor):
    """Counts calls started and handled, and their seconds, in one registry."""

    name: ClassVar[str] = "metrics"
    after: ClassVar[frozenset[str]] = frozenset({"request_context"})

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("grpc_service", "grpc_method", "grpc_type")
        self._started = Counter("grpc_server_started", "Calls started.", labels, registry=registry)
        self._handled = Counter(
            "grpc_server_handled", "Calls completed, by status code.", (*labels, "grpc_code"), registry=registry
        )
        self._seconds = Histogram(
            "grpc_server_handling_seconds", "Duration of calls in seconds.", labels, registry=registry, buckets=BUCKETS
        )

    @override
    @asynccontextmanager
    async def around(self, call: Call) -> AsyncIterator[None]:
        # Anybody can invent method names: all of them are one label, or the registry would grow without bound.
        labels = (call.service, call.method, call.kind) if call.known else ("unknown", "unknown", "unary")
        self._started.labels(*labels).inc()
        start = time.perf_counter()
        outcome: BaseException | None = None
        try:
            yield
        except BaseException as error:
            outcome = error
            raise
        finally:
            self._seconds.labels(*labels).observe(time.perf_counter() - start)
            self._handled.labels(*labels, outcome_code(call.context, outcome)).inc()
