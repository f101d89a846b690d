"""What happened to an owner's assets, and how it is told: each asset once in a batch, as it is now."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.gallery.domain.assets import Asset


class ChangeType(StrEnum):
    """What happened to an asset. CREATED also when it was undeleted."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"
    PURGED = "purged"


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the log of changes."""

    sequence: int
    time: datetime
    asset_id: str
    type: ChangeType


@dataclass(frozen=True, slots=True)
class AssetEvent:
    """News of one asset. Who has seen it, and all before it, has seen every entry up to `last`.

    `asset` is None when it was purged.
    """

    type: ChangeType
    asset_id: str
    asset: Asset | None
    last: Entry


def merged(first: ChangeType, then: ChangeType) -> ChangeType:
    """Two changes of one asset as one: the last counts, but an update makes what is new or deleted nothing else."""
    return first if then is ChangeType.UPDATED else then


def events_of(entries: Sequence[Entry], assets: Mapping[str, Asset]) -> list[AssetEvent]:
    """The entries, in the order of their sequence, as events; `assets` are those of them that exist now.

    An asset comes where it was first changed. Its later entries are not yet covered then (`AssetEvent.last`), so who
    resumes in the middle hears of it again, rather than of nothing or of an update of what it has never seen.

    An update of an asset that is deleted now is told as its deletion: a watcher may have heard of neither.

    An asset that is there no more and of whose purge the entries know nothing is left out: that entry follows.
    """
    types: dict[str, ChangeType] = {}
    for entry in entries:
        before = types.get(entry.asset_id)
        types[entry.asset_id] = entry.type if before is None else merged(before, entry.type)
    events: list[AssetEvent] = []
    for asset_id, last in _covered(entries):
        type_ = types[asset_id]
        asset = None if type_ is ChangeType.PURGED else assets.get(asset_id)
        if type_ is ChangeType.UPDATED and asset is not None and asset.delete_time is not None:
            type_ = ChangeType.DELETED
        if asset is not None or type_ is ChangeType.PURGED:
            events.append(AssetEvent(type_, asset_id, asset, last))
    return events


def _covered(entries: Iterable[Entry]) -> list[tuple[str, Entry]]:
    """The assets by their first entry, each with the last entry before the next asset's first."""
    seen: set[str] = set()
    found: list[tuple[str, Entry]] = []
    for entry in entries:
        if entry.asset_id in seen:
            found[-1] = (found[-1][0], entry)
        else:
            seen.add(entry.asset_id)
            found.append((entry.asset_id, entry))
    return found
