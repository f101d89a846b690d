"""The command line: ``python -m deploy.local run|up|down|status|logs``, which ``make`` calls."""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence

from deploy.local.background import BackgroundError, down, up
from deploy.local.child import StartFailedError
from deploy.local.console import speak
from deploy.local.logs import NoSuchLogError, show_logs
from deploy.local.portcheck import PortTakenError
from deploy.local.postgres import PostgresError
from deploy.local.runner import Runner
from deploy.local.settings import Settings, SettingsError, load_settings
from deploy.local.spec import TableError
from deploy.local.state import AlreadyLockedError, live_state
from deploy.local.status import as_table, look
from deploy.local.stopping import OrphanError
from deploy.local.toolchain import MissingPartError

# What a person can act on: said in one message, without a traceback.
EXPECTED = (
    BackgroundError,
    MissingPartError,
    NoSuchLogError,
    OrphanError,
    PortTakenError,
    PostgresError,
    SettingsError,
    StartFailedError,
    TableError,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        settings = load_settings(os.environ)
        return _COMMANDS[options.command](settings, options)
    except AlreadyLockedError:
        print(_already_running(settings), file=sys.stderr)
    except EXPECTED as error:
        print(f"error: {error}", file=sys.stderr)
    except PermissionError as error:
        print(
            f"error: {error}. Was it made by another user? Set CONTENTLAB_HOME to a place of your own", file=sys.stderr
        )
    except KeyboardInterrupt:
        return 130
    return 1


def _run(settings: Settings, options: argparse.Namespace) -> int:
    speak(to_terminal=not options.background)
    asyncio.run(Runner(settings, only=options.only).run())
    return 0


def _up(settings: Settings, options: argparse.Namespace) -> int:
    before = live_state(settings.home)
    state = asyncio.run(up(settings, options.only))
    if before is not None:
        print(f"Already running (pid {state.runner.pid}).")
    print("\n".join([*state.announcement, f"Logs: {settings.home / 'logs'}  (make logs, make status, make down)"]))
    return 0


def _down(settings: Settings, _: argparse.Namespace) -> int:
    speak(to_terminal=True)
    print("Stopped." if asyncio.run(down(settings)) else "Nothing was running.")
    return 0


def _status(settings: Settings, _: argparse.Namespace) -> int:
    status = asyncio.run(look(settings.home))
    print(as_table(status))
    return 0 if status.healthy else 1


def _logs(settings: Settings, options: argparse.Namespace) -> int:
    show_logs(settings.home, options.name, follow=options.follow, out=lambda line: print(line, flush=True))
    return 0


_COMMANDS = {"run": _run, "up": _up, "down": _down, "status": _status, "logs": _logs}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.local",
        description="Runs the whole suite on this machine. Settings: the environment and .env (see .env.example).",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="run|up|down|status|logs")
    run = commands.add_parser("run", help="start everything, serve until Ctrl-C, stop everything")
    run.add_argument("--background", action="store_true", help=argparse.SUPPRESS)
    start = commands.add_parser("up", help="the same in the background; returns once it serves")
    for command in (run, start):
        command.add_argument(
            "--only", type=_names, default=(), metavar="NAME,...", help="only these processes and what they need"
        )
    commands.add_parser("down", help="stop what runs in the background or in another terminal")
    commands.add_parser("status", help="show every process; exit code 0 only if all are healthy")
    logs = commands.add_parser("logs", help="show the last lines of the logs")
    logs.add_argument("name", nargs="?", help="one process only; 'runner' is the runner itself")
    logs.add_argument("-f", "--follow", action="store_true", help="go on as they grow")
    return parser


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _already_running(settings: Settings) -> str:
    state = live_state(settings.home)
    who = f" (pid {state.runner.pid}, {state.phase})" if state else ""
    where = "".join(f"\n{line}" for line in state.announcement) if state else ""
    return f"Already running for {settings.home}{who}. `make status` shows it, `make down` stops it.{where}"


if __name__ == "__main__":
    sys.exit(main())
