"""Request bodies: bounded in size and time, and refused in OpenAI's shape when they are no good."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

from starlette.datastructures import FormData
from starlette.requests import Request

from emulator.errors import ApiError, bad_json, body_too_large
from emulator.wire import WireLog

_LARGE_JSON = 256 * 1024  # parsed off the event loop from here on
_MAX_FORM_PARTS = 64
_MAX_FIELD_BYTES = 1024 * 1024


class _Metered(Request):
    """A request whose body ends with a 413 when it grows beyond `limit`, declared or not."""

    limit: int

    async def stream(self) -> AsyncGenerator[bytes, None]:
        size = 0
        async for chunk in super().stream():
            size += len(chunk)
            if size > self.limit:
                raise body_too_large(self.limit)
            yield chunk


def _metered(request: Request, limit: int) -> _Metered:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise body_too_large(limit)
    metered = _Metered(request.scope, request.receive)
    metered.limit = limit
    return metered


def _too_slow() -> ApiError:
    return ApiError(408, "The request body was not received in time.", code="request_timeout")


async def read_json(request: Request, limit: int, seconds: float, log: WireLog | None = None) -> dict[str, Any]:
    """The body as a JSON object of Unicode text, noted in `log`. Raises ApiError."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        message = f"Unsupported content type: '{kind[:100]}'. This API method only accepts 'application/json' requests."
        raise ApiError(400, message, code="unsupported_content_type")
    try:
        async with asyncio.timeout(seconds):
            body = await _metered(request, limit).body()
    except TimeoutError as error:
        raise _too_slow() from error
    value = await asyncio.to_thread(_parse, body) if len(body) > _LARGE_JSON else _parse(body)
    if log is not None:
        await log.read_json(request, value, len(body))
    return value


def _parse(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
        # Escaped lone surrogates parse, but are no Unicode text and cannot be hashed or answered.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise bad_json("it is not valid UTF-8 JSON") from error
    if not isinstance(value, dict):
        raise bad_json("it is not an object")
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


async def read_form(request: Request, limit: int, seconds: float, log: WireLog) -> FormData:
    """The parts of a multipart body, noted in `log`; files beyond a megabyte are on disk. The caller closes it.

    Raises ApiError.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        message = (
            f"Unsupported content type: '{kind[:100]}'. This API method only accepts 'multipart/form-data' requests."
        )
        raise ApiError(400, message, code="unsupported_content_type")
    try:
        async with asyncio.timeout(seconds):
            form = await _metered(request, limit).form(
                max_files=_MAX_FORM_PARTS, max_fields=_MAX_FORM_PARTS, max_part_size=_MAX_FIELD_BYTES
            )
    except TimeoutError as error:
        raise _too_slow() from error
    await log.read_form(request, form)
    return form
