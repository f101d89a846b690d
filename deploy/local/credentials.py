"""Secrets of the local stack, made once and kept below CONTENTLAB_HOME/secrets, readable by their owner only."""

import base64
import os
import secrets
from collections.abc import Callable
from pathlib import Path


def service_token_file(home: Path) -> Path:
    """The token by which services of the suite know each other."""
    return _kept(home / "secrets" / "service-token", lambda: secrets.token_urlsafe(32))


def azurite_key(home: Path) -> str:
    """The storage account's key. Azurite's own is public knowledge, so any program here could read the assets."""
    made = _kept(home / "secrets" / "azurite-key", lambda: base64.b64encode(secrets.token_bytes(64)).decode())
    return made.read_text(encoding="ascii")


def _kept(path: Path, make: Callable[[], str]) -> Path:
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        scratch = path.with_name(f"{path.name}.{os.getpid()}")
        scratch.touch(mode=0o600)
        scratch.write_text(make(), encoding="ascii")
        scratch.replace(path)
    return path
