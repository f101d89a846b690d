"""Background tasks come back after a failure and go when told."""

import asyncio

import pytest
from structlog.testing import capture_logs

from services.common.background import background_tasks, supervise


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.common.background.FIRST_PAUSE", 0.01)
    monkeypatch.setattr("services.common.background.CLEAN_UP_SECONDS", 0.2)


async def test_a_task_that_fails_is_logged_and_started_again() -> None:
    runs = 0
    done = asyncio.Event()

    async def flaky() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise ConnectionError("gone")
        done.set()
        await asyncio.sleep(3600)

    with capture_logs() as logs:
        async with background_tasks({"flaky": flaky}), asyncio.timeout(5):
            await done.wait()
    assert runs == 3
    assert [(entry["event"], entry["task"]) for entry in logs] == [("background_task_failed", "flaky")] * 2
    assert [entry["retry_in"] for entry in logs] == [0.01, 0.02]


async def test_a_task_that_returns_is_done() -> None:
    runs = 0

    async def once() -> None:
        nonlocal runs
        runs += 1

    async with asyncio.timeout(5):
        await supervise("once", once)
    assert runs == 1


async def test_one_failing_task_does_not_end_another() -> None:
    steps = asyncio.Queue[int](maxsize=100)

    async def fails() -> None:
        raise RuntimeError

    async def works() -> None:
        for step in range(5):
            await asyncio.sleep(0.01)
            await steps.put(step)

    async with background_tasks({"fails": fails, "works": works}), asyncio.timeout(5):
        assert [await steps.get() for _ in range(5)] == [0, 1, 2, 3, 4]


async def test_leaving_waits_for_the_clean_up_of_tasks() -> None:
    cleaned = asyncio.Event()

    async def tidy() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.05)
            cleaned.set()

    async with background_tasks({"tidy": tidy}):
        await asyncio.sleep(0.01)
    assert cleaned.is_set()


async def test_a_task_that_ignores_its_end_does_not_hold_up_the_process() -> None:
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await asyncio.wait_for(release.wait(), 3600)
            except asyncio.CancelledError:
                continue

    with capture_logs() as logs:
        async with asyncio.timeout(5):
            async with background_tasks({"stubborn": stubborn}):
                await asyncio.sleep(0.01)
    release.set()
    assert [(entry["event"], entry["task"]) for entry in logs] == [("background_task_stuck", "stubborn")]
