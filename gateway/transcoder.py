"""The filter that turns REST into gRPC and back."""

from collections.abc import Iterable
from pathlib import Path

from gateway.contract import Method
from gateway.envoy_types import HTTP_FILTERS, Config, typed
from gateway.settings import GatewaySettings

FILTER = "envoy.filters.http.grpc_json_transcoder"
_TYPE = f"{HTTP_FILTERS}.grpc_json_transcoder.v3.GrpcJsonTranscoder"


def transcoder(settings: GatewaySettings, descriptor: Path, methods: Iterable[Method], *, sse: bool = False) -> Config:
    """The transcoder for all services; with `sse` a stream of JSON is framed as server-sent events.

    A route that wants another framing must repeat the whole configuration: Envoy does not merge the two.
    """
    limits = settings.limits
    framing = "stream_sse_style_delimited" if sse else "stream_newline_delimited"
    return typed(
        _TYPE,
        proto_descriptor=str(descriptor),
        services=list(dict.fromkeys(method.service for method in methods)),
        convert_grpc_status=True,
        print_options={"always_print_primitive_fields": True, framing: True},
        request_validation_options={
            "reject_unknown_query_parameters": True,
            "reject_binding_body_field_collisions": True,
        },
        # Without it `assets/1:nope` is taken for the name of an asset.
        match_unregistered_custom_verb=True,
        url_unescape_spec="ALL_CHARACTERS_EXCEPT_SLASH",
        query_param_unescape_plus=True,
        case_insensitive_enum_parsing=True,
        # Both default to the listener's buffer. A larger answer would be a 500, a larger stream message would be
        # dropped with a clean end.
        max_request_body_size=limits.inline_body,
        max_response_body_size=limits.response,
    )


def no_transcoding() -> Config:
    """Switches the transcoder off on a route, so that the route's own answer stands."""
    return typed(_TYPE, proto_descriptor_bin="")
