"""The gateway's command line: `python -m gateway render` and `python -m gateway validate`."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from gateway.binary import CONFIG_FILE, EnvoyNotFoundError, envoy_binary
from gateway.contract import ContractError
from gateway.render import render
from gateway.settings import UPSTREAM_NAMES, Address, GatewaySettings, SettingsError

DESCRIPTOR = Path(__file__).resolve().parents[1] / "protos" / "gen" / "contentlab.binpb"
_DEFAULT_PORTS = {"image": 50051, "video": 50052, "gallery": 50053, "usage": 50054}


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return _render(options) if options.command == "render" else _validate(options.directory)
    except (SettingsError, ContractError, EnvoyNotFoundError, OSError) as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 1


def _render(options: argparse.Namespace) -> int:
    auth = os.environ.get("CONTENTLAB_AUTH", "none")
    if auth != "none":
        raise SettingsError(f"CONTENTLAB_AUTH={auth} is not supported: this gateway knows no authentication but none")
    settings = GatewaySettings(
        upstreams={
            name: tuple(Address.parse(one) for one in getattr(options, name).split(",")) for name in UPSTREAM_NAMES
        },
        descriptor=options.descriptor,
        listen=Address.parse(options.listen),
        admin=Address.parse(options.admin),
    )
    config = render(settings, options.output)
    print(f"gateway: wrote {config}; no authentication, so everybody on this machine may use it", file=sys.stderr)
    return 0


def _validate(directory: Path) -> int:
    command = [str(envoy_binary()), "--mode", "validate", "--config-path", str(directory / CONFIG_FILE)]
    return subprocess.run([*command, "--log-level", "warning"], check=False, timeout=60).returncode  # noqa: S603 - Envoy


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gateway", description="Envoy's configuration for the suite.")
    commands = parser.add_subparsers(dest="command", required=True)

    rendering = commands.add_parser(
        "render",
        help="write envoy.yaml and the descriptor set into a directory",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    rendering.add_argument("--output", type=Path, required=True, metavar="DIR", help="where to; made if missing")
    rendering.add_argument("--listen", default="127.0.0.1:8080", metavar="HOST:PORT", help="loopback only")
    rendering.add_argument("--admin", default="127.0.0.1:9901", metavar="HOST:PORT", help="loopback only")
    for name, port in _DEFAULT_PORTS.items():
        rendering.add_argument(
            f"--{name}",
            default=f"127.0.0.1:{port}",
            metavar="HOST:PORT[,HOST:PORT]",
            help=f"where the {name} service listens",
        )
    rendering.add_argument("--descriptor", type=Path, default=DESCRIPTOR, metavar="FILE", help="the descriptor set")

    validating = commands.add_parser("validate", help="let Envoy check a rendered directory")
    validating.add_argument("directory", type=Path, metavar="DIR")
    return parser


if __name__ == "__main__":
    sys.exit(main())
