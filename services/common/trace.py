"""W3C trace context and request ids: read at the edge, bound to the task, handed on in every call."""

import re
import secrets
import uuid
from collections.abc import Mapping

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

REQUEST_ID_KEY = "x-request-id"
SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
"""Nothing that JSON, a log or a header could read as more than text; the gateway has the same rule."""

_PROPAGATOR = TraceContextTextMapPropagator()


def request_id_from(metadata: Mapping[str, str]) -> str:
    """The caller's `x-request-id` if it is 1 to 128 letters, digits and `._:-`, else a new UUID."""
    sent = metadata.get(REQUEST_ID_KEY, "")
    return sent if SANE_REQUEST_ID.fullmatch(sent) else str(uuid.uuid4())


def continue_trace(metadata: Mapping[str, str]) -> str:
    """Makes the caller's trace, or a new one, current for the rest of the task; returns its id (32 hex digits).

    This library opens no spans; with an OpenTelemetry SDK installed its own instrumentation does and this follows.
    """
    present = trace.get_current_span().get_span_context()
    if not present.is_valid:
        context = _PROPAGATOR.extract(metadata, context=otel_context.Context())
        present = trace.get_current_span(context).get_span_context()
        if not present.is_valid:
            present = SpanContext(secrets.randbits(128) or 1, secrets.randbits(64) or 1, False, TraceFlags(0))
            context = trace.set_span_in_context(NonRecordingSpan(present))
        otel_context.attach(context)
    return trace.format_trace_id(present.trace_id)


def trace_metadata() -> dict[str, str]:
    """`traceparent` (and `tracestate`) of the current trace for an outgoing call."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier
