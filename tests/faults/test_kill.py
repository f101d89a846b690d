"""`kill -9` under load: what was acknowledged stays, what was charged is accounted for, nothing is charged twice."""

import asyncio
import hashlib
import os
import signal
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field

import httpx2
import pytest

from tests.support.stack import Stack

CLIENTS = 6
LOAD_SECONDS = float(os.environ.get("CONTENTLAB_CAMPAIGN_SECONDS", "12"))
SETTLE_SECONDS = 60.0
KILL_EVERY_SECONDS = 4.0
# What a client may take as final; everything else it asks again, with the same request id.
FINAL_REASONS = {"OUTCOME_UNKNOWN"}


@dataclass
class Book:
    """What the clients were told."""

    acknowledged: dict[str, str] = field(default_factory=dict)  # asset -> sha256
    outcomes: dict[str, str] = field(default_factory=dict)  # prompt -> how it ended


async def one_intent(client: httpx2.AsyncClient, book: Book, prompt: str, until: float) -> None:
    """Asks for one picture until the answer is final, as a careful client does."""
    request = {"prompt": prompt, "requestId": str(uuid.uuid4())}
    while time.monotonic() < until:
        try:
            answer = await client.post("/api/v1/images:generate", json=request)
            body = answer.json()
        except (httpx2.HTTPError, ValueError):
            await asyncio.sleep(0.3)
            continue
        if answer.status_code == 200 and body["state"] == "SUCCEEDED":
            book.acknowledged |= {result["asset"]: result["sha256"] for result in body["results"]}
            book.outcomes[prompt] = "SUCCEEDED"
            return
        if answer.status_code != 200 and body["details"][0]["reason"] in FINAL_REASONS:
            book.outcomes[prompt] = body["details"][0]["reason"]
            return
        await asyncio.sleep(0.3)
    book.outcomes[prompt] = "GAVE_UP"


async def load(stack: Stack, book: Book, number: int, stop: float) -> None:
    async with stack.client(timeout=30) as client:
        turn = 0
        while time.monotonic() < stop:
            turn += 1
            await one_intent(client, book, f"picture {turn} of client {number}", stop + SETTLE_SECONDS)


async def kill_again_and_again(stack: Stack, victim: str, stop: float) -> int:
    """Kills the part whenever it runs; the supervisor waits longer before each further start, up to 10 s."""
    kills = 0
    while time.monotonic() + 2 < stop:
        await asyncio.sleep(KILL_EVERY_SECONDS / 2)
        pid = stack.pid(victim)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            kills += 1
        await asyncio.sleep(KILL_EVERY_SECONDS / 2)
    return kills


@pytest.mark.timeout(LOAD_SECONDS + SETTLE_SECONDS + 180)
@pytest.mark.parametrize("victim", ["gallery", "image", "postgres"])
async def test_a_killed_part_comes_back_and_nothing_is_lost_or_paid_twice(own_stack: Stack, victim: str) -> None:
    book, stop = Book(), time.monotonic() + LOAD_SECONDS
    async with asyncio.TaskGroup() as group:
        killer = group.create_task(kill_again_and_again(own_stack, victim, stop))
        for number in range(CLIENTS):
            group.create_task(load(own_stack, book, number, stop))
    kills = killer.result()
    await own_stack.healthy()

    ended = Counter(book.outcomes.values())
    print(f"{victim}: {kills} kills, {dict(ended)}")
    assert kills >= 2
    assert ended["SUCCEEDED"] >= CLIENTS
    assert ended["GAVE_UP"] == 0
    if victim != "image":
        assert ended["OUTCOME_UNKNOWN"] == 0, "only the death of the caller itself leaves an outcome unknown"

    await every_acknowledged_asset_is_there(own_stack, book)
    await every_charge_is_accounted_for(own_stack, book)


async def every_acknowledged_asset_is_there(stack: Stack, book: Book) -> None:
    async with stack.client() as client:
        for name, digest in book.acknowledged.items():
            answer = await client.get(f"/api/v1/{name}:download")
            assert answer.status_code == 200, (name, answer.text)
            assert hashlib.sha256(answer.content).hexdigest() == digest


async def every_charge_is_accounted_for(stack: Stack, book: Book) -> None:
    """The emulator's own ledger is the judge: it shares no code with the suite."""
    charges = {charge["prompt_sha256"]: charge for charge in await stack.charges()}
    assert len(charges) == len(await stack.charges()), "an intent was charged twice"
    intents = {hashlib.sha256(prompt.encode()).hexdigest(): outcome for prompt, outcome in book.outcomes.items()}
    stored = set(book.acknowledged.values())
    for digest, outcome in intents.items():
        if outcome == "SUCCEEDED":
            assert set(charges[digest]["pictures"]) <= stored, "acknowledged, but not what the provider sent"
    # The stack made one picture by itself when it first started.
    astray = [digest for digest in charges if digest not in intents]
    assert len(astray) <= 1, "charged, and neither stored nor OUTCOME_UNKNOWN"
