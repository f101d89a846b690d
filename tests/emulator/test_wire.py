"""What arrived on the wire can be read back, accepted or refused, without a secret in it."""

import base64
import hashlib
from typing import Any

import openai
import pytest

from emulator.wire import WireLog
from tests.emulator.harness import CHAT_MODEL, MODEL, Emulator, new_key, png, running


def told(data: bytes) -> dict[str, Any]:
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


async def test_an_accepted_request_is_kept_as_it_was_sent(emulator: Emulator) -> None:
    key = new_key()
    asked: dict[str, Any] = {"model": MODEL, "prompt": "a boat", "n": 1, "size": None, "user": "me"}
    answer = await emulator.http.post(
        "/v1/images/generations?trace=1", json=asked, headers={"Idempotency-Key": key, "x-mine": "yes"}
    )
    [entry] = await emulator.arrived(idempotency_key=key)
    assert entry["fields"] == asked, "nothing is left out, not even a null"
    assert (entry["method"], entry["path"], entry["query"]) == ("POST", "/v1/images/generations", "trace=1")
    assert (entry["dialect"], entry["encoding"], entry["status"], entry["error"]) == ("openai", "json", 200, None)
    assert entry["request_id"] == answer.headers["x-request-id"]
    assert entry["headers"]["x-mine"] == "yes"


async def test_a_refused_request_is_kept_with_the_reason(emulator: Emulator) -> None:
    key = new_key()
    body = {"model": MODEL, "prompt": "x", "sampler": "euler"}
    await emulator.http.post("/v1/images/generations", json=body, headers={"Idempotency-Key": key})
    [entry] = await emulator.arrived(idempotency_key=key)
    assert (entry["status"], entry["fields"]) == (400, body)
    assert (entry["error"]["code"], entry["error"]["param"]) == ("unknown_parameter", "sampler")


async def test_files_are_kept_by_size_and_digest_and_repeated_fields_as_a_list(emulator: Emulator) -> None:
    key = new_key()
    first, second = png(64, 64, (1, 2, 3)), png(64, 48, (4, 5, 6))
    await emulator.openai.images.edit(
        model=MODEL,
        image=[("a.png", first, "image/png"), ("b.png", second, "image/png")],
        prompt="together",
        n=1,
        extra_headers={"Idempotency-Key": key},
    )
    [entry] = await emulator.arrived(idempotency_key=key)
    assert entry["encoding"] == "form"
    assert entry["fields"] == {
        "image[]": [
            {"filename": "a.png", "content_type": "image/png", **told(first)},
            {"filename": "b.png", "content_type": "image/png", **told(second)},
        ],
        "model": MODEL, "prompt": "together", "n": "1",
    }  # fmt: skip


async def test_data_urls_of_chats_are_kept_by_size_and_digest(emulator: Emulator) -> None:
    key, picture = new_key(), png(32, 32, (9, 9, 9))
    url = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    part: Any = {"type": "image_url", "image_url": {"url": url, "detail": "low"}}
    await emulator.openai.chat.completions.create(
        model=CHAT_MODEL, messages=[{"role": "user", "content": [part]}], extra_headers={"Idempotency-Key": key}
    )
    [entry] = await emulator.arrived(idempotency_key=key)
    [kept] = entry["fields"]["messages"][0]["content"]
    assert kept["image_url"] == {"url": {"media_type": "image/png", **told(picture)}, "detail": "low"}


@pytest.mark.parametrize("headers", [{"authorization": "Bearer sk-secret"}, {"api-key": "sk-secret"}])
async def test_a_key_is_told_by_its_kind_only(headers: dict[str, str]) -> None:
    async with running(require_key="sk-secret") as emulator:
        body = {"model": MODEL, "prompt": "x"}
        await emulator.http.post("/v1/images/generations", json=body, headers={"authorization": "", **headers})
        answer = await emulator.http.get("/requests")
        assert answer.json()["data"][0]["credential"] == ("bearer" if "authorization" in headers else "api-key")
        assert "sk-secret" not in answer.text


async def test_the_log_is_paged_filtered_and_emptied() -> None:
    async with running() as emulator:
        for number in range(5):
            await emulator.openai.images.generate(model=MODEL, prompt=str(number), quality="low")
        with pytest.raises(openai.NotFoundError):
            await emulator.spoken("localai").images.edit(model=MODEL, image=b"x", prompt="x")
        page = (await emulator.http.get("/requests", params={"after": 2, "limit": 2})).json()
        assert ([entry["fields"]["prompt"] for entry in page["data"]], page["has_more"]) == (["2", "3"], True)
        [other] = await emulator.arrived(dialect="localai")
        assert (other["path"], other["status"]) == ("/dialects/localai/v1/images/edits", 404)
        assert (await emulator.http.get("/requests?order=desc")).status_code == 400
        assert (await emulator.http.delete("/requests")).json() == {"deleted": 6}
        assert await emulator.arrived() == []


def noted(log: WireLog, number: int, size: int = 0) -> None:
    scope: dict[str, Any] = {"method": "POST", "query_string": b"", "headers": [(b"x", b"y" * size)]}
    log.begin(scope, f"req_{number}", "openai", "/v1/x")


def test_the_log_keeps_so_many_requests_and_so_much_text() -> None:
    log = WireLog(most_entries=3, most_bytes=500)
    for number in range(5):
        noted(log, number)
    assert [each["request_id"] for each in log.shown(0, 10, {})["data"]] == ["req_2", "req_3", "req_4"]
    noted(log, 5, 400)
    noted(log, 6, 400)
    assert [each["request_id"] for each in log.shown(0, 10, {})["data"]] == ["req_6"]
    assert WireLog().shown(0, 10, {}) == {"object": "list", "data": [], "has_more": False}


async def test_a_very_long_text_is_kept_by_size_and_digest(emulator: Emulator) -> None:
    key, text = new_key(), "x" * 100_000
    await emulator.http.post("/v1/images/generations", json={"prompt": text}, headers={"Idempotency-Key": key})
    [entry] = await emulator.arrived(idempotency_key=key)
    assert entry["fields"]["prompt"] == told(text.encode())


async def test_reading_the_books_is_not_in_the_log(emulator: Emulator) -> None:
    for path in ("/ledger", "/faults", "/requests", "/healthz"):
        await emulator.http.get(path)
        assert await emulator.arrived(path=path) == []
