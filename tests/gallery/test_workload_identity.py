"""The gallery with no key at all: signed in by workload identity, it signs links with a user delegation key.

A process of its own against Azurite over HTTPS with `--oauth basic`, and an authority that trades the federated token.
"""

import asyncio
import hashlib
import secrets
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
import pytest_asyncio
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ServiceRequestError
from azure.storage.blob.aio import BlobServiceClient

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from deploy.local.azurite import ACCOUNT
from services.common.errors import ServiceError
from services.gallery.adapters.signing import (
    FAILURE_KEPT,
    KEY_LIFETIME,
    KEY_RENEWAL,
    DelegationKeys,
    LinkSigner,
    Signing,
)
from services.gallery.domain.assets import MediaType
from services.gallery.domain.links import LONGEST_TTL, Presentation
from services.gallery.ports import BlobKey
from tests.conftest import NewDatabase
from tests.gallery.harness import upload_messages
from tests.support.azurite import Azurite, running_azurite
from tests.support.certificates import Certificate, make_certificate
from tests.support.entra import Authority, StaticCredential, running_authority
from tests.support.gallery_process import GalleryProcess, running_gallery_process
from tests.support.links import cannot_do_anything_but_read, cannot_do_anything_but_write, link_to
from tests.support.media import png

SHOWN = Presentation("image/png", "inline")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def entra(certificate: Certificate, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Authority]:
    async with running_authority(tmp_path_factory.mktemp("entra"), certificate) as authority:
        yield authority


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def storage(certificate: Certificate, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Azurite]:
    options = ("--oauth", "basic", "--cert", str(certificate.certificate), "--key", str(certificate.key))
    async with running_azurite(tmp_path_factory.mktemp("https"), *options, scheme="https") as azurite:
        yield azurite


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def http(certificate: Certificate) -> AsyncIterator[httpx2.AsyncClient]:
    trusting = ssl.create_default_context(cafile=str(certificate.certificate))
    async with httpx2.AsyncClient(timeout=30, verify=trusting) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def user(
    new_database: NewDatabase,
    storage: Azurite,
    entra: Authority,
    certificate: Certificate,
) -> AsyncIterator[GalleryProcess]:
    variables = {
        "SSL_CERT_FILE": str(certificate.certificate),
        "AZURE_BLOB_SERVICE_URL": storage.url,
        **entra.environment,
    }
    async with running_gallery_process(await new_database(), variables) as process:
        yield process


async def uploaded(user: GalleryProcess, data: bytes, **fields: Any) -> pb.Asset:
    asset: pb.Asset = await user.stub.UploadAsset(iter(upload_messages(data, **fields)), timeout=60)
    return asset


async def test_a_gallery_signed_in_by_workload_identity_stores_reads_and_links(
    user: GalleryProcess, entra: Authority, http: httpx2.AsyncClient
) -> None:
    environment = await user.stub.GetGalleryEnvironment(pb.GetGalleryEnvironmentRequest(), timeout=30)
    assert (environment.storage_auth, environment.link_signing) == ("workload_identity", "user_delegation")
    data = png(30, 20)
    asset, other = await uploaded(user, data, display_name="雪.png"), await uploaded(user, png(9, 9))
    link = await link_to(user, asset.name)
    query = parse_qs(urlsplit(link.uri).query)
    assert (query["sp"], query["sr"], query["spr"], query["sks"]) == (["r"], ["b"], ["https"], ["b"])
    answer = await http.get(link.uri)
    assert (answer.status_code, answer.content) == (200, data)
    assert "%E9%9B%AA.png" in answer.headers["content-disposition"]
    await cannot_do_anything_but_read(http, link.uri, other.name.removeprefix("assets/"))
    assert entra.asked, "the federated token was traded for one of storage's"


async def test_a_direct_upload_goes_through_a_link_of_the_identity(
    user: GalleryProcess, http: httpx2.AsyncClient
) -> None:
    data, other = png(33, 20), await uploaded(user, png(9, 9))
    announced = pb.CreateUploadRequest(size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    upload = await user.stub.CreateUpload(announced, timeout=30)
    answer = await http.put(upload.upload_uri, content=data, headers=dict(upload.required_headers))
    assert answer.status_code == 201, answer.text
    await cannot_do_anything_but_write(http, upload.upload_uri, other.name.removeprefix("assets/"))
    asset = await user.stub.CompleteUpload(pb.CompleteUploadRequest(name=upload.name), timeout=60)
    assert (await http.get((await link_to(user, asset.name)).uri)).content == data


@pytest_asyncio.fixture(loop_scope="session")
async def client(storage: Azurite, certificate: Certificate) -> AsyncIterator[BlobServiceClient]:
    trust = str(certificate.certificate)
    credential: Any = StaticCredential()
    async with BlobServiceClient(storage.url, credential=credential, connection_verify=trust) as client:
        yield client


async def test_a_link_of_the_identity_expires(client: BlobServiceClient, http: httpx2.AsyncClient) -> None:
    container = f"expiring-{secrets.token_hex(4)}"
    await client.create_container(container)
    await client.get_blob_client(container, "x/original").upload_blob(b"bytes")
    containers = dict.fromkeys(MediaType, container)
    signer = LinkSigner(DelegationKeys(client), ACCOUNT, containers, service_url=client.url)
    link = await signer.read_link(BlobKey(MediaType.IMAGE, "x/original"), SHOWN, ttl=timedelta(seconds=3))
    assert (await http.get(link.uri)).content == b"bytes"
    await asyncio.sleep((link.expire_time - datetime.now(UTC)).total_seconds() + 1)
    assert (await http.get(link.uri)).status_code == 403


class CountingClient:
    """Hands out user delegation keys of Azurite and counts them; fails as told."""

    def __init__(self, client: BlobServiceClient) -> None:
        self._client = client
        self.asked: list[tuple[datetime, datetime]] = []
        self.failure: Exception | None = None

    async def get_user_delegation_key(self, start: datetime, expiry: datetime) -> Any:
        self.asked.append((start, expiry))
        if self.failure is not None:
            raise self.failure
        return await self._client.get_user_delegation_key(start, expiry)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


async def test_a_key_is_asked_for_once_and_renewed_while_it_still_serves(client: BlobServiceClient) -> None:
    counting, clock = CountingClient(client), Clock()
    keys = DelegationKeys(counting, now=clock)  # type: ignore[arg-type]  # the one method that it calls
    assert keys.signing is Signing.USER_DELEGATION
    await asyncio.gather(*(keys.secret(clock.now + LONGEST_TTL) for _ in range(10)))
    assert len(counting.asked) == 1, "one fetch at a time, and one is enough"
    start, expiry = counting.asked[0]
    assert expiry - start < timedelta(days=7)
    clock.now += KEY_RENEWAL - timedelta(seconds=1)
    await keys.secret(clock.now + LONGEST_TTL)
    assert len(counting.asked) == 1
    clock.now += timedelta(seconds=1)
    await keys.secret(clock.now + timedelta(minutes=1))
    assert len(counting.asked) == 2


async def test_a_key_that_cannot_be_renewed_serves_until_a_link_would_outlive_it(client: BlobServiceClient) -> None:
    counting, clock = CountingClient(client), Clock()
    keys = DelegationKeys(counting, now=clock)  # type: ignore[arg-type]  # the one method that it calls
    first = await keys.secret(clock.now + LONGEST_TTL)
    counting.failure = ServiceRequestError("storage is away")
    clock.now += KEY_RENEWAL
    assert await keys.secret(clock.now + LONGEST_TTL) == first
    clock.now += KEY_LIFETIME - KEY_RENEWAL - timedelta(minutes=1)
    assert await keys.secret(clock.now + timedelta(seconds=59)) == first
    with pytest.raises(ServiceError) as refused:
        await keys.secret(clock.now + timedelta(minutes=2))
    assert (refused.value.reason, refused.value.retry_safe) == ("STORAGE_UNAVAILABLE", True)
    counting.failure = None
    clock.now += FAILURE_KEPT
    assert await keys.secret(clock.now + timedelta(minutes=2)) != first


async def test_those_who_wait_for_a_key_and_who_ask_soon_after_share_its_failure(client: BlobServiceClient) -> None:
    counting, clock = CountingClient(client), Clock()
    counting.failure = ServiceRequestError("storage is away")
    keys = DelegationKeys(counting, now=clock)  # type: ignore[arg-type]  # the one method that it calls
    asked = [keys.secret(clock.now + LONGEST_TTL) for _ in range(10)]
    refused = await asyncio.gather(*asked, return_exceptions=True)
    assert {error.reason for error in refused if isinstance(error, ServiceError)} == {"STORAGE_UNAVAILABLE"}
    with pytest.raises(ServiceError):
        await keys.secret(clock.now + LONGEST_TTL)
    assert len(counting.asked) == 1
    clock.now += FAILURE_KEPT
    counting.failure = None
    assert await keys.secret(clock.now + LONGEST_TTL)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (ServiceRequestError("away"), "STORAGE_UNAVAILABLE"),
        (ClientAuthenticationError("no token"), "STORAGE_UNAVAILABLE"),
        (TimeoutError(), "STORAGE_UNAVAILABLE"),
    ],
)
async def test_what_keeps_a_key_away_is_typed(client: BlobServiceClient, failure: Exception, reason: str) -> None:
    counting = CountingClient(client)
    counting.failure = failure
    keys = DelegationKeys(counting)  # type: ignore[arg-type]  # the one method that it calls
    with pytest.raises(ServiceError) as refused:
        await keys.secret(datetime.now(UTC) + timedelta(minutes=1))
    assert refused.value.reason == reason


async def test_an_identity_that_may_not_have_a_key_makes_no_links(client: BlobServiceClient) -> None:
    """As Azure answers an identity without the role Storage Blob Delegator."""
    counting = CountingClient(client)
    counting.failure = HttpResponseError("not authorised")
    counting.failure.status_code = 403
    keys = DelegationKeys(counting)  # type: ignore[arg-type]  # the one method that it calls
    with pytest.raises(ServiceError) as refused:
        await keys.secret(datetime.now(UTC) + timedelta(minutes=1))
    assert refused.value.reason == "LINKS_NOT_CONFIGURED"
