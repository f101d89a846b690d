"""Errors that Envoy makes itself, in the one shape in which the suite tells errors.

Over REST that is `google.rpc.Status` as JSON, over gRPC and gRPC-Web a status with the same details in
`grpc-status-details-bin`. Envoy's own words stay inside: they name addresses and change between versions.
"""

import base64
from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import error_details_pb2, status_pb2

from gateway.contract import Kind
from gateway.envoy_types import Config, header_match, set_header, typed

DOMAIN = "contentlab"
TYPE_PREFIX = "type.googleapis.com/"
RESPONSES_FILTER = "contentlab.responses"
"""The Lua filter that completes answers; its name is also where a route says of what kind its method is."""

MALFORMED_HEADER = "x-contentlab-malformed"
"""Marks the answer to a request that the transcoder could not read: `lua/responses.lua` names the field."""

_READS = (Kind.READ, Kind.WATCH, Kind.DOWNLOAD)
_PAID = tuple(kind for kind in Kind if kind.is_paid)
# Envoy's marks of a request that reached no service: connection failed, none healthy, circuit breaker, no cluster.
_NOT_SENT = ("UF", "UH", "UO", "NC")


@dataclass(frozen=True, slots=True)
class Reply:
    """One row: which of Envoy's answers (`status`, and more narrowly `flags` or `kinds`), and what it becomes."""

    status: int
    code: int
    """Of `google.rpc.Status`."""
    reason: str
    message: str
    at_least: bool = False
    """Whether every status from `status` up is meant."""
    flags: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = ()
    billed: str = "no"
    retry_safe: bool = False
    retry_after: int = 0
    new_status: int | None = None
    grpc_code: int | None = None
    """Over gRPC, where it is another one."""
    by_transcoder: bool = False
    with_request_id: bool = True


_NOT_ARRIVED = "The request did not arrive in time."
_NO_HTTP = "This is no valid HTTP request: look at its path and at the names of its headers."
_LOOPBACK_ONLY = (
    "Without authentication only this machine is served: Host, and Origin if there is one, must be localhost, "
    "127.0.0.1 or [::1]."
)
_UNREACHABLE = "The service is not reachable for the moment."
_TOO_LATE = "The call did not finish in time."
_CUT = (
    "The call was cut before its answer came, and may have been billed. Repeat it with the same request id if it had "
    "one; otherwise look for its result before you send it again."
)

# The first row that applies counts.
REPLIES: tuple[Reply, ...] = (
    # Refused by the HTTP parser, before Envoy gave the request an id.
    Reply(431, 8, "METADATA_TOO_LARGE", "The request's headers are larger than 16 KiB.", with_request_id=False),
    Reply(408, 4, "DEADLINE_EXCEEDED", _NOT_ARRIVED, retry_safe=True, with_request_id=False),
    Reply(400, 3, "MALFORMED_REQUEST", _NO_HTTP, with_request_id=False),
    Reply(400, 3, "MALFORMED_REQUEST", "The request cannot be read: %LOCAL_REPLY_BODY%", by_transcoder=True),
    Reply(400, 3, "MALFORMED_REQUEST", _NO_HTTP),
    Reply(401, 16, "UNAUTHENTICATED", "Credentials are missing or wrong."),
    Reply(403, 7, "LOOPBACK_ONLY", _LOOPBACK_ONLY),
    Reply(404, 5, "NO_SUCH_METHOD", "There is no such method: look at verb and path.", grpc_code=12),
    Reply(408, 4, "DEADLINE_EXCEEDED", _NOT_ARRIVED, retry_safe=True),
    Reply(411, 3, "LENGTH_REQUIRED", "An upload needs a Content-Length header, or `sha256` in its query."),
    Reply(413, 3, "REQUEST_TOO_LARGE", "The request is larger than this method accepts."),
    Reply(429, 8, "RATE_LIMITED", "Too many requests.", retry_safe=True, retry_after=1),
    Reply(503, 14, "UNAVAILABLE", "Not every service has a healthy process.", flags=("LH",)),
    Reply(503, 14, "UNAVAILABLE", _UNREACHABLE, flags=_NOT_SENT, retry_safe=True, retry_after=1),
    # From here on the service may have the request.
    Reply(500, 4, "OUTCOME_UNKNOWN", _CUT, at_least=True, kinds=_PAID, billed="unknown", new_status=504),
    Reply(504, 4, "DEADLINE_EXCEEDED", _TOO_LATE, kinds=_READS, retry_safe=True),
    Reply(504, 4, "DEADLINE_EXCEEDED", _TOO_LATE),
    Reply(502, 14, "UNAVAILABLE", _UNREACHABLE, at_least=True, kinds=_READS, retry_safe=True, retry_after=1),
    Reply(502, 14, "UNAVAILABLE", _UNREACHABLE, at_least=True),
    Reply(501, 12, "NOT_IMPLEMENTED", "This method is not implemented by this server."),
    Reply(500, 13, "INTERNAL_ERROR", "Internal error; quote the request id.", at_least=True),
    Reply(400, 3, "MALFORMED_REQUEST", "The request is refused.", at_least=True),
)


def responses_context() -> Config:
    """What `lua/responses.lua` says of a paid call that a service's transport, not the service, has ended."""
    cut = next(reply for reply in REPLIES if reply.kinds == _PAID)
    return {"cut": cut.message, "cut_details": _details_bin(cut, cut.code)}


def local_replies() -> Config:
    """The `local_reply_config`: each row once for gRPC and once for REST."""
    return {"mappers": [mapper for reply in REPLIES for mapper in _mappers(reply)]}


def _mappers(reply: Reply) -> Iterator[Config]:
    conditions = list(_conditions(reply))
    grpc_code = reply.code if reply.grpc_code is None else reply.grpc_code
    yield {
        "filter": _all([*conditions, *IS_GRPC]),
        "headers_to_add": [
            set_header("grpc-status", str(grpc_code)),
            set_header("grpc-message", _plain(reply.message)),
            set_header("grpc-status-details-bin", _details_bin(reply, grpc_code)),
        ],
        "body_format_override": {"text_format_source": {"inline_string": _plain(reply.message)}},
    }
    yield {
        "filter": _all(conditions),
        **({} if reply.new_status is None else {"status_code": reply.new_status}),
        **({"headers_to_add": [set_header(MALFORMED_HEADER, "1")]} if reply.by_transcoder else {}),
        "body_format_override": {
            "content_type": "application/json",
            "json_format": _json(reply),
            "omit_empty_values": True,
        },
    }


IS_GRPC: tuple[Config, ...] = (
    # After transcoding REST looks like gRPC too, but for its original path.
    {"header_filter": {"header": header_match("content-type", prefix="application/grpc")}},
    {"header_filter": {"header": {"name": "x-envoy-original-path", "present_match": True, "invert_match": True}}},
)


_NO_GRPC = {
    **header_match("content-type", prefix="application/grpc"),
    "invert_match": True,
    "treat_missing_header_as_empty": True,
}
IS_REST: Config = {
    "or_filter": {
        "filters": [
            {"header_filter": {"header": _NO_GRPC}},
            {"header_filter": {"header": {"name": "x-envoy-original-path", "present_match": True}}},
        ]
    }
}


def _conditions(reply: Reply) -> Iterator[Config]:
    comparison = {
        "op": "GE" if reply.at_least else "EQ",
        "value": {"default_value": reply.status, "runtime_key": "none"},
    }
    yield {"status_code_filter": {"comparison": comparison}}
    if reply.flags:
        yield {"response_flag_filter": {"flags": list(reply.flags)}}
    if not reply.with_request_id:
        yield {"header_filter": {"header": {"name": "x-request-id", "present_match": True, "invert_match": True}}}
    if reply.by_transcoder:
        yield _expression("response.code_details.contains('grpc_json_transcode_failure')")
    if reply.kinds:
        kinds = ", ".join(f"'{kind}'" for kind in reply.kinds)
        yield _expression(f"xds.route_metadata.filter_metadata['{RESPONSES_FILTER}']['kind'] in [{kinds}]")


def _expression(expression: str) -> Config:
    return {
        "extension_filter": {
            "name": "expression",
            "typed_config": typed(
                "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter", expression=expression
            ),
        }
    }


def _all(conditions: list[Config]) -> Config:
    return conditions[0] if len(conditions) == 1 else {"and_filter": {"filters": conditions}}


def _json(reply: Reply) -> Config:
    # What is refused before it has an id ends its connection, whose number is in the access log too.
    request_id = "%REQ(X-REQUEST-ID)%" if reply.with_request_id else "connection-%CONNECTION_ID%"
    metadata = {"billed": reply.billed, "retrySafe": str(reply.retry_safe).lower(), "requestId": request_id}
    details: list[Config] = [
        {"@type": f"{TYPE_PREFIX}google.rpc.ErrorInfo", "reason": reply.reason, "domain": DOMAIN, "metadata": metadata}
    ]
    if reply.retry_after:
        details.append({"@type": f"{TYPE_PREFIX}google.rpc.RetryInfo", "retryDelay": f"{reply.retry_after}s"})
    return {"code": reply.code, "message": reply.message, "details": details}


def _plain(text: str) -> str:
    """Without Envoy's own words, which only the transcoder has, and it speaks to no gRPC client."""
    return text.partition(": %")[0]


def _details_bin(reply: Reply, code: int) -> str:
    """The same details, fixed: the request id is in the answer's `x-request-id`."""
    metadata = {"billed": reply.billed, "retrySafe": str(reply.retry_safe).lower()}
    status = status_pb2.Status(code=code, message=_plain(reply.message))
    details: list[message.Message] = [
        error_details_pb2.ErrorInfo(reason=reply.reason, domain=DOMAIN, metadata=metadata)
    ]
    if reply.retry_after:
        details.append(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=reply.retry_after)))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail, deterministic=True)
        status.details.append(packed)
    return base64.b64encode(status.SerializeToString(deterministic=True)).decode().rstrip("=")
