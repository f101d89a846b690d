"""What is asked of the gallery, and how fast the answer has to be (p99, milliseconds; None: no target of its own)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.common.caller import acting_for
from services.common.pages import read_page
from services.gallery import convert_listing
from services.gallery.domain.listing import MAX_COUNT, Order, Position
from tests.benchmarks.gallery_rows import (
    COLD_TAG,
    COMMON_TAG,
    COMMON_WORD,
    LARGE,
    MIDDLE_WORD,
    RARE_TAG,
    RARE_WORD,
    TREE,
    Library,
    folder_id,
)


@dataclass(frozen=True)
class Case:
    """One kind of request, the same each time but for what `request` varies by its number."""

    name: str
    method: str
    request: Callable[[int], Any]
    target: float | None = None


def cases(library: Library) -> list[Case]:
    """All kinds, those with a target first."""
    return [
        Case("newest page", "ListAssets", _list(), 30),
        Case("page at half depth", "ListAssets", lambda number: _deep(library, number), 30),
        Case("folder page", "ListAssets", lambda number: _list(folder=_folder(3 + number % 20))(0), 30),
        Case("rare tag", "ListAssets", _list(tags=[RARE_TAG]), 60),
        Case("rare word", "ListAssets", _list(query=RARE_WORD), 80),
        Case("common word", "ListAssets", _list(query=COMMON_WORD), 80),
        Case("middling word", "ListAssets", _list(query=MIDDLE_WORD), 80),
        Case("two words", "ListAssets", _list(query=f"{MIDDLE_WORD} {COMMON_WORD}"), 80),
        Case("two middling words", "ListAssets", _list(query="harbour rose"), 80),
        Case("beginning of a word", "ListAssets", _list(query="golden har"), 80),
        Case("Japanese", "ListAssets", _list(query="夏祭り"), 80),
        Case("words, newest first", "ListAssets", _list(query=MIDDLE_WORD, order_by="create_time desc"), 80),
        Case("words in a folder", "ListAssets", _list(query=COMMON_WORD, folder=_folder(7)), 80),
        Case("common tag", "ListAssets", _list(tags=[COMMON_TAG])),
        Case("tag of old assets", "ListAssets", _list(tags=[COLD_TAG])),
        Case("two tags", "ListAssets", _list(tags=[COMMON_TAG, RARE_TAG])),
        Case("tag and word", "ListAssets", _list(tags=["tag-3"], query="golden")),
        Case("oldest", "ListAssets", _list(order_by="create_time")),
        Case("last changed", "ListAssets", _list(order_by="update_time desc")),
        Case("by name", "ListAssets", _list(order_by="display_name")),
        Case("largest", "ListAssets", _list(order_by="size_bytes desc")),
        Case("favourites", "ListAssets", _list(favorite=True)),
        Case("largest favourites", "ListAssets", _list(favorite=True, order_by="size_bytes desc")),
        Case("model", "ListAssets", _list(model="sora-2")),
        Case("rare model", "ListAssets", _list(model="sora-2-pro")),
        Case("videos", "ListAssets", _list(media_type=pb.Asset.VIDEO)),
        Case("folder and below", "ListAssets", _list(folder=TREE, include_subfolders=True)),
        Case(
            "below, largest first",
            "ListAssets",
            _list(folder=TREE, include_subfolders=True, order_by="size_bytes desc"),
        ),
        Case("deleted ones too", "ListAssets", _list(show_deleted=True)),
        Case("tags in use", "ListTags", lambda _: pb.ListTagsRequest()),
        Case("tags by prefix", "ListTags", lambda _: pb.ListTagsRequest(prefix="tag-4")),
        Case("totals", "GetGalleryStats", lambda _: pb.GetGalleryStatsRequest()),
    ]


def _list(**fields: Any) -> Callable[[int], pb.ListAssetsRequest]:
    return lambda _: pb.ListAssetsRequest(page_size=50, **fields)


def _folder(number: int) -> str:
    return f"folders/{folder_id(LARGE, number)}"


def _deep(library: Library, number: int) -> pb.ListAssetsRequest:
    """Behind half of all assets; the token is made by the server's own code."""
    request = pb.ListAssetsRequest(page_size=50)
    position = Position((library.time(library.count // 2 + number),), "", MAX_COUNT + 1)
    with acting_for(LARGE):
        page = read_page(request, keys=convert_listing.page_keys(Order.NEWEST))
        request.page_token = page.next_token(*convert_listing.position_values(position))
    return request
