"""Lists of assets from the index: one owner's, filtered, a page at a time, in at most two statements."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.gallery.adapters.candidates import Scope, candidates, sorted_by
from services.gallery.adapters.filtering import (
    known_total,
    searched_conditions,
    tsquery,
    walked_conditions,
)
from services.gallery.adapters.folders import find_folder
from services.gallery.adapters.rows import select_assets, to_asset
from services.gallery.adapters.tables import asset
from services.gallery.domain import failures
from services.gallery.domain.assets import Folder
from services.gallery.domain.folders import FolderRef
from services.gallery.domain.listing import MAX_COUNT, MAX_RANKED, Filters, Listed, Order, Position, Window
from services.gallery.domain.search import query_of, ranking_of, terms_of

# As an integer a rank survives the way to a client and back.
_RANK_SCALE = 1_000_000


class Listing:
    """Reads run outside of transactions."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._reading = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def list_page(
        self, owner: str, filters: Filters, *, order: Order, size: int, after: Position | None, full: bool
    ) -> Listed:
        """At most `size` assets behind the position, and how many there were in all when the first page was made.

        Raises:
            NotFound: FOLDER_NOT_FOUND.
        """
        terms = terms_of(filters.query)
        async with self._reading.connect() as connection:
            inside = await _folder(connection, owner, filters.folder)
            if filters.query and not terms:
                return Listed((), (), 0)
            scope = Scope(
                order,
                walked_conditions(owner, filters, inside),
                searched_conditions(owner, filters, inside, query_of(terms)),
                show_deleted=filters.show_deleted,
            )
            if order is Order.RELEVANCE:
                page = _ranked_page(scope, ranking_of(terms), after, size, full=full)
            else:
                page = _page(scope, after, None if after else known_total(owner, filters, inside), size, full=full)
            rows = (await connection.execute(page)).mappings().all()
        return _listed(rows, order, after)


async def _folder(connection: AsyncConnection, owner: str, ref: FolderRef | None) -> Folder | None:
    if ref is None:
        return None
    found = await find_folder(connection, owner, ref)
    if found is None:
        raise failures.folder_not_found(str(ref))
    return found


def _page(
    scope: Scope, after: Position | None, known: sa.ColumnElement[int] | None, size: int, *, full: bool
) -> sa.Select[Any]:
    """One page; the first also finds the number of all, which later ones are told by their token."""
    is_counted_here = after is None and known is None
    # By time, indexes know every filter; in another order a page is found much sooner than a thousand matches.
    is_by_time = scope.order in (Order.NEWEST, Order.OLDEST)
    number = MAX_COUNT + 1 if is_counted_here and is_by_time else size
    found = sa.select(candidates(replace(scope, after=after), number)).cte("found")
    total: sa.ColumnElement[int]
    if after is not None:
        total = sa.literal(after.total)
    elif known is not None:
        total = known
    else:
        all_found = found if is_by_time else candidates(replace(scope, order=Order.NEWEST), MAX_COUNT + 1)
        total = sa.select(sa.func.count()).select_from(all_found).scalar_subquery()
    page = sa.select(found).order_by(*sorted_by(scope.order, found)).limit(size).subquery("page")
    shown = select_assets(full=full).join(page, page.c.id == asset.c.id).order_by(*sorted_by(scope.order, page))
    return shown.add_columns(total.label("total"))


def _ranked_page(scope: Scope, ranking: str, after: Position | None, size: int, *, full: bool) -> sa.Select[Any]:
    """One page of the newest matches by rank. The first page fixes between which times they lie."""
    scope = replace(scope, order=Order.NEWEST)
    if after is not None and after.window is not None:
        window = asset.c.create_time.between(after.window.oldest, after.window.newest)
        scope = replace(scope, walked=[*scope.walked, window])
    found = sa.select(candidates(scope, MAX_COUNT + 1)).cte("found")
    # A window that grew since, by what was undeleted, shows what is in it.
    newest = sa.select(found).order_by(*sorted_by(Order.NEWEST, found))
    newest_found = (newest if after is not None else newest.limit(MAX_RANKED)).cte("newest_found")
    rank = sa.cast(sa.func.ts_rank(asset.c.search, tsquery(ranking)) * _RANK_SCALE, sa.Integer).label("rank")
    matches = sa.select(newest_found, rank).join(asset, asset.c.id == newest_found.c.id)
    ranked = matches.cte("ranked")
    page = sa.select(ranked)
    if after is not None:
        here = sa.tuple_(ranked.c.rank, ranked.c.key, ranked.c.id)
        types = [sa.Integer(), asset.c.create_time.type, asset.c.id.type]
        page = page.where(here < sa.tuple_(*after.keys, after.asset_id, types=types))
    page = page.order_by(ranked.c.rank.desc(), ranked.c.key.desc(), ranked.c.id.desc())
    shown_page = page.limit(size).subquery("page")
    best_first = (shown_page.c.rank.desc(), shown_page.c.key.desc(), shown_page.c.id.desc())
    upper, lower = (sa.select(limit(newest_found.c.key)).scalar_subquery() for limit in (sa.func.max, sa.func.min))
    shown = select_assets(full=full).join(shown_page, shown_page.c.id == asset.c.id).order_by(*best_first)
    total = sa.select(sa.func.count()).select_from(found).scalar_subquery()
    return shown.add_columns(shown_page.c.rank, upper.label("upper"), lower.label("lower"), total.label("total"))


def _listed(rows: Sequence[RowMapping], order: Order, after: Position | None) -> Listed:
    # A first page without a row is a list without an asset.
    total = after.total if after is not None else rows[0]["total"] if rows else 0
    assets = tuple(to_asset(row) for row in rows)
    window = after.window if after is not None else None
    positions = []
    for row, one in zip(rows, assets, strict=True):
        if order is Order.RELEVANCE:
            of_first = window or Window(row["upper"], row["lower"])
            positions.append(Position((row["rank"], one.create_time), one.id, total, of_first))
        else:
            positions.append(Position((order.key_of(one),), one.id, total))
    return Listed(assets, tuple(positions), total)
