"""How far a command has come: a bar on a terminal, else a line now and then; on stderr, for stdout is the result's."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_SECONDS = 10.0


class Steps(Protocol):
    """What a command tells while it works."""

    def advance(self, number: int = 1) -> None:
        """So many more are done."""


class _Bar:
    def __init__(self, progress: Progress, title: str, total: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=total)

    def advance(self, number: int = 1) -> None:
        self._progress.advance(self._task, number)


class _Lines:
    def __init__(self, title: str, total: int | None) -> None:
        self._title, self._of = title, "" if total is None else f" of {total}"
        self._done, self._told = 0, time.monotonic()

    def advance(self, number: int = 1) -> None:
        self._done += number
        if time.monotonic() - self._told >= LINE_SECONDS:
            self.tell()

    def tell(self) -> None:
        self._told = time.monotonic()
        sys.stderr.write(f"{self._title}: {self._done}{self._of}\n")
        sys.stderr.flush()


@contextmanager
def progress(title: str, total: int | None = None) -> Iterator[Steps]:
    """Shows how far the block has come; `total` None: nobody knows."""
    console = Console(stderr=True)
    if not console.is_terminal:
        lines = _Lines(title, total)
        yield lines
        lines.tell()
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console) as shown:
        yield _Bar(shown, title, total)
