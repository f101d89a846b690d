"""One log per process below CONTENTLAB_HOME/logs; the previous start's is kept as ``.1``."""

import os
import shutil
from collections import deque
from pathlib import Path

# A log that grew beyond this is copied to .1 and cut while its process runs on.
LARGEST_LOG_BYTES = 64 * 1024 * 1024


def log_path(home: Path, name: str) -> Path:
    """The log of one process, or of the runner itself (``runner``)."""
    return home / "logs" / f"{name}.log"


def rotate(path: Path) -> None:
    """Begin an empty log, keeping the one before."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists():
        path.replace(previous(path))


def previous(path: Path) -> Path:
    """Where the log before this one is kept."""
    return path.with_name(path.name + ".1")


def open_for_append(path: Path) -> int:
    """A descriptor to hand to a child; O_APPEND keeps it right when the log is cut below it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def cut_if_too_large(path: Path, limit: int = LARGEST_LOG_BYTES) -> bool:
    """Bound the log of a process that does not reopen its file. Lines written meanwhile may be lost."""
    try:
        if path.stat().st_size <= limit:
            return False
    except FileNotFoundError:
        return False
    shutil.copyfile(path, previous(path))
    os.truncate(path, 0)
    return True


def tail(path: Path, lines: int = 20) -> list[str]:
    """The last lines of a log, at most 64 KiB of it; empty when there is none."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 64 * 1024))
            return [line.decode(errors="replace").rstrip("\n") for line in deque(log, maxlen=lines)]
    except FileNotFoundError:
        return []
