"""The one listener and its HTTP connection manager."""

from pathlib import Path

from gateway.clusters import STREAM_WINDOW, socket_address
from gateway.contract import Method
from gateway.envoy_types import Config, duration, set_header, typed
from gateway.filters import http_filters
from gateway.replies import IS_GRPC, IS_REST, RESPONSES_FILTER, local_replies
from gateway.routes import virtual_hosts
from gateway.settings import GatewaySettings

REQUEST_ID_CHARACTERS = "[A-Za-z0-9._:-]"
REQUEST_ID_LENGTH = 128
"""What services take too (`services/common/trace.py`)."""
_REQUEST_ID = "x-request-id"
_SANE_COPY = "x-contentlab-sane-request-id"

_ACCESS_LOG: Config = {
    "time": "%START_TIME%",
    "requestId": "%REQ(X-REQUEST-ID)%",
    "connectionId": "%CONNECTION_ID%",
    "traceparent": "%REQ(TRACEPARENT)%",
    "method": "%REQ(X-ENVOY-ORIGINAL-METHOD?:METHOD)%",
    # Without its query, which may hold what a user searched for.
    "path": "%PATH(NQ:ORIG_OR_PATH)%",
    "rpc": "%ROUTE_NAME%",
    "kind": f"%METADATA(ROUTE:{RESPONSES_FILTER}:kind)%",
    "status": "%RESPONSE_CODE%",
    "durationMs": "%DURATION%",
    "bytesReceived": "%BYTES_RECEIVED%",
    "bytesSent": "%BYTES_SENT%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "cluster": "%UPSTREAM_CLUSTER%",
    "protocol": "%PROTOCOL%",
}
# Of a REST answer Envoy would guess the gRPC status from the HTTP status (INTERNAL for 400): only trailers tell.
_GRPC_STATUS = {True: "%GRPC_STATUS_NUMBER%", False: "%TRAILER(GRPC-STATUS)%"}


def listener(settings: GatewaySettings, descriptor: Path, methods: tuple[Method, ...]) -> Config:
    """Where clients connect: HTTP/1.1 and HTTP/2 without TLS on one port."""
    return {
        "name": "edge",
        "address": socket_address(settings.listen),
        "per_connection_buffer_limit_bytes": STREAM_WINDOW,
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": _connection_manager(settings, descriptor, methods),
                    }
                ]
            }
        ],
    }


def _connection_manager(settings: GatewaySettings, descriptor: Path, methods: tuple[Method, ...]) -> Config:
    times = settings.times
    return typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="edge",
        use_remote_address=True,
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action="REJECT_REQUEST",
        max_request_headers_kb=settings.limits.headers_kib,
        request_timeout=duration(times.transfer),
        request_headers_timeout=duration(times.request_headers),
        stream_idle_timeout=duration(times.request_idle),
        common_http_protocol_options={
            "idle_timeout": duration(times.connection_idle),
            "headers_with_underscores_action": "REJECT_REQUEST",
            "max_headers_count": 100,
        },
        http2_protocol_options={
            "max_concurrent_streams": 100,
            "initial_stream_window_size": STREAM_WINDOW,
            "initial_connection_window_size": 8 * 1024 * 1024,
            "connection_keepalive": {"interval": "30s", "timeout": "10s"},
        },
        server_name="contentlab",
        early_header_mutation_extensions=[_request_id_rule()],
        generate_request_id=True,
        preserve_external_request_id=True,
        always_set_request_id_in_response=True,
        request_id_extension={
            # A caller's id is kept as it is, also for its trace's sake.
            "typed_config": typed("envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig", pack_trace_reason=False)
        },
        local_reply_config=local_replies(),
        access_log=[_access_log(grpc=True), _access_log(grpc=False)],
        http_filters=http_filters(settings, descriptor, methods),
        route_config={"name": "edge", "virtual_hosts": virtual_hosts(settings, descriptor, methods)},
    )


def _request_id_rule() -> Config:
    """Drops a caller's request id that no log, answer or service would take as it is, so that all share a new one.

    Before anything else is done: Envoy makes the new id right afterwards, and every filter sees only that.
    """
    sent = f"request.headers['{_REQUEST_ID}']"
    # The length apart: of a repetition CEL makes too large an automaton.
    is_sane = f"size({sent}) <= {REQUEST_ID_LENGTH} && {sent}.matches('^{REQUEST_ID_CHARACTERS}+$')"
    mutations = [
        {"remove": _SANE_COPY},
        {"append": set_header(_SANE_COPY, f"%CEL({is_sane} ? {sent} : '')%")},
        {"remove": _REQUEST_ID},
        {"append": set_header(_REQUEST_ID, f"%REQ({_SANE_COPY})%")},
        {"remove": _SANE_COPY},
    ]
    return {
        "name": "request_id_rule",
        "typed_config": typed(
            "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation", mutations=mutations
        ),
    }


def _access_log(*, grpc: bool) -> Config:
    """One JSON line a request on standard output."""
    is_grpc = {"and_filter": {"filters": list(IS_GRPC)}}
    return {
        "name": "stdout",
        "filter": is_grpc if grpc else IS_REST,
        "typed_config": typed(
            "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
            log_format={"json_format": {**_ACCESS_LOG, "grpcStatus": _GRPC_STATUS[grpc]}},
        ),
    }
