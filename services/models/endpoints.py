"""Clients of the endpoints: one a process and endpoint, closed at the end, with places for so many calls at a time."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2
import structlog
from openai import AsyncAzureOpenAI, AsyncOpenAI, Omit

from services.models.failures import CallFailed, not_ready
from services.models.registry import Registry
from services.models.rows import Endpoint
from services.models.transport import CallTransport

CONNECT_SECONDS = 10.0
TOKEN_SECONDS = 20.0
"""How long the identity service may take for a token of Entra ID."""
# A kept connection that the server closes while a request is being written cannot be told from one that broke during
# the work. Servers close after 2 s or more of idleness: one that has idled a second is not used again.
KEEPALIVE_SECONDS = 1.0
# Paid calls are silent for minutes; NATs and load balancers forget silent connections after about four.
_SOCKET_OPTIONS: tuple[tuple[int, int, int], ...] = tuple(
    (level, getattr(socket, name), value)
    for level, name, value in (
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 60),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 30),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", 5),
        (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
    )
    if hasattr(socket, name)
)
_NO_KEY = "unused"

TokenProvider = Callable[[], Awaitable[str]]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Client:
    """A client of one endpoint. `headers` belong to every request; `secret` must appear in no message."""

    openai: AsyncOpenAI
    headers: dict[str, str | Omit]
    secret: str
    token: TokenProvider | None = None


class EndpointClients:
    """The clients of a registry's endpoints, made when first used.

    `seconds` is the time that one call may take in all, `places` how many calls an endpoint gets at a time.
    """

    def __init__(self, registry: Registry, *, seconds: float, places: int) -> None:
        self._registry = registry
        self._seconds = seconds
        self._limit = places
        self._clients: dict[str, Client] = {}
        self._places: dict[str, asyncio.Semaphore] = {}
        self._closing: list[Callable[[], Awaitable[Any]]] = []

    @asynccontextmanager
    async def place(self, name: str) -> AsyncIterator[None]:
        """Waits for a place at the endpoint. Nothing may be marked as being called before it is held.

        Raises:
            CallFailed: the endpoint cannot be called as it is set up, which is better known before the mark than after.
        """
        async with self._places.setdefault(name, asyncio.Semaphore(self._limit)):
            await self.client(name)
            yield

    async def client(self, name: str) -> Client:
        """The client of the endpoint, with a token that is valid now where it needs one; nothing is sent to it.

        Raises:
            CallFailed: PROVIDER_MISCONFIGURED, or PROVIDER_UNAVAILABLE when the identity service takes too long.
        """
        try:
            if name not in self._clients:
                self._clients[name] = self._make(self._registry.endpoints[name])
            client = self._clients[name]
            if client.token is None:
                return client
            async with asyncio.timeout(TOKEN_SECONDS):
                token = await client.token()
        except Exception as error:
            _log.warning("endpoint_not_ready", endpoint=name, error=type(error).__name__)
            raise CallFailed(not_ready(slow=isinstance(error, TimeoutError))) from None
        # The SDK would ask for the token after the call is marked as sent, and let every failure through as it is.
        return replace(client, headers={**client.headers, "Authorization": f"Bearer {token}"}, secret=token)

    async def aclose(self) -> None:
        """Closes every client; the object is of no use afterwards."""
        closing, self._closing = self._closing, []
        self._clients.clear()
        for close in closing:
            await close()

    def _make(self, endpoint: Endpoint) -> Client:
        secret = endpoint.key.get_secret_value() if endpoint.auth == "key" and endpoint.key else ""
        client = self._azure(endpoint, secret) if endpoint.api_version else self._openai(endpoint, secret)
        self._closing.append(client.close)
        # The SDK takes what it is not given from the process's environment, whatever the endpoint is. For the headers
        # of OPENAI_CUSTOM_HEADERS, another server's credentials perhaps, it has no argument that says "none".
        client._custom_headers = {}
        headers: dict[str, str | Omit] = {"OpenAI-Project": Omit()}
        # What is counted is what is read: a compressed answer grows a thousandfold in memory.
        headers["Accept-Encoding"] = "identity"
        if not endpoint.organization:
            headers["OpenAI-Organization"] = Omit()
        if endpoint.auth == "none":
            headers["Authorization"] = Omit()
        token = self._token_provider(endpoint) if endpoint.auth == "entra" else None
        return Client(client, headers, secret, token)

    def _openai(self, endpoint: Endpoint, secret: str) -> AsyncOpenAI:
        return AsyncOpenAI(
            base_url=endpoint.base_url,
            api_key=secret or _NO_KEY,
            organization=endpoint.organization,
            # A retry by the SDK would be a second call that nobody counted.
            max_retries=0,
            timeout=self._timeout(),
            http_client=self._http_client(endpoint.base_url),
        )

    def _azure(self, endpoint: Endpoint, secret: str) -> AsyncAzureOpenAI:
        """The SDK's client for Azure's dated versions: it puts the deployment into the path, and sends `api-key`."""
        return AsyncAzureOpenAI(
            azure_endpoint=endpoint.base_url,
            api_version=endpoint.api_version,
            # With one of them given, the SDK looks for none in the environment. Headers of a call's own win over both.
            api_key=secret or None,
            azure_ad_token=None if secret else _NO_KEY,
            max_retries=0,
            timeout=self._timeout(),
            http_client=self._http_client(endpoint.base_url),
        )

    def _timeout(self) -> httpx2.Timeout:
        return httpx2.Timeout(self._seconds, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS)

    def _http_client(self, base_url: str) -> httpx2.AsyncClient:
        parts = urlsplit(base_url)
        proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
        transport = httpx2.AsyncHTTPTransport(
            verify=ssl.create_default_context() if parts.scheme == "https" else False,
            limits=httpx2.Limits(
                max_connections=self._limit, max_keepalive_connections=self._limit, keepalive_expiry=KEEPALIVE_SECONDS
            ),
            proxy=proxy,
            socket_options=_SOCKET_OPTIONS,
        )
        # A redirect of a paid call is nothing to follow: it would be sent a second time, and to somebody else.
        return httpx2.AsyncClient(
            transport=CallTransport(transport), timeout=self._timeout(), follow_redirects=False, trust_env=False
        )

    def _token_provider(self, endpoint: Endpoint) -> TokenProvider:
        from azure.identity.aio import DefaultAzureCredential, get_bearer_token_provider

        credential = DefaultAzureCredential()
        self._closing.append(credential.close)
        return get_bearer_token_provider(credential, endpoint.entra_scope)
