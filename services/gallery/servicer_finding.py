"""The RPCs that find assets, tags and totals: a part of `GalleryServicer`."""

from typing import Any

import grpc.aio

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.common.caller import current_caller
from services.common.pages import read_page
from services.gallery import convert_listing as convert
from services.gallery.finding import Finding

Context = grpc.aio.ServicerContext[Any, Any]


class FindingMethods:
    """List assets and tags, and sum up."""

    _finding: Finding

    async def ListAssets(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.ListAssetsRequest, context: Context
    ) -> pb.ListAssetsResponse:
        filters, order, full = convert.filters_of(request), convert.order_of(request), convert.wants_full(request)
        page = read_page(request, max_size=convert.MAX_LISTED_ASSETS, keys=convert.page_keys(order))
        owner, after = current_caller().principal, convert.position_of(page, order)
        found = await self._finding.list_page(owner, filters, order=order, size=page.size + 1, after=after, full=full)
        return convert.list_response(found, page, full=full)

    async def ListTags(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.ListTagsRequest, context: Context
    ) -> pb.ListTagsResponse:
        prefix = convert.prefix_of(request)
        page = read_page(
            request,
            default_size=convert.DEFAULT_LISTED_TAGS,
            max_size=convert.MAX_LISTED_TAGS,
            keys=convert.TAG_PAGE_KEYS,
        )
        owner, after = current_caller().principal, convert.tag_position_of(page)
        return convert.tags_response(
            await self._finding.tags(owner, prefix=prefix, size=page.size + 1, after=after), page
        )

    async def GetGalleryStats(  # noqa: D102, N802 - gRPC's name, the contract's meaning
        self, request: pb.GetGalleryStatsRequest, context: Context
    ) -> pb.GalleryStats:
        return convert.stats_message(await self._finding.totals(current_caller().principal))
