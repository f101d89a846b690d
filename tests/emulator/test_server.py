"""The server around the protocol: keys, limits, error shapes, start and stop."""

import asyncio
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from emulator.settings import Settings
from tests.emulator.harness import CHAT_MODEL, MODEL, ROOT, Emulator, clients, process, rows_on_disk, running


async def test_any_key_will_do_but_none_will_not(emulator: Emulator) -> None:
    async with httpx2.AsyncClient(base_url=emulator.url) as http:
        assert (await http.get("/v1/models", headers={"authorization": "Bearer anything"})).status_code == 200
        assert (await http.get("/v1/models", headers={"api-key": "azure's way"})).status_code == 200
        for headers in ({}, {"authorization": "Bearer"}, {"authorization": "Basic eA=="}):
            refused = await http.get("/v1/models", headers=headers)
            assert (refused.status_code, refused.json()["error"]["type"]) == (401, "invalid_request_error")
        assert (await http.get("/healthz")).status_code == 200


async def test_a_required_key_is_required_everywhere_but_for_health() -> None:
    async with running(require_key="sk-right") as emulator:
        assert [model.id async for model in emulator.openai.models.list()]
        assert await emulator.charges() == []
        async with clients(emulator.url, "sk-wrong") as stranger:
            with pytest.raises(openai.AuthenticationError) as refused:
                await stranger.openai.images.generate(model=MODEL, prompt="x")
            assert refused.value.code == "invalid_api_key"
            for method, path in (("GET", "/ledger"), ("DELETE", "/ledger"), ("POST", "/faults"), ("GET", "/faults")):
                assert (await stranger.http.request(method, path)).status_code == 401
            assert (await stranger.http.get("/healthz")).json()["status"] == "ok"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "unknown_url"),
        ("POST", "/v1/images/variations", 404, "unknown_url"),
        ("POST", "/v1/videos", 404, "unknown_url"),
        ("GET", "/v1/images/generations", 405, "method_not_supported"),
        ("PUT", "/ledger", 405, "method_not_supported"),
    ],
)
async def test_a_wrong_address_is_told_in_openais_shape(
    emulator: Emulator, method: str, path: str, status: int, code: str
) -> None:
    answer = await emulator.http.request(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b'"x"', b"null", b"\xff\xfe{}", b'{"prompt": NaN}', b'{"prompt": "\\ud800"}',
        b"[" * 200_000, b'{"n": ' + b"9" * 5000 + b"}",
    ],
)  # fmt: skip
async def test_a_body_that_is_no_json_object_is_refused(emulator: Emulator, content: bytes) -> None:
    answer = await emulator.http.post(
        "/v1/images/generations", content=content, headers={"content-type": "application/json"}
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")


async def test_a_body_without_its_type_is_refused(emulator: Emulator) -> None:
    answer = await emulator.http.post("/v1/images/generations", content=b"{}", headers={"content-type": "text/plain"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported_content_type")


async def test_a_body_beyond_the_limit_is_refused_declared_or_not() -> None:
    async with running(max_json_bytes=1000, max_media_bytes=5000) as emulator:

        async def chunks() -> Any:
            for _ in range(40):
                yield b" " * 200

        headers = {"content-type": "application/json"}
        for path in ("/v1/images/generations", "/v1/chat/completions"):
            for content in (b" " * 8000, chunks()):
                answer = await emulator.http.post(path, content=content, headers=headers)
                assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
        upload = {"image": ("a.png", b"x" * 8000, "image/png")}
        answer = await emulator.http.post("/v1/images/edits", data={"prompt": "x"}, files=upload)
        assert answer.status_code == 413
        assert (await emulator.http.get("/healthz")).status_code == 200


async def test_a_body_that_never_ends_is_given_up() -> None:
    async with running(body_seconds=0.3) as emulator:
        head = b"POST /v1/images/generations HTTP/1.1\r\nhost: x\r\nauthorization: Bearer x\r\n"
        head += b"content-type: application/json\r\ncontent-length: 100\r\n\r\n{"
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx2.URL(emulator.url).port)
        writer.write(head)
        async with asyncio.timeout(10):
            assert b" 408 " in await reader.readline()
        writer.close()


async def test_a_client_that_leaves_in_the_middle_of_its_body_harms_nobody(emulator: Emulator) -> None:
    head = b"POST /v1/images/edits HTTP/1.1\r\nhost: x\r\nauthorization: Bearer x\r\n"
    head += b"content-type: multipart/form-data; boundary=b\r\ncontent-length: 100000\r\n\r\n--b\r\n"
    for _ in range(5):
        _, writer = await asyncio.open_connection("127.0.0.1", httpx2.URL(emulator.url).port)
        writer.write(head)
        await writer.drain()
        writer.close()
    assert (await emulator.openai.images.generate(model=MODEL, prompt="still here")).data


async def test_one_call_too_many_is_turned_away_at_the_door_and_costs_nothing() -> None:
    async with running(max_in_flight=2, latency=1.0) as emulator:

        async def call(number: int) -> bool:
            body = {"model": MODEL, "prompt": str(number)}
            answer = await emulator.http.post("/v1/images/generations", json=body)
            if answer.status_code == 503:
                assert answer.headers["retry-after"] == "1"
            return answer.is_success

        assert sorted(await asyncio.gather(*map(call, range(5)))) == [False, False, False, True, True]
        assert len(await emulator.charges()) == 2
        assert await call(6), "places become free again"


async def test_latency_is_what_a_call_takes_and_does_not_add_up() -> None:
    async with running(latency=0.8) as emulator:
        started = time.monotonic()
        await asyncio.gather(
            emulator.openai.images.generate(model=MODEL, prompt="one"),
            emulator.openai.images.generate(model=MODEL, prompt="two"),
            emulator.openai.chat.completions.create(model=CHAT_MODEL, messages=[{"role": "user", "content": "x"}]),
        )
        assert 0.8 <= time.monotonic() - started < 8 * 0.8


async def test_sigterm_lets_an_open_call_finish(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite3"
    async with process("--latency", "1", "--drain-seconds", "20", "--ledger", str(ledger)) as (child, url):
        async with clients(url) as emulator:
            call = asyncio.create_task(emulator.openai.images.generate(model=MODEL, prompt="finish me"))
            await asyncio.sleep(0.4)
            child.send_signal(signal.SIGTERM)
            assert (await call).data
        assert await child.wait() == 0
    assert [row["outcome"] for row in rows_on_disk(ledger)] == ["answered"]


async def test_sigterm_does_not_wait_for_a_hanging_call(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite3"
    async with process("--drain-seconds", "1", "--ledger", str(ledger)) as (child, url), clients(url) as emulator:
        await emulator.fault("hang", "forever", charged=True)
        call = asyncio.create_task(emulator.openai.images.generate(model=MODEL, prompt="forever"))
        await emulator.some_charges()
        child.send_signal(signal.SIGTERM)
        async with asyncio.timeout(15):
            assert await child.wait() == 0
        with pytest.raises(openai.APIConnectionError):
            await call
    assert [row["outcome"] for row in rows_on_disk(ledger)] == ["cut"]


async def run_to_end(*arguments: str) -> tuple[int | None, str]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "emulator", *arguments,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(30):
        output, _ = await child.communicate()
    return child.returncode, output.decode()


async def test_the_command_line_explains_itself() -> None:
    code, text = await run_to_end("--help")
    assert code == 0
    for option in ("--port", "--ledger", "--require-key", "--latency", "--prerendered", "--seed", "--today"):
        assert option in text


@pytest.mark.parametrize(
    "arguments",
    [["--port", "99999"], ["--latency", "-1"], ["--latency", "1", "--prerendered"], ["--today", "x"], ["--seed", "x"]],
)
async def test_a_setting_that_makes_no_sense_ends_the_start(arguments: list[str]) -> None:
    code, text = await run_to_end(*arguments)
    assert (code, arguments[0] in text) == (2, True)


async def test_a_port_that_is_taken_ends_the_start() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, text = await run_to_end("--port", str(taken.getsockname()[1]))
    assert code not in (0, None)
    assert "address already in use" in text


async def test_a_ledger_that_cannot_be_opened_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    code, _ = await run_to_end("--port", "0", "--ledger", str(tmp_path / "file" / "ledger.sqlite3"))
    assert code not in (0, None)


def test_the_emulator_listens_on_loopback_unless_told_otherwise() -> None:
    assert (Settings().host, Settings().port) == ("127.0.0.1", 8190)
