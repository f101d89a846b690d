"""A whole gallery on a real port, over real Postgres and Azurite, and its callers."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc.aio
import psycopg
from azure.storage.blob.aio import BlobServiceClient
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from contentlab.gallery.v1 import gallery_service_pb2_grpc as rpc
from services.common.caller import PRINCIPAL_KEY, SERVICE_KEY, TOKEN_KEY
from services.common.server import running_server
from services.common.status import STATUS_METADATA_KEY
from services.gallery.__main__ import SERVICE_NAME, gallery
from services.gallery.settings import GallerySettings

TOKEN = "a-made-up-token"
CHUNK = 64 * 1024

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Gallery:
    """A running gallery."""

    settings: GallerySettings
    port: int
    channel: grpc.aio.Channel
    storage: BlobServiceClient
    registry: CollectorRegistry

    def user(self, principal: str | None = None) -> "Client":
        """A user as the gateway vouches for it; a new one by default."""
        return Client(self, principal or f"user-{secrets.token_hex(6)}", "gateway")

    async def wait_for_metric(self, name: str, value: float) -> None:
        """Until a metric without labels has the value."""
        async with asyncio.timeout(30):
            while True:
                if self.registry.get_sample_value(name) == value:
                    return
                await asyncio.sleep(0.05)

    async def is_serving(self) -> bool:
        """What the service says of itself right now."""
        request = health_pb2.HealthCheckRequest(service=SERVICE_NAME)
        answer = await health_pb2_grpc.HealthStub(self.channel).Check(request, timeout=10)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def execute(self, statement: str, *values: Any) -> None:
        """Changes the index behind the service's back."""
        url = self.settings.database_url.get_secret_value()
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute(statement.encode(), values)

    async def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """What the index says."""
        url = self.settings.database_url.get_secret_value()
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            return await (await connection.execute(query.encode(), values)).fetchall()

    async def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of the index."""
        url = self.settings.database_url.get_secret_value()
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            return await (await connection.execute(statement.encode(), values)).fetchall()

    async def plan(self, query: str, *values: Any) -> str:
        """How Postgres would answer a query."""
        url = self.settings.database_url.get_secret_value()
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            rows = await connection.execute(f"EXPLAIN {query}".encode(), values)
            return "\n".join([row[0] async for row in rows])

    async def explain(self, query: str, values: Any, server_settings: Mapping[str, str]) -> str:
        """How Postgres answers a query that the service sent, with its settings."""
        url = self.settings.database_url.get_secret_value()
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            for name, value in server_settings.items():
                await connection.execute("SELECT set_config(%s, %s, false)", (name, value))
            rows = await connection.execute(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {query}".encode(), values)
            return "\n".join([row[0] async for row in rows])

    async def blobs(self) -> dict[str, int]:
        """Every blob, uncommitted ones too, with its size."""
        found: dict[str, int] = {}
        for name in (self.settings.image_container, self.settings.video_container):
            container = self.storage.get_container_client(name)
            async for blob in container.list_blobs(include=["uncommittedblobs"]):
                found[f"{name}/{blob.name}"] = blob.size or 0
        return found

    async def blob(self, name: str, *, video: bool = False) -> bytes:
        container = self.settings.video_container if video else self.settings.image_container
        download = await self.storage.get_blob_client(container, name).download_blob()
        return await download.readall()


@dataclass(frozen=True)
class Client:
    """One caller: `service` is who vouches for the principal."""

    gallery: Gallery
    principal: str
    service: str
    extra: Metadata = ()

    @property
    def stub(self) -> Any:
        return rpc.GalleryServiceStub(self.gallery.channel)

    @property
    def metadata(self) -> Metadata:
        return ((TOKEN_KEY, TOKEN), (SERVICE_KEY, self.service), (PRINCIPAL_KEY, self.principal), *self.extra)

    def as_service(self) -> "Client":
        """A sibling service that acts for the same principal."""
        return replace(self, service="image")

    def sending(self, *headers: tuple[str, str]) -> "Client":
        """The same caller with more metadata."""
        return replace(self, extra=(*self.extra, *headers))

    async def call(self, request: Message, *, timeout: float = 30) -> Any:
        """Calls the unary method whose request this is."""
        method = getattr(self.stub, type(request).__name__.removesuffix("Request"))
        return await method(request, metadata=self.metadata, timeout=timeout)

    async def upload(self, data: bytes, *, chunk: int = CHUNK, **fields: Any) -> pb.Asset:
        """Uploads by the gRPC stream; `fields` are of the metadata."""
        return await self.send(upload_messages(data, chunk=chunk, **fields))

    async def send(self, messages: Iterable[pb.UploadAssetRequest]) -> pb.Asset:
        asset: pb.Asset = await self.stub.UploadAsset(iter(messages), metadata=self.metadata, timeout=60)
        return asset

    async def upload_content(self, data: bytes, *, length: int | None = None, **fields: Any) -> pb.Asset:
        """Uploads as a raw body; `length` is the Content-Length that the gateway hands on."""
        caller = self if length is None else self.sending(("x-upload-content-length", str(length)))
        asset: pb.Asset = await self.stub.UploadAssetContent(
            iter(content_messages(data, **fields)), metadata=caller.metadata, timeout=60
        )
        return asset

    async def get(self, name: str) -> pb.Asset:
        asset: pb.Asset = await self.stub.GetAsset(pb.GetAssetRequest(name=name), metadata=self.metadata, timeout=30)
        return asset

    async def delete(self, name: str, *, etag: str = "") -> pb.Asset:
        request = pb.DeleteAssetRequest(name=name, etag=etag)
        asset: pb.Asset = await self.stub.DeleteAsset(request, metadata=self.metadata, timeout=30)
        return asset

    async def page(self, **fields: Any) -> pb.ListAssetsResponse:
        request = pb.ListAssetsRequest(**fields)
        response: pb.ListAssetsResponse = await self.stub.ListAssets(request, metadata=self.metadata, timeout=30)
        return response

    async def names(self, **fields: Any) -> list[str]:
        """The names of all assets, page by page."""
        found, token = [], ""
        while True:
            page = await self.page(page_token=token, **fields)
            found += [asset.name for asset in page.assets]
            token = page.next_page_token
            if not token:
                return found

    def start_download(self, name: str, *headers: tuple[str, str]) -> Any:
        """A download whose messages the test reads itself."""
        return self.stub.DownloadAsset(pb.DownloadAssetRequest(name=name), metadata=(*self.metadata, *headers))

    async def download(self, name: str, *headers: tuple[str, str], **fields: Any) -> "Download":
        call = self.stub.DownloadAsset(
            pb.DownloadAssetRequest(name=name, **fields), metadata=(*self.metadata, *headers), timeout=60
        )
        messages = [message async for message in call]
        return Download(dict(await call.initial_metadata()), messages)


@dataclass(frozen=True)
class Download:
    """What came of a download."""

    headers: dict[str, Any]
    messages: Sequence[Any]

    @property
    def data(self) -> bytes:
        return b"".join(message.data for message in self.messages)


@dataclass(frozen=True)
class Refusal:
    """A typed error as a client sees it."""

    code: grpc.StatusCode
    reason: str
    metadata: dict[str, str]
    fields: tuple[str, ...]
    resource: str
    trailing: dict[str, Any]
    message: str


async def refusal(call: Awaitable[Any]) -> Refusal:
    """The error that the call ends with."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return _refusal(error)
    raise AssertionError(f"no error but {answer!r:.300}")


def _refusal(error: grpc.aio.AioRpcError) -> Refusal:
    trailing: dict[str, Any] = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailing[STATUS_METADATA_KEY])
    info, bad, resource = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.ResourceInfo(),
    )
    for detail in status.details:
        _ = detail.Unpack(info) or detail.Unpack(bad) or detail.Unpack(resource)
    fields = tuple(violation.field for violation in bad.field_violations)
    return Refusal(
        error.code(), info.reason, dict(info.metadata), fields, resource.resource_name, trailing, status.message
    )


def upload_messages(data: bytes, *, chunk: int = CHUNK, **fields: Any) -> list[pb.UploadAssetRequest]:
    metadata = pb.UploadMetadata(**{"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), **fields})
    chunks = [pb.UploadAssetRequest(chunk=data[at : at + chunk]) for at in range(0, len(data), chunk)]
    return [pb.UploadAssetRequest(metadata=metadata), *chunks]


def content_messages(data: bytes, *, chunk: int = CHUNK, **fields: Any) -> list[pb.UploadAssetContentRequest]:
    messages = [pb.UploadAssetContentRequest() for _ in range(0, max(len(data), 1), chunk)]
    for message, at in zip(messages, range(0, max(len(data), 1), chunk), strict=True):
        message.content.data = data[at : at + chunk]
    messages[0].content.content_type = "application/octet-stream"
    messages[0].MergeFrom(pb.UploadAssetContentRequest(**fields))
    return messages


NewDatabase = Callable[[], Awaitable[str]]


@asynccontextmanager
async def running_gallery(database_url: str, azurite: str, directory: Path, **overrides: Any) -> AsyncIterator[Gallery]:
    """A gallery with a database and containers of its own."""
    token_file = directory / "service-token"
    token_file.write_text(TOKEN, encoding="ascii")
    suffix = secrets.token_hex(6)
    defaults: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "lame_duck_seconds": 0,
        "derive_on_ingest": False,
        "drain_seconds": 0,
        "service_token_file": str(token_file),
        "database_url": SecretStr(database_url),
        "azure_storage_connection_string": SecretStr(azurite),
        "image_container": f"images-{suffix}",
        "video_container": f"videos-{suffix}",
    }
    settings = GallerySettings(**(defaults | overrides))
    async with (
        BlobServiceClient.from_connection_string(azurite) as storage,
        gallery(settings) as application,
        running_server(application, settings) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        yield Gallery(settings, server.port, channel, storage, application.registry)
