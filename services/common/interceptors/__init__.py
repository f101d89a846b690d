"""The interceptor chain, as data: outermost first.

Each interceptor declares in `after` which others must run further out; `build_chain` and a test hold the order to it.
"""

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry

from services.common.interceptors.access_log import AccessLogInterceptor
from services.common.interceptors.base import Call, CallInterceptor
from services.common.interceptors.errors import ErrorInterceptor
from services.common.interceptors.metrics import MetricsInterceptor
from services.common.interceptors.principal import PrincipalInterceptor
from services.common.interceptors.request_context import RequestContextInterceptor
from services.common.interceptors.validation import ValidationInterceptor

CHAIN: tuple[type[CallInterceptor], ...] = (
    RequestContextInterceptor,
    PrincipalInterceptor,
    AccessLogInterceptor,
    MetricsInterceptor,
    ErrorInterceptor,
    ValidationInterceptor,
)


def build_chain(
    *,
    registry: CollectorRegistry,
    services: Iterable[str] = (),
    service_token: str | None = None,
    paid_methods: frozenset[str] = frozenset(),
) -> tuple[CallInterceptor, ...]:
    """One of each of `CHAIN`, in its order.

    `services` are the full names whose validation rules are compiled now; `paid_methods` are paths, see
    `ErrorInterceptor`.
    """
    made: tuple[CallInterceptor, ...] = (
        RequestContextInterceptor(),
        PrincipalInterceptor(service_token),
        AccessLogInterceptor(),
        MetricsInterceptor(registry),
        ErrorInterceptor(paid_methods),
        ValidationInterceptor(services),
    )
    check_order(made)
    return made


def check_order(chain: Sequence[CallInterceptor | type[CallInterceptor]]) -> None:
    """Raises ValueError if an interceptor stands before one that must run further out."""
    seen: set[str] = set()
    for interceptor in chain:
        missing = interceptor.after - seen
        if missing:
            raise ValueError(f"interceptor {interceptor.name!r} must come after {sorted(missing)}")
        seen.add(interceptor.name)


__all__ = ["CHAIN", "Call", "CallInterceptor", "build_chain", "check_order"]
