"""The HTTP filters, in the order in which a request passes them."""

from collections.abc import Iterable
from pathlib import Path

from gateway import transcoder
from gateway.clusters import STREAM_WINDOW, Lane, cluster_name
from gateway.contract import Method
from gateway.envoy_types import HTTP_FILTERS, Config, header_match, header_regex, set_header, typed
from gateway.replies import RESPONSES_FILTER, responses_context
from gateway.settings import GatewaySettings

HEADER_MUTATION = "envoy.filters.http.header_mutation"
BODY = "body"
INLINE_BODY = "inline_body"
UPLOAD_BODY = "upload_body"
BROTLI = "br"
GZIP = "gzip"
SWALLOW = "swallow"
HOLD = "hold"

LOOPBACK_ORIGIN = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?"

# Only Envoy and the services may set these. `x-envoy-` is how a client could order retries of a paid call.
_STRIPPED = ("x-principal", "x-scopes", "x-http-code", "x-http-content-length", "x-upload-content-length", "cookie")
_STRIPPED_PREFIXES = ("x-contentlab-", "x-envoy-", "sec-")
_GRPC_ONLY = ("grpc-encoding", "grpc-accept-encoding", "grpc-internal-encoding-request")

# The files of this page, and JSON. Never zstd: Envoy's compressor holds a stream back until it ends.
_COMPRESSED = ("application/json", "text/plain", "text/html", "text/css", "text/javascript")


def http_filters(settings: GatewaySettings, descriptor: Path, methods: tuple[Method, ...]) -> list[Config]:
    """All filters.

    Those before the transcoder see the route of the REST path, later ones that of the gRPC path.
    """
    limits = settings.limits
    return [
        _header_hygiene(),
        {"name": "envoy.filters.http.grpc_web", "typed_config": typed(f"{HTTP_FILTERS}.grpc_web.v3.GrpcWeb")},
        _same_machine_only(),
        _health_page(methods),
        _body_limit(BODY, limits.body),
        _body_limit(INLINE_BODY, limits.inline_body),
        _body_limit(UPLOAD_BODY, limits.upload_body),
        *_swallowing(),
        _compressor(BROTLI, "brotli.compressor.v3.Brotli", quality=4),
        _compressor(GZIP, "gzip.compressor.v3.Gzip", compression_level="COMPRESSION_LEVEL_4"),
        _lua(RESPONSES_FILTER, "responses", filter_context=responses_context()),
        {"name": transcoder.FILTER, "typed_config": transcoder.transcoder(settings, descriptor, methods)},
        {
            "name": "envoy.filters.http.grpc_stats",
            "typed_config": typed(f"{HTTP_FILTERS}.grpc_stats.v3.FilterConfig", stats_for_all_methods=True),
        },
        {"name": "envoy.filters.http.router", "typed_config": typed(f"{HTTP_FILTERS}.router.v3.Router")},
    ]


def disabled() -> Config:
    """Switches a filter off on a route."""
    return typed("envoy.config.route.v3.FilterConfig", disabled=True)


def uncompressed() -> Config:
    """Per-route configuration for bytes that must pass as they are, with the ETag that they have."""
    off = typed(f"{HTTP_FILTERS}.compressor.v3.CompressorPerRoute", disabled=True)
    return {BROTLI: off, GZIP: off}


def rest_headers(*, declares_length: bool = False) -> Config:
    """Per-route configuration that takes from a REST request what only gRPC's own clients may say.

    The transcoder reads no compressed messages, and a service's transport ends a call whose `-bin` is no base64: both
    would look like a paid call that was cut. With `declares_length` the service is told the length that an upload
    declares: the transcoder drops `content-length`.
    """
    mutations: list[Config] = [{"remove": name} for name in _GRPC_ONLY]
    mutations.append({"remove_on_match": {"key_matcher": {"suffix": "-bin"}}})
    if declares_length:
        mutations.append({"append": set_header("x-upload-content-length", "%REQ(content-length)%")})
    return {
        HEADER_MUTATION: typed(
            f"{HTTP_FILTERS}.header_mutation.v3.HeaderMutationPerRoute", mutations={"request_mutations": mutations}
        )
    }


def _header_hygiene() -> Config:
    removals: Iterable[Config] = (
        *({"remove": name} for name in _STRIPPED),
        *({"remove_on_match": {"key_matcher": {"prefix": prefix}}} for prefix in _STRIPPED_PREFIXES),
    )
    answers = [
        {"remove": "grpc-accept-encoding"},
        {"remove": "x-envoy-upstream-service-time"},
        {"append": set_header("x-content-type-options", "nosniff")},
    ]
    return {
        "name": HEADER_MUTATION,
        "typed_config": typed(
            f"{HTTP_FILTERS}.header_mutation.v3.HeaderMutation",
            mutations={"request_mutations": list(removals), "response_mutations": answers},
        ),
    }


def _same_machine_only() -> Config:
    """Without authentication a page of the web could spend money by posting to this machine: its Origin tells."""
    foreign = {
        "and_ids": {
            "ids": [
                {"header": {"name": "origin", "present_match": True}},
                {"not_id": {"header": header_regex("origin", LOOPBACK_ORIGIN)}},
            ]
        }
    }
    rules = {
        "action": "DENY",
        "policies": {"foreign_origin": {"permissions": [{"any": True}], "principals": [foreign]}},
    }
    return {"name": "envoy.filters.http.rbac", "typed_config": typed(f"{HTTP_FILTERS}.rbac.v3.RBAC", rules=rules)}


def _health_page(methods: tuple[Method, ...]) -> Config:
    """`/healthz`: 200 while every service has at least one healthy process."""
    needed = {cluster_name(method.upstream, Lane.RPC): {"value": 1} for method in methods}
    return {
        "name": "envoy.filters.http.health_check",
        "typed_config": typed(
            f"{HTTP_FILTERS}.health_check.v3.HealthCheck",
            pass_through_mode=False,
            headers=[header_match(":path", exact="/healthz")],
            cluster_min_healthy_percentages=needed,
        ),
    }


def _body_limit(name: str, limit: int) -> Config:
    return {
        "name": name,
        "typed_config": typed(f"{HTTP_FILTERS}.body_size_limit.v3.BodySizeLimit", max_request_bytes=limit),
    }


def _swallowing() -> list[Config]:
    """Two filters, off unless a route wants them: one drops a body as it comes, one holds the request until its end."""
    lua = _lua(SWALLOW, "swallow")
    # Nothing is left to buffer; but this is also the room for the answer that `responses.lua` completes.
    hold = typed(f"{HTTP_FILTERS}.buffer.v3.Buffer", max_request_bytes=STREAM_WINDOW)
    return [{**lua, "disabled": True}, {"name": HOLD, "disabled": True, "typed_config": hold}]


def swallowed() -> Config:
    """Per-route configuration that reads a request to its end, keeping nothing, before the route answers.

    An answer in the middle of a body ends in a reset connection, and many clients then never see the answer.
    """
    enabled = typed("envoy.config.route.v3.FilterConfig", config={})
    return {BODY: disabled(), INLINE_BODY: disabled(), SWALLOW: enabled, HOLD: enabled}


def _compressor(name: str, library: str, **parameters: object) -> Config:
    matchers = [{"prefix": content_type} for content_type in _COMPRESSED]
    return {
        "name": name,
        "typed_config": typed(
            f"{HTTP_FILTERS}.compressor.v3.Compressor",
            response_direction_config={
                "weaken_etag_on_compress": True,
                "common_config": {"min_content_length": 512, "content_type_matcher": matchers},
            },
            compressor_library={
                "name": name,
                "typed_config": typed(f"envoy.extensions.compression.{library}", **parameters),
            },
        ),
    }


def _lua(name: str, script: str, **fields: object) -> Config:
    code = Path(__file__).with_name("lua").joinpath(f"{script}.lua").read_text(encoding="utf-8")
    return {
        "name": name,
        "typed_config": typed(f"{HTTP_FILTERS}.lua.v3.Lua", default_source_code={"inline_string": code}, **fields),
    }
