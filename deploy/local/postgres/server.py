"""The server process of a cluster: is one running, may one be started, and with what command."""

import time
from dataclasses import dataclass
from pathlib import Path

from deploy.local.handle import ProcessIdentity, command_line, identify
from deploy.local.postgres.account import run_as
from deploy.local.postgres.cluster import Cluster
from deploy.local.postgres.errors import PostgresError

# Backends of a postmaster that was killed notice within a moment; until then a new one refuses to start.
ORPHAN_SECONDS = 30


@dataclass(frozen=True, slots=True)
class RunningServer:
    """The postmaster of a data directory; one that is ``stopping`` takes no new connections."""

    identity: ProcessIdentity
    port: int
    stopping: bool


def running_server(data: Path) -> RunningServer | None:
    """The live postmaster of this data directory, by its pid file; None when the file is missing or stale.

    The pid alone proves nothing: after a kill -9 it may belong to another program (usual after a restart of a
    container) or to a zombie. The process must have been started on this very data directory.
    """
    lines = [line.strip() for line in _pid_file_lines(data)]
    if len(lines) < 4:  # the postmaster writes it line by line; the port is the fourth
        return None
    identity = identify(int(lines[0]))
    if identity is None or str(data) not in command_line(identity.pid):
        return None
    return RunningServer(identity, int(lines[3]), stopping=lines[7:8] == ["stopping"])


def clear_way(data: Path) -> None:
    """Make a start possible after a crash: wait for orphaned backends, remove a stale pid file.

    Call it under the starter's lock and only when nothing runs. Raises PostgresError.
    """
    lines = _pid_file_lines(data)
    if not lines:
        return
    if len(lines) >= 7 and len(fields := lines[6].split()) == 2:
        deadline = time.monotonic() + ORPHAN_SECONDS
        while _attached(int(fields[1])):
            if time.monotonic() > deadline:
                raise PostgresError(f"{data}: processes of a killed server still use its shared memory")
            time.sleep(0.02)
    (data / "postmaster.pid").unlink(missing_ok=True)


def server_command(cluster: Cluster, port: int) -> tuple[str, ...]:
    """The server's command line; settings live here, so that every start has the present ones."""
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
        "max_connections": "200",
        "shared_buffers": "128MB",
        "fsync": "on",  # an acknowledged asset survives a power cut
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] %q%u@%d ",
    }
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return (str(cluster.binaries.program("postgres")), "-D", str(cluster.data), *options)


def answers(cluster: Cluster, port: int) -> bool:
    """Whether the server accepts connections (pg_isready)."""
    command = [str(cluster.binaries.program("pg_isready")), "-q", "-h", "127.0.0.1", "-p", str(port), "-t", "2"]
    return run_as(cluster.account, command, seconds=10).returncode == 0


def _pid_file_lines(data: Path) -> list[str]:
    try:
        return (data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []


def _attached(shared_memory: int) -> bool:
    """Whether any process is attached to this System V segment, by proc(5)'s sysvipc/shm: shmid, nattch."""
    try:
        rows = Path("/proc/sysvipc/shm").read_text(encoding="ascii").splitlines()[1:]
    except FileNotFoundError:
        return False
    return any(int(fields[1]) == shared_memory and int(fields[6]) > 0 for fields in map(str.split, rows))
