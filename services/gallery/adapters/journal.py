"""What every change of an owner's assets brings along: an entry in the log, and counts that stay exact.

An owner's changes are committed one at a time, under the owner's lock. So the log's sequence is, for one owner, the
order in which its entries become visible, and a reader that has seen one entry misses none before it; no reader waits
for a slow transaction of somebody else. Counts cannot deadlock, and folders need no foreign key.

The order of locks: the owner's, then anything else; `Transactions.of_owner` begins every such transaction.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.gallery.adapters.tables import asset_change, folder, tag, total
from services.gallery.domain.assets import Asset, MediaType
from services.gallery.domain.changes import ChangeType

# "galo": sets these advisory locks apart from others in the database.
_OWNER = 0x67616C6F


@dataclass(frozen=True, slots=True)
class Change:
    """An asset before and after; None: it was not there yet, or is there no more."""

    before: Asset | None
    after: Asset | None

    @property
    def asset(self) -> Asset:
        """The asset that it is about."""
        known = self.after or self.before
        if known is None:
            raise ValueError("a change of nothing")
        return known

    @property
    def type(self) -> ChangeType:
        """What watchers are told."""
        if self.after is None:
            return ChangeType.PURGED
        was_shown, is_shown = _is_shown(self.before), _is_shown(self.after)
        if was_shown == is_shown and self.before is not None:
            return ChangeType.UPDATED
        return ChangeType.CREATED if is_shown else ChangeType.DELETED


async def lock_owner(connection: AsyncConnection, owner: str) -> None:
    """Waits until no other transaction changes this owner's library; until the end of this one nobody else does."""
    await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(owner, _OWNER))))


async def record(connection: AsyncConnection, changes: Sequence[Change]) -> None:
    """Logs the changes of one owner, whose lock the transaction holds, and brings the counts along."""
    if not changes:
        return
    owner = changes[0].asset.owner
    rows = [{"owner": owner, "asset_id": change.asset.id, "change": change.type.value} for change in changes]
    await connection.execute(sa.insert(asset_change), rows)
    await _count(connection, owner, changes)


async def _count(connection: AsyncConnection, owner: str, changes: Sequence[Change]) -> None:
    tags: Counter[str] = Counter()
    folders: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    for change in changes:
        for side, sign in ((change.before, -1), (change.after, 1)):
            if side is None:
                continue
            totals["size_bytes"] += sign * side.media.size_bytes
            if not _is_shown(side):
                totals["deleted_count"] += sign
                continue
            totals["image_count" if side.media.media_type is MediaType.IMAGE else "video_count"] += sign
            _add(tags, set(side.tags), sign)
            _add(folders, [side.folder.id] if side.folder else [], sign)
    await _add_to_tags(connection, owner, tags)
    for folder_id, number in folders.items():
        if number:
            counted = sa.update(folder).where(folder.c.id == folder_id)
            await connection.execute(counted.values(asset_count=folder.c.asset_count + number))
    await _add_to_totals(connection, owner, {name: number for name, number in totals.items() if number})


def _add(counter: Counter[str], keys: Iterable[str], number: int) -> None:
    for key in keys:
        counter[key] += number


async def _add_to_tags(connection: AsyncConnection, owner: str, tags: Counter[str]) -> None:
    more = [{"owner": owner, "tag": name, "asset_count": number} for name, number in tags.items() if number > 0]
    if more:
        new = insert(tag)
        sums = {"asset_count": tag.c.asset_count + new.excluded.asset_count}
        await connection.execute(new.on_conflict_do_update(index_elements=[tag.c.owner, tag.c.tag], set_=sums), more)
    fewer = [{"name": name, "number": number} for name, number in tags.items() if number < 0]
    if fewer:
        this = sa.update(tag).where(tag.c.owner == owner, tag.c.tag == sa.bindparam("name"))
        await connection.execute(this.values(asset_count=tag.c.asset_count + sa.bindparam("number")), fewer)
        unused = tag.c.tag.in_([row["name"] for row in fewer])
        await connection.execute(sa.delete(tag).where(tag.c.owner == owner, unused, tag.c.asset_count == 0))


async def _add_to_totals(connection: AsyncConnection, owner: str, totals: dict[str, int]) -> None:
    if not totals:
        return
    mine = sa.update(total).where(total.c.owner == owner)
    more = mine.values({name: total.c[name] + number for name, number in totals.items()})
    if (await connection.execute(more)).rowcount == 0:
        # Nobody else can do the same: the owner's lock is held.
        await connection.execute(sa.insert(total).values(owner=owner, **totals))


def _is_shown(asset: Asset | None) -> bool:
    return asset is not None and asset.delete_time is None
