"""Ports for tests: free ones, and free blocks for a whole stack."""

import socket
from collections.abc import Iterable

from deploy.local.settings import PORTS


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def is_free(port: int) -> bool:
    """Whether the port can be bound right now."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port_base(candidates: Iterable[int] = range(3000, 14_000, 137)) -> int:
    """A CONTENTLAB_PORT_BASE whose every port is free."""
    for base in candidates:
        if all(is_free(port + base) for port in PORTS.values()):
            return base
    raise RuntimeError("no free block of ports for a stack")
