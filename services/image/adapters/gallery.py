"""The gallery as this service uses it: pictures go up, their facts come back."""

import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, fields

import grpc
import grpc.aio

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from contentlab.gallery.v1 import gallery_service_pb2_grpc as rpc
from services.common.caller import acting_for
from services.common.errors import InvalidArgument, NotFound, ServiceError
from services.common.status import from_rpc_error
from services.image.domain.adoption import Stored
from services.image.domain.generations import ASSETS, Facts
from services.image.domain.inputs import UsedInput
from services.image.domain.requests import Placement
from services.image.domain.steps import Revision
from services.models.money import Cost, CostSource
from services.models.usage import Usage

CHUNK_BYTES = 512 * 1024
CHECK_SECONDS = 5.0

# The bytes themselves are refused: no later attempt can end otherwise.
UNSTORABLE = frozenset({"UNSUPPORTED_MEDIA", "ASSET_EXISTS"})
# The gallery's settings are too narrow for the bytes; its operator can widen them.
LIMITED = frozenset({"IMAGE_TOO_LARGE", "UPLOAD_TOO_LARGE"})
# The folder is refused; the same picture is taken without it.
MISPLACED = frozenset({"FOLDER_NOT_FOUND", "INVALID_FOLDER_PATH"})
_PLACEMENT_FIELDS = ("metadata.folder", "metadata.tags", "metadata.display_name")

_SOURCES: Mapping[CostSource, pb.Cost.Source.ValueType] = {
    CostSource.COMPUTED: pb.Cost.COMPUTED,
    CostSource.PROVIDER_REPORTED: pb.Cost.PROVIDER_REPORTED,
    CostSource.ESTIMATED: pb.Cost.ESTIMATED,
    CostSource.UNPRICED: pb.Cost.UNPRICED,
}


@dataclass(frozen=True, slots=True)
class Upload:
    """A picture with all that the gallery is to know of it."""

    asset_id: str
    content: bytes
    sha256: str
    owner: str
    origin: str
    prompt: str
    model: str
    parameters: Mapping[str, str]
    placement: Placement
    usage: Usage | None
    cost: Cost | None
    inputs: tuple[UsedInput, ...] = ()
    revisions: tuple[Revision, ...] = ()


class Refused(Exception):
    """The gallery will not take this upload as it is.

    `misplaced`: it would without its placement. `limited`: it would with other settings.
    """

    def __init__(self, reason: str, *, misplaced: bool = False, limited: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.misplaced = misplaced
        self.limited = limited


class Gallery:
    """A client of the gallery with this service's credentials, acting for the owner of what it stores."""

    def __init__(self, channel: grpc.aio.Channel, *, upload_seconds: float) -> None:
        self._stub = rpc.GalleryServiceStub(channel)
        self._upload_seconds = upload_seconds

    async def store(self, upload: Upload) -> Facts:
        """Stores a picture, or finds that it is stored; the gallery has it durably when this returns.

        Raises:
            Refused: until something changes.
            ServiceError: for now; the same upload may be sent again at any time.
        """
        with acting_for(upload.owner):
            try:
                asset = await self._stub.UploadAsset(_messages(upload), timeout=self._upload_seconds)
            except grpc.aio.AioRpcError as error:
                raise _translated(from_rpc_error(error)) from None
        return _facts(asset)

    async def find(self, owner: str, asset_id: str) -> Stored | None:
        """The picture that the owner has under this id, deleted ones too; None: there is none.

        Raises:
            ServiceError: the gallery does not say for the moment.
        """
        with acting_for(owner):
            try:
                asset = await self._stub.GetAsset(
                    pb.GetAssetRequest(name=ASSETS.format(asset_id)), timeout=CHECK_SECONDS
                )
            except grpc.aio.AioRpcError as rpc_error:
                error = from_rpc_error(rpc_error)
                if isinstance(error, NotFound):
                    return None
                raise error from None
        return Stored(asset.origin, asset.sha256, asset.size_bytes, _facts(asset), _usage_of(asset), _cost_of(asset))

    async def check_folder(self, owner: str, folder: str) -> None:
        """Asks whether pictures can be put there. When the gallery cannot say, they are put elsewhere if need be.

        Raises:
            InvalidArgument: INVALID_FIELD on `folder`: it is no path, or a name of no folder.
        """
        with acting_for(owner):
            try:
                await self._stub.ListAssets(pb.ListAssetsRequest(folder=folder, page_size=1), timeout=CHECK_SECONDS)
            except grpc.aio.AioRpcError as rpc_error:
                error = from_rpc_error(rpc_error)
                by_name = folder.startswith("folders/") and folder.count("/") == 1
                if isinstance(error, InvalidArgument) or (isinstance(error, NotFound) and by_name):
                    raise InvalidArgument.field("folder", error.message.removeprefix("folder: ")) from None


def _translated(error: ServiceError) -> Exception:
    """Refused for what no repetition changes; everything else passes, a gallery that is set up wrongly too."""
    if error.reason in UNSTORABLE:
        return Refused(error.reason)
    if error.reason in LIMITED:
        return Refused(error.reason, limited=True)
    if error.reason in MISPLACED or any(v.field.startswith(_PLACEMENT_FIELDS) for v in error.violations):
        return Refused(error.reason, misplaced=True)
    return error


async def _messages(upload: Upload) -> AsyncIterator[pb.UploadAssetRequest]:
    yield pb.UploadAssetRequest(metadata=_metadata(upload))
    view = memoryview(upload.content)
    for start in range(0, len(view), CHUNK_BYTES):
        yield pb.UploadAssetRequest(chunk=bytes(view[start : start + CHUNK_BYTES]))


def _metadata(upload: Upload) -> pb.UploadMetadata:
    return pb.UploadMetadata(
        size_bytes=len(upload.content),
        sha256=upload.sha256,
        display_name=upload.placement.display_name,
        folder=upload.placement.folder,
        tags=upload.placement.tags,
        asset_id=upload.asset_id,
        provenance=pb.Provenance(
            owner=upload.owner,
            prompt=upload.prompt,
            prompt_revisions=[_revision(one) for one in upload.revisions],
            model=upload.model,
            parameters=upload.parameters,
            origin=upload.origin,
            parents=_parents(upload.inputs),
            usage=usage_message(upload.usage),
            cost=cost_message(upload.cost),
        ),
    )


def _revision(one: Revision) -> pb.PromptRevision:
    step = pb.PromptRevision.Step.Value(one.step)
    return pb.PromptRevision(step=step, previous_prompt=one.previous_prompt, model=one.model)


def _parents(inputs: tuple[UsedInput, ...]) -> list[pb.Parent]:
    """Each asset once in each part; inline bytes are no asset."""
    pairs = dict.fromkeys((one.asset_id, one.role) for one in inputs if one.asset_id)
    return [
        pb.Parent(asset=ASSETS.format(asset_id), relation=pb.Parent.Relation.Value(role)) for asset_id, role in pairs
    ]


def usage_message(usage: Usage | None) -> pb.Usage | None:
    """As the gallery's contract has it; absent where there is none."""
    if usage is None:
        return None
    return pb.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        input_text_tokens=usage.input_text_tokens,
        input_image_tokens=usage.input_image_tokens,
        output_text_tokens=usage.output_text_tokens,
        output_image_tokens=usage.output_image_tokens,
    )


def cost_message(cost: Cost | None) -> pb.Cost | None:
    """As the gallery's contract has it; absent where there is none."""
    return None if cost is None else pb.Cost(source=_SOURCES[cost.source], amount_micro_usd=cost.micro_usd)


def _facts(asset: pb.Asset) -> Facts:
    return Facts(
        mime_type=asset.mime_type,
        width_px=asset.width_px if asset.HasField("width_px") else None,
        height_px=asset.height_px if asset.HasField("height_px") else None,
        has_transparency=asset.has_transparency if asset.HasField("has_transparency") else None,
    )


def _usage_of(asset: pb.Asset) -> Usage | None:
    if not asset.HasField("usage"):
        return None
    return Usage(**{field.name: getattr(asset.usage, field.name) for field in fields(Usage)})


def _cost_of(asset: pb.Asset) -> Cost | None:
    if not asset.HasField("cost"):
        return None
    source = next((source for source, number in _SOURCES.items() if number == asset.cost.source), CostSource.UNPRICED)
    return Cost(source, None if source is CostSource.UNPRICED else asset.cost.amount_micro_usd)


def digest(content: bytes) -> str:
    """SHA-256 of the bytes, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()
