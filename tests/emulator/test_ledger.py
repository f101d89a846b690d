"""The ledger: a charge is on disk before its answer leaves, and no kill takes it away."""

import asyncio
import contextlib
import hashlib
import signal
import sqlite3
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from emulator.ledger import Charge, Ledger, Query
from tests.emulator.harness import CHAT_MODEL, MODEL, Emulator, clients, files, new_key, process, rows_on_disk, running


async def generate(emulator: Emulator, prompt: str, key: str | None = None, **more: Any) -> Any:
    return await emulator.openai.images.generate(
        model=MODEL, prompt=prompt, quality="low", extra_headers={"Idempotency-Key": key or new_key()}, **more
    )


async def test_a_row_says_what_was_asked_answered_and_charged(emulator: Emulator) -> None:
    key, before = new_key(), time.time()
    raw = await emulator.openai.images.with_raw_response.generate(
        model=MODEL, prompt="a lighthouse", n=2, extra_headers={"Idempotency-Key": key}
    )
    row = await emulator.charge(key)
    assert row["endpoint"] == "/v1/images/generations"
    assert (row["model"], row["operation"], row["n"]) == (MODEL, "generate", 2)
    assert row["prompt_sha256"] == hashlib.sha256(b"a lighthouse").hexdigest()
    assert row["request_id"] == raw.headers["x-request-id"]
    assert row["idempotency_key"] == key
    assert row["pictures"] == [hashlib.sha256(data).hexdigest() for data in files(raw.parse())]
    assert row["outcome"] == "answered"
    assert before <= row["time"] <= time.time()
    assert isinstance(row["cost_micro_usd"], int)


async def test_no_answer_leaves_before_its_charge_is_committed(tmp_path: Path) -> None:
    """While another process holds the ledger's write lock, the call waits; when it lets go, the answer comes."""
    ledger = tmp_path / "ledger.sqlite3"
    async with running(ledger=str(ledger)) as emulator:
        with contextlib.closing(sqlite3.connect(ledger, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            calls = [
                asyncio.create_task(generate(emulator, "waiting")),
                asyncio.create_task(generate(emulator, "waiting", stream=True)),
                asyncio.create_task(
                    emulator.openai.chat.completions.create(
                        model=CHAT_MODEL, messages=[{"role": "user", "content": "?"}]
                    )
                ),
            ]
            done, _ = await asyncio.wait(calls, timeout=1.5)
            assert done == set(), "an answer left before its charge was durable"
            other.execute("ROLLBACK")
        await asyncio.gather(*calls)
        assert len(rows_on_disk(ledger)) == 3


async def test_charges_survive_a_kill_at_the_moment_of_the_answer(tmp_path: Path) -> None:
    ledger = tmp_path / "deep" / "ledger.sqlite3"
    expected: list[str] = []
    for _ in range(3):
        async with process("--ledger", str(ledger)) as (child, url), clients(url) as emulator:
            responses = await asyncio.gather(*(generate(emulator, f"picture {index}") for index in range(4)))
            child.kill()
            await child.wait()
            expected += [hashlib.sha256(files(response)[0]).hexdigest() for response in responses]
        rows = rows_on_disk(ledger)
        assert sorted(expected) == sorted(row["pictures"].strip('[]"') for row in rows)
        assert {row["outcome"] for row in rows} <= {"open", "answered"}


async def test_charges_survive_a_restart_and_a_stop_settles_every_outcome(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite3"
    async with process("--ledger", str(ledger)) as (child, url), clients(url) as emulator:
        await asyncio.gather(*(generate(emulator, f"picture {index}") for index in range(5)))
        child.send_signal(signal.SIGTERM)
        assert await child.wait() == 0
    assert [row["outcome"] for row in rows_on_disk(ledger)] == ["answered"] * 5
    async with running(ledger=str(ledger)) as emulator:
        assert len(await emulator.charges()) == 5


async def test_a_ledger_of_an_older_emulator_is_taken_over(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite3"
    async with running(ledger=str(ledger)) as emulator:
        await generate(emulator, "old")
    with contextlib.closing(sqlite3.connect(ledger)) as db:
        db.execute("ALTER TABLE charges DROP COLUMN dialect")
    async with running(ledger=str(ledger), dialect="litellm") as emulator:
        body = {"model": "openai/gpt-image-2", "prompt": "new"}
        assert (await emulator.http.post("/v1/images/generations", json=body)).is_success
        assert [charge["dialect"] for charge in await emulator.charges()] == ["openai", "litellm"]


async def test_every_commit_is_synced_to_disk(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path / "ledger.sqlite3"))
    await ledger.open()
    try:
        modes = await asyncio.wrap_future(
            ledger._submit(
                lambda db: [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
            )
        )
    finally:
        await ledger.close()
    assert modes == ["wal", 2], "2 is FULL: an fsync before a commit is told"


async def test_a_charge_that_cannot_be_recorded_is_refused(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite3"
    async with running(ledger=str(ledger)) as emulator:
        with contextlib.closing(sqlite3.connect(ledger)) as other:
            other.execute("DROP TABLE charges")
            other.commit()
        with pytest.raises(openai.InternalServerError) as refused:
            await generate(emulator, "for nothing")
        assert "charges" not in str(refused.value), "no inner text reaches the client"


async def test_a_cancelled_charge_leaves_no_row_and_harms_nobody_else() -> None:
    ledger, started, busy = Ledger(":memory:"), threading.Event(), threading.Event()

    def hold(_: sqlite3.Connection) -> None:
        started.set()
        busy.wait(10)

    await ledger.open()
    ledger._submit(hold)
    await asyncio.to_thread(started.wait, 10)
    charge = Charge("/v1/x", "m", "generate", "0" * 64, 1, {}, {}, 5, "req_1")
    cancelled, kept = ([asyncio.create_task(ledger.charge(charge)) for _ in range(20)] for _ in range(2))
    await asyncio.sleep(0.05)
    for task in cancelled:
        task.cancel()
    await asyncio.wait(cancelled)
    busy.set()
    async with asyncio.timeout(10):
        ids = await asyncio.gather(*kept)
        assert len((await ledger.read(Query()))["data"]) == len(set(ids)) == 20
    assert ledger.healthy
    await ledger.close()


async def test_many_charges_at_once_are_all_recorded_once(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite3"
    async with running(ledger=str(ledger), prerendered=True) as emulator:
        keys = [new_key() for _ in range(60)]
        await asyncio.gather(*(generate(emulator, "many", key) for key in keys))
        rows = await emulator.charges()
    assert sorted(row["idempotency_key"] for row in rows) == sorted(keys)


async def test_a_client_that_leaves_is_charged_and_the_row_says_cut() -> None:
    async with running(latency=0.5) as emulator:
        key = new_key()
        with pytest.raises(openai.APITimeoutError):
            await emulator.openai.with_options(timeout=0.1).images.generate(
                model=MODEL, prompt="too slow for me", extra_headers={"Idempotency-Key": key}
            )
        await emulator.some_charges(idempotency_key=key)
        assert (await emulator.charge(key))["outcome"] == "cut"


async def test_rows_can_be_filtered_paged_and_totalled() -> None:
    async with running() as emulator:
        for prompt in ("one", "two"):
            await generate(emulator, prompt, "the same key")
        await asyncio.sleep(0.02)
        middle = time.time()
        await generate(emulator, "three", n=2)

        async def read(**filters: Any) -> dict[str, Any]:
            body: dict[str, Any] = (await emulator.http.get("/ledger", params=filters)).json()
            return body

        everything = await read()
        assert [row["id"] for row in everything["data"]] == [1, 2, 3]
        assert everything["totals"] == {
            "charges": 3, "pictures": 4, "repeated_keys": 1,
            "cost_micro_usd": sum(row["cost_micro_usd"] for row in everything["data"]),
        }  # fmt: skip
        assert [row["id"] for row in (await read(idempotency_key="the same key"))["data"]] == [1, 2]
        moment = datetime.fromtimestamp(middle, UTC).isoformat()
        for since in (str(middle), moment):
            late = await read(since=since)
            assert ([row["id"] for row in late["data"]], late["totals"]["charges"]) == ([3], 1)
        first = await read(limit=2)
        assert ([row["id"] for row in first["data"]], first["has_more"]) == ([1, 2], True)
        rest = await read(limit=2, after=2)
        assert ([row["id"] for row in rest["data"]], rest["has_more"]) == ([3], False)


async def test_the_ledger_can_be_reset_and_never_reuses_an_id() -> None:
    async with running() as emulator:
        await generate(emulator, "one")
        assert (await emulator.http.delete("/ledger")).json() == {"deleted": 1}
        assert await emulator.charges() == []
        await generate(emulator, "two")
        assert [row["id"] for row in await emulator.charges()] == [2]


@pytest.mark.parametrize(
    "query", ["since=yesterday", "since=nan", "limit=-1", "limit=99999999", "after=x", "after=²", "order=desc"]
)
async def test_a_filter_that_is_not_understood_is_refused(emulator: Emulator, query: str) -> None:
    answer: httpx2.Response = await emulator.http.get(f"/ledger?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, query.partition("=")[0])
