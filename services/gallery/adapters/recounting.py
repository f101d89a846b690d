"""Counts that the journal keeps exact, made anew from the rows, or compared with them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

_TAGS = """
    SELECT owner, tag, count(DISTINCT id) AS asset_count FROM gallery.asset, unnest(tags) AS tag
    WHERE delete_time IS NULL GROUP BY owner, tag
"""
_TOTALS = """
    SELECT owner,
           count(*) FILTER (WHERE delete_time IS NULL AND media_type = 'image') AS image_count,
           count(*) FILTER (WHERE delete_time IS NULL AND media_type = 'video') AS video_count,
           count(*) FILTER (WHERE delete_time IS NOT NULL) AS deleted_count,
           sum(size_bytes)::bigint AS size_bytes
    FROM gallery.asset GROUP BY owner
"""
_FOLDERS = """
    SELECT f.id, count(a.id) AS asset_count FROM gallery.folder f
    LEFT JOIN gallery.asset a ON a.folder_id = f.id AND a.delete_time IS NULL GROUP BY f.id
"""

_RECOUNT = (
    "DELETE FROM gallery.tag",
    f"INSERT INTO gallery.tag (owner, tag, asset_count) {_TAGS}",
    "DELETE FROM gallery.total",
    f"INSERT INTO gallery.total (owner, image_count, video_count, deleted_count, size_bytes) {_TOTALS}",
    f"UPDATE gallery.folder f SET asset_count = c.asset_count FROM ({_FOLDERS}) c "  # noqa: S608 - our own text
    "WHERE c.id = f.id AND c.asset_count <> f.asset_count",
)

_WRONG = (
    f"""
        SELECT 'tag ' || coalesce(t.tag, c.tag) || ' of ' || coalesce(t.owner, c.owner), t.asset_count, c.asset_count
        FROM gallery.tag t FULL JOIN ({_TAGS}) c ON c.owner = t.owner AND c.tag = t.tag
        WHERE t.asset_count IS DISTINCT FROM c.asset_count
    """,  # noqa: S608 - our own text
    f"""
        SELECT 'totals of ' || coalesce(t.owner, c.owner),
               jsonb_build_array(t.image_count, t.video_count, t.deleted_count, t.size_bytes)::text,
               jsonb_build_array(c.image_count, c.video_count, c.deleted_count, c.size_bytes)::text
        FROM gallery.total t FULL JOIN ({_TOTALS}) c ON c.owner = t.owner
        WHERE (coalesce(t.image_count, 0), coalesce(t.video_count, 0), coalesce(t.deleted_count, 0),
               coalesce(t.size_bytes, 0))
           <> (coalesce(c.image_count, 0), coalesce(c.video_count, 0), coalesce(c.deleted_count, 0),
               coalesce(c.size_bytes, 0))
    """,  # noqa: S608 - our own text
    f"""
        SELECT 'assets in folders/' || f.id, f.asset_count, c.asset_count
        FROM gallery.folder f JOIN ({_FOLDERS}) c ON c.id = f.id WHERE f.asset_count <> c.asset_count
    """,  # noqa: S608 - our own text
)


class WrongCount(NamedTuple):
    """A count and what it should be."""

    what: str
    kept: Any
    counted: Any


async def recount(connection: AsyncConnection) -> None:
    """Replaces all counts, in a transaction beside which nobody changes a library (`Transactions.of_all`)."""
    for statement in _RECOUNT:
        await connection.execute(sa.text(statement))


async def wrong_counts(connection: AsyncConnection) -> Sequence[WrongCount]:
    """Every count that is not what the rows say; each kind is compared within one snapshot."""
    found: list[WrongCount] = []
    for statement in _WRONG:
        found += [WrongCount(*row) for row in await connection.execute(sa.text(statement))]
    return found
