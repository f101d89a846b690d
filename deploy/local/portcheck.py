"""Whether the ports of the stack are free, before anything starts."""

import asyncio
import socket
import time
from collections.abc import Iterable
from pathlib import Path

from deploy.local.handle import command_line

# Ports of ours lie in the range from which outgoing connections take theirs; such a use is over in a moment.
PATIENCE_SECONDS = 1.5


class PortTakenError(RuntimeError):
    """Another program listens on a port of ours."""


async def require_free(ports: Iterable[tuple[str, int]]) -> None:
    """Raise PortTakenError naming every (part, port) that is taken, by whom, and the way out."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    taken = [(part, port) for part, port in ports if not _is_free(port)]
    while taken and not any(_listeners(port) for _, port in taken) and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
        taken = [(part, port) for part, port in taken if not _is_free(port)]
    if taken:
        lines = "".join(f"\n  port {port} for {part} is used by {_holder(port)}" for part, port in taken)
        raise PortTakenError(
            f"Some ports of the suite are taken:{lines}\n"
            "End that program, or set CONTENTLAB_PORT_BASE (100 to 15000), which is added to every port: "
            "CONTENTLAB_PORT_BASE=1000 make run"
        )


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections in TIME_WAIT do not count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _holder(port: int) -> str:
    """The program behind a listening port, as far as this user may see it."""
    links = {f"socket:[{inode}]" for inode in _listeners(port)}
    for process in Path("/proc").glob("[0-9]*") if links else ():
        try:
            if any(str(descriptor.readlink()) in links for descriptor in (process / "fd").iterdir()):
                return f"pid {process.name} ({' '.join(command_line(int(process.name)))[:80]})"
        except OSError:
            continue
    return "another program"


def _listeners(port: int) -> set[str]:
    return {inode for table in ("tcp", "tcp6") for inode in _listening(Path("/proc/net") / table, port)}


def _listening(table: Path, port: int) -> list[str]:
    try:
        rows = [line.split() for line in table.read_text(encoding="ascii").splitlines()[1:]]
    except OSError:
        return []
    listen = "0A"  # TCP_LISTEN, in the fourth column of proc(5)'s net/tcp
    return [row[9] for row in rows if row[3] == listen and int(row[1].rpartition(":")[2], 16) == port]
