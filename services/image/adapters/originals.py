"""The gallery as edits use it: what an asset is, and its bytes as they were stored."""

import asyncio
import hashlib
from dataclasses import dataclass
from typing import NoReturn

import grpc
import grpc.aio

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from contentlab.gallery.v1 import gallery_service_pb2_grpc as rpc
from services.common.caller import acting_for
from services.common.errors import NotFound, Resource, ServiceError, Unavailable
from services.common.status import from_rpc_error
from services.image.domain.generations import ASSETS
from services.models.image_files import PictureFacts

FACTS_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Original:
    """An asset's own bytes, before they are fetched."""

    asset_id: str
    sha256: str
    facts: PictureFacts


class Originals:
    """A client of the gallery with this service's credentials, acting for the owner of what it reads."""

    def __init__(self, channel: grpc.aio.Channel, *, seconds: float) -> None:
        self._stub = rpc.GalleryServiceStub(channel)
        self._seconds = seconds

    async def find(self, owner: str, asset_id: str) -> Original:
        """What the gallery knows of an asset.

        Raises:
            NotFound: ASSET_NOT_FOUND.
            Unavailable: the gallery does not say for the moment.
        """
        name = ASSETS.format(asset_id)
        with acting_for(owner):
            try:
                asset = await self._stub.GetAsset(pb.GetAssetRequest(name=name), timeout=FACTS_SECONDS)
            except grpc.aio.AioRpcError as error:
                _refuse(from_rpc_error(error), name)
        alpha = asset.has_transparency if asset.HasField("has_transparency") else None
        facts = PictureFacts(asset.mime_type, asset.width_px, asset.height_px, asset.size_bytes, alpha)
        return Original(asset_id, asset.sha256, facts)

    async def read(self, owner: str, original: Original) -> bytes:
        """The bytes, no more of them than there were said to be.

        Raises:
            NotFound: ASSET_NOT_FOUND: it has gone since.
            Unavailable: the gallery does not deliver them for the moment, or others than it has said.
        """
        name = ASSETS.format(original.asset_id)
        content = bytearray()
        with acting_for(owner):
            call = self._stub.DownloadAsset(pb.DownloadAssetRequest(name=name), timeout=self._seconds)
            try:
                async for message in call:
                    content += message.data
                    if len(content) > original.facts.size_bytes:
                        break
            except grpc.aio.AioRpcError as error:
                _refuse(from_rpc_error(error), name)
            finally:
                call.cancel()
        if await asyncio.to_thread(_digest, content) != original.sha256:
            raise Unavailable("UNAVAILABLE", f"{name} did not come out of the gallery whole.", retry_safe=True)
        return bytes(content)


def _digest(content: bytearray) -> str:
    return hashlib.sha256(content).hexdigest()


def _refuse(error: ServiceError, name: str) -> NoReturn:
    if isinstance(error, NotFound):
        resource = Resource("contentlab.gallery.v1.Asset", name)
        raise NotFound(
            "ASSET_NOT_FOUND", f"There is no asset {name!r}.", metadata={"name": name}, resource=resource
        ) from None
    message = "The gallery does not give the images to work on for the moment; nothing was paid."
    raise Unavailable("UNAVAILABLE", message, retry_safe=True, retry_after=1.0) from None
