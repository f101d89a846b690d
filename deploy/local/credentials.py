"""Secrets of the local stack, made once and kept below CONTENTLAB_HOME/secrets, readable by their owner only."""

import base64
import contextlib
import os
import secrets
import tempfile
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
    """The file at `path`, made if there is none. Of several makers at once the first wins, and all see its secret."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Its mode is 0600; linking it into place either happens whole or finds that another was first.
        with tempfile.NamedTemporaryFile("w", dir=path.parent, encoding="ascii") as scratch:
            scratch.write(make())
            scratch.flush()
            with contextlib.suppress(FileExistsError):
                os.link(scratch.name, path)
    return path
