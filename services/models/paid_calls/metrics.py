"""Counters of what was paid for."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.models.paid_calls.records import PaidCall

# Seconds. A draft takes two, a large picture of the highest quality minutes.
BUCKETS = (0.1, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)

_log = structlog.get_logger(__name__)


class PaidCallMetrics:
    """Counts settlements. A call whose outcome becomes known later is counted again under what it became."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("operation", "model")
        self._calls = Counter(
            "contentlab_paid_calls",
            "Paid calls settled, by how they ended and whether they were billed.",
            (*labels, "state", "billed"),
            registry=registry,
        )
        self._tokens = Counter(
            "contentlab_tokens", "Tokens that providers reported.", (*labels, "kind"), registry=registry
        )
        self._cost = Counter(
            "contentlab_cost_micro_usd", "Cost in millionths of a US dollar.", labels, registry=registry
        )
        self._unpriced = Counter(
            "contentlab_unpriced_calls", "Billed calls whose cost is not known.", labels, registry=registry
        )
        self._seconds = Histogram(
            "contentlab_paid_call_seconds",
            "Time from before a paid call was sent until it was settled.",
            labels,
            registry=registry,
            buckets=BUCKETS,
        )

        self._waiting = Gauge(
            "contentlab_settlements_waiting", "Ended calls that the database has not taken note of.", registry=registry
        )

    @contextmanager
    def waiting(self) -> Iterator[Callable[[], None]]:
        """Counts the settlement of this block as waiting from the first call of the function until the block ends."""
        begun = False

        def begin() -> None:
            nonlocal begun
            if not begun:
                begun = True
                self._waiting.inc()

        try:
            yield begin
        finally:
            if begun:
                self._waiting.dec()

    def settled(self, call: PaidCall) -> None:
        """To be called after the settlement is committed; so it raises nothing, whatever numbers a provider gave."""
        try:
            self._count(call)
        except Exception as error:
            _log.error("paid_call_not_counted", paid_call=call.id, error=type(error).__name__, exc_info=error)

    def _count(self, call: PaidCall) -> None:
        labels = (call.operation, call.model)
        self._calls.labels(*labels, call.state, call.billed).inc()
        for kind, tokens in asdict(call.usage).items() if call.usage else ():
            self._tokens.labels(*labels, kind.removesuffix("_tokens")).inc(tokens)
        if call.cost is not None and call.cost.micro_usd is not None:
            self._cost.labels(*labels).inc(call.cost.micro_usd)
        elif call.cost is not None:
            self._unpriced.labels(*labels).inc()
        if call.call_time is not None and call.end_time is not None:
            self._seconds.labels(*labels).observe((call.end_time - call.call_time).total_seconds())
