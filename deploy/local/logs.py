"""Reading the logs of all processes together, or of one, once or as they grow."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from deploy.local.logfiles import tail

LINES = 30
POLL_SECONDS = 0.25


class NoSuchLogError(LookupError):
    """No process of that name has written a log."""


def show_logs(home: Path, name: str | None, *, follow: bool, out: Callable[[str], None]) -> None:
    """Write the last lines of every log, or of one; ``follow`` goes on until interrupted. Raises NoSuchLogError."""
    paths = sorted((home / "logs").glob(f"{name or '*'}.log"))
    if not paths:
        raise NoSuchLogError(f"no log of {name or 'any process'} in {home / 'logs'}")
    alone = name is not None
    # Following starts where the tails are taken; a line written in between may show twice, none is lost.
    positions = {path: path.stat().st_size for path in paths}
    for path in paths:
        for line in tail(path, LINES * 5 if alone else LINES):
            out(_line(path, line, alone=alone))
    if follow:
        followers = [Follower(path, position) for path, position in positions.items()]
        while True:
            for follower in followers:
                for line in follower.new_lines():
                    out(_line(follower.path, line, alone=alone))
            time.sleep(POLL_SECONDS)


class Follower:
    """Reads what is added to a log, also after it was rotated or cut."""

    def __init__(self, path: Path, position: int) -> None:
        self.path = path
        self._file: BinaryIO | None = path.open("rb")
        self._file.seek(position)
        self._part = b""

    def new_lines(self) -> list[str]:
        """The lines completed since the last call."""
        if self._file is None:
            self._file = self._opened()
        if self._file is None:
            return []
        if os.fstat(self._file.fileno()).st_size < self._file.tell():
            self._file.seek(0)
        *lines, self._part = (self._part + self._file.read()).split(b"\n")
        if self._was_replaced():
            self._file.close()
            self._file = None
        return [line.decode(errors="replace") for line in lines]

    def _opened(self) -> BinaryIO | None:
        try:
            return self.path.open("rb")
        except FileNotFoundError:
            return None

    def _was_replaced(self) -> bool:
        if self._file is None:
            return False
        try:
            return self.path.stat().st_ino != os.fstat(self._file.fileno()).st_ino
        except FileNotFoundError:
            return False


def _line(path: Path, line: str, *, alone: bool) -> str:
    return line if alone else f"{path.stem:<9} | {line}"
