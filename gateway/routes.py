"""Routes, generated from the contract.

A REST request passes twice: first by its own path, for the filters before the transcoder, and once the transcoder has
turned it into gRPC again by the path of its method, for cluster, deadline and retries. What the transcoder does not
know stays with its first route, and those all answer 404.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from gateway import filters, transcoder
from gateway.clusters import LANES, cluster_name
from gateway.contract import Kind, Method
from gateway.envoy_types import Config, duration, header_match, set_header, typed
from gateway.replies import RESPONSES_FILTER
from gateway.settings import GatewaySettings, Times

API_PREFIX = "/api/v1/"
LOOPBACK_HOSTS = ("localhost", "localhost:*", "127.0.0.1", "127.0.0.1:*", "[::1]", "[::1]:*")
NO_SUCH_METHOD = {"direct_response": {"status": 404}}

_RETRIES: Mapping[Kind, str] = {
    Kind.READ: "unavailable,connect-failure,reset",
    # A refused connection is proof that nothing was sent. Anything else is not.
    Kind.WRITE: "connect-failure",
    Kind.MOVE: "connect-failure",
    Kind.WATCH: "connect-failure",
    Kind.DOWNLOAD: "connect-failure",
}

_WELCOME = """AI Content Lab

The API is at /api/v1, for instance:

  curl http://{address}/api/v1/images:generate \\
       -H 'content-type: application/json' -d '{{"prompt":"a lighthouse at dusk"}}'
  curl http://{address}/api/v1/assets

gRPC and gRPC-Web are served on the same port.
"""


def virtual_hosts(settings: GatewaySettings, descriptor: Path, methods: tuple[Method, ...]) -> list[Config]:
    """One host for the names of this machine, and one that refuses all others.

    A page whose name was made to resolve to 127.0.0.1 (DNS rebinding) comes with its own name.
    """
    return [
        {
            "name": "loopback",
            "domains": list(LOOPBACK_HOSTS),
            "routes": [
                _welcome(settings),
                *_rest_routes(settings, descriptor, methods),
                *_grpc_routes(settings.times, methods),
                {"name": "nothing", "match": {"prefix": "/"}, **NO_SUCH_METHOD},
            ],
        },
        {
            "name": "foreign_name",
            "domains": ["*"],
            "routes": [{"name": "foreign_name", "match": {"prefix": "/"}, "direct_response": {"status": 403}}],
        },
    ]


def _welcome(settings: GatewaySettings) -> Config:
    address = f"{settings.listen.host}:{settings.listen.port}"
    return {
        "name": "welcome",
        "match": {"path": "/", "headers": [header_match(":method", exact="GET")]},
        "direct_response": {"status": 200, "body": {"inline_string": _WELCOME.format(address=address)}},
        "response_headers_to_add": [set_header("content-type", "text/plain; charset=utf-8")],
    }


def _rest_routes(settings: GatewaySettings, descriptor: Path, methods: tuple[Method, ...]) -> Iterator[Config]:
    sse = {transcoder.FILTER: transcoder.transcoder(settings, descriptor, methods, sse=True)}
    wants_sse = header_match("accept", contains="text/event-stream")
    for method in methods:
        for verb, template in method.bindings:
            if method.kind is Kind.UPLOAD:
                yield from _upload_routes(method, verb, template)
            elif method.has_inline_bytes:
                yield _too_large(_rest_match(verb, template), settings.limits.inline_body)
                larger = _lifted_limits(method)
                if method.streams_answers:
                    yield _rest_route(f"{method.name} SSE", verb, template, {**larger, **sse}, [wants_sse])
                yield _rest_route(method.name, verb, template, larger)
    yield _too_large({"prefix": API_PREFIX}, settings.limits.body)
    yield {
        "name": "rest SSE",
        "match": {"prefix": API_PREFIX, "headers": [wants_sse]},
        **NO_SUCH_METHOD,
        "typed_per_filter_config": {**filters.rest_headers(), **sse},
    }
    yield {
        "name": "rest",
        "match": {"prefix": API_PREFIX},
        **NO_SUCH_METHOD,
        "typed_per_filter_config": filters.rest_headers(),
    }


def _upload_routes(method: Method, verb: str, template: str) -> Iterator[Config]:
    """An upload must say how long it is, or what its bytes hash to: otherwise one cut short could not be told."""
    per_filter = {**_lifted_limits(method), **filters.rest_headers(declares_length=True)}
    length = {"name": "content-length", "present_match": True}
    yield _rest_route(method.name, verb, template, per_filter, [length])
    hashed = _rest_route(f"{method.name} hashed", verb, template, per_filter)
    hashed["match"]["query_parameters"] = [{"name": "sha256", "string_match": {"safe_regex": {"regex": ".+"}}}]
    yield hashed
    yield {
        "name": f"rest {method.name} refused",
        "match": _rest_match(verb, template),
        "direct_response": {"status": 411},
        "typed_per_filter_config": _refused_after_reading(),
    }


def _too_large(match: Config, limit: int) -> Config:
    """Refuses a body that says it is above the limit; above that of uploads the filter refuses it unread."""
    above = {"name": "content-length", "range_match": {"start": limit + 1, "end": 2**62}}
    return {
        "name": "rest too large",
        "match": {**match, "headers": [*match.get("headers", ()), above]},
        "direct_response": {"status": 413},
        "typed_per_filter_config": _refused_after_reading(),
    }


def _refused_after_reading() -> Config:
    return {**filters.swallowed(), transcoder.FILTER: transcoder.no_transcoding()}


def _lifted_limits(method: Method) -> Config:
    """Body limits that do not apply to a method; each is a filter of its own, because it has no setting by route."""
    if method.kind is Kind.UPLOAD:
        return {filters.BODY: filters.disabled(), filters.INLINE_BODY: filters.disabled()}
    return {filters.BODY: filters.disabled()} if method.has_inline_bytes else {}


def _rest_route(name: str, verb: str, template: str, per_filter: Config, headers: Iterable[Config] = ()) -> Config:
    return {
        "name": f"rest {name}",
        "match": _rest_match(verb, template, headers),
        **NO_SUCH_METHOD,
        "typed_per_filter_config": {**filters.rest_headers(), **per_filter},
    }


def _rest_match(verb: str, template: str, headers: Iterable[Config] = ()) -> Config:
    return {
        "safe_regex": {"regex": template_regex(template)},
        "headers": [header_match(":method", exact=verb), *headers],
    }


def template_regex(template: str) -> str:
    """The regular expression of a `google.api.http` path template.

    `/api/v1/{name=assets/*}:download` becomes `/api/v1/assets/[^/]+:download`.
    """
    flat = re.sub(r"\{[^=}]+\}", "*", template)
    flat = re.sub(r"\{[^=}]+=([^}]+)\}", r"\1", flat)
    return "".join(
        {"**": ".+", "*": "[^/]+"}.get(part, re.escape(part)) for part in re.split(r"(\*\*|\*)", flat) if part
    )


def _grpc_routes(times: Times, methods: Iterable[Method]) -> Iterator[Config]:
    """One route for each method. A method without a route, such as those of internal services, is unknown."""
    is_grpc = header_match("content-type", prefix="application/grpc")
    for method in methods:
        route: Config = {
            "name": f"{method.service.rpartition('.')[2]}.{method.name}",
            "match": {"path": method.path, "headers": [is_grpc]},
            "metadata": {"filter_metadata": {RESPONSES_FILTER: {"kind": str(method.kind)}}},
            "route": {"cluster": cluster_name(method.upstream, LANES[method.kind]), **_action(times, method.kind)},
        }
        per_filter = {**_lifted_limits(method), **(filters.uncompressed() if method.kind is Kind.DOWNLOAD else {})}
        if per_filter:
            route["typed_per_filter_config"] = per_filter
        yield route


def _action(times: Times, kind: Kind) -> Config:
    """Deadline, idle time, priority and retries of a kind of method."""
    limit, idle = {
        Kind.READ: (times.read, 0.0),
        Kind.WRITE: (times.write, 0.0),
        Kind.PAID: (times.paid, 0.0),
        Kind.PAID_STREAM: (times.paid, 0.0),
        Kind.WATCH: (times.watch, times.watch_idle),
        Kind.DOWNLOAD: (times.transfer, times.transfer_idle),
        Kind.UPLOAD: (times.transfer, times.transfer_idle),
        Kind.MOVE: (times.transfer, 0.0),
    }[kind]
    action: Config = {
        # A route's `timeout` is not told to the service. This limit is, as its deadline; a client's shorter one wins.
        "timeout": "0s",
        "max_stream_duration": {"max_stream_duration": duration(limit), "grpc_timeout_header_max": duration(limit)},
        "idle_timeout": duration(idle),
    }
    if kind is Kind.PAID:
        action["priority"] = "HIGH"
    if kind in _RETRIES:
        action["retry_policy"] = {
            "retry_on": _RETRIES[kind],
            "num_retries": 2,
            "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
            "retry_host_predicate": [
                {
                    "name": "another_host",
                    "typed_config": typed("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"),
                }
            ],
            "host_selection_retry_max_attempts": 3,
        }
    return action
