"""Pages while the library changes: nothing that was there the whole time is skipped, and nothing comes twice.

Against the index itself, so that many histories can be tried. The walk's limits are made small, so that a handful of
assets takes every way through it.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from services import gallery as package
from services.common.database import sqlalchemy_url
from services.common.migrations import migrate
from services.common.names import new_id
from services.gallery.adapters import candidates
from services.gallery.adapters.attempts import Attempts
from services.gallery.adapters.catalog import Catalog
from services.gallery.adapters.listing import Listing
from services.gallery.adapters.tables import SCHEMA
from services.gallery.adapters.transactions import Transactions
from services.gallery.domain import lifecycle
from services.gallery.domain.assets import Asset, Media, MediaType, Provenance
from services.gallery.domain.folders import FolderPath
from services.gallery.domain.listing import MAX_COUNT, Filters, Order, Position
from services.gallery.domain.uploads import NewAsset
from tests.conftest import NewDatabase
from tests.support.campaign import scaled

FOLDERS = ("a", "a/b", "c")
KEPT = timedelta(days=30)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def engine(new_database: NewDatabase) -> AsyncIterator[AsyncEngine]:
    url = await new_database()
    await migrate(url, SCHEMA, Path(package.__file__).parent / "migrations")
    made = create_async_engine(sqlalchemy_url(url))
    yield made
    await made.dispose()


@dataclass
class Shelf:
    """One owner's assets, and what has been done to them while they were listed."""

    engine: AsyncEngine
    chance: random.Random
    owner: str = field(default_factory=lambda: f"owner-{new_id()}")
    touched: set[str] = field(default_factory=set)
    present: dict[str, Asset] = field(default_factory=dict)

    async def create(self) -> None:
        pick = self.chance
        kind = pick.choice((MediaType.IMAGE, MediaType.VIDEO))
        folder = pick.choice((None, *FOLDERS))
        new = NewAsset(
            id=new_id(),
            owner=self.owner,
            display_name=pick.choice(("sea", "sea bird", "é", "Z" * 255, "𝕏" * 120)),
            folder=FolderPath(folder) if folder else None,
            media=Media(kind, f"{kind.value}/x", pick.randint(1, 3), "0" * 64),
            provenance=Provenance(prompt=pick.choice(("the sea", "a forest", "海"))),
            tags=tuple(sorted(pick.sample(("t", "u"), pick.randint(0, 2)))),
            labels={},
        )
        await self.put(new)

    async def put(self, new: NewAsset) -> None:
        attempt = await Attempts(self.engine).begin(self.owner, new.id)
        stored = await Catalog(self.engine, Transactions(self.engine)).insert(new, _written, attempt)
        assert stored is not None
        self.present[stored.id] = stored

    async def change(self, kind: str) -> None:
        if not self.present:
            return
        one = self.chance.choice(sorted(self.present))
        folder = FolderPath(self.chance.choice(FOLDERS)) if kind == "move" else None

        def decide(asset: Asset, at: Any) -> Asset:
            match kind:
                case "delete":
                    return lifecycle.soft_delete(asset, at.now, retention=KEPT)
                case "undelete":
                    return replace(asset, delete_time=None, purge_time=None)
                case "move":
                    return replace(asset, folder=at.folder)
                case "tag":
                    return replace(asset, tags=() if asset.tags else ("t",))
            return replace(asset, display_name=asset.display_name + "!")

        catalog = Catalog(self.engine, Transactions(self.engine))
        [changed] = await catalog.change(self.owner, [one], decide, folder=folder)
        if changed != self.present[one]:
            self.touched.add(one)
            self.present[one] = changed

    async def page(self, asked: "Asked", after: Position | None) -> tuple[list[Asset], Position | None]:
        found = await Listing(self.engine).list_page(
            self.owner, asked.filters, order=asked.order, size=asked.size + 1, after=after, full=False
        )
        shown = list(found.assets[: asked.size])
        return shown, found.positions[len(shown) - 1] if len(found.assets) > len(shown) else None


@dataclass(frozen=True)
class Asked:
    """A list that somebody walks."""

    filters: Filters
    order: Order
    size: int

    def matches(self, asset: Asset) -> bool:
        """The filters once more, by rules that know no database."""
        wanted = self.filters
        path = asset.folder.path if asset.folder else ""
        return all(
            (
                wanted.show_deleted or asset.delete_time is None,
                wanted.folder is None or path == "a" or (wanted.include_subfolders and path.startswith("a/")),
                wanted.media_type in (None, asset.media.media_type),
                set(wanted.tags) <= set(asset.tags),
                not wanted.query or "sea" in f"{asset.display_name} {asset.provenance.prompt}",
            )
        )

    def in_order(self, assets: list[Asset]) -> list[str]:
        down = self.order in (Order.NEWEST, Order.UPDATED, Order.LARGEST)
        return [one.id for one in sorted(assets, key=lambda one: (self.order.key_of(one), one.id), reverse=down)]


async def _written(_: Asset) -> None:
    """The document is of no interest here."""


filters = st.builds(
    Filters,
    folder=st.sampled_from([None, None, FolderPath("a")]),
    include_subfolders=st.booleans(),
    media_type=st.sampled_from([None, None, MediaType.VIDEO]),
    tags=st.sampled_from([(), (), ("t",), ("t", "u")]),
    query=st.sampled_from(["", "", "sea"]),
    show_deleted=st.booleans(),
).map(lambda made: replace(made, include_subfolders=made.include_subfolders and made.folder is not None))


@st.composite
def asked_lists(draw: st.DrawFn) -> Asked:
    wanted = draw(filters)
    orders = [order for order in Order if order is not Order.RELEVANCE or wanted.query]
    return Asked(wanted, draw(st.sampled_from(orders)), draw(st.integers(1, 4)))


steps = st.lists(st.sampled_from(["create", "delete", "undelete", "move", "tag", "rename", "page"]), max_size=30)


@pytest.fixture
def small_walks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "SAMPLE_ROWS", 4)
    monkeypatch.setattr(candidates, "PROMISING_HITS", 2)
    monkeypatch.setattr(candidates, "WALKED_ROWS", 7)


async def _stocked(engine: AsyncEngine, seed: int) -> Shelf:
    shelf = Shelf(engine, random.Random(seed))
    await _ensure_folder(shelf)
    for _ in range(shelf.chance.randint(0, 9)):
        await shelf.create()
    return shelf


async def _ensure_folder(shelf: Shelf) -> None:
    """The folder that lists name is there from the beginning."""
    media = Media(MediaType.IMAGE, "image/x", 2, "0" * 64)
    new = NewAsset(new_id(), shelf.owner, "kept", FolderPath("a"), media, Provenance(), (), {})
    await shelf.put(new)


def _check(asked: Asked, before: dict[str, Asset], shelf: Shelf, seen: list[Asset]) -> None:
    ids = [one.id for one in seen]
    stayed = [one for key, one in before.items() if key not in shelf.touched and asked.matches(one)]
    for one in stayed:
        assert ids.count(one.id) == 1, f"{one.id} came {ids.count(one.id)} times"
    if asked.order not in (Order.UPDATED, Order.NAME, Order.RELEVANCE):
        assert len(set(ids)) == len(ids), "an asset came twice"
    if asked.order is not Order.RELEVANCE:
        kept = {one.id for one in stayed}
        assert [key for key in ids if key in kept] == asked.in_order(stayed)
    strangers = [key for key in ids if key not in shelf.touched and key in before and not asked.matches(before[key])]
    assert strangers == []


@settings(
    max_examples=scaled(30, 1000),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(asked=asked_lists(), history=steps, seed=st.integers(0, 2**32))
async def test_pages_hold_whatever_happens_between_them(
    engine: AsyncEngine, small_walks: None, asked: Asked, history: list[str], seed: int
) -> None:
    shelf = await _stocked(engine, seed)
    before = dict(shelf.present)
    seen, after = await shelf.page(asked, None)
    for step in [*history, *["page"] * 60]:
        if step == "create":
            await shelf.create()
        elif step != "page":
            await shelf.change(step)
        elif after is None:
            break
        else:
            more, after = await shelf.page(asked, after)
            seen += more
    _check(asked, before, shelf, seen)


@pytest.mark.parametrize(
    "order", [Order.NEWEST, Order.OLDEST, Order.LARGEST, Order.UPDATED, Order.NAME, Order.RELEVANCE]
)
async def test_pages_hold_while_others_change_the_library_at_the_same_time(
    engine: AsyncEngine, small_walks: None, order: Order
) -> None:
    for seed in range(scaled(1, 20)):
        shelf = await _stocked(engine, seed)
        for _ in range(20):
            await shelf.create()
        asked = Asked(Filters(query="sea" if order is Order.RELEVANCE else ""), order, 2)
        before = dict(shelf.present)
        busy = asyncio.create_task(_keep_changing(shelf))
        seen: list[Asset] = []
        more, after = await shelf.page(asked, None)
        for _ in range(200):
            seen += more
            if after is None:
                break
            more, after = await shelf.page(asked, after)
        busy.cancel()
        await asyncio.gather(busy, return_exceptions=True)
        # What was changed by the step that was cut short is not known.
        _check(asked, before, shelf, seen)


async def _keep_changing(shelf: Shelf) -> None:
    doomed = shelf.chance.sample(sorted(shelf.present), 6)
    shelf.touched |= set(doomed)
    every = dict(shelf.present)
    while True:
        await shelf.create()
        shelf.present = {key: every[key] for key in doomed}
        await shelf.change(shelf.chance.choice(("delete", "undelete", "rename", "tag")))
        every |= shelf.present


@pytest.mark.parametrize("filters", [{}, {"tags": ("t",)}, {"folder": FolderPath("a"), "include_subfolders": True}])
async def test_the_number_of_all_is_that_of_a_count(engine: AsyncEngine, filters: dict[str, Any]) -> None:
    """Where the journal counts and where the index does."""
    shelf = await _stocked(engine, 7)
    for _ in range(12):
        await shelf.create()
    for known in (Filters(**filters), Filters(**filters, favorite=False)):
        found = await Listing(engine).list_page(shelf.owner, known, order=Order.NEWEST, size=3, after=None, full=False)
        asked = Asked(known, Order.NEWEST, 3)
        assert found.total == sum(asked.matches(one) for one in shelf.present.values()) < MAX_COUNT


async def test_the_database_sorts_names_as_this_code_does(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        texts = ["a", "B", "é", "z", "𝕏", "あ", "Z"]
        query = sa.text('SELECT t FROM unnest(cast(:texts AS text[])) t ORDER BY t COLLATE "C"')
        assert list(await connection.scalars(query, {"texts": texts})) == sorted(texts)
