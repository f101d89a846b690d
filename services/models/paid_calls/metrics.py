"""Counters of what was paid for."""

from dataclasses import asdict

from prometheus_client import CollectorRegistry, Counter, Histogram

from services.models.paid_calls.records import PaidCall

# Seconds. A draft takes two, a large picture of the highest quality minutes.
BUCKETS = (0.1, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)


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

    def settled(self, call: PaidCall) -> None:
        """To be called after the settlement is committed."""
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
