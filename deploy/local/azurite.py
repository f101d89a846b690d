"""Azurite: Azure Blob Storage on this machine's disk."""

import asyncio
import signal
from pathlib import Path

from deploy.local.credentials import azurite_key
from deploy.local.environment import base_environment
from deploy.local.readiness import Readiness
from deploy.local.settings import Settings
from deploy.local.spec import Launch, ProcessSpec, StopStep
from deploy.local.toolchain import Node

ACCOUNT = "contentlab"
PACKAGE = Path("deploy/local/azurite")


def connection_string(settings: Settings) -> str:
    """How gallery reaches this Azurite."""
    endpoint = f"http://127.0.0.1:{settings.port('azurite')}/{ACCOUNT}"
    key = azurite_key(settings.home)
    return f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={key};BlobEndpoint={endpoint};"


def azurite_spec(settings: Settings, node: Node) -> ProcessSpec:
    """Azurite as a process. It is never killed: its index is written every few seconds and at SIGTERM, and what it
    acknowledged in between is lost with a SIGKILL. A second SIGTERM kills it too: its handler is used up by the first.
    """
    port = settings.port("azurite")
    location = settings.home / "azurite"

    async def launch() -> Launch:
        await asyncio.to_thread(location.mkdir, mode=0o700, parents=True, exist_ok=True)
        return Launch(
            command=azurite_command(node, settings.root / PACKAGE, location, port),
            environment={**base_environment(settings), "AZURITE_ACCOUNTS": f"{ACCOUNT}:{azurite_key(settings.home)}"},
            cwd=settings.root,
        )

    return ProcessSpec(
        name="azurite",
        launch=launch,
        ready=Readiness("tcp", port),
        stop=(StopStep(signal.SIGTERM, 120),),
        ports=(port,),
        once=True,
    )


def azurite_command(node: Node, package: Path, location: Path, port: int) -> tuple[str, ...]:
    """Node on Azurite's blob server itself; the ``azurite-blob`` command is a wrapper.

    The Azure SDK speaks a newer API version than Azurite knows, hence --skipApiVersionCheck.
    """
    main = package / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(location)]
    switches = ["--silent", "--disableTelemetry", "--skipApiVersionCheck"]
    return (str(node.binary), str(main), *options, *switches)
