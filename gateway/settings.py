"""What a gateway is rendered from: addresses, limits and times."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

UPSTREAM_NAMES = ("image", "video", "gallery", "usage")
"""The services behind the gateway; each is the second segment of its packages (`contentlab.image.v1`)."""

MIB = 1024 * 1024


class SettingsError(Exception):
    """The gateway must not, or cannot, be rendered from what was given."""


@dataclass(frozen=True, slots=True)
class Address:
    """A host, by name or IP address, and a port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Reads `host:port`; an IPv6 address stands in brackets.

        Raises:
            SettingsError: it is something else.
        """
        host, separator, port = text.strip().rpartition(":")
        bare = host.removeprefix("[").removesuffix("]")
        if not separator or not bare or not port.isdecimal() or not 0 < int(port) < 65536:
            raise SettingsError(f"{text!r} is not an address: expected host:port, as in 127.0.0.1:8080")
        return cls(bare, int(port))

    @property
    def is_ip(self) -> bool:
        """Whether the host is an IP address rather than a name."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it. Names do not count: what they resolve to may change."""
        return self.is_ip and ipaddress.ip_address(self.host).is_loopback


@dataclass(frozen=True, slots=True)
class Times:
    """Deadlines and idle times in seconds. A client's own shorter deadline always wins."""

    read: float = 30
    write: float = 120
    paid: float = 900
    """A model may take minutes; design of the suite: 900 s."""
    watch: float = 3600
    watch_idle: float = 300
    """Watches send a checkpoint every 15 s."""
    transfer: float = 900
    transfer_idle: float = 60
    """How long an upload or download may stand still before it is cut."""
    request_idle: float = 60
    """How long a request's body may stall before it is known which method it is for."""
    request_headers: float = 10
    connection_idle: float = 120
    connect: float = 2
    health: float = 2
    """How often a process is asked for its health, and how long its answer may take."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, and concurrent requests per service, cluster and Envoy."""

    body: int = MIB
    inline_body: int = 30_000_000
    """20 MB of inline media are 27 MB of base64; the rest is for the other fields."""
    upload_body: int = 512 * MIB
    response: int = 4 * MIB
    """One JSON answer, or one message of a stream. Unset, Envoy drops a larger stream message with a clean end."""
    headers_kib: int = 16
    """Services refuse more than 16 KiB of metadata."""
    rpc_requests: int = 1_000
    watch_requests: int = 20_000
    bulk_requests: int = 200


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """One gateway. `upstreams` maps each of `UPSTREAM_NAMES` to the addresses of its processes."""

    upstreams: Mapping[str, tuple[Address, ...]]
    descriptor: Path
    listen: Address = Address("127.0.0.1", 8080)
    admin: Address = Address("127.0.0.1", 9901)
    times: Times = field(default_factory=Times)
    limits: Limits = field(default_factory=Limits)

    def check(self) -> None:
        """Refuses what would expose an open door.

        Raises:
            SettingsError: with the reason and what to do.
        """
        if not self.listen.is_loopback:
            raise SettingsError(
                f"refusing to listen on {self.listen.host}: there is no authentication, and CONTENTLAB_AUTH=none is "
                "allowed on loopback addresses only (127.0.0.1 or [::1])"
            )
        if not self.admin.is_loopback:
            raise SettingsError(
                f"refusing to put Envoy's admin page on {self.admin.host}: it can stop the gateway and shows its whole "
                "configuration, so it belongs on a loopback address"
            )
        missing = [name for name in UPSTREAM_NAMES if not self.upstreams.get(name)]
        if missing:
            raise SettingsError(f"no address given for: {', '.join(missing)}")
