"""Signing in to Azure Blob Storage."""

import ipaddress
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

from azure.identity.aio import DefaultAzureCredential
from azure.storage.blob.aio import BlobServiceClient

from services.gallery.adapters.azure_blobs import client_options
from services.gallery.settings import GallerySettings

_AZURITE_ACCOUNT = "devstoreaccount1"


@asynccontextmanager
async def open_client(settings: GallerySettings) -> AsyncIterator[BlobServiceClient]:
    """A client signed in as the settings say: connection string, account key, or workload identity."""
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(await _client(settings, stack))


async def _client(settings: GallerySettings, stack: AsyncExitStack) -> BlobServiceClient:
    if settings.azure_storage_connection_string is not None:
        secret = settings.azure_storage_connection_string.get_secret_value()
        return BlobServiceClient.from_connection_string(secret, **client_options())
    url = settings.azure_blob_service_url or f"https://{settings.azure_storage_account_name}.blob.core.windows.net"
    if settings.azure_storage_account_key is None:
        identity = await stack.enter_async_context(DefaultAzureCredential())
        return BlobServiceClient(url, credential=identity, **client_options())
    key = {
        "account_name": settings.azure_storage_account_name or account_of(url),
        "account_key": settings.azure_storage_account_key.get_secret_value(),
    }
    return BlobServiceClient(url, credential=key, **client_options())


def account_of(url: str) -> str:
    """The account in a service URL: its host's first label, or the path's first part (Azurite, custom domains)."""
    parts = urlsplit(url)
    return parts.path.strip("/").partition("/")[0] or (parts.hostname or "").partition(".")[0]


def signing_account_of(url: str) -> str:
    """The account that links have to be signed for; empty where the URL does not tell it (a domain of one's own)."""
    parts = urlsplit(url)
    tells = ".blob." in (parts.hostname or "") or parts.path.strip("/")
    return account_of(url) if tells else ""


def storage_kind(url: str) -> str:
    """`azurite` on loopback or under its well-known account, else `azure`."""
    host = urlsplit(url).hostname or ""
    return "azurite" if _is_loopback(host) or account_of(url) == _AZURITE_ACCOUNT else "azure"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
