"""The command line of a service, as a process."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from tests.common.harness import KindsStub
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import asyncio, sys
from services.common.main import Command, main
from services.common.server import Application, serve
from services.common.settings import Address, ServiceSettings
from tests.common.harness import kinds


class Settings(ServiceSettings):
    listen: Address = "127.0.0.1:1"


async def slow(request, context):
    await asyncio.sleep(float(request.value))
    return request


async def run(settings):
    await serve(Application([kinds(unary=slow)]), settings)


async def migrate(settings):
    print("migrated", type(asyncio.get_running_loop()).__module__)


async def fail(settings):
    raise ConnectionError("postgresql://u:secret@h/d did not answer")


commands = {"serve": Command("serve gRPC", run), "migrate": Command("update", migrate), "fail": Command("fail", fail)}
sys.exit(main("kinds", Settings, commands))
"""


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_command_runs_on_uvloop_and_ends_with_0() -> None:
    ended = run("migrate")
    assert (ended.returncode, ended.stdout) == (0, "migrated uvloop\n")


def test_help_lists_commands_and_every_variable() -> None:
    ended = run("--help")
    assert ended.returncode == 0
    for expected in ("serve gRPC (default)", "update", "CONTENTLAB_LISTEN", "CONTENTLAB_DRAIN_SECONDS"):
        assert expected in ended.stdout


def test_an_unknown_command_ends_with_2() -> None:
    assert run("dance").returncode == 2


def test_wrong_settings_end_with_2_and_the_variables_name() -> None:
    ended = run("serve", CONTENTLAB_DRAIN_SECONDS="soon")
    assert ended.returncode == 2
    assert ended.stderr.startswith("configuration: CONTENTLAB_DRAIN_SECONDS is wrong, expected seconds")


def test_a_failure_is_one_log_line_without_secrets_and_ends_with_1() -> None:
    ended = run("fail")
    assert ended.returncode == 1
    (line,) = ended.stdout.splitlines()
    entry = json.loads(line)
    assert (entry["event"], entry["level"], entry["service"]) == ("failed", "critical", "kinds")
    assert "://u:[redacted]@h/d did not answer" in entry["exception"]
    assert "secret" not in ended.stdout


def test_a_port_that_is_taken_ends_with_1() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        ended = run("serve", CONTENTLAB_LISTEN=f"127.0.0.1:{holder.getsockname()[1]}")
    assert ended.returncode == 1
    assert "Failed to bind" in ended.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_and_ends_with_0(number: signal.Signals) -> None:
    port = free_port()
    environment = {
        "CONTENTLAB_LISTEN": f"127.0.0.1:{port}",
        "CONTENTLAB_LAME_DUCK_SECONDS": "0.1",
        "CONTENTLAB_DRAIN_SECONDS": "20",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = KindsStub(channel)
        assert await stub.call("unary", "0", wait_for_ready=True) == ["0"]
        running = asyncio.create_task(stub.call("unary", "0.5"))
        await asyncio.sleep(0.1)
        process.send_signal(number)
        assert await running == ["0.5"], "the call that was running is finished"
        output, _ = await process.communicate()
    events: list[dict[str, Any]] = [json.loads(line) for line in output.splitlines()]
    assert process.returncode == 0
    assert [event["event"] for event in events if event["event"] in ("stopping", "stopped")] == ["stopping", "stopped"]


async def test_a_second_signal_ends_the_process_at_once() -> None:
    port = free_port()
    environment = {"CONTENTLAB_LISTEN": f"127.0.0.1:{port}", "CONTENTLAB_DRAIN_SECONDS": "600"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(60), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = KindsStub(channel)
        await stub.call("unary", "0", wait_for_ready=True)
        running = asyncio.create_task(stub.call("unary", "600"))
        await asyncio.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        async for line in process.stdout:
            if b"stopping" in line:
                break
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == -signal.SIGTERM
        with pytest.raises(grpc.aio.AioRpcError):
            await running


OPTIONS = """
import sys
import structlog
from services.common.main import CommandWithOptions, main
from services.common.settings import Address, ServiceSettings


class Settings(ServiceSettings):
    listen: Address = "127.0.0.1:1"


async def count(settings, options):
    structlog.get_logger().info("counting")
    print(options.number)
    return options.number


def add_options(parser):
    parser.add_argument("--number", type=int, default=0, help="what to end with")


sys.exit(main("kinds", Settings, {"count": CommandWithOptions("count things", add_options, count)}))
"""


def test_a_command_with_options_has_stdout_for_itself_and_an_exit_code() -> None:
    command = [sys.executable, "-c", OPTIONS, "count"]
    ended = subprocess.run([*command, "--number", "3"], cwd=ROOT, env={}, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (3, "3\n")
    assert json.loads(ended.stderr)["event"] == "counting"
    shown = subprocess.run([*command, "--help"], cwd=ROOT, env={}, capture_output=True, text=True, timeout=60)
    assert "count things" in shown.stdout
    assert "what to end with" in shown.stdout
