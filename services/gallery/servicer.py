"""The RPCs of the gallery. Those not built yet answer UNIMPLEMENTED through the generated base class."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

import grpc.aio
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from contentlab.gallery.v1 import gallery_service_pb2_grpc as rpc
from services.common.caller import current_caller
from services.common.errors import ServiceError
from services.gallery import convert, convert_links, convert_watch
from services.gallery.convert_assets import asset_message, variant_of
from services.gallery.derivatives import Derivatives
from services.gallery.direct import DirectUploads
from services.gallery.domain import failures
from services.gallery.domain.assets import Asset
from services.gallery.domain.downloads import Delivery, Span, Stored, deliver, deliver_variant
from services.gallery.domain.environment import Environment
from services.gallery.edits import Edits
from services.gallery.finding import Finding
from services.gallery.folder_tree import FolderTree
from services.gallery.library import Library
from services.gallery.links import AssetLinks
from services.gallery.ports import BlobFacts
from services.gallery.servicer_edits import EditMethods
from services.gallery.servicer_finding import FindingMethods
from services.gallery.servicer_folders import FolderMethods
from services.gallery.uploads import Uploads
from services.gallery.watching import Watching

Context = grpc.aio.ServicerContext[Any, Any]

FIRST_MESSAGE_SECONDS = 30.0

_M = TypeVar("_M")


class GalleryServicer(EditMethods, FindingMethods, FolderMethods, rpc.GalleryServiceServicer):
    """`contentlab.gallery.v1.GalleryService`. `stall_seconds`: a reader's time for one message of a download."""

    def __init__(
        self,
        uploads: Uploads,
        library: Library,
        environment: Environment,
        *,
        direct: DirectUploads,
        derivatives: Derivatives,
        links: AssetLinks,
        edits: Edits,
        finding: Finding,
        folders: FolderTree,
        watching: Watching,
        stall_seconds: float,
    ) -> None:
        self._uploads = uploads
        self._library = library
        self._environment = environment
        self._direct = direct
        self._derivatives = derivatives
        self._links = links
        self._edits = edits
        self._finding = finding
        self._folders = folders
        self._watching = watching
        self._stall_seconds = stall_seconds

    async def UploadAsset(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request_iterator: AsyncIterator[pb.UploadAssetRequest], context: Context
    ) -> pb.Asset:
        async with _http_codes(context):
            first = await _first(request_iterator)
            if not first.HasField("metadata"):
                raise failures.upload_out_of_order("The first message must carry the metadata.")
            request = convert.upload_of(first.metadata, current_caller())
            return asset_message(await self._uploads.store(request, _chunks(request_iterator)), full=True)

    async def UploadAssetContent(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request_iterator: AsyncIterator[pb.UploadAssetContentRequest], context: Context
    ) -> pb.Asset:
        async with _http_codes(context):
            first = await _first(request_iterator)
            length = _metadata(context).get(convert.UPLOAD_LENGTH_KEY, "")
            request = convert.content_upload_of(first, length, current_caller())
            chunks = _contents(first, request_iterator)
            return asset_message(await self._uploads.store(request, chunks), full=True)

    async def CreateUpload(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.CreateUploadRequest, context: Context
    ) -> pb.Upload:
        async with _http_codes(context):
            announced = convert_links.announced_of(request, current_caller().principal)
            return convert_links.upload_message(announced, await self._direct.open(announced))

    async def CompleteUpload(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.CompleteUploadRequest, context: Context
    ) -> pb.Asset:
        upload_id = convert_links.upload_id_of(request.name)
        return asset_message(await self._direct.complete(current_caller().principal, upload_id), full=True)

    async def CreateAssetLink(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.CreateAssetLinkRequest, context: Context
    ) -> pb.AssetLink:
        asset_id, variant = convert.asset_id_of(request.name), variant_of(request.variant)
        link = await self._links.create(
            current_caller().principal, asset_id, variant, ttl=convert_links.ttl_of(request)
        )
        return convert_links.link_message(link)

    async def GetAsset(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.GetAssetRequest, context: Context
    ) -> pb.Asset:
        asset = await self._library.get(current_caller().principal, convert.asset_id_of(request.name))
        return asset_message(asset, full=True)

    async def PurgeAsset(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.PurgeAssetRequest, context: Context
    ) -> Empty:
        await self._library.purge(current_caller().principal, convert.asset_id_of(request.name))
        return Empty()

    # The stubs know generators only; grpc.aio takes a coroutine that writes as well.
    async def DownloadAsset(  # type: ignore[override]  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.DownloadAssetRequest, context: Context
    ) -> None:
        async with _http_codes(context):
            asset = await self._library.get(current_caller().principal, convert.asset_id_of(request.name))
            conditions, variant = convert.conditions_of(_metadata(context)), variant_of(request.variant)
            stored = await self._derivatives.find(asset, variant) if variant else None
            if stored is None:
                delivery = deliver(asset, conditions)
            else:
                delivery = deliver_variant(asset, Stored(stored.etag, stored.size, stored.write_time), conditions)
            if delivery.span is None:
                await _send_headers(context, delivery)
            else:
                await self._send(context, asset, delivery, delivery.span, stored)

    async def WatchAssets(  # type: ignore[override]  # noqa: D102, N802 - as DownloadAsset
        self, request: pb.WatchAssetsRequest, context: Context
    ) -> None:
        async with aclosing(self._watching.watch(current_caller().principal, request.resume_token)) as stream:
            async for told in stream:
                await self._tell(context, convert_watch.watch_message(told))

    async def StreamAssetEvents(  # type: ignore[override]  # noqa: D102, N802 - as DownloadAsset
        self, request: pb.StreamAssetEventsRequest, context: Context
    ) -> None:
        caller = current_caller()
        token = convert_watch.resume_token_of(request, _metadata(context))
        async with (
            aclosing(self._watching.watch(caller.principal, token)) as stream,
            aclosing(convert_watch.server_sent_events(stream, caller.request_id)) as events,
        ):
            first = await anext(events)  # before the headers, so that a refusal has a status of its own
            await context.send_initial_metadata(convert_watch.EVENT_HEADERS)
            await self._tell(context, first)
            async for event in events:
                await self._tell(context, event)

    async def GetGalleryEnvironment(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.GetGalleryEnvironmentRequest, context: Context
    ) -> pb.GalleryEnvironment:
        return convert.environment_message(self._environment)

    async def _send(
        self, context: Context, asset: Asset, delivery: Delivery, span: Span, stored: BlobFacts | None
    ) -> None:
        """Written here and not yielded, so that a reader who has stopped reading can be given up."""
        async with aclosing(self._library.read(asset, span, stored)) as portions:
            # The first portion before the headers: once they have left, an error has no status of its own.
            mime_type = stored.mime_type if stored else asset.media.mime_type
            body = HttpBody(content_type=mime_type, data=await anext(portions))
            await _send_headers(context, delivery)
            await self._write(context, body)
            async for portion in portions:
                await self._write(context, HttpBody(data=portion))

    async def _write(self, context: Context, message: HttpBody) -> None:
        await _write(context, message, "The download was not read", self._stall_seconds)

    async def _tell(self, context: Context, message: Message) -> None:
        await _write(context, message, "The changes were not read", self._watching.stall_seconds)


async def _write(context: Context, message: Message, complaint: str, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await context.write(message)
    except TimeoutError:
        raise failures.stalled(complaint, seconds) from None


async def _send_headers(context: Context, delivery: Delivery) -> None:
    code = (("x-http-code", str(delivery.status)),) if delivery.status != 200 else ()
    await context.send_initial_metadata((*delivery.headers.items(), *code))


@asynccontextmanager
async def _http_codes(context: Context) -> AsyncIterator[None]:
    """Tells the gateway the HTTP status of errors for which gRPC has no code of its own."""
    try:
        yield
    except ServiceError as error:
        headers = failures.http_headers(error)
        if headers:
            context.set_trailing_metadata((*context.trailing_metadata(), *headers.items()))
        raise


def _metadata(context: Context) -> Mapping[str, str]:
    """The call's text metadata; a header sent twice is one list, as HTTP has it."""
    joined: dict[str, str] = {}
    for key, value in context.invocation_metadata() or ():
        if isinstance(value, str):
            joined[key] = f"{joined[key]}, {value}" if key in joined else value
    return joined


async def _first(requests: AsyncIterator[_M]) -> _M:
    try:
        async with asyncio.timeout(FIRST_MESSAGE_SECONDS):
            return await anext(requests)
    except StopAsyncIteration:
        raise failures.upload_out_of_order("The upload ended before its first message.") from None
    except TimeoutError:
        raise failures.stalled("The upload's first message did not come", FIRST_MESSAGE_SECONDS) from None


async def _chunks(requests: AsyncIterator[pb.UploadAssetRequest]) -> AsyncIterator[bytes]:
    async for request in requests:
        if not request.HasField("chunk"):
            raise failures.upload_out_of_order("Only the first message may carry metadata.")
        yield request.chunk


async def _contents(
    first: pb.UploadAssetContentRequest, requests: AsyncIterator[pb.UploadAssetContentRequest]
) -> AsyncIterator[bytes]:
    yield first.content.data
    async for request in requests:
        if any(field.name != "content" for field, _ in request.ListFields()):
            raise failures.upload_out_of_order("Only the first message may carry fields other than content.")
        yield request.content.data
