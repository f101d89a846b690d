"""Direct uploads in the index: what was announced, until it is complete or over."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncEngine

from services.gallery.adapters.tables import upload
from services.gallery.adapters.transactions import Transactions
from services.gallery.domain import failures
from services.gallery.domain.staging import Announced, DirectUpload, Refused

GRACE = timedelta(minutes=30)
"""From the end of the link to the first sweep: a completion that began in time may still read what is staged."""

KEPT = timedelta(days=1)
"""How long an upload is known after its end: repeated completions are answered, and late writes swept a second time."""

SWEEP_AGAIN = timedelta(minutes=5)
"""Between sweeps of a completed upload whose link can still write: no more than that lies there unseen."""

SWEEP_LEASE = timedelta(minutes=10)
"""One process's time for what it has claimed; what it leaves undone is swept by the next."""

_NOW = sa.func.clock_timestamp()


@dataclass(frozen=True, slots=True)
class Swept:
    """An upload whose staged bytes have to go; `is_over`: its row as well."""

    id: str
    is_over: bool


class Staging:
    """The table of direct uploads. Times are the database's."""

    def __init__(self, engine: AsyncEngine, transactions: Transactions) -> None:
        self._engine = engine
        self._transactions = transactions
        self._reading = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def open(self, opened: DirectUpload, *, limit: int) -> None:
        """Adds an upload, unless as many links of its owner can write as `limit`: those of completed ones too.

        Raises:
            ResourceExhausted: TOO_MANY_UPLOADS.
        """
        owner = opened.announced.owner
        can_write = (upload.c.owner == owner) & (upload.c.expire_time > _NOW)
        async with self._transactions.of_owner(owner) as connection:
            present = await connection.execute(sa.select(sa.func.count()).select_from(upload).where(can_write))
            if present.scalar_one() >= limit:
                raise failures.too_many_uploads(owner, limit)
            await connection.execute(sa.insert(upload).values(_values(opened)))

    async def find(self, owner: str, upload_id: str) -> tuple[DirectUpload, bool] | None:
        """The owner's upload, and whether its time is over."""
        is_expired = (upload.c.expire_time <= _NOW).label("is_expired")
        query = sa.select(upload, is_expired).where(upload.c.owner == owner, upload.c.id == upload_id)
        async with self._reading.connect() as connection:
            row = (await connection.execute(query)).mappings().one_or_none()
        return None if row is None else (_to_upload(row), row["is_expired"])

    async def complete(self, upload_id: str) -> None:
        """Notes that the upload has become an asset; its link can still write, so it is swept from now on."""
        done = sa.update(upload).where(upload.c.id == upload_id, upload.c.complete_time.is_(None))
        async with self._engine.begin() as connection:
            await connection.execute(done.values(complete_time=_NOW, sweep_time=_NOW + SWEEP_AGAIN))

    async def refuse(self, upload_id: str, refused: Refused) -> None:
        """Notes what was refused, over what was before."""
        async with self._engine.begin() as connection:
            this = sa.update(upload).where(upload.c.id == upload_id)
            await connection.execute(this.values(refused=asdict(refused)))

    async def claim(self, *, limit: int) -> Sequence[Swept]:
        """Uploads that are due to be swept, for this process alone while its lease runs."""
        due = sa.select(upload.c.id).where(upload.c.sweep_time <= _NOW).order_by(upload.c.sweep_time)
        claimed = (
            sa.update(upload)
            .where(upload.c.id.in_(due.limit(limit).with_for_update(skip_locked=True)))
            .values(sweep_time=_NOW + SWEEP_LEASE)
            .returning(upload.c.id, (_end() + KEPT <= _NOW).label("is_over"))
        )
        async with self._engine.begin() as connection:
            rows = (await connection.execute(claimed)).all()
        return [Swept(row.id, row.is_over) for row in rows]

    async def swept(self, done: Swept) -> None:
        """Its staged bytes are gone: so is its row, or it is swept again."""
        this = upload.c.id == done.id
        change = sa.delete(upload) if done.is_over else sa.update(upload).values(sweep_time=_next_sweep())
        async with self._engine.begin() as connection:
            await connection.execute(change.where(this))


def _end() -> sa.ColumnElement[sa.DateTime]:
    return sa.func.greatest(upload.c.expire_time, upload.c.complete_time)


def _next_sweep() -> sa.ColumnElement[sa.DateTime]:
    """Of a completed upload soon, while its link lives; of any other once more when it is forgotten."""
    last_write = upload.c.expire_time + GRACE
    can_write = upload.c.complete_time.is_not(None) & (last_write > _NOW)
    return sa.case((can_write, sa.func.least(_NOW + SWEEP_AGAIN, last_write)), else_=_end() + KEPT)


def _values(opened: DirectUpload) -> dict[str, object]:
    return {
        **asdict(opened.announced),
        "expire_time": opened.expire_time,
        "sweep_time": opened.expire_time + GRACE,
    }


def _to_upload(row: RowMapping) -> DirectUpload:
    done = row["complete_time"]
    columns = {field.name: row[field.name] for field in fields(Announced)}
    return DirectUpload(
        Announced(**columns | {"tags": tuple(row["tags"])}),
        expire_time=row["expire_time"].astimezone(UTC),
        complete_time=done.astimezone(UTC) if done else None,
        refused=Refused(**row["refused"]) if row["refused"] else None,
    )
