"""Which assets still need derivatives. Several processes may ask at once: each asset goes to one of them.

Who makes derivatives moves `derive_time` ahead, which is a lease in the database's time: no lock and no connection is
held meanwhile, and a process that dies leaves the asset to the next one. `derive_attempts` counts what was begun and
has not succeeded. None of it is a change of the asset: neither revision nor etag nor `asset.json` follow.
"""

from collections.abc import Iterable
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from services.gallery.adapters.rows import select_assets, to_asset
from services.gallery.adapters.tables import asset
from services.gallery.domain.assets import Asset
from services.gallery.domain.variants import Variant

MAX_ATTEMPTS = 3
MAX_COUNTED = 10_000

_NOW = sa.func.statement_timestamp()


class Derivation:
    """Every method is one short statement or two."""

    def __init__(self, engine: AsyncEngine, *, lease: timedelta) -> None:
        self._short = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._lease = lease

    async def claim(self) -> Asset | None:
        """An asset whose time has come; it is the caller's for the length of the lease."""
        due = sa.select(asset.c.id).where(asset.c.derive_time <= _NOW).order_by(asset.c.derive_time).limit(1)
        this = due.with_for_update(skip_locked=True, key_share=True).scalar_subquery()
        return await self._begin(asset.c.id == this)

    async def begin(self, asset_id: str) -> Asset | None:
        """The same for one asset, whether or not its time has come; None: it was given up, or is there no more."""
        return await self._begin(asset.c.id == asset_id)

    async def done(self, asset_id: str, made: Iterable[Variant]) -> bool:
        """All that there can be is stored. False: the asset is there no more."""
        all_of_them = asset.c.variants + sa.cast(sorted(made), asset.c.variants.type)
        stored = sa.func.unnest(all_of_them).column_valued("variant")
        union = sa.func.array(sa.select(stored).distinct().order_by(stored).scalar_subquery())
        values = {"variants": union, "derive_time": None, "derive_attempts": 0}
        return await self._set(asset_id, **values)

    async def postpone(self, asset_id: str, delay: timedelta, *, counted: bool = True) -> None:
        """It did not work this time; after the last attempt nobody tries again.

        Not `counted`: it was no fault of the asset.
        """
        if not counted:
            attempts = sa.func.greatest(asset.c.derive_attempts - 1, 0)
            await self._set(asset_id, derive_time=_NOW + delay, derive_attempts=attempts)
            return
        last = asset.c.derive_attempts >= MAX_ATTEMPTS
        await self._set(asset_id, derive_time=sa.case((last, None), else_=_NOW + delay * asset.c.derive_attempts))

    async def give_up(self, asset_id: str) -> None:
        """It can never be made of these bytes."""
        await self._set(asset_id, derive_time=None, derive_attempts=MAX_ATTEMPTS)

    async def count_waiting(self) -> int:
        """How many assets wait, at most MAX_COUNTED."""
        waiting = sa.select(sa.literal(1)).where(asset.c.derive_time.is_not(None)).limit(MAX_COUNTED).subquery()
        async with self._short.connect() as connection:
            return await connection.scalar(sa.select(sa.func.count()).select_from(waiting)) or 0

    async def _begin(self, which: sa.ColumnElement[bool]) -> Asset | None:
        """Gives up what has been begun too often: it may be what ends the processes that begin it."""
        spent = asset.c.derive_attempts >= MAX_ATTEMPTS
        begun = (
            sa.update(asset)
            .where(which)
            .values(
                derive_time=sa.case((spent, None), else_=_NOW + self._lease),
                derive_attempts=sa.func.least(asset.c.derive_attempts + 1, MAX_ATTEMPTS),
            )
            .returning(asset.c.id, asset.c.derive_time)
        )
        async with self._short.connect() as connection:
            row = (await connection.execute(begun)).one_or_none()
            if row is None or row.derive_time is None:
                return None
            found = await connection.execute(select_assets(full=False).where(asset.c.id == row.id))
            claimed = found.mappings().one_or_none()
        return to_asset(claimed) if claimed is not None else None

    async def _set(self, asset_id: str, **values: object) -> bool:
        async with self._short.connect() as connection:
            result = await connection.execute(sa.update(asset).where(asset.c.id == asset_id).values(values))
        return result.rowcount > 0
