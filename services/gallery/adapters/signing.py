"""Shared access signatures (SAS) for one blob: https://learn.microsoft.com/rest/api/storageservices/delegate-access-with-shared-access-signature.

A link may read, or it may create and write, and it names one blob; never a container or an account. It is signed with
the account's key, or with a user delegation key of the identity that the gallery has in Entra ID, which the account
gives for at most seven days.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

import structlog
from azure.core.exceptions import AzureError, HttpResponseError
from azure.storage.blob import BlobSasPermissions, UserDelegationKey, generate_blob_sas
from azure.storage.blob.aio import BlobServiceClient

from services.common.errors import ServiceError, Unavailable
from services.gallery.adapters.azure_client import signing_account_of
from services.gallery.domain import failures
from services.gallery.domain.assets import MediaType
from services.gallery.domain.links import LONGEST_TTL, Link, Presentation
from services.gallery.ports import BlobKey
from services.gallery.settings import GallerySettings

CLOCK_SKEW = timedelta(minutes=5)
"""A link begins in the past by this: storage whose clock is behind would not let it in yet."""

KEY_LIFETIME = timedelta(days=2)
"""Of a user delegation key; a link signed with it ends with it. Azure gives at most seven days."""

KEY_RENEWAL = timedelta(hours=12)
"""A key that is older is renewed: until then it outlives every link that it signs."""

KEY_RETRY = timedelta(minutes=1)
FAILURE_KEPT = timedelta(seconds=1)
"""Who asks so soon after a failure, or has waited for it, gets the same: not one long fetch after the other."""

KEY_SECONDS = 15.0
_FORBIDDEN = 403

_log = structlog.get_logger(__name__)

Clock = Callable[[], datetime]


class Signing(StrEnum):
    """How links are signed, in the contract's words."""

    NONE = ""
    ACCOUNT_KEY = "account_key"
    USER_DELEGATION = "user_delegation"


class Keys(Protocol):
    """What links are signed with."""

    @property
    def signing(self) -> Signing:
        """Which kind it is."""

    async def secret(self, until: datetime) -> Mapping[str, Any]:
        """The SDK's argument with a key that is valid at least until then."""


class AccountKey:
    """The key of the account."""

    signing = Signing.ACCOUNT_KEY

    def __init__(self, key: str) -> None:
        self._key = key

    async def secret(self, until: datetime) -> Mapping[str, Any]:
        """See `Keys`; it is valid until it is rotated."""
        return {"account_key": self._key}


class DelegationKeys:
    """The key that the account gives to our identity: asked for once, kept, and renewed long before it ends."""

    signing = Signing.USER_DELEGATION

    def __init__(self, client: BlobServiceClient, *, now: Clock | None = None) -> None:
        self._client = client
        self._now = now or _utc_now
        self._key: UserDelegationKey | None = None
        self._expire_time = self._renew_time = datetime.min.replace(tzinfo=UTC)
        self._fetching = asyncio.Lock()
        self._failed: tuple[datetime, Callable[[], ServiceError]] | None = None

    async def secret(self, until: datetime) -> Mapping[str, Any]:
        """See `Keys`. A key that cannot be renewed right now serves on for as long as it is valid.

        Raises:
            Unavailable: STORAGE_UNAVAILABLE.
            FailedPrecondition: LINKS_NOT_CONFIGURED, the identity may not have such a key.
        """
        if self._is_due(until):
            async with self._fetching:
                if self._is_due(until):
                    self._check_failed()
                    await self._renew(until)
        return {"user_delegation_key": self._key}

    def _is_due(self, until: datetime) -> bool:
        return self._now() >= self._renew_time or until > self._expire_time

    def _check_failed(self) -> None:
        if self._failed is not None and timedelta(0) <= self._now() - self._failed[0] < FAILURE_KEPT:
            raise self._failed[1]()

    async def _renew(self, until: datetime) -> None:
        begin = self._now()
        try:
            self._key = await self._fetch(begin - CLOCK_SKEW, begin + KEY_LIFETIME)
        except Unavailable:
            if until > self._expire_time:
                raise
            self._renew_time = begin + KEY_RETRY
        else:
            self._expire_time, self._renew_time = begin + KEY_LIFETIME, begin + KEY_RENEWAL

    async def _fetch(self, start: datetime, expiry: datetime) -> UserDelegationKey:
        try:
            async with asyncio.timeout(KEY_SECONDS):
                return await self._client.get_user_delegation_key(start, expiry)
        except (AzureError, TimeoutError) as error:
            status = error.status_code if isinstance(error, HttpResponseError) else None
            _log.warning("no_user_delegation_key", error=type(error).__name__, status=status)
            failure = failures.links_not_configured if status == _FORBIDDEN else failures.storage_unavailable
            self._failed = self._now(), failure
            raise failure() from error


class LinkSigner:
    """Signs links; without keys every one is refused.

    `public_url` is where clients reach storage; what is signed is the blob in `account`, whatever the host.
    """

    def __init__(
        self,
        keys: Keys | None,
        account: str,
        containers: Mapping[MediaType, str],
        *,
        service_url: str,
        public_url: str | None = None,
    ) -> None:
        self._keys = keys
        self._account = account
        self._containers = containers
        self._base = (public_url or service_url).rstrip("/")
        schemes = {urlsplit(url).scheme for url in (service_url, self._base)}
        # Storage sees the scheme of its own endpoint: a link that may not come over http would be refused there.
        self._protocol = "https" if schemes == {"https"} else "https,http"

    @property
    def signing(self) -> Signing:
        """How links are signed."""
        return self._keys.signing if self._keys is not None else Signing.NONE

    async def read_link(self, key: BlobKey, shown: Presentation, *, ttl: timedelta) -> Link:
        """A link that can only read this one blob.

        Raises:
            FailedPrecondition: LINKS_NOT_CONFIGURED.
            Unavailable: STORAGE_UNAVAILABLE.
        """
        overrides = {
            "content_type": shown.content_type,
            "content_disposition": shown.content_disposition,
            # A shared cache would answer also once the link has expired.
            "cache_control": "private",
        }
        return await self._sign(key, BlobSasPermissions(read=True), ttl, **overrides)

    async def write_link(self, key: BlobKey, *, ttl: timedelta) -> Link:
        """A link that can only write this one blob: read, delete and list nothing.

        Raises:
            FailedPrecondition: LINKS_NOT_CONFIGURED.
            Unavailable: STORAGE_UNAVAILABLE.
        """
        return await self._sign(key, BlobSasPermissions(create=True, write=True), ttl)

    async def _sign(self, key: BlobKey, may: BlobSasPermissions, ttl: timedelta, **overrides: Any) -> Link:
        if self._keys is None:
            raise failures.links_not_configured()
        if not timedelta(0) < ttl <= LONGEST_TTL:
            raise ValueError(f"no link lives for {ttl}")
        # A signature's times are whole seconds.
        now = _utc_now().replace(microsecond=0)
        container, expire_time = self._containers[key.container], now + ttl
        token = generate_blob_sas(
            self._account,
            container,
            key.name,
            permission=may,
            start=now - CLOCK_SKEW,
            expiry=expire_time,
            protocol=self._protocol,
            **overrides,
            **await self._keys.secret(expire_time),
        )
        return Link(f"{self._base}/{container}/{quote(key.name)}?{token}", expire_time)


def link_signer(
    client: BlobServiceClient, settings: GallerySettings, containers: Mapping[MediaType, str]
) -> LinkSigner:
    """The signer that goes with the way in which the client signs in."""
    keys, account = _keys_of(client, settings)
    return LinkSigner(keys, account, containers, service_url=client.url, public_url=settings.azure_blob_public_url)


def _keys_of(client: BlobServiceClient, settings: GallerySettings) -> tuple[Keys | None, str]:
    if settings.storage_auth == "workload_identity":
        account = settings.azure_storage_account_name or signing_account_of(client.url)
        if account:
            return DelegationKeys(client), account
        _log.warning("no_links", reason="AZURE_STORAGE_ACCOUNT_NAME is needed: the service URL does not tell it")
        return None, ""
    # As the SDK's documentation reads it for signing; a connection string with a signature has no key.
    shared: Any = client.credential
    key: str = getattr(shared, "account_key", "")
    return (AccountKey(key), shared.account_name) if key else (None, "")


def _utc_now() -> datetime:
    return datetime.now(UTC)
