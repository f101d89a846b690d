"""What the journal counts, read: the tags of an owner, and totals."""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from services.gallery.adapters.tables import folder, tag, total
from services.gallery.domain.listing import TagCount, Totals

# As the index has it: most used first, and ties by name.
_RARITY: sa.ColumnElement[int] = sa.literal_column("(-asset_count)", sa.BigInteger)


class Counts:
    """One statement each, whatever there is to count."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._reading = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def tags(self, owner: str, *, prefix: str, size: int, after: TagCount | None) -> list[TagCount]:
        """At most `size` tags in use behind the last one, most used first.

        A tag whose count changes between two pages is where it belongs then.
        """
        query = sa.select(tag.c.tag, tag.c.asset_count).where(tag.c.owner == owner)
        if prefix:
            query = query.where(sa.func.starts_with(tag.c.tag, prefix))
        if after is not None:
            last = sa.tuple_(-after.asset_count, after.tag, types=[sa.BigInteger(), tag.c.tag.type])
            query = query.where(sa.tuple_(_RARITY, tag.c.tag) > last)
        async with self._reading.connect() as connection:
            rows = (await connection.execute(query.order_by(_RARITY, tag.c.tag).limit(size))).all()
        return [TagCount(row.tag, row.asset_count) for row in rows]

    async def totals(self, owner: str) -> Totals:
        """What the owner has."""
        folders = sa.select(sa.func.count()).select_from(folder).where(folder.c.owner == owner).scalar_subquery()
        counted = [total.c.image_count, total.c.video_count, total.c.deleted_count, total.c.size_bytes]
        mine = sa.select(*counted).where(total.c.owner == owner).subquery()
        query = sa.select(folders.label("folder_count"), mine).select_from(
            sa.select(sa.literal(1)).subquery().outerjoin(mine, sa.true())
        )
        async with self._reading.connect() as connection:
            row = (await connection.execute(query)).mappings().one()
        return Totals(**{name: number or 0 for name, number in row.items()})
