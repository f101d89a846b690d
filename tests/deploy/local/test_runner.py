"""The runner as a program: killed and started again, twice at once, beside another checkout, stopped."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from deploy.local.handle import ProcessIdentity, identify, is_alive
from deploy.local.portcheck import PortTakenError, require_free
from deploy.local.readiness import Readiness
from deploy.local.spec import terminate
from deploy.local.state import Phase, ProcessRecord, ProcessState, RunState, load_state, save_state
from deploy.local.status import as_table, look
from deploy.local.stopping import clear_remains
from tests.deploy.local.support import ROOT, eventually, happened, journal, kill, quiet_environment
from tests.support.ports import free_port_base

Start = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest_asyncio.fixture(loop_scope="session")
async def start() -> AsyncIterator[Start]:
    """Starts a runner on stand-ins; whatever still runs at the end of the test is stopped."""
    started: list[asyncio.subprocess.Process] = []

    async def begin(home: Path, port: int, *options: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.deploy.local.standin_stack", str(home), str(port), *options),
            cwd=ROOT,
            env=quiet_environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(30):
            await process.communicate()


async def serving(home: Path) -> dict[str, int]:
    """Wait until the stack of this home serves; the pid of every process."""
    await eventually(lambda: (state := load_state(home)) is not None and state.phase == Phase.SERVING)
    state = load_state(home)
    assert state is not None
    return {record.name: record.identity.pid for record in state.processes if record.identity}


async def said_at_the_end(process: asyncio.subprocess.Process) -> str:
    async with asyncio.timeout(30):
        output, _ = await process.communicate()
    return output.decode()


@pytest.fixture
def port() -> int:
    return 10_000 + free_port_base()


async def test_ctrl_c_stops_everything_in_reverse_and_leaves_nothing(tmp_path: Path, port: int, start: Start) -> None:
    process = await start(tmp_path, port)
    pids = await serving(tmp_path)
    process.send_signal(signal.SIGINT)
    said = await said_at_the_end(process)
    assert process.returncode == 0, said
    assert happened(tmp_path, "ended") == ["front", "worker", "store"]
    assert not any(identify(pid) for pid in pids.values())
    assert load_state(tmp_path) is None


async def test_it_starts_twice_in_a_row(tmp_path: Path, port: int, start: Start) -> None:
    for _ in range(2):
        process = await start(tmp_path, port)
        await serving(tmp_path)
        process.terminate()
        assert "serving" in await said_at_the_end(process)
    assert (tmp_path / "logs" / "store.log.1").exists(), "the log of the run before is kept"


async def test_a_second_runner_of_the_same_home_is_refused(tmp_path: Path, port: int, start: Start) -> None:
    await start(tmp_path, port)
    pids = await serving(tmp_path)
    second = await start(tmp_path, port)
    assert "AlreadyLockedError" in await said_at_the_end(second)
    assert await serving(tmp_path) == pids


async def test_two_homes_run_side_by_side(tmp_path: Path, port: int, start: Start) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    await start(one, port)
    other = await start(two, port + 10)
    await serving(one)
    await serving(two)
    other.terminate()
    await said_at_the_end(other)
    assert (await look(one)).healthy


@pytest.mark.parametrize("options", [(), ("--unguarded",)], ids=["guarded", "unguarded"])
async def test_after_kill_9_of_the_runner_the_next_start_finds_a_clean_house(
    tmp_path: Path, port: int, start: Start, options: tuple[str, ...]
) -> None:
    first = await start(tmp_path, port, *options)
    old = await serving(tmp_path)
    first.kill()
    await said_at_the_end(first)
    second = await start(tmp_path, port, *options)
    await eventually(lambda: happened(tmp_path, "listens").count("front") == 2)
    new = await serving(tmp_path)
    assert not any(identify(pid) for pid in old.values())
    assert set(old.values()).isdisjoint(new.values())
    ended = [event for event in journal(tmp_path) if event.what == "ended"]
    assert sorted(event.pid for event in ended) == sorted(old.values()), "ended by SIGTERM, each once"
    second.terminate()
    await said_at_the_end(second)


async def test_children_end_by_themselves_when_the_runner_is_killed(tmp_path: Path, port: int, start: Start) -> None:
    runner = await start(tmp_path, port)
    pids = await serving(tmp_path)
    runner.kill()
    await said_at_the_end(runner)
    await eventually(lambda: not any(identify(pid) for pid in pids.values()))
    assert happened(tmp_path, "ended") == ["front", "worker", "store"], "in order, and each once"
    assert happened(tmp_path, "asked") == ["front", "worker", "store"]
    await eventually(lambda: load_state(tmp_path) is None)


async def test_a_pid_that_now_belongs_to_another_program_is_not_touched(tmp_path: Path) -> None:
    bystander = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        present = identify(bystander.pid)
        assert present is not None
        former = ProcessIdentity(present.pid, present.start_ticks - 1, present.boot_id)
        ready = Readiness("tcp", 1)
        record = ProcessRecord("store", 0, ProcessState.READY, former, (1,), 0.0, 0, ready, terminate(1), once=False)
        save_state(tmp_path, RunState(former, Phase.SERVING, 0, processes=(record,)))
        await clear_remains(tmp_path)
        assert is_alive(present)
        assert load_state(tmp_path) is None
    finally:
        bystander.kill()
        await bystander.wait()


async def test_a_port_that_is_taken_is_named_before_anything_starts(tmp_path: Path, port: int, start: Start) -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port + 1)
    async with server:
        process = await start(tmp_path, port)
        said = await said_at_the_end(process)
        assert process.returncode != 0
        assert f"port {port + 1} for worker is used by pid {os.getpid()}" in said
        assert "CONTENTLAB_PORT_BASE" in said
        assert journal(tmp_path) == []
        with pytest.raises(PortTakenError):
            await require_free([("worker", port + 1)])


async def test_status_is_healthy_only_while_every_process_answers(tmp_path: Path, port: int, start: Start) -> None:
    process = await start(tmp_path, port)
    pids = await serving(tmp_path)
    status = await look(tmp_path)
    assert status.healthy
    assert [line.split()[:3] for line in as_table(status).splitlines()[2:]] == [
        [name, str(pids[name]), "ready"] for name in ("store", "worker", "front")
    ]
    kill(pids["front"])
    await eventually(lambda: identify(pids["front"]) is None)
    broken = await look(tmp_path)
    assert [line.name for line in broken.lines if not line.healthy] == ["front"]
    await eventually(lambda: happened(tmp_path, "listens").count("front") == 2)
    process.terminate()
    await said_at_the_end(process)
    stopped = await look(tmp_path)
    assert not stopped.healthy
    assert as_table(stopped) == "runner not running"
