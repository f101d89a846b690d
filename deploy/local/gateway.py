"""Envoy as a process: its configuration is rendered before every start."""

import asyncio
import sys
from pathlib import Path

from deploy.local.environment import base_environment
from deploy.local.readiness import Readiness
from deploy.local.settings import Settings
from deploy.local.spec import Launch, ProcessSpec, terminate
from deploy.local.toolchain import MissingPartError
from gateway.binary import EnvoyNotFoundError, envoy_command

RENDER_SECONDS = 60


def gateway_spec(settings: Settings, services: tuple[str, ...]) -> ProcessSpec:
    """Envoy in front of the services."""
    directory = settings.home / "envoy"
    ports = (settings.port("gateway"), settings.port("gateway-admin"))

    async def launch() -> Launch:
        await _render(settings, services, directory)
        try:
            command = envoy_command(directory)
        except EnvoyNotFoundError as error:
            raise MissingPartError(f"{error} (`make setup`)") from error
        return Launch(tuple(command), base_environment(settings), settings.root)

    ready = Readiness("http", ports[1], "/ready")
    return ProcessSpec("gateway", launch, ready, terminate(10), after=services, ports=ports)


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
