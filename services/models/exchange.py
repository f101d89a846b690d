"""One exchange with a provider: sent once, within a deadline, its answer bounded, its failure typed."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx2
import openai
import structlog
from openai import AsyncAPIResponse

from services.common.errors import Billed
from services.models.endpoints import Client
from services.models.failures import CallFailed, bad_response, classify
from services.models.rows import Dialect

T = TypeVar("T")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for every call: seconds in all, and bytes of an answer."""

    seconds: float
    max_answer_bytes: int


async def exchange(
    call: AbstractAsyncContextManager[AsyncAPIResponse[Any]],
    terms: Terms,
    *,
    client: Client,
    dialect: Dialect,
    endpoint: str,
) -> tuple[bytearray, str]:
    """The answer's bytes, and the provider's id of the request. `call` is the SDK's, made `with_streaming_response`.

    Raises:
        CallFailed: typed, with `billed`.
    """

    async def whole(response: AsyncAPIResponse[Any]) -> tuple[bytearray, str]:
        return await _receive(response, terms.max_answer_bytes)

    return await converse(call, whole, terms, client=client, dialect=dialect, endpoint=endpoint)


async def converse(
    call: AbstractAsyncContextManager[AsyncAPIResponse[Any]],
    read: Callable[[AsyncAPIResponse[Any]], Awaitable[T]],
    terms: Terms,
    *,
    client: Client,
    dialect: Dialect,
    endpoint: str,
) -> T:
    """What `read` makes of the answer; it keeps the bound on bytes itself.

    Raises:
        CallFailed: typed, with `billed`.
    """
    try:
        async with asyncio.timeout(terms.seconds), call as response:
            return await read(response)
    except (openai.APIError, httpx2.HTTPError, TimeoutError) as error:
        failed = classify(error, dialect, secret=client.secret)
        _log.warning(
            "provider_call_failed",
            endpoint=endpoint,
            reason=failed.error.reason,
            billed=failed.error.billed,
            error=type(error).__name__,
            status=getattr(error, "status_code", None),
            provider_request_id=failed.provider_request_id,
        )
        raise failed from None


async def _receive(response: AsyncAPIResponse[Any], limit: int) -> tuple[bytearray, str]:
    request_id = response.headers.get("x-request-id", "")
    answer = bytearray()
    async for chunk in response.iter_bytes():
        answer += chunk
        if len(answer) > limit:
            raise CallFailed(bad_response("it is too large", billed=Billed.UNKNOWN), request_id)
    return answer, request_id


def json_object(answer: bytearray, request_id: str) -> dict[str, Any]:
    """The answer as an object; the bytes are let go of on the way.

    Raises:
        CallFailed: it is none.
    """
    try:
        text = answer.decode(json.detect_encoding(answer), "surrogatepass")
        answer.clear()
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise CallFailed(bad_response("it is not JSON", billed=Billed.UNKNOWN), request_id) from None
    if not isinstance(data, dict):
        raise CallFailed(bad_response("it is not an object", billed=Billed.UNKNOWN), request_id)
    return data
