"""Who is calling: set once a call by the interceptors, read wherever rows are scoped to an owner."""

import hmac
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from services.common.errors import PermissionDenied, Reason, Unauthenticated

LOCAL = "local"
"""The owner of everything while the suite runs without authentication."""

GATEWAY = "gateway"
"""The name under which the gateway vouches for a user: its word on the principal counts, but it is no sibling."""

SERVICE_KEY = "x-contentlab-service"
TOKEN_KEY = "x-contentlab-token"  # noqa: S105 - the name of a metadata key
PRINCIPAL_KEY = "x-principal"


@dataclass(frozen=True, slots=True)
class Caller:
    """One caller: the owner it acts for, the sibling service it is (None for users), and its request's id."""

    principal: str
    service: str | None = None
    request_id: str = ""


_caller: ContextVar[Caller | None] = ContextVar("contentlab_caller", default=None)


def current_caller() -> Caller:
    """The caller of the RPC being served, or the owner a background task acts for; `local` outside of both."""
    return _caller.get() or Caller(LOCAL)


def bind_caller(caller: Caller) -> None:
    """Sets the caller for the rest of the present task; a server's calls are one task each."""
    _caller.set(caller)


@contextmanager
def acting_for(principal: str, *, request_id: str | None = None) -> Iterator[Caller]:
    """Background work keeps its owner: within the block calls and queries run for `principal`."""
    present = current_caller()
    caller = replace(present, principal=principal, request_id=present.request_id if request_id is None else request_id)
    token = _caller.set(caller)
    try:
        yield caller
    finally:
        _caller.reset(token)


def require_service_principal() -> Caller:
    """The caller, if it is a sibling service.

    Raises:
        PermissionDenied: SERVICE_PRINCIPAL_REQUIRED for anybody else.
    """
    caller = current_caller()
    if caller.service is None:
        raise PermissionDenied(Reason.SERVICE_PRINCIPAL_REQUIRED, "Only services of the suite may call this method.")
    return caller


def identify(metadata: Mapping[str, str], *, service_token: str | None, request_id: str) -> Caller:
    """The caller that a request's metadata proves.

    Without a token nothing else in the metadata is believed. `service_token` is the suite's shared secret;
    None means that this server knows none and believes nobody.

    Raises:
        Unauthenticated: a token was sent and is wrong, or comes without the name of a service.
    """
    sent = metadata.get(TOKEN_KEY)
    if sent is None:
        return Caller(LOCAL, None, request_id)
    service = metadata.get(SERVICE_KEY, "")
    known = service_token is not None and hmac.compare_digest(sent.encode(), service_token.encode())
    if not known or not service:
        raise Unauthenticated(Reason.UNAUTHENTICATED, "The service credentials sent with this call are not valid.")
    principal = metadata.get(PRINCIPAL_KEY) or LOCAL
    return Caller(principal, None if service == GATEWAY else service, request_id)
