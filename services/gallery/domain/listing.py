"""What a list of assets shows: filters that add up, newest first."""

from dataclasses import dataclass
from datetime import datetime

from services.gallery.domain.assets import MediaType
from services.gallery.domain.folders import FolderRef

MAX_COUNT = 1_000
"""Lists are counted exactly up to here; beyond, an exact count would cost more than the page."""


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
    show_deleted: bool = False


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page ended: the keys of its last asset."""

    create_time: datetime
    asset_id: str
