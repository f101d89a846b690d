"""Clusters: three for each service, because what waits long or moves much must not stand in the way of the rest."""

from collections.abc import Iterable, Mapping
from enum import StrEnum

from gateway.contract import Kind, Method
from gateway.envoy_types import Config, duration, typed
from gateway.settings import Address, GatewaySettings

STREAM_WINDOW = 256 * 1024
CONNECTION_WINDOW = 2**31 - 1


class Lane(StrEnum):
    """A cluster of a service: the same processes, with connections and circuit breakers of its own."""

    RPC = "rpc"
    WATCH = "watch"
    BULK = "bulk"


LANES: Mapping[Kind, Lane] = {
    Kind.READ: Lane.RPC,
    Kind.WRITE: Lane.RPC,
    Kind.PAID: Lane.RPC,
    Kind.PAID_STREAM: Lane.WATCH,
    Kind.WATCH: Lane.WATCH,
    Kind.DOWNLOAD: Lane.BULK,
    Kind.UPLOAD: Lane.BULK,
    Kind.MOVE: Lane.BULK,
}


def cluster_name(upstream: str, lane: Lane) -> str:
    """`gallery_bulk` and the like."""
    return f"{upstream}_{lane}"


def clusters(settings: GatewaySettings, methods: Iterable[Method]) -> list[Config]:
    """All clusters; a service is asked for its health by the name of its first gRPC service."""
    health_names: dict[str, str] = {}
    for method in methods:
        health_names.setdefault(method.upstream, method.service)
    return [
        _cluster(settings, upstream, lane, health_name)
        for upstream, health_name in health_names.items()
        for lane in Lane
    ]


def _cluster(settings: GatewaySettings, upstream: str, lane: Lane, health_name: str) -> Config:
    addresses = settings.upstreams[upstream]
    name = cluster_name(upstream, lane)
    times = settings.times
    return {
        "name": name,
        "type": "STATIC" if all(address.is_ip for address in addresses) else "STRICT_DNS",
        "connect_timeout": duration(times.connect),
        # Processes listen on a port each: Envoy holds one HTTP/2 connection a worker, so a shared port does not spread.
        "lb_policy": "LEAST_REQUEST",
        # By default Envoy calls dead processes too when fewer than half are well. A refusal costs nothing; a paid call
        # sent to a frozen process ends after minutes with its outcome unknown. Changes of health count at once, not
        # collected for a second, during which the health page would already say otherwise.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}, "update_merge_window": "0s"},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [_endpoint(address) for address in addresses]}],
        },
        "health_checks": [
            {
                "timeout": duration(times.health),
                "interval": duration(times.health),
                # By default a cluster without traffic is looked at once a minute.
                "no_traffic_interval": duration(times.health),
                "unhealthy_interval": duration(times.health / 2),
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "grpc_health_check": {"service_name": health_name},
            }
        ],
        "circuit_breakers": {"thresholds": _thresholds(settings, lane)},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                explicit_http_config={
                    "http2_protocol_options": {
                        # With Envoy's defaults (16 MiB a stream, 24 MiB a connection) two clients that do not read
                        # freeze every other call of the connection.
                        "initial_stream_window_size": STREAM_WINDOW,
                        "initial_connection_window_size": CONNECTION_WINDOW,
                        "connection_keepalive": {"interval": "30s", "timeout": "5s"},
                    }
                },
            )
        },
    }


def _endpoint(address: Address) -> Config:
    return {"endpoint": {"address": socket_address(address)}}


def socket_address(address: Address) -> Config:
    """Envoy's form of an address."""
    return {"socket_address": {"address": address.host, "port_value": address.port}}


def _thresholds(settings: GatewaySettings, lane: Lane) -> list[Config]:
    limits = settings.limits
    requests = {
        Lane.RPC: limits.rpc_requests,
        Lane.WATCH: limits.watch_requests,
        Lane.BULK: limits.bulk_requests,
    }[lane]
    common = {"max_connections": 1000, "max_requests": requests, "max_pending_requests": requests, "max_retries": 20}
    # Paid calls are held for minutes: at HIGH priority they have connections and a count of their own, so that a
    # thousand of them leave room for reads.
    return [{"priority": "DEFAULT", **common}, {"priority": "HIGH", **common}]
