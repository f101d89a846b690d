"""The RPCs that change assets, one by one and in batches: a part of `GalleryServicer`."""

from typing import Any

import grpc.aio

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.common.caller import current_caller, require_service_principal
from services.gallery import convert_edits
from services.gallery.convert import asset_id_of
from services.gallery.convert_assets import asset_message
from services.gallery.edits import Edits

Context = grpc.aio.ServicerContext[Any, Any]


class EditMethods:
    """A batch answers in view BASIC, and is refused beforehand when its answer would be too large."""

    _edits: Edits

    async def AnnotateAsset(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.AnnotateAssetRequest, context: Context
    ) -> pb.Asset:
        owner = require_service_principal().principal
        annotation = convert_edits.annotation_of(request)
        return asset_message(await self._edits.annotate(owner, asset_id_of(request.name), annotation), full=True)

    async def UpdateAsset(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.UpdateAssetRequest, context: Context
    ) -> pb.Asset:
        asset_id = asset_id_of(request.asset.name, field="asset.name")
        updated = await self._edits.update(current_caller().principal, asset_id, convert_edits.update_of(request))
        return asset_message(updated, full=True)

    async def DeleteAsset(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.DeleteAssetRequest, context: Context
    ) -> pb.Asset:
        asset_ids = [asset_id_of(request.name)]
        [deleted] = await self._edits.delete(current_caller().principal, asset_ids, etag=request.etag)
        return asset_message(deleted, full=True)

    async def UndeleteAsset(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.UndeleteAssetRequest, context: Context
    ) -> pb.Asset:
        undeleted = await self._edits.undelete(current_caller().principal, asset_id_of(request.name))
        return asset_message(undeleted, full=True)

    async def BatchGetAssets(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.BatchGetAssetsRequest, context: Context
    ) -> pb.BatchGetAssetsResponse:
        asset_ids = convert_edits.asset_ids_of(request.names)
        assets = await self._edits.get_many(current_caller().principal, asset_ids)
        convert_edits.check_answer(assets)
        return pb.BatchGetAssetsResponse(assets=convert_edits.batch_of(assets))

    async def BatchMoveAssets(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.BatchMoveAssetsRequest, context: Context
    ) -> pb.BatchMoveAssetsResponse:
        asset_ids, folder = convert_edits.asset_ids_of(request.names), convert_edits.target_of(request)
        owner = current_caller().principal
        moved = await self._edits.move(owner, asset_ids, folder, check=convert_edits.check_answer)
        return pb.BatchMoveAssetsResponse(assets=convert_edits.batch_of(moved))

    async def BatchDeleteAssets(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.BatchDeleteAssetsRequest, context: Context
    ) -> pb.BatchDeleteAssetsResponse:
        asset_ids = convert_edits.asset_ids_of(request.names)
        deleted = await self._edits.delete(current_caller().principal, asset_ids, check=convert_edits.check_answer)
        return pb.BatchDeleteAssetsResponse(assets=convert_edits.batch_of(deleted))

    async def BatchTagAssets(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.BatchTagAssetsRequest, context: Context
    ) -> pb.BatchTagAssetsResponse:
        asset_ids, (add, remove) = convert_edits.asset_ids_of(request.names), convert_edits.tags_of(request)
        owner = current_caller().principal
        tagged = await self._edits.retag(owner, asset_ids, add, remove, check=convert_edits.check_answer)
        return pb.BatchTagAssetsResponse(assets=convert_edits.batch_of(tagged))
