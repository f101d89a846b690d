"""What the runner says: to the terminal, and with times to logs/runner.log."""

import logging
import logging.handlers
import sys
from pathlib import Path

from deploy.local.logfiles import log_path

log = logging.getLogger("deploy.local")

LARGEST_BYTES = 8 * 1024 * 1024


def speak(*, to_terminal: bool) -> None:
    """Set up the runner's voice. A terminal that went away must not end the stack."""
    logging.raiseExceptions = False
    log.setLevel(logging.INFO)
    log.propagate = False
    if to_terminal:
        terminal = logging.StreamHandler(sys.stdout)
        terminal.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(terminal)


def begin_log(home: Path) -> logging.Handler:
    """Begin logs/runner.log, keeping the previous one; call it only while holding the runner's lock."""
    path = log_path(home, "runner")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=LARGEST_BYTES, backupCount=1, encoding="utf-8")
    if path.stat().st_size:
        handler.doRollover()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    return handler
