"""Bad input: a typed 4xx in one JSON shape, the field named where there is one, nothing stored, nothing paid."""

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.errors import rest_error
from tests.support.media import png
from tests.support.stack import Stack

PROMPT = {"prompt": "a harbour"}


async def asset_count(stack: Stack) -> int:
    async with stack.client() as client:
        return int((await client.get("/api/v1/assets", params={"showDeleted": "true"})).json()["totalSize"])


@asynccontextmanager
async def nothing_happens(stack: Stack) -> AsyncIterator[None]:
    """Nothing is paid and nothing is stored inside the block."""
    before = len(await stack.charges()), await asset_count(stack)
    yield
    assert (len(await stack.charges()), await asset_count(stack)) == before


@pytest.mark.parametrize(
    ("request_body", "reason", "field"),
    [
        pytest.param({"prompt": ""}, "INVALID_FIELD", "prompt", id="empty prompt"),
        pytest.param({"prompt": " \n"}, "INVALID_FIELD", "prompt", id="blank prompt"),
        pytest.param({}, "INVALID_FIELD", "prompt", id="no prompt"),
        pytest.param({**PROMPT, "n": 0}, "INVALID_FIELD", "n", id="no images"),
        pytest.param({**PROMPT, "n": 11}, "INVALID_FIELD", "n", id="too many images"),
        pytest.param({**PROMPT, "size": "1000x1001"}, "UNSUPPORTED_PARAMETER", "size", id="size off the grid"),
        pytest.param({**PROMPT, "size": "64x64"}, "UNSUPPORTED_PARAMETER", "size", id="size too small"),
        pytest.param({**PROMPT, "size": "huge"}, "INVALID_FIELD", "size", id="size that is none"),
        pytest.param({**PROMPT, "model": "dall-e-9"}, "MODEL_UNKNOWN", "model", id="unknown model"),
        pytest.param(
            {**PROMPT, "background": "transparent", "outputFormat": "jpeg"},
            "UNSUPPORTED_PARAMETER",
            "background",
            id="transparent jpeg",
        ),
        pytest.param({**PROMPT, "requestId": "not-a-uuid"}, "INVALID_FIELD", "request_id", id="request id"),
    ],
)
async def test_a_request_that_cannot_be_is_refused_before_it_costs(
    stack: Stack, request_body: dict[str, object], reason: str, field: str
) -> None:
    async with nothing_happens(stack), stack.client() as client:
        error = rest_error(await client.post("/api/v1/images:generate", json=request_body))
    assert (error.status, error.code) == (400, 3)
    assert (error.reason, error.billed) == (reason, "no")
    assert field in error.fields


@pytest.mark.parametrize(
    ("content", "status"),
    [
        pytest.param(b'{"prompt": "a harbour"', 400, id="malformed"),
        pytest.param(b'{"prompt": "\xff\xfe"}', 400, id="not utf-8"),
        pytest.param(b'{"prompt": 5}', 400, id="wrong type"),
        pytest.param(b"[1, 2]", 400, id="not an object"),
        pytest.param(b'{"prompt": "' + b"x" * 40_000_000 + b'"}', 413, id="40 MB"),
    ],
)
async def test_a_body_that_is_no_request_is_refused_in_the_same_shape(
    stack: Stack, content: bytes, status: int
) -> None:
    async with nothing_happens(stack), stack.client() as client:
        answer = await client.post(
            "/api/v1/images:generate", content=content, headers={"content-type": "application/json"}
        )
        error = rest_error(answer)
    assert (error.status, error.billed) == (status, "no")


async def test_an_unknown_field_in_the_query_is_refused_by_name(stack: Stack) -> None:
    async with stack.client() as client:
        error = rest_error(await client.get("/api/v1/assets", params={"pageSise": "5"}))
    assert (error.status, error.code) == (400, 3)
    assert "pageSise" in error.message


async def test_paths_and_verbs_that_do_not_exist_are_refused_in_the_same_shape(stack: Stack) -> None:
    async with stack.client() as client:
        for verb, path, status in (
            ("GET", "/api/v1/nothing", 404),
            ("POST", "/api/v1/images:paint", 404),
            ("GET", "/api/v1/assets/unknown-asset", 404),
            ("GET", "/api/v1/assets/NOT_A_NAME", 400),
            ("GET", "/api/v1/assets/%ff", 400),
            ("GET", "/api/v1/assets?pageToken=bm9uc2Vuc2U", 400),
            ("GET", "/api/v1/assets?pageSize=-1", 400),
        ):
            error = rest_error(await client.request(verb, path))
            assert (error.status, error.billed) == (status, "no"), (verb, path, error)


async def test_an_upload_cut_off_half_way_never_becomes_an_asset(stack: Stack) -> None:
    picture = png(640, 480)
    async with nothing_happens(stack):
        with socket.create_connection(("127.0.0.1", stack.port("gateway"))) as connection:
            head = (
                f"POST /api/v1/assets:upload?displayName=cut HTTP/1.1\r\nhost: localhost\r\n"
                f"content-type: image/png\r\ncontent-length: {len(picture)}\r\n\r\n"
            )
            connection.sendall(head.encode() + picture[: len(picture) // 2])
            await asyncio.sleep(0.3)
        await asyncio.sleep(0.7)


async def test_an_upload_with_a_wrong_sha256_is_refused(stack: Stack) -> None:
    async with nothing_happens(stack), stack.client() as client:
        answer = await client.post(
            "/api/v1/assets:upload",
            params={"displayName": "wrong", "sha256": hashlib.sha256(b"other").hexdigest()},
            content=png(64, 64),
            headers={"content-type": "image/png"},
        )
        error = rest_error(answer)
    assert (error.status, error.reason, error.billed) == (400, "CHECKSUM_MISMATCH", "no")


async def test_an_upload_without_length_and_sha256_is_refused_with_411(stack: Stack) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield png(64, 64)

    async with nothing_happens(stack), stack.client() as client:
        error = rest_error(await client.post("/api/v1/assets:upload", content=chunks()))
    assert (error.status, error.reason) == (411, "LENGTH_REQUIRED")


async def test_bytes_that_are_no_media_are_refused(stack: Stack) -> None:
    async with nothing_happens(stack), stack.client() as client:
        answer = await client.post("/api/v1/assets:upload", content=b"just text", headers={"content-type": "image/png"})
        error = rest_error(answer)
    assert (error.status, error.reason) == (400, "UNSUPPORTED_MEDIA")
