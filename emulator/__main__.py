"""Run an emulator: `python -m emulator`."""

import argparse
import sys
from datetime import date

import uvloop

from emulator.dialects import DIALECTS, OPTIONS, dialect_of
from emulator.server import Server
from emulator.settings import DEFAULT_PORT, MIB, Settings
from emulator.surfaces import deployments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m emulator",
        description="A stand-in for a model provider: it speaks the OpenAI protocol, draws labelled pictures, and "
        "keeps a ledger of what it charged. See emulator/README.md.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    defaults = Settings()
    add("--host", default=defaults.host, help="address to listen on")
    add("--port", type=_port, default=DEFAULT_PORT, help="TCP port; 0 takes a free one")
    add("--ledger", default=defaults.ledger, metavar="PATH", help="SQLite file of the charges; ':memory:' keeps none")
    add("--require-key", metavar="KEY", help="accept only this API key, also for /ledger and /faults; default: any")
    add("--latency", type=_seconds, default=0.0, metavar="SECONDS", help="time that every paid call takes")
    add("--prerendered", action="store_true", help="answer from pictures drawn once, without latency")
    add("--seed", type=_count, default=0, help="changes every picture that no request seeds")
    add("--today", type=date.fromisoformat, metavar="YYYY-MM-DD", help="date by which models end; default: the clock's")
    add("--dialect", type=_dialect, default=defaults.dialect, metavar="NAME[+OPTION...]", help=_DIALECT_HELP)
    add("--deployment", action="append", default=[], metavar="NAME=MODEL", help="a deployment of Azure's; repeatable")
    add("--max-in-flight", type=_count, default=defaults.max_in_flight, help="paid calls at once; one more gets 503")
    add("--max-media-mib", type=_count, default=defaults.max_media_bytes // MIB, help="largest body with pictures")
    add("--drain-seconds", type=_seconds, default=defaults.drain_seconds, help="time for open calls after SIGTERM")
    add("--log-level", choices=("debug", "info", "warning", "error"), default=defaults.log_level, help="what to log")
    return parser


_DIALECT_HELP = f"what is spoken where the path names none: {', '.join(DIALECTS)}; options: {', '.join(OPTIONS)}"


def _dialect(text: str) -> str:
    try:
        dialect_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 up")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds") from error
    if not 0 <= seconds <= 3600:
        raise argparse.ArgumentTypeError("must be from 0 to 3600 seconds")
    return seconds


def _settings(arguments: list[str]) -> Settings:
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.prerendered and given.latency:
        parser.error("--latency has no meaning with --prerendered")
    try:
        named = deployments(given.deployment)
    except ValueError as error:
        parser.error(f"--deployment: {error}")
    return Settings(
        host=given.host,
        port=given.port,
        ledger=given.ledger,
        require_key=given.require_key,
        latency=given.latency,
        prerendered=given.prerendered,
        seed=given.seed,
        today=given.today,
        max_in_flight=given.max_in_flight,
        max_media_bytes=given.max_media_mib * MIB,
        drain_seconds=given.drain_seconds,
        dialect=given.dialect,
        deployments=named,
        log_level=given.log_level,
    )


def main() -> int:
    """Serve until SIGTERM or SIGINT; 1 when it could not start."""
    server = Server(_settings(sys.argv[1:]))
    uvloop.run(server.run_until_signalled())
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
