"""The log of changes as watchers read it; `journal.py` writes it.

One owner's entries become visible in the order of their sequence, so a reader goes by the sequence alone.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.gallery.adapters.rows import select_assets, to_asset
from services.gallery.adapters.tables import SCHEMA, asset, asset_change, incarnation
from services.gallery.domain.assets import Asset
from services.gallery.domain.changes import ChangeType, Entry
from services.gallery.domain.resume import LOG_KEPT, Surroundings

BATCH_ENTRIES = 100
TRIM_ENTRIES = 1_000
TRIM_PAUSE_SECONDS = 300.0

_LOG = asset_change.c
_NOW = sa.func.clock_timestamp()
_GIVEN = sa.table("asset_change_sequence_seq", sa.column("last_value", sa.BigInteger), schema=SCHEMA)
"""The sequence behind the log's identity column, under the name that Postgres gives it."""


@dataclass(frozen=True, slots=True)
class Head:
    """The end of an owner's log: its last entry's sequence and time, 0 and `now` if it has none."""

    incarnation: UUID
    now: datetime
    sequence: int
    entry_time: datetime


@dataclass(frozen=True, slots=True)
class Batch:
    """What follows a position: entries in order, and those of their assets that exist now."""

    around: Surroundings
    entries: Sequence[Entry]
    assets: Mapping[str, Asset]

    @property
    def is_last(self) -> bool:
        """Whether the log ended there."""
        return len(self.entries) < BATCH_ENTRIES


@dataclass(frozen=True, slots=True)
class News:
    """The last sequence of each owner that has one, and that of all, which the log may have kept no more."""

    incarnation: UUID
    now: datetime
    last_sequence: int
    sequences: Mapping[str, int]


class ChangeLog:
    """Reads run outside of transactions."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._reading = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def head(self, owner: str) -> Head:
        """Where the owner's log ends now."""
        newest = sa.select(_LOG.sequence, _LOG.time).where(_LOG.owner == owner)
        query = _beside_incarnation(newest.order_by(_LOG.sequence.desc()).limit(1))
        async with self._reading.connect() as connection:
            row = (await connection.execute(query)).one()
        now = row.now.astimezone(UTC)
        return Head(row.incarnation, now, row.sequence or 0, row.time.astimezone(UTC) if row.time else now)

    async def read(self, owner: str, sequence: int) -> Batch:
        """At most BATCH_ENTRIES entries behind the sequence. Three queries at most, however many entries and assets."""
        log = sa.select(_LOG.sequence, _LOG.time, _LOG.asset_id, _LOG.change)
        log = log.where(_LOG.owner == owner, _LOG.sequence >= sequence)
        query = _beside_incarnation(log.order_by(_LOG.sequence).limit(BATCH_ENTRIES + 1))
        async with self._reading.connect() as connection:
            rows = (await connection.execute(query)).all()
            found = [_entry(row) for row in rows if row.sequence is not None]
            at_position = found[0] if found and found[0].sequence == sequence else None
            before = None if at_position else await _newest_before(connection, owner, sequence)
            entries = (found[1:] if at_position else found)[:BATCH_ENTRIES]
            assets = await _assets(connection, owner, {entry.asset_id for entry in entries})
        now, last = rows[0].now.astimezone(UTC), rows[0].last_sequence
        return Batch(Surroundings(rows[0].incarnation, now, last, at_position, before), entries, assets)

    async def newest(self, owners: Sequence[str]) -> News:
        """Where the logs of many owners end, in one query."""
        given = sa.bindparam("owners", list(owners), type_=ARRAY(sa.Text))
        watched = sa.func.unnest(given).table_valued("owner", name="watched").render_derived()
        last = sa.select(_LOG.sequence).where(_LOG.owner == watched.c.owner)
        newest = last.order_by(_LOG.sequence.desc()).limit(1).lateral("newest")
        pairs = sa.select(watched.c.owner, newest.c.sequence).select_from(watched.join(newest, sa.true()))
        async with self._reading.connect() as connection:
            rows = (await connection.execute(_beside_incarnation(pairs))).all()
        sequences = {row.owner: row.sequence for row in rows if row.sequence is not None}
        return News(rows[0].incarnation, rows[0].now.astimezone(UTC), rows[0].last_sequence, sequences)

    async def trim_forever(self) -> None:
        """Removes entries as they get too old, until cancelled."""
        while True:
            if await self.trim() < TRIM_ENTRIES:
                await asyncio.sleep(TRIM_PAUSE_SECONDS)

    async def trim(self) -> int:
        """Removes at most TRIM_ENTRIES entries that are older than LOG_KEPT, and says how many.

        Several processes may do it at once: each takes what no other has taken.
        """
        old = sa.select(_LOG.sequence).where(_LOG.time < _NOW - LOG_KEPT).order_by(_LOG.time).limit(TRIM_ENTRIES)
        some = old.with_for_update(skip_locked=True).cte("some").prefix_with("MATERIALIZED")
        query = sa.delete(asset_change).where(_LOG.sequence == some.c.sequence)
        async with self._reading.connect() as connection:
            return (await connection.execute(query)).rowcount


def _beside_incarnation(query: sa.Select[Any]) -> sa.Select[Any]:
    """The query's rows, or one without values; each with the incarnation, the time, and the last sequence given."""
    found = query.lateral("found")
    last = sa.select(_GIVEN.c.last_value).scalar_subquery().label("last_sequence")
    columns = (incarnation.c.id.label("incarnation"), _NOW.label("now"), last, *found.c)
    return sa.select(*columns).select_from(incarnation.outerjoin(found, sa.true()))


async def _newest_before(connection: AsyncConnection, owner: str, sequence: int) -> Entry | None:
    earlier: sa.Select[Any] = sa.select(_LOG.sequence, _LOG.time, _LOG.asset_id, _LOG.change)
    earlier = earlier.where(_LOG.owner == owner, _LOG.sequence < sequence)
    row = (await connection.execute(earlier.order_by(_LOG.sequence.desc()).limit(1))).one_or_none()
    return None if row is None else _entry(row)


async def _assets(connection: AsyncConnection, owner: str, asset_ids: set[str]) -> dict[str, Asset]:
    if not asset_ids:
        return {}
    query = select_assets(full=False).where(asset.c.owner == owner, asset.c.id.in_(asset_ids))
    return {row["id"]: to_asset(row) for row in (await connection.execute(query)).mappings()}


def _entry(row: sa.Row[Any]) -> Entry:
    return Entry(row.sequence, row.time.astimezone(UTC), row.asset_id, ChangeType(row.change))
