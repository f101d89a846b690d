"""Client channels to sibling services: a deadline on every call, credentials, request id and trace context.

A thin channel around grpc.aio's instead of client interceptors: those put another task and queue around every
stream, and all that is needed is four keyword arguments.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from services.common.caller import PRINCIPAL_KEY, SERVICE_KEY, TOKEN_KEY, current_caller
from services.common.settings import read_service_token
from services.common.trace import REQUEST_ID_KEY, trace_metadata

DEFAULT_DEADLINE = 30.0
"""Seconds for a call that names no timeout. Long streams name their own."""

MAX_MESSAGE_BYTES = 4 * 1024 * 1024

CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    # A retry by the channel would be a second call that nobody counted; a paid one would cost twice.
    ("grpc.enable_retries", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A frozen or vanished peer is noticed after 20 + 10 seconds, also with no call open.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Reconnect quickly: a sibling that was restarted is back within a second or two.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)


@dataclass(frozen=True, slots=True)
class SiblingCredentials:
    """What proves to a sibling which service is calling."""

    service: str
    token: str

    @classmethod
    def from_file(cls, service: str, path: str | None) -> Self | None:
        """Credentials with the token in a mounted file (`ServiceSettings.service_token_file`); None without one.

        Raises:
            ValueError: the file cannot be read or holds no token.
        """
        if path is None:
            return None
        return cls(service, read_service_token(path))

    def __repr__(self) -> str:
        return f"SiblingCredentials({self.service!r}, token=...)"


def open_channel(
    target: str,
    *,
    credentials: SiblingCredentials | None = None,
    deadline: float = DEFAULT_DEADLINE,
    options: tuple[tuple[str, int | str], ...] = (),
) -> grpc.aio.Channel:
    """A channel to the sibling at `target`; connects by itself and reconnects. Close it at the end.

    Every call carries the current caller's principal and request id and the trace context. The deadline of the call
    being served is deliberately not passed on: a result that has been paid for is stored although its caller has
    gone away.
    """
    return _SiblingChannel(grpc.aio.insecure_channel(target, (*CHANNEL_OPTIONS, *options)), credentials, deadline)


class _Outgoing:
    """A multi-callable that adds a deadline and metadata to each call of the one it wraps."""

    def __init__(self, inner: Any, credentials: SiblingCredentials | None, deadline: float) -> None:
        self._inner = inner
        self._credentials = credentials
        self._deadline = deadline

    def __call__(self, *args: Any, timeout: float | None = None, metadata: Any = None, **kwargs: Any) -> Any:
        return self._inner(
            *args,
            timeout=self._deadline if timeout is None else timeout,
            metadata=(*(metadata or ()), *self._metadata()),
            **kwargs,
        )

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        caller = current_caller()
        metadata = trace_metadata()
        if caller.request_id:
            metadata[REQUEST_ID_KEY] = caller.request_id
        if self._credentials is not None:
            metadata[SERVICE_KEY] = self._credentials.service
            metadata[TOKEN_KEY] = self._credentials.token
            metadata[PRINCIPAL_KEY] = caller.principal
        return tuple(metadata.items())


class _SiblingChannel(grpc.aio.Channel):
    def __init__(self, inner: grpc.aio.Channel, credentials: SiblingCredentials | None, deadline: float) -> None:
        self._inner = inner
        self._credentials = credentials
        self._deadline = deadline

    def _outgoing(self, factory: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return _Outgoing(factory(*args, **kwargs), self._credentials, self._deadline)

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        return self._outgoing(self._inner.unary_unary, *args, **kwargs)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        return self._outgoing(self._inner.unary_stream, *args, **kwargs)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        return self._outgoing(self._inner.stream_unary, *args, **kwargs)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        return self._outgoing(self._inner.stream_stream, *args, **kwargs)

    async def close(self, grace: float | None = None) -> None:
        await self._inner.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._inner.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._inner.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._inner.channel_ready()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        await self.close()
