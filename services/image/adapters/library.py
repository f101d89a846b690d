"""The gallery as the language steps use it: names that are taken, pictures to look at, analyses to keep."""

from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from contentlab.gallery.v1 import gallery_service_pb2_grpc as rpc
from services.common.caller import acting_for
from services.common.errors import InvalidArgument, NotFound
from services.common.status import from_rpc_error
from services.image.adapters.gallery import cost_message, usage_message
from services.image.domain.helping import Analysis, asset_not_found
from services.models.money import Cost
from services.models.usage import Usage

SECONDS = 10.0
DOWNLOAD_SECONDS = 60.0
PAGE_SIZE = 200
MAX_PAGES = 5
"""So many pages of names are looked through; who has more that are alike gets a name with a number nobody has."""

# Larger originals are not fetched: a preview shows a model as much.
LARGE_BYTES = 8_000_000
LARGE_PIXELS = 2**25
# What the decoder knows. The gallery has previews of more.
DECODED = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif", "image/avif"})


@dataclass(frozen=True, slots=True)
class Taken:
    """Display names of the owner's that a name could collide with; `complete`: there are no others."""

    names: frozenset[str]
    complete: bool


class Library:
    """A client of the gallery with this service's credentials, acting for an owner."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = rpc.GalleryServiceStub(channel)

    async def names_like(self, owner: str, name: str) -> Taken:
        """The names that have all words of this one, those of soft-deleted assets too: they may come back.

        Raises:
            ServiceError: the gallery does not say.
        """
        names: set[str] = set()
        token = ""
        for _ in range(MAX_PAGES):
            request = pb.ListAssetsRequest(
                query=name, order_by="display_name", show_deleted=True, page_size=PAGE_SIZE, page_token=token
            )
            answer = await self._call(owner, self._stub.ListAssets, request)
            names.update(asset.display_name for asset in answer.assets)
            token = answer.next_page_token
            if not token:
                return Taken(frozenset(names), complete=True)
        return Taken(frozenset(names), complete=False)

    async def picture(self, owner: str, asset_id: str, *, field: str) -> bytes:
        """The bytes of an image as a model may look at it: the original, or, where it is large, its preview.

        Raises:
            NotFound: ASSET_NOT_FOUND.
            InvalidArgument: INVALID_IMAGE on `field`, the asset is no image or has no preview.
            ServiceError: the gallery is not there.
        """
        name = f"assets/{asset_id}"
        try:
            asset: pb.Asset = await self._call(owner, self._stub.GetAsset, pb.GetAssetRequest(name=name))
            if asset.HasField("delete_time"):
                raise asset_not_found(name)
            if asset.media_type != pb.Asset.IMAGE:
                raise InvalidArgument.field(field, "is no image", "INVALID_IMAGE")
            return await self._download(owner, name, _variant_of(asset))
        except NotFound as error:
            if error.reason == "VARIANT_NOT_FOUND":
                raise InvalidArgument.field(
                    field, "is no image that can be shown to a model", "INVALID_IMAGE"
                ) from None
            raise asset_not_found(name) from None

    async def annotate(
        self,
        owner: str,
        asset_id: str,
        *,
        request_id: str,
        analysis: Analysis | None,
        usage: Usage | None,
        cost: Cost | None,
    ) -> None:
        """Keeps an analysis on the asset and adds what it took; with the same id again nothing changes.

        Raises:
            ServiceError: the gallery did not take it.
        """
        request = pb.AnnotateAssetRequest(
            name=f"assets/{asset_id}",
            analysis=_analysis(analysis),
            usage=usage_message(usage),
            cost=cost_message(cost),
            request_id=request_id,
        )
        await self._call(owner, self._stub.AnnotateAsset, request)

    async def _call(self, owner: str, method: Any, request: Any) -> Any:
        with acting_for(owner):
            try:
                return await method(request, timeout=SECONDS)
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error) from None

    async def _download(self, owner: str, name: str, variant: pb.Asset.Variant.ValueType) -> bytes:
        request = pb.DownloadAssetRequest(name=name, variant=variant)
        with acting_for(owner):
            try:
                stream = self._stub.DownloadAsset(request, timeout=DOWNLOAD_SECONDS)
                return b"".join([message.data async for message in stream])
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error) from None


def _variant_of(asset: pb.Asset) -> pb.Asset.Variant.ValueType:
    pixels = asset.width_px * asset.height_px
    large = asset.size_bytes > LARGE_BYTES or pixels > LARGE_PIXELS
    return pb.Asset.PREVIEW if large or asset.mime_type not in DECODED else pb.Asset.ORIGINAL


def _analysis(analysis: Analysis | None) -> pb.Analysis | None:
    if analysis is None:
        return None
    return pb.Analysis(
        description=analysis.description,
        products=analysis.products,
        tags=analysis.tags,
        feedback=analysis.feedback,
        model=analysis.model,
        instructions=analysis.instructions,
    )
