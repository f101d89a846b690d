"""The supervisor on real processes: order, readiness, restarts, stopping."""

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from deploy.local.child import Backoff, StartFailedError
from deploy.local.handle import identify
from deploy.local.logfiles import log_path
from deploy.local.spec import Launch, ProcessSpec, StopStep, TableError, stages, with_dependencies
from deploy.local.state import ProcessRecord
from deploy.local.supervisor import Supervisor
from tests.deploy.local.support import eventually, happened, journal, kill, standin
from tests.support.ports import free_port


@asynccontextmanager
async def supervised(specs: Sequence[ProcessSpec], home: Path) -> AsyncIterator[Supervisor]:
    """All of the table serving; stopped at the end of the block."""
    serving = asyncio.Event()

    async def on_serving() -> None:
        serving.set()

    supervisor = Supervisor(specs, home, lambda: None)
    work = asyncio.create_task(supervisor.run(on_serving))
    try:
        waiting = asyncio.create_task(serving.wait())
        await asyncio.wait([work, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if work.done():
            work.result()
        yield supervisor
    finally:
        work.cancel()
        await asyncio.wait([work])


def record(supervisor: Supervisor, name: str) -> ProcessRecord:
    return next(record for record in supervisor.records() if record.name == name)


def pid(supervisor: Supervisor, name: str) -> int:
    identity = record(supervisor, name).identity
    assert identity is not None
    return identity.pid


def was_restarted(supervisor: Supervisor, name: str, times: int) -> bool:
    return record(supervisor, name).restarts == times and record(supervisor, name).state == "ready"


async def test_a_process_starts_when_what_it_needs_is_ready_and_stops_before_it(tmp_path: Path) -> None:
    specs = [
        standin(tmp_path, "front", free_port(), after=["left", "right"]),
        standin(tmp_path, "left", free_port(), "--delay=0.3", after=["store"]),
        standin(tmp_path, "right", free_port(), after=["store"]),
        standin(tmp_path, "store", free_port(), "--delay=0.2", "--lingers=0.2"),
    ]
    async with supervised(specs, tmp_path):
        pass
    noted = [f"{event.name} {event.what}" for event in journal(tmp_path)]
    assert noted.index("store listens") < noted.index("left started")
    assert noted.index("store listens") < noted.index("right started")
    assert noted.index("right started") < noted.index("left listens"), "neighbours start side by side"
    assert noted.index("left listens") < noted.index("front started")
    assert noted.index("front ended") < noted.index("left asked")
    assert max(noted.index("left ended"), noted.index("right ended")) < noted.index("store asked")
    assert sorted(happened(tmp_path, "ended")) == ["front", "left", "right", "store"]


async def test_a_process_that_is_killed_is_started_again_and_nothing_else_is(tmp_path: Path) -> None:
    specs = [standin(tmp_path, name, free_port()) for name in ("one", "two")]
    async with supervised(specs, tmp_path) as supervisor:
        first, neighbour = pid(supervisor, "one"), pid(supervisor, "two")
        kill(first)
        await eventually(partial(was_restarted, supervisor, "one", 1))
        await eventually(lambda: record(supervisor, "one").state == "ready")
        assert pid(supervisor, "one") != first
        assert pid(supervisor, "two") == neighbour
        assert record(supervisor, "two").restarts == 0


async def test_a_process_that_dies_again_and_again_is_given_growing_pauses(tmp_path: Path) -> None:
    async with supervised([standin(tmp_path, "frail", free_port())], tmp_path) as supervisor:
        for turn in range(1, 4):
            kill(pid(supervisor, "frail"))
            await eventually(partial(was_restarted, supervisor, "frail", turn))
    backoff = Backoff(first=0.2, longest=10, reset_after=30)
    assert [backoff.next_pause(1) for _ in range(8)] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]
    assert backoff.next_pause(31) == 0.2


async def test_a_process_that_dies_at_its_first_start_fails_the_run_with_its_last_words(tmp_path: Path) -> None:
    specs = [standin(tmp_path, "good", free_port()), standin(tmp_path, "bad", free_port(), "--dies=3", after=["good"])]
    with pytest.raises(StartFailedError, match=r"bad exited before it was ready \(exit code 3\)") as caught:
        async with supervised(specs, tmp_path):
            pass
    assert "the flux capacitor is missing" in str(caught.value)
    assert str(log_path(tmp_path, "bad")) in str(caught.value)
    assert happened(tmp_path, "ended") == ["good"]


async def test_a_process_that_never_gets_ready_fails_the_run_and_is_ended(tmp_path: Path) -> None:
    with pytest.raises(StartFailedError, match="deaf was not ready after 1 s"):
        async with supervised([standin(tmp_path, "deaf", free_port(), "--deaf", ready_seconds=1)], tmp_path):
            pass
    [started] = [event for event in journal(tmp_path) if event.what == "started"]
    assert identify(started.pid) is None


async def test_a_stop_in_the_middle_of_the_start_leaves_nothing(tmp_path: Path) -> None:
    specs = [
        standin(tmp_path, "store", free_port()),
        standin(tmp_path, "slow", free_port(), "--delay=60", after=["store"], ready_seconds=60),
        standin(tmp_path, "front", free_port(), after=["slow"]),
    ]
    starting = asyncio.create_task(Supervisor(specs, tmp_path, lambda: None).run(asyncio.Event().wait))
    await eventually(lambda: "slow" in happened(tmp_path, "started"))
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert happened(tmp_path, "started") == ["store", "slow"]
    assert happened(tmp_path, "ended") == ["slow", "store"]


async def test_a_program_that_is_not_there_fails_the_run(tmp_path: Path) -> None:
    spec = standin(tmp_path, "absent", free_port())

    async def elsewhere() -> Launch:
        return replace(await spec.launch(), command=("/nowhere/program",))

    with pytest.raises(StartFailedError, match="absent"):
        async with supervised([replace(spec, launch=elsewhere)], tmp_path):
            pass


async def test_a_process_that_ignores_sigterm_is_killed_when_its_time_is_up(tmp_path: Path) -> None:
    steps = (StopStep(signal.SIGTERM, 0.3), StopStep(signal.SIGKILL, 5))
    async with supervised([standin(tmp_path, "stubborn", free_port(), "--stubborn", stop=steps)], tmp_path) as running:
        stubborn = pid(running, "stubborn")
    assert identify(stubborn) is None


async def test_whoever_is_in_a_hurry_does_not_wait_for_a_stubborn_process(tmp_path: Path) -> None:
    steps = (StopStep(signal.SIGTERM, 600), StopStep(signal.SIGKILL, 5))
    spec = standin(tmp_path, "stubborn", free_port(), "--stubborn", stop=steps)
    async with asyncio.timeout(30), supervised([spec], tmp_path) as running:
        stubborn = pid(running, "stubborn")
        running.hurry()
    assert identify(stubborn) is None


def test_a_table_with_an_unknown_or_circular_dependency_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="nobody"):
        stages([standin(tmp_path, "one", 1, after=["nobody"])])
    with pytest.raises(TableError, match="circular"):
        stages([standin(tmp_path, "one", 1, after=["two"]), standin(tmp_path, "two", 2, after=["one"])])


def test_a_choice_of_processes_brings_what_they_need(tmp_path: Path) -> None:
    specs = [
        standin(tmp_path, "store", 1),
        standin(tmp_path, "worker", 2, after=["store"]),
        standin(tmp_path, "front", 3, after=["worker"]),
    ]
    assert [spec.name for spec in with_dependencies(specs, ["worker"])] == ["store", "worker"]
    with pytest.raises(TableError, match="no process is called 'wroker'"):
        with_dependencies(specs, ["wroker"])
