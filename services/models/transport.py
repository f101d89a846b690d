"""The transport below the SDK: it knows whether anything was sent, and reads no error without end."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import structlog

MAX_ERROR_BYTES = 64 * 1024
"""What is read of an answer that is no success, before it is decompressed."""

_log = structlog.get_logger(__name__)


class CallTransport(httpx2.AsyncBaseTransport):
    """Wraps a transport. What breaks before the request's first byte is always a `ConnectError`."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """One exchange.

        Raises:
            httpx2.ConnectError: nothing was sent.
            httpx2.HTTPError: as the wrapped transport says.
        """
        begun = False

        async def trace(event: str, _: dict[str, Any]) -> None:
            nonlocal begun
            begun = begun or event.endswith("send_request_headers.started")

        request.extensions = {**request.extensions, "trace": trace}
        try:
            response = await self._inner.handle_async_request(request)
        except httpx2.HTTPError:
            raise
        except Exception as error:
            # The network library lets some through as they are, an address with an impossible port for one.
            if begun:
                raise
            _log.warning("provider_connection_broke", error=type(error).__name__)
            raise httpx2.ConnectError("nothing was sent", request=request) from error
        if not response.is_success and isinstance(response.stream, httpx2.AsyncByteStream):
            response.stream = _Beginning(response.stream)
        return response

    async def aclose(self) -> None:
        """Closes the wrapped transport."""
        await self._inner.aclose()


class _Beginning(httpx2.AsyncByteStream):
    """The first bytes of a stream. The SDK reads an error whole, and its status says the most of it anyway."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = MAX_ERROR_BYTES
        async for chunk in self._stream:
            yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                return

    async def aclose(self) -> None:
        await self._stream.aclose()
