"""Search words of rows that were written by older rules, or before there were any: a migration, a restored index."""

import asyncio
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from services.gallery.adapters.tables import asset
from services.gallery.domain.document import analysis_from_json
from services.gallery.domain.search import VERSION, document_of

BATCH_ROWS = 200

_IS_OLD = asset.c.search_version < sa.literal_column(str(VERSION))


class Words:
    """Any number of processes may bring rows up at once: each row goes to one of them."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def bring_up(self) -> int:
        """Makes the words of some rows anew; how many, and 0 when none are left.

        No change of an asset: neither its revision nor its times move. A row that somebody is changing is left
        for the next time.
        """
        columns = (asset.c.id, asset.c.display_name, asset.c.tags, asset.c.prompt, asset.c.analysis)
        old = sa.select(*columns).where(_IS_OLD).limit(BATCH_ROWS).with_for_update(skip_locked=True, key_share=True)
        async with self._engine.begin() as connection:
            rows = (await connection.execute(old)).all()
            if rows:
                made = await asyncio.to_thread(_documents, rows)
                this = sa.update(asset).where(asset.c.id == sa.bindparam("this_id"))
                await connection.execute(this.values(search=sa.bindparam("words"), search_version=VERSION), made)
        return len(rows)


def _documents(rows: Sequence[Any]) -> list[dict[str, str]]:
    made = []
    for asset_id, name, tags, prompt, analysis in rows:
        seen = analysis_from_json(analysis) if analysis else None
        made.append({"this_id": asset_id, "words": document_of(name, tags, prompt, seen)})
    return made
