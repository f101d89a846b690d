"""The command line of a service: `python -m services.<name> [serve|migrate|...]`."""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog

from services.common.logging import configure_logging
from services.common.settings import ServiceSettings, SettingsT, load, variables

EXIT_FAILURE = 1

_T = TypeVar("_T")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Command(Generic[SettingsT]):
    """One subcommand: a line of help and what it does with the settings, for ever or until an exit code."""

    help: str
    run: Callable[[SettingsT], Awaitable[int | None]]


@dataclass(frozen=True)
class CommandWithOptions(Generic[SettingsT]):
    """A subcommand for people: it has options of its own, and standard output for itself, logs being on stderr."""

    help: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[SettingsT, argparse.Namespace], Awaitable[int | None]]


AnyCommand = Command[SettingsT] | CommandWithOptions[SettingsT]


def main(
    service: str,
    settings_class: type[SettingsT],
    commands: Mapping[str, AnyCommand[SettingsT]],
    argv: Sequence[str] | None = None,
    *,
    default: str = "serve",
) -> int:
    """Parses the command line, reads the settings, sets up logging and runs the command on uvloop.

    Returns the exit code: the command's own or 0, 1 after a failure (logged), 130 after Ctrl-C; wrong settings or
    arguments exit with 2.
    """
    options = _parse(service, settings_class, commands, argv, default)
    chosen = options.command or default
    settings = load(settings_class)
    if isinstance(settings, ServiceSettings):
        stream = sys.stderr if isinstance(commands[chosen], CommandWithOptions) else sys.stdout
        configure_logging(settings.log_level, settings.log_format, service=service, stream=stream)
    try:
        return run(_run(commands[chosen], settings, options)) or 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        _log.critical("failed", command=chosen, error=type(error).__name__, exc_info=error)
        return EXIT_FAILURE


def run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Runs on uvloop, where there is one."""
    if sys.platform == "win32":
        return asyncio.run(coroutine)
    import uvloop

    return uvloop.run(coroutine)


async def _run(command: AnyCommand[SettingsT], settings: SettingsT, options: argparse.Namespace) -> int | None:
    if isinstance(command, CommandWithOptions):
        return await command.run(settings, options)
    return await command.run(settings)


def _parse(
    service: str,
    settings_class: type[SettingsT],
    commands: Mapping[str, AnyCommand[SettingsT]],
    argv: Sequence[str] | None,
    default: str,
) -> argparse.Namespace:
    known = variables(settings_class)
    parser = argparse.ArgumentParser(
        prog=f"python -m services.{service}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(["environment variables:", *(f"  {k}\n      {v}" for k, v in known.items())]),
    )
    subparsers = parser.add_subparsers(dest="command", metavar="command")
    for name, command in commands.items():
        subparser = subparsers.add_parser(
            name, description=command.help, help=command.help + (" (default)" if name == default else "")
        )
        if isinstance(command, CommandWithOptions):
            command.add_options(subparser)
    return parser.parse_args(argv)
