"""Which assets still need derivatives. Several processes may ask at once: each asset goes to one of them.

Who makes derivatives moves `derive_time` ahead, which is a lease in the database's time: no lock and no connection is
held meanwhile, and a process that dies leaves the asset to the next one. `derive_attempts` counts what has failed by
the file's own fault, and nothing else: neither a lease that runs, nor a process that ended, nor an outage. After
MAX_ATTEMPTS nobody tries for RETRY, and then once each RETRY. None of it is a change of the asset: neither revision nor
etag nor `asset.json` follow.
"""

from collections.abc import Iterable
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from services.gallery.adapters.rows import select_assets, to_asset
from services.gallery.adapters.tables import asset
from services.gallery.domain.assets import Asset
from services.gallery.domain.variants import MAX_ATTEMPTS, Variant

RETRY = timedelta(days=1)
"""The file is as it was, but another machine, or newer decoders, may get on with it."""

MAX_COUNTED = 10_000

_NOW = sa.func.statement_timestamp()
_IS_SPENT = asset.c.derive_attempts >= MAX_ATTEMPTS


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
        """The same for one asset, whether or not its time has come; None: it is given up for now, or there no more.

        Who has the lease already goes on; both then make the same.
        """
        waits = sa.and_(_IS_SPENT, asset.c.derive_time > _NOW)
        return await self._begin(sa.and_(asset.c.id == asset_id, waits.is_not(True)))

    async def done(self, asset_id: str, made: Iterable[Variant]) -> bool:
        """All that there can be is stored. False: the asset is there no more."""
        all_of_them = asset.c.variants + sa.cast(sorted(made), asset.c.variants.type)
        stored = sa.func.unnest(all_of_them).column_valued("variant")
        union = sa.func.array(sa.select(stored).distinct().order_by(stored).scalar_subquery())
        values = {"variants": union, "derive_time": None, "derive_attempts": 0}
        return await self._set(asset_id, **values)

    async def failed(self, asset_id: str, delay: timedelta) -> None:
        """By the file's own fault. Tried again after `delay`, later each time, and rarely after the last attempt."""
        attempts = sa.func.least(asset.c.derive_attempts + 1, MAX_ATTEMPTS)
        later = sa.case((attempts >= MAX_ATTEMPTS, _NOW + RETRY), else_=_NOW + delay * attempts)
        await self._set(asset_id, derive_time=later, derive_attempts=attempts)

    async def postpone(self, asset_id: str, delay: timedelta) -> None:
        """It was not done, by no fault of the file."""
        await self._set(asset_id, derive_time=_NOW + delay)

    async def give_up(self, asset_id: str) -> None:
        """It cannot be made of these bytes."""
        await self._set(asset_id, derive_time=_NOW + RETRY, derive_attempts=MAX_ATTEMPTS)

    async def count_waiting(self) -> int:
        """How many assets wait that are not given up, at most MAX_COUNTED."""
        waits = sa.and_(asset.c.derive_time.is_not(None), sa.not_(_IS_SPENT))
        waiting = sa.select(sa.literal(1)).where(waits).limit(MAX_COUNTED).subquery()
        async with self._short.connect() as connection:
            return await connection.scalar(sa.select(sa.func.count()).select_from(waiting)) or 0

    async def _begin(self, which: sa.ColumnElement[bool]) -> Asset | None:
        begun = sa.update(asset).where(which).values(derive_time=_NOW + self._lease).returning(asset.c.id)
        async with self._short.connect() as connection:
            asset_id = (await connection.execute(begun)).scalar_one_or_none()
            if asset_id is None:
                return None
            found = await connection.execute(select_assets(full=False).where(asset.c.id == asset_id))
            claimed = found.mappings().one_or_none()
        return to_asset(claimed) if claimed is not None else None

    async def _set(self, asset_id: str, **values: object) -> bool:
        async with self._short.connect() as connection:
            result = await connection.execute(sa.update(asset).where(asset.c.id == asset_id).values(values))
        return result.rowcount > 0
