"""The process table: what runs on one machine, in what order, and how each part is told about the others."""

import asyncio
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from deploy.local import azurite
from deploy.local.credentials import service_token_file
from deploy.local.environment import (
    base_environment,
    provider_environment,
    service_environment,
    storage_environment,
)
from deploy.local.gateway import gateway_spec
from deploy.local.postgres.account import CLEAN_ENVIRONMENT
from deploy.local.postgres.cluster import Cluster, locate
from deploy.local.postgres.launcher import prepare
from deploy.local.postgres.server import server_command
from deploy.local.readiness import Readiness
from deploy.local.settings import Settings
from deploy.local.spec import Launch, ProcessSpec, StopStep, terminate
from deploy.local.toolchain import MissingPartError, Node, find_node

SERVICES = ("gallery", "image", "video", "usage")
PAYING = ("image", "video")


@dataclass(frozen=True, slots=True)
class Ground:
    """What has to be found or made on this machine before the table can be written."""

    cluster: Cluster | None  # None: the caller's own database server
    node: Node | None  # None: the caller's own Blob Storage
    token_file: Path


async def find_ground(settings: Settings) -> Ground:
    """Look for programs and make the secrets. Raises PostgresError or MissingPartError."""
    cluster, node, token = await asyncio.gather(
        asyncio.to_thread(_cluster, settings),
        asyncio.to_thread(_node, settings),
        asyncio.to_thread(service_token_file, settings.home),
    )
    return Ground(cluster, node, token)


def process_table(settings: Settings, ground: Ground) -> tuple[ProcessSpec, ...]:
    """Every process of the suite, as data. Nothing is started."""
    specs: list[ProcessSpec] = []
    if ground.cluster is not None:
        specs.append(postgres_spec(settings, ground.cluster))
    if ground.node is not None:
        specs.append(azurite.azurite_spec(settings, ground.node))
    if settings.uses_emulator:
        specs.append(emulator_spec(settings))
    started = {spec.name for spec in specs}
    for name in SERVICES:
        specs.append(service_spec(settings, ground, name, started))
    specs.append(gateway_spec(settings, SERVICES))
    return tuple(specs)


def postgres_spec(settings: Settings, cluster: Cluster) -> ProcessSpec:
    """The database. SIGINT is its fast shutdown, SIGQUIT its immediate one, which recovers at the next start."""
    port = settings.port("postgres")
    steps = (StopStep(signal.SIGINT, 60), StopStep(signal.SIGQUIT, 15), StopStep(signal.SIGKILL, 10))

    async def launch() -> Launch:
        await asyncio.to_thread(prepare, settings.home, cluster)
        return Launch(server_command(cluster, port), CLEAN_ENVIRONMENT, Path("/"), cluster.account)

    ready = Readiness("postgres", port, str(cluster.binaries.program("pg_isready")))
    # Crash recovery may take minutes and must not be cut short.
    return ProcessSpec("postgres", launch, ready, steps, ports=(port,), ready_seconds=600)


def emulator_spec(settings: Settings) -> ProcessSpec:
    """The stand-in for a model provider; its ledger outlives it."""
    port = settings.port("emulator")
    ledger = settings.home / "emulator" / "ledger.sqlite3"

    async def launch() -> Launch:
        await asyncio.to_thread(ledger.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
        command = (sys.executable, "-m", "emulator", "--port", str(port), "--ledger", str(ledger))
        return Launch(command, {**base_environment(settings), "PYTHONUNBUFFERED": "1"}, settings.root)

    return ProcessSpec("emulator", launch, Readiness("http", port, "/faults"), terminate(10), ports=(port,))


def service_spec(settings: Settings, ground: Ground, name: str, started: set[str]) -> ProcessSpec:
    """One of the four gRPC services."""
    port = settings.port(name)

    async def launch() -> Launch:
        environment = await asyncio.to_thread(_service_variables, settings, ground, name)
        return Launch((sys.executable, "-m", f"services.{name}"), environment, settings.root)

    needs = ["postgres"]
    if name == "gallery":
        needs.append("azurite")
    return ProcessSpec(
        name=name,
        launch=launch,
        ready=Readiness("grpc", port),
        stop=terminate(settings.drain_seconds + 10),
        after=tuple(need for need in needs if need in started),
        ports=(port, settings.port(f"{name}-metrics")),
    )


def _service_variables(settings: Settings, ground: Ground, name: str) -> dict[str, str]:
    url = settings.database_url or (ground.cluster.url(settings.port("postgres")) if ground.cluster else "")
    variables = service_environment(settings, name, url, ground.token_file)
    if name in PAYING:
        variables |= provider_environment(settings)
    if name == "gallery":
        connection = azurite.connection_string(settings) if settings.uses_azurite else None
        variables |= storage_environment(settings, connection)
    return variables


def _cluster(settings: Settings) -> Cluster | None:
    return None if settings.database_url else locate(settings.home, settings.variables)


def _node(settings: Settings) -> Node | None:
    if not settings.uses_azurite:
        return None
    node = find_node(settings.variables.get("PATH"))
    if node is None or not (settings.root / azurite.PACKAGE / "node_modules" / "azurite").is_dir():
        raise MissingPartError("Azurite or Node is not installed; run `make setup`")
    return node
