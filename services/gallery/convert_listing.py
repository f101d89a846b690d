"""Lists of assets, tags and totals: requests of the contract to the domain's terms, and answers back. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.common.errors import InvalidArgument
from services.common.pages import Page, PositionValue
from services.gallery.convert import PAGE_BYTES, refuse_nul
from services.gallery.convert_assets import asset_message, media_type_of
from services.gallery.domain.folders import parse_folder
from services.gallery.domain.listing import MAX_COUNT, Filters, Listed, Order, Position, TagCount, Totals, Window
from services.gallery.domain.search import MAX_TERMS, terms_of

MAX_LISTED_ASSETS = 200
MAX_LISTED_TAGS = 1_000
DEFAULT_LISTED_TAGS = 100
TAG_PAGE_KEYS: tuple[type[PositionValue], ...] = (int, str)

_KEY_TYPES: dict[Order, tuple[type[PositionValue], ...]] = {
    Order.NEWEST: (datetime,),
    Order.OLDEST: (datetime,),
    Order.UPDATED: (datetime,),
    Order.NAME: (str,),
    Order.LARGEST: (int,),
    Order.RELEVANCE: (int, datetime),
}
_INT32 = 2**31


def filters_of(request: pb.ListAssetsRequest) -> Filters:
    """The filters of a list.

    Raises:
        InvalidArgument: INVALID_FIELD, INVALID_FOLDER_PATH.
    """
    refuse_nul(request)
    if len(terms_of(request.query)) > MAX_TERMS:
        raise InvalidArgument.field("query", f"must have at most {MAX_TERMS} different words (or pairs of characters)")
    return Filters(
        folder=parse_folder(request.folder),
        include_subfolders=bool(request.folder) and request.include_subfolders,
        media_type=media_type_of(request.media_type),
        tags=tuple(request.tags),
        model=request.model,
        origin=request.origin,
        favorite=request.favorite if request.HasField("favorite") else None,
        created_after=_time_of(request, "created_after"),
        created_before=_time_of(request, "created_before"),
        query=request.query,
        show_deleted=request.show_deleted,
    )


def order_of(request: pb.ListAssetsRequest) -> Order:
    """The order of a list: newest first, or with a query best first, unless another one is asked for.

    Raises:
        InvalidArgument: INVALID_FIELD.
    """
    asked = " ".join(request.order_by.split())
    if not asked:
        return Order.RELEVANCE if request.query else Order.NEWEST
    named = [order for order in Order if order is not Order.RELEVANCE]
    for order in named:
        if asked == order.value:
            return order
    raise InvalidArgument.field("order_by", f"must be one of {sorted(order.value for order in named)}")


def page_keys(order: Order) -> tuple[type[PositionValue], ...]:
    """What a page token of a list in this order holds: keys, id, number of all, and the window of what was ranked."""
    window: tuple[type[PositionValue], ...] = (datetime, datetime) if order is Order.RELEVANCE else ()
    return (*_KEY_TYPES[order], str, int, *window)


def position_of(page: Page, order: Order) -> Position | None:
    """Where the page before ended; `page` was read with the keys of `page_keys`."""
    if page.position is None:
        return None
    count = len(_KEY_TYPES[order])
    keys, (asset_id, total, *window) = page.position[:count], page.position[count:]
    match asset_id, total, window:
        case str(), int(), []:
            return Position(_bounded(keys, order), asset_id, total)
        case str(), int(), [datetime() as newest, datetime() as oldest]:
            return Position(_bounded(keys, order), asset_id, total, Window(newest, oldest))
    raise ValueError("a position of another shape than page_keys")


def position_values(position: Position) -> tuple[PositionValue, ...]:
    """What a page token holds for the position: see `page_keys`."""
    window = position.window
    return (*position.keys, position.asset_id, position.total, *((window.newest, window.oldest) if window else ()))


def wants_full(request: pb.ListAssetsRequest) -> bool:
    """Whether a list shows everything of each asset."""
    return request.view == pb.Asset.FULL


def list_response(found: Listed, page: Page, *, full: bool) -> pb.ListAssetsResponse:
    """A page of what was found, which is one more than the page takes when there is another one."""
    total = max(found.total, 0)
    response = pb.ListAssetsResponse(total_size=min(total, MAX_COUNT), total_size_exact=total <= MAX_COUNT)
    size = 0
    for asset in found.assets[: page.size]:
        message = asset_message(asset, full=full)
        size += message.ByteSize()
        if response.assets and size > PAGE_BYTES:
            break
        response.assets.append(message)
    shown = len(response.assets)
    if shown < len(found.assets):
        response.next_page_token = page.next_token(*position_values(found.positions[shown - 1]))
    return response


def tags_response(found: Sequence[TagCount], page: Page) -> pb.ListTagsResponse:
    """A page of tags; `found` has one more than the page takes when there is another one."""
    shown = found[: page.size]
    response = pb.ListTagsResponse(
        tags=[
            pb.Tag(tag=one.tag, asset_count=min(one.asset_count, MAX_COUNT), count_exact=one.asset_count <= MAX_COUNT)
            for one in shown
        ]
    )
    if len(found) > len(shown):
        response.next_page_token = page.next_token(shown[-1].asset_count, shown[-1].tag)
    return response


def tag_position_of(page: Page) -> TagCount | None:
    """The last tag of the page before; `page` was read with TAG_PAGE_KEYS."""
    match page.position:
        case (int() as count, str() as name):
            return TagCount(name, count)
    return None


def prefix_of(request: pb.ListTagsRequest) -> str:
    """How the tags begin.

    Raises:
        InvalidArgument: INVALID_FIELD.
    """
    refuse_nul(request)
    return request.prefix


def stats_message(totals: Totals) -> pb.GalleryStats:
    """The answer of `GetGalleryStats`."""
    return pb.GalleryStats(
        image_count=totals.image_count,
        video_count=totals.video_count,
        deleted_count=totals.deleted_count,
        total_size_bytes=totals.size_bytes,
        folder_count=totals.folder_count,
    )


def _bounded(keys: tuple[PositionValue, ...], order: Order) -> tuple[PositionValue, ...]:
    """A rank is an integer of 32 bits to the database, which would fail on a forged one that is larger."""
    if order is Order.RELEVANCE and isinstance(keys[0], int):
        return (min(max(keys[0], -_INT32), _INT32 - 1), *keys[1:])
    return keys


def _time_of(request: pb.ListAssetsRequest, field: str) -> datetime | None:
    """Rounded up to the microsecond: times are stored in microseconds, and both comparisons stay exact."""
    if not request.HasField(field):  # type: ignore[arg-type]  # a literal in its stubs
        return None
    stamp: Timestamp = getattr(request, field)
    try:
        whole = datetime.fromtimestamp(stamp.seconds, UTC)
        return whole + timedelta(microseconds=-(-stamp.nanos // 1000))
    except (ValueError, OverflowError, OSError):
        raise InvalidArgument.field(field, "is not a time between the years 1 and 9999") from None
