"""Start a database that outlives its starter, adopt a running one, stop it: what tests and tools call.

The stack runner uses the same steps but keeps the server as its own child.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from deploy.local.handle import is_alive
from deploy.local.logfiles import log_path, open_for_append, tail
from deploy.local.postgres.account import CLEAN_ENVIRONMENT
from deploy.local.postgres.cluster import OUTSIDE, Cluster, ensure_initialised, locate, starter_lock
from deploy.local.postgres.errors import PostgresError
from deploy.local.postgres.server import RunningServer, answers, clear_way, running_server, server_command

# Crash recovery may take minutes, and killing a recovering server only makes the next one longer.
READY_SECONDS = 600
FAST_STOP_SECONDS = 60
IMMEDIATE_STOP_SECONDS = 15

# Children to reap once they are stopped; a server whose starter has ended is reaped by init.
_children: dict[int, subprocess.Popen[bytes]] = {}


async def ensure_postgres(
    home: Path, port: int, *, environment: Mapping[str, str] = os.environ, outside: Path = OUTSIDE
) -> str:
    """Make sure that the database of ``home`` serves on 127.0.0.1:``port``; returns its DATABASE_URL.

    A DATABASE_URL in the environment is returned as it is, and nothing is started. The server outlives the caller;
    concurrent callers get the same one. Raises PostgresError.
    """
    if given := environment.get("DATABASE_URL"):
        return given
    return await asyncio.to_thread(_ensure, home, port, environment, outside)


async def stop_postgres(home: Path) -> bool:
    """Stop the database of ``home`` if one runs; says whether one did. Raises PostgresError."""
    return await asyncio.to_thread(_stop, home)


async def remove_postgres(home: Path) -> None:
    """Stop the database of ``home`` and delete its data, wherever it is. Raises PostgresError."""
    await asyncio.to_thread(_remove, home)


def prepare(home: Path, cluster: Cluster) -> None:
    """All that must be true before the server of ``home`` is started by a supervisor. Raises PostgresError."""
    with starter_lock(home):
        stop_running(cluster.data)
        ensure_initialised(cluster)
        clear_way(cluster.data)


def stop_running(data: Path, *, keep: bool = True) -> bool:
    """Stop the server of a data directory: fast shutdown, then immediate; never SIGKILL.

    Data that nobody will read again (``keep`` is false) is not written out before.
    """
    server = running_server(data)
    if server is None:
        return False
    fast, immediate = (signal.SIGINT, FAST_STOP_SECONDS), (signal.SIGQUIT, IMMEDIATE_STOP_SECONDS)
    for signum, seconds in (fast, immediate) if keep else (immediate,):
        if is_alive(server.identity):
            os.kill(server.identity.pid, signum)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not is_alive(server.identity):
                if child := _children.pop(server.identity.pid, None):
                    child.wait()
                return True
            time.sleep(0.02)
    raise PostgresError(f"the server {server.identity.pid} of {data} does not stop")


def _stop(home: Path, *, keep: bool = True) -> bool:
    return stop_running((home.absolute() / "postgres").resolve() / "data", keep=keep)


def _remove(home: Path) -> None:
    _stop(home, keep=False)
    base = home.absolute() / "postgres"
    if base.is_symlink():
        shutil.rmtree(base.readlink(), ignore_errors=True)
        base.unlink()
    elif base.exists():
        shutil.rmtree(base)


def _ensure(home: Path, port: int, environment: Mapping[str, str], outside: Path) -> str:
    home = home.absolute()
    cluster = locate(home, environment, outside)
    with starter_lock(home):
        ensure_initialised(cluster)
        server = running_server(cluster.data)
        if server and server.stopping:  # its supervisor was killed, and it only waits for its last client
            stop_running(cluster.data)
            server = None
        if server is None:
            clear_way(cluster.data)
            _wait_for_start(home, cluster, port, _spawn(home, cluster, port))
        else:
            _adopt(cluster, port, server)
    return cluster.url(port)


def _spawn(home: Path, cluster: Cluster, port: int) -> subprocess.Popen[bytes]:
    log = open_for_append(log_path(home, "postgres"))
    try:
        child = subprocess.Popen(
            server_command(cluster, port),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=dict(CLEAN_ENVIRONMENT),
            start_new_session=True,
            user=cluster.account.uid if cluster.account else None,
            group=cluster.account.gid if cluster.account else None,
            extra_groups=() if cluster.account else None,
        )
    finally:
        os.close(log)
    _children[child.pid] = child
    return child


def _wait_for_start(home: Path, cluster: Cluster, port: int, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not (running_server(cluster.data) and answers(cluster, port)):
        if child.poll() is not None:
            log = log_path(home, "postgres")
            raise PostgresError("\n".join([f"the server exited ({child.returncode}), see {log}", *tail(log, 10)]))
        if time.monotonic() > deadline:
            raise PostgresError(f"the server did not become ready, see {log_path(home, 'postgres')}")
        time.sleep(0.02)


def _adopt(cluster: Cluster, port: int, server: RunningServer) -> None:
    if server.port != port:
        raise PostgresError(f"the database in {cluster.data} already runs on port {server.port}, not {port}")
    deadline = time.monotonic() + READY_SECONDS
    while not answers(cluster, port):
        if not is_alive(server.identity) or time.monotonic() > deadline:
            raise PostgresError(f"the running server {server.identity.pid} of {cluster.data} is not usable")
        time.sleep(0.05)
