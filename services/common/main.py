"""The command line of a service: `python -m services.<name> [serve|migrate|...]`."""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic

import structlog

from services.common.logging import configure_logging
from services.common.settings import ServiceSettings, SettingsT, load, variables

EXIT_FAILURE = 1

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Command(Generic[SettingsT]):
    """One subcommand: a line of help and what it does with the settings."""

    help: str
    run: Callable[[SettingsT], Awaitable[None]]


def main(
    service: str,
    settings_class: type[SettingsT],
    commands: Mapping[str, Command[SettingsT]],
    argv: Sequence[str] | None = None,
    *,
    default: str = "serve",
) -> int:
    """Parses the command line, reads the settings, sets up logging and runs the command on uvloop.

    Returns the exit code: 0, 1 after a failure (logged), 130 after Ctrl-C; wrong settings or arguments exit with 2.
    """
    chosen = _parse(service, settings_class, commands, argv, default)
    settings = load(settings_class)
    if isinstance(settings, ServiceSettings):
        configure_logging(settings.log_level, settings.log_format, service=service)
    try:
        run(_run(commands[chosen], settings))
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        _log.critical("failed", command=chosen, error=type(error).__name__, exc_info=error)
        return EXIT_FAILURE
    return 0


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Runs on uvloop, where there is one."""
    if sys.platform == "win32":
        asyncio.run(coroutine)
    else:
        import uvloop

        uvloop.run(coroutine)


async def _run(command: Command[SettingsT], settings: SettingsT) -> None:
    await command.run(settings)


def _parse(
    service: str,
    settings_class: type[SettingsT],
    commands: Mapping[str, Command[SettingsT]],
    argv: Sequence[str] | None,
    default: str,
) -> str:
    known = variables(settings_class)
    parser = argparse.ArgumentParser(
        prog=f"python -m services.{service}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(["environment variables:", *(f"  {k}\n      {v}" for k, v in known.items())]),
    )
    subparsers = parser.add_subparsers(dest="command", metavar="command")
    for name, command in commands.items():
        subparsers.add_parser(name, help=command.help + (" (default)" if name == default else ""))
    return str(parser.parse_args(argv).command or default)
