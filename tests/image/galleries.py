"""The real gallery for the image service's tests: up, down, or there but silent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
from pydantic import SecretStr

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from contentlab.gallery.v1 import gallery_service_pb2_grpc as rpc
from services.common.caller import PRINCIPAL_KEY, SERVICE_KEY, TOKEN_KEY
from services.common.server import running_server
from services.gallery.__main__ import gallery
from services.gallery.settings import GallerySettings

TOKEN = "a-made-up-token"


@dataclass(frozen=True)
class StoredGallery:
    """A gallery's storage; it may be served or not."""

    database_url: str
    azurite: str
    token_file: str
    containers: str

    @asynccontextmanager
    async def served(self, port: int = 0, **overrides: Any) -> AsyncIterator["ServedGallery"]:
        """The gallery on a port."""
        settings = GallerySettings(
            **{
                "listen": f"127.0.0.1:{port}",
                "lame_duck_seconds": 0,
                "drain_seconds": 0,
                "service_token_file": self.token_file,
                "database_url": SecretStr(self.database_url),
                "azure_storage_connection_string": SecretStr(self.azurite),
                "image_container": f"images-{self.containers}",
                "video_container": f"videos-{self.containers}",
                "inspection_workers": 1,
                **overrides,
            }
        )
        async with (
            gallery(settings) as application,
            running_server(application, settings) as server,
            grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        ):
            yield ServedGallery(f"127.0.0.1:{server.port}", rpc.GalleryServiceStub(channel))


@dataclass(frozen=True)
class ServedGallery:
    """A running gallery and what its owner `local` sees of it."""

    address: str
    stub: Any
    metadata: tuple[tuple[str, str], ...] = field(
        default=((TOKEN_KEY, TOKEN), (SERVICE_KEY, "gateway"), (PRINCIPAL_KEY, "local"))
    )

    async def asset(self, name: str) -> pb.Asset:
        asset: pb.Asset = await self.stub.GetAsset(pb.GetAssetRequest(name=name), metadata=self.metadata, timeout=10)
        return asset

    async def content(self, name: str) -> bytes:
        call = self.stub.DownloadAsset(pb.DownloadAssetRequest(name=name), metadata=self.metadata, timeout=30)
        return b"".join([message.data async for message in call])

    async def purge(self, name: str) -> None:
        """Deletes an asset for good."""
        await self.stub.DeleteAsset(pb.DeleteAssetRequest(name=name), metadata=self.metadata, timeout=10)
        await self.stub.PurgeAsset(pb.PurgeAssetRequest(name=name), metadata=self.metadata, timeout=30)

    async def assets_of(self, origin: str) -> list[pb.Asset]:
        """Every asset that a generation made."""
        request = pb.ListAssetsRequest(origin=origin, page_size=100)
        return list((await self.stub.ListAssets(request, metadata=self.metadata, timeout=10)).assets)


@asynccontextmanager
async def silent_server(port: int = 0) -> AsyncIterator[str]:
    """Something that accepts connections and never says a word."""
    writers: list[asyncio.StreamWriter] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.read()

    server = await asyncio.start_server(accept, "127.0.0.1", port)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.close()
