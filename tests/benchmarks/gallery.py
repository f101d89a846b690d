"""Measures the gallery with a million assets, through its RPCs: `python -m tests.benchmarks.gallery --help`."""

import argparse
import asyncio
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import psycopg
from grpc_health.v1 import health_pb2, health_pb2_grpc
from psycopg import sql
from pydantic import SecretStr
from rich.console import Console
from rich.progress import track
from rich.table import Table

from contentlab.gallery.v1 import gallery_service_pb2_grpc as rpc
from deploy.local.postgres import ensure_postgres, remove_postgres, stop_postgres
from services.common.database import create_engine
from services.gallery.__main__ import SERVICE_NAME
from services.gallery.adapters.candidates import DATABASE_SETTINGS
from services.gallery.settings import GallerySettings
from tests.benchmarks.gallery_cases import Case, cases
from tests.benchmarks.gallery_load import load
from tests.benchmarks.gallery_plans import Plan, plan_of
from tests.benchmarks.gallery_rows import Library
from tests.benchmarks.gallery_sample import check_sample
from tests.support.azurite import running_azurite
from tests.support.ports import free_port

START_SECONDS = 60.0
LOADED = "loaded"


@dataclass(frozen=True)
class Measured:
    """One case: sorted milliseconds as the client saw them, the service's CPU a call, and the plan."""

    case: Case
    times: list[float]
    cpu: float
    plan: Plan

    def percentile(self, percent: int) -> float:
        return self.times[min(len(self.times) * percent // 100, len(self.times) - 1)]


async def main() -> int:
    """Loads, serves, measures and reports; 1 when a target is missed."""
    options = _options()
    console = Console(width=options.width)
    # Ended from outside, too, it leaves no process behind.
    if (task := asyncio.current_task()) is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with AsyncExitStack() as stack:
        home = options.home or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gallery-bench-")))
        url = await stack.enter_async_context(_postgres(home, keep=options.home is not None))
        library = Library(options.rows)
        settings = await _loaded(url, library)
        await check_sample(settings.database_url.get_secret_value(), library)
        azurite = await stack.enter_async_context(running_azurite(Path(tempfile.mkdtemp(dir=home, prefix="azurite-"))))
        port, process = await stack.enter_async_context(_served(settings, azurite.connection_string))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
        await _wait_until_serving(channel)
        engine = create_engine(settings, application_name="plans", server_settings=DATABASE_SETTINGS)
        stack.push_async_callback(engine.dispose)
        chosen = [case for case in cases(library) if options.only in case.name]
        measured = []
        for case in track(chosen, "measuring", console=Console(stderr=True)):
            times, cpu = await _measure(channel, process, case, options.requests)
            measured.append(Measured(case, times, cpu, await plan_of(engine, case.request(0))))
        console.print(_table(measured, options))
    return 0 if all(_is_met(one) for one in measured) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gallery", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="assets in the library (default: %(default)s)")
    parser.add_argument("--requests", type=int, default=300, help="calls of each kind (default: %(default)s)")
    parser.add_argument("--home", type=Path, help="keep the loaded database here, for the next run")
    parser.add_argument("--only", default="", help="only kinds whose name has this in it")
    parser.add_argument("--width", type=int, default=200, help="columns of the report (default: %(default)s)")
    return parser.parse_args()


@asynccontextmanager
async def _postgres(home: Path, *, keep: bool) -> AsyncIterator[str]:
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    url = await ensure_postgres(home, free_port(), environment=environment)
    try:
        yield url
    finally:
        await (stop_postgres(home) if keep else remove_postgres(home))


async def _loaded(url: str, library: Library) -> GallerySettings:
    """The settings of a database with the library in it, which an earlier run may have left."""
    name = f"bench_{library.count}"
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        found = await connection.execute(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", (name,)
        )
        row = await found.fetchone()
        database = url.rpartition("/")[0] + f"/{name}"
        fields: dict[str, Any] = {
            "database_url": SecretStr(database),
            "azure_storage_connection_string": SecretStr("UseDevelopmentStorage=true"),
        }
        settings = GallerySettings(**fields)
        if row is None or row[0] != LOADED:
            await connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
            await connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            await load(settings, library.count)
            await connection.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), LOADED))
    return settings


@asynccontextmanager
async def _served(settings: GallerySettings, azurite: str) -> AsyncIterator[tuple[int, int]]:
    """The gallery as a process of its own: its port and its id."""
    port = free_port()
    environment = {
        **os.environ,
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "AZURE_STORAGE_CONNECTION_STRING": azurite,
        "CONTENTLAB_LISTEN": f"127.0.0.1:{port}",
        "CONTENTLAB_LOG_LEVEL": "WARNING",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.gallery", env=environment, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        yield port, process.pid
    finally:
        process.terminate()
        await process.wait()


async def _wait_until_serving(channel: grpc.aio.Channel) -> None:
    request = health_pb2.HealthCheckRequest(service=SERVICE_NAME)
    async with asyncio.timeout(START_SECONDS):
        while True:
            try:
                answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=5)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            except grpc.aio.AioRpcError:
                pass
            await asyncio.sleep(0.2)


async def _measure(channel: grpc.aio.Channel, process: int, case: Case, number: int) -> tuple[list[float], float]:
    call = getattr(rpc.GalleryServiceStub(channel), case.method)
    for warm in range(10):
        await call(case.request(warm), timeout=60)
    times = []
    before = _cpu_seconds(process)
    for count in range(number):
        request = case.request(count)
        begin = time.perf_counter()
        await call(request, timeout=60)
        times.append((time.perf_counter() - begin) * 1000)
    return sorted(times), (_cpu_seconds(process) - before) * 1000 / number


def _cpu_seconds(process: int) -> float:
    """User and system time of a process, by proc(5): fields 14 and 15, in ticks."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _is_met(one: Measured) -> bool:
    return one.case.target is None or one.percentile(99) <= one.case.target


def _table(measured: list[Measured], options: argparse.Namespace) -> Table:
    load_average = os.getloadavg()[0]
    title = f"{options.rows:,} assets, {options.requests} calls each, one at a time; {os.cpu_count()} cores, "
    title += f"load {load_average:.1f}, on {socket.gethostname()}"
    table = Table(title=title, title_justify="left")
    for name in ("what", "p50 ms", "p99 ms", "target", "service CPU ms", "plan + run ms", "pages (read)", "scans"):
        table.add_column(name, justify="left" if name in ("what", "scans") else "right")
    for one in measured:
        target = "" if one.case.target is None else f"{one.case.target:g} " + ("ok" if _is_met(one) else "MISSED")
        plan = one.plan
        table.add_row(
            one.case.name,
            f"{one.percentile(50):.1f}",
            f"{one.percentile(99):.1f}",
            target,
            f"{one.cpu:.1f}",
            f"{plan.planning:.1f} + {plan.execution:.1f}",
            f"{plan.pages:,} ({plan.read:,})",
            "; ".join(plan.scans),
        )
    return table


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
