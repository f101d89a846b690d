"""Ports for tests: free ones, and free blocks for a whole stack.

Test processes that run side by side look in ranges of their own: a port is free when it is looked for and bound later.
None of them is one that the system gives to outgoing connections (32768 to 60999 on Linux).
"""

import os
import random
import socket
from collections.abc import Iterable

from deploy.local.settings import PORTS

_SINGLE = range(16_000, 32_000)
_BASES = range(10_960, 14_900, 97)  # the services' own ports are 61,010 and above then


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listened on a moment ago."""
    mine = _share(_SINGLE)
    for _ in range(len(mine)):
        port = random.choice(mine)
        if is_free(port):
            return port
    raise RuntimeError("no free port")


def is_free(port: int) -> bool:
    """Whether the port can be bound right now."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port_base(candidates: Iterable[int] | None = None) -> int:
    """A CONTENTLAB_PORT_BASE whose every port is free."""
    for base in candidates if candidates is not None else _share(_BASES):
        if all(is_free(port + base) for port in PORTS.values()):
            return base
    raise RuntimeError("no free block of ports for a stack")


def _share(whole: range) -> range:
    """This test process's part of a range; pytest-xdist tells each which of how many it is."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    size = len(whole) // count
    return whole[worker * size : (worker + 1) * size]
