"""What a process of the stack is, as data."""

import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.readiness import Readiness


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Launch:
    """One start: the real binary (never a wrapper, which would swallow signals) and its whole environment."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    cwd: Path
    account: Account | None = None  # None: the runner's own


@dataclass(frozen=True, slots=True)
class StopStep:
    """Send ``signal`` and wait up to ``seconds`` before the next step."""

    signal: signal.Signals
    seconds: float


class TableError(ValueError):
    """The process table, or a choice from it, makes no sense."""


def terminate(seconds: float) -> tuple[StopStep, ...]:
    """SIGTERM, and after so many seconds SIGKILL."""
    return (StopStep(signal.SIGTERM, seconds), StopStep(signal.SIGKILL, 5))


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One row of the process table.

    ``launch`` is awaited before every start and may prepare what the start needs; on the first start it runs
    before the dependencies are ready, so it must not use them. ``once`` marks a process that dies of a second SIGTERM.
    """

    name: str
    launch: Callable[[], Awaitable[Launch]]
    ready: Readiness
    stop: tuple[StopStep, ...]
    after: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    ready_seconds: float = 60
    once: bool = False

    @property
    def port(self) -> int | None:
        """The port that clients use."""
        return self.ports[0] if self.ports else None


def stages(specs: Sequence[ProcessSpec]) -> dict[str, int]:
    """How many steps of dependencies lie before each process. Raises TableError for an unknown or circular one."""
    by_name = {spec.name: spec for spec in specs}
    depth: dict[str, int] = {}

    def visit(name: str, path: tuple[str, ...]) -> int:
        if name not in by_name or name in path:
            raise TableError(f"dependency unknown or circular: {' -> '.join((*path, name))}")
        if name not in depth:
            depth[name] = 1 + max((visit(other, (*path, name)) for other in by_name[name].after), default=-1)
        return depth[name]

    for spec in specs:
        visit(spec.name, ())
    return depth


def with_dependencies(specs: Sequence[ProcessSpec], names: Sequence[str]) -> tuple[ProcessSpec, ...]:
    """The named processes and all that they need, in table order. Raises TableError for an unknown name."""
    by_name = {spec.name: spec for spec in specs}
    wanted: set[str] = set()
    queue = list(names)
    while queue:
        name = queue.pop()
        if name not in by_name:
            raise TableError(f"no process is called {name!r}; there are {', '.join(by_name)}")
        if name not in wanted:
            wanted.add(name)
            queue.extend(by_name[name].after)
    return tuple(spec for spec in specs if spec.name in wanted)
