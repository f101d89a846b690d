"""What a list of assets shows: filters that add up, an order, and where a page ended."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.gallery.domain.assets import Asset, MediaType
from services.gallery.domain.folders import FolderRef

MAX_COUNT = 1_000
"""Lists are counted exactly up to here; beyond, an exact count would cost more than the page."""

MAX_RANKED = 500
"""So many matches of a query, the newest, are put into the order of how well they match."""

SORTED_NAME_CHARACTERS = 100
"""Names are sorted by their beginning, so that neither index nor page token has to hold whole ones."""


class Order(StrEnum):
    """How a list is sorted; ties by id, in the same direction. RELEVANCE is of queries only, and has no other name."""

    NEWEST = "create_time desc"
    OLDEST = "create_time"
    UPDATED = "update_time desc"
    NAME = "display_name"
    LARGEST = "size_bytes desc"
    RELEVANCE = "relevance"

    def key_of(self, asset: Asset) -> datetime | str | int:
        """What the asset is sorted by.

        Raises:
            ValueError: for RELEVANCE, which is no property of the asset.
        """
        match self:
            case Order.NEWEST | Order.OLDEST:
                return asset.create_time
            case Order.UPDATED:
                return asset.update_time
            case Order.NAME:
                return asset.display_name[:SORTED_NAME_CHARACTERS]
            case Order.LARGEST:
                return asset.media.size_bytes
            case Order.RELEVANCE:
                raise ValueError("relevance is no property of an asset")


@dataclass(frozen=True, slots=True)
class Filters:
    """None and empty: no such filter. Times are half-open: from `created_after`, to before `created_before`."""

    folder: FolderRef | None = None
    include_subfolders: bool = False
    media_type: MediaType | None = None
    tags: tuple[str, ...] = ()
    model: str = ""
    origin: str = ""
    favorite: bool | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    query: str = ""
    show_deleted: bool = False


@dataclass(frozen=True, slots=True)
class Window:
    """The times between which the assets lie that were ranked for the first page, both included."""

    newest: datetime
    oldest: datetime


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page ended: by what its last asset is sorted, and the number of all when the first page was made.

    `window` is there for RELEVANCE, whose keys are rank and create time.
    """

    keys: tuple[datetime | str | int, ...]
    asset_id: str
    total: int
    window: Window | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """Assets with the position behind each, and the number of all: exact up to MAX_COUNT, MAX_COUNT + 1 for more."""

    assets: tuple[Asset, ...]
    positions: tuple[Position, ...]
    total: int


@dataclass(frozen=True, slots=True)
class TagCount:
    """A tag, and how many assets carry it that are not deleted."""

    tag: str
    asset_count: int


@dataclass(frozen=True, slots=True)
class Totals:
    """What an owner has; `size_bytes` is that of all originals, soft-deleted ones too."""

    image_count: int = 0
    video_count: int = 0
    deleted_count: int = 0
    size_bytes: int = 0
    folder_count: int = 0
