"""Which assets a list has to show next, by id and key, at a cost that does not grow with the library.

Conditions are of two kinds. Those on columns that lead an index are walked in order. The others (words, tags, a whole
tree of folders) either are met by many rows, and then a walk finds a page of them soon, or by few, and then an index of
their own finds them all soon. Which of the two it is no planner knows for words that go together, so the newest rows
are asked first, in the same statement: what is not needed after that is never run ("One-Time Filter" in the plan).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from services.gallery.adapters.tables import SORTED_NAME, asset
from services.gallery.domain.listing import Order, Position

SAMPLE_ROWS = 2_000
"""Rows that are looked at first: a few milliseconds, and enough for a page of what one in forty meets."""

WALKED_ROWS = 40_000
"""Rows that are walked for a thousand matches, if the sample had one in twenty."""

PROMISING_HITS = SAMPLE_ROWS // 20

DATABASE_SETTINGS: Mapping[str, str] = {
    # What is rare differs by tag, folder and owner: no one plan suits all calls of a statement.
    "plan_cache_mode": "force_custom_plan",
    # Compiling takes longer than any list may.
    "jit": "off",
    # Indexes are in memory or on flash, where pages out of order cost hardly more.
    "random_page_cost": "1.1",
    # Which rows have a common word is known exactly, and not only by page.
    "work_mem": "32MB",
}
"""What the planner has to know, for the gallery's connections."""

Condition = sa.ColumnElement[bool]
Candidates = sa.Select[Any]

_KEYS: dict[Order, tuple[sa.ColumnElement[Any], bool]] = {
    Order.NEWEST: (asset.c.create_time, True),
    Order.OLDEST: (asset.c.create_time, False),
    Order.UPDATED: (asset.c.update_time, True),
    Order.NAME: (SORTED_NAME, False),
    Order.LARGEST: (asset.c.size_bytes, True),
}


@dataclass(frozen=True, slots=True)
class Searched:
    """A condition as it is checked on one row, and as rows are looked up by it.

    `folders`, of a tree of folders: their ids. Each is in order of time by itself, so a page takes a few of each.
    """

    check: Condition
    lookup: Condition
    folders: sa.Select[tuple[str]] | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """What the candidates have to meet, and the keys behind which they begin."""

    order: Order
    walked: Sequence[Condition]
    searched: Sequence[Searched] = field(default_factory=tuple)
    after: Position | None = None
    show_deleted: bool = False


def candidates(scope: Scope, number: int) -> sa.Subquery:
    """At most so many, as columns `id` and `key`, in the order of the scope by `sorted_by`."""
    found = _searched(scope, number) if scope.searched else _walk(scope, _shown(), number)
    if scope.show_deleted:
        deleted = _walk(scope, [asset.c.delete_time.is_not(None), *(one.check for one in scope.searched)], number)
        both = sa.union_all(*(sa.select(part.subquery()) for part in (found, deleted))).subquery()
        found = sa.select(both.c.id, both.c.key).order_by(*sorted_by(scope.order, both)).limit(number)
    return found.subquery("candidates")


def sorted_by(order: Order, rows: sa.FromClause) -> tuple[sa.ColumnElement[Any], ...]:
    """The order of rows with the columns `id` and `key`."""
    key: sa.ColumnElement[Any] = rows.c.key
    return _directed(order, key, rows.c.id)


def _shown() -> list[Condition]:
    return [asset.c.delete_time.is_(None)]


def _walk(scope: Scope, conditions: Sequence[Condition], number: int, *more: sa.ColumnElement[Any]) -> Candidates:
    """The first rows in order, along an index."""
    key, _ = _KEYS[scope.order]
    rows = _rows(scope, [*scope.walked, *conditions], *more)
    return rows.order_by(*_directed(scope.order, key, asset.c.id)).limit(number)


def _rows(scope: Scope, conditions: Sequence[Condition], *more: sa.ColumnElement[Any]) -> Candidates:
    key, descending = _KEYS[scope.order]
    rows = sa.select(asset.c.id, key.label("key"), *more).where(*conditions)
    if scope.after is None:
        return rows
    here = sa.tuple_(key, asset.c.id)
    there = sa.tuple_(*scope.after.keys, scope.after.asset_id, types=[key.type, asset.c.id.type])
    return rows.where(here < there if descending else here > there)


def _searched(scope: Scope, number: int) -> Candidates:
    hit = sa.and_(*(one.check for one in scope.searched)).label("hit")
    # A statement may have candidates in two orders: one to show, one to count.
    suffix = scope.order.name.lower()
    sample = _walk(scope, _shown(), SAMPLE_ROWS, hit).cte(f"sample_{suffix}")
    hits = sa.select(sa.func.count()).select_from(sample).where(sample.c.hit).scalar_subquery()
    is_all = sa.select(sa.func.count()).select_from(sample).scalar_subquery() < SAMPLE_ROWS
    enough = sa.or_(is_all, hits >= number)
    parts = [sa.select(sample.c.id, sample.c.key).where(sample.c.hit, enough)]
    if number > PROMISING_HITS:
        further = _walk(scope, _shown(), WALKED_ROWS, hit).subquery("further")
        promising = sa.and_(sa.not_(enough), hits >= PROMISING_HITS)
        walked = (
            sa.select(further.c.id, further.c.key).where(further.c.hit, promising).limit(number).cte(f"walked_{suffix}")
        )
        walked_enough = sa.select(sa.func.count()).select_from(walked).scalar_subquery() >= number
        parts.append(sa.select(walked).where(walked_enough))
        enough = sa.or_(enough, walked_enough)
    looked_up = _looked_up(scope, number)
    parts.append(sa.select(looked_up.c.id, looked_up.c.key).where(sa.not_(enough)))
    found = sa.union_all(*parts).subquery("found")
    return sa.select(found.c.id, found.c.key).order_by(*sorted_by(scope.order, found)).limit(number)


def _looked_up(scope: Scope, number: int) -> sa.FromClause:
    """All matches, or of each folder of a tree as many as could be shown."""
    trees = [one for one in scope.searched if one.folders is not None]
    if trees and trees[0].folders is not None and scope.order in (Order.NEWEST, Order.OLDEST):
        folders = trees[0].folders.subquery("folders")
        others = [one.check for one in scope.searched if one is not trees[0]]
        each = _walk(scope, [asset.c.folder_id == folders.c.id, *_shown(), *others], number).lateral("each")
        return sa.select(each.c.id, each.c.key).select_from(folders.join(each, sa.true())).subquery("looked_up")
    conditions = [*scope.walked, *_shown(), *(one.lookup for one in scope.searched)]
    # The offset keeps the planner from walking once more: here all matches are looked up, and then sorted.
    return _rows(scope, conditions).offset(sa.literal_column("0")).subquery("looked_up")


def _directed(
    order: Order, key: sa.ColumnElement[Any], asset_id: sa.ColumnElement[Any]
) -> tuple[sa.ColumnElement[Any], ...]:
    _, descending = _KEYS[order]
    return (key.desc(), asset_id.desc()) if descending else (key.asc(), asset_id.asc())
