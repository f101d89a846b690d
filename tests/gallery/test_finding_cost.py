"""What finding costs: statements, calls of storage and plans, whatever a page shows and however much there is."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa
from google.protobuf.message import Message

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.common.caller import LOCAL, current_caller
from services.gallery.adapters.azure_blobs import AzureBlobStore
from services.gallery.adapters.candidates import DATABASE_SETTINGS
from tests.gallery.harness import Client, Gallery
from tests.support.media import png

LISTS: list[dict[str, Any]] = [
    {},
    {"folder": "f1"},
    {"folder": "f1", "include_subfolders": True},
    {"media_type": pb.Asset.IMAGE},
    {"tags": ["t"]},
    {"tags": ["t", "u"], "favorite": False},
    {"model": "m"},
    {"origin": "imageGenerations/g"},
    {"query": "sea"},
    {"query": "sea", "tags": ["t"], "folder": "f1", "show_deleted": True},
    {"query": "sea", "order_by": "size_bytes desc"},
    *({"order_by": order} for order in ("create_time", "update_time desc", "display_name", "size_bytes desc")),
    {"show_deleted": True, "view": pb.Asset.FULL},
]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def owner(gallery: Gallery) -> AsyncIterator[Client]:
    """Somebody with six assets of every kind that the lists name."""
    user = gallery.user()
    for number in range(6):
        provenance = pb.Provenance(owner=user.principal, prompt="the sea", model="m", origin="imageGenerations/g")
        folder = f"f{number % 2}" + "/x" * (number % 3)
        await user.as_service().upload(png(4, 4 + number), folder=folder, tags=["t", "u"], provenance=provenance)
    yield user


@contextmanager
def statements() -> Iterator[list[str]]:
    """Those of the lists; background tasks ask for their own sake."""
    found: list[str] = []

    def note(*arguments: Any) -> None:
        statement = str(arguments[2])
        if "document_revision <" not in statement and any(
            word in statement for word in ("folder_path", "FROM gallery.tag", "gallery.total", "gallery.folder.path")
        ):
            found.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)


@pytest.fixture
def storage_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which methods of blob storage were called: of lists, none ever is."""
    called: list[str] = []
    for name in ("put", "replace", "read", "facts", "walk", "delete"):
        original = getattr(AzureBlobStore, name)

        def counted(*arguments: Any, _name: str = name, _original: Any = original, **more: Any) -> Any:
            if current_caller().principal != LOCAL:  # background tasks act for nobody
                called.append(_name)
            return _original(*arguments, **more)

        monkeypatch.setattr(AzureBlobStore, name, counted)
    return called


@pytest.mark.parametrize("fields", LISTS)
async def test_a_page_takes_one_statement_and_a_folder_one_more_whatever_it_shows(
    owner: Client, storage_calls: list[str], fields: dict[str, Any]
) -> None:
    for size in (1, 2, 200):
        token = ""
        for _ in range(2):
            with statements() as found:
                page = await owner.page(page_size=size, page_token=token, **fields)
            assert len(page.assets) >= 1
            assert len(found) == (2 if "folder" in fields else 1), found
            token = page.next_page_token
            if not token:
                break
    assert storage_calls == []


@pytest.mark.parametrize(
    "request_", [pb.ListTagsRequest(), pb.ListTagsRequest(prefix="t"), pb.GetGalleryStatsRequest()]
)
async def test_tags_and_totals_take_one_statement(owner: Client, storage_calls: list[str], request_: Message) -> None:
    with statements() as found:
        await owner.call(request_)
    assert len(found) == 1
    assert storage_calls == []


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def crowd(gallery: Gallery) -> AsyncIterator[Client]:
    """Somebody with 20,000 assets, of which the newest quarter is deleted, and as many of somebody else's."""
    user = gallery.user()
    await user.upload(png(4, 4), tags=["rare"])
    columns = "media_type, mime_type, size_bytes, sha256, search_version, derive_time"
    await gallery.execute(
        "INSERT INTO gallery.asset (id, owner, display_name, "
        + columns
        + ", model, origin, folder_id, tags, favorite, "
        "create_time, update_time, delete_time, purge_time, prompt, search) "
        "SELECT 'plan-' || k || '-' || n, owner || left('x', k), 'name ' || mod(n * 7919, 20000), " + columns + ", "
        "'m' || mod(n, 100), 'o' || mod(n, 5000), 'f' || mod(n, 200), "
        "CASE WHEN mod(n, 1000) = 0 THEN ARRAY['some', 'few'] WHEN mod(n, 3) = 0 THEN ARRAY['some'] ELSE '{}' END, "
        "mod(n, 50) = 0, now() - n * interval '1 s', now() - mod(n * 7919, 20000) * interval '1 s', "
        "CASE WHEN n < 5000 THEN now() END, CASE WHEN n < 5000 THEN now() + interval '9 d' END, repeat('sea ', 40), "
        "(CASE WHEN mod(n, 1500) = 0 THEN '''zyzzyva'':1B ''sea'':2B' ELSE '''sea'':2B' END)::tsvector "
        "FROM gallery.asset, generate_series(1, 20000) n, generate_series(0, 1) k "
        "WHERE owner = %s AND id NOT LIKE 'plan-%%'",
        user.principal,
    )
    await gallery.execute("ANALYZE gallery.asset")
    yield user


@pytest.mark.parametrize(
    ("fields", "index"),
    [
        ({}, "ix_asset_newest"),
        ({"order_by": "create_time"}, "ix_asset_newest"),
        ({"order_by": "update_time desc"}, "ix_asset_updated"),
        ({"order_by": "display_name"}, "ix_asset_name"),
        ({"order_by": "size_bytes desc"}, "ix_asset_size"),
        ({"media_type": pb.Asset.VIDEO}, "ix_asset_media_type"),
        ({"model": "m7"}, "ix_asset_model"),
        ({"origin": "o4999"}, "ix_asset_origin"),
        ({"favorite": True}, "ix_asset_favorite"),
        ({"show_deleted": True}, "ix_asset_deleted"),
        ({"tags": ["few"]}, "ix_asset_tags"),
        ({"query": "zyzzyva"}, "ix_asset_search"),
        ({"query": "zyzzyva", "order_by": "display_name"}, "ix_asset_search"),
    ],
)
async def test_a_page_walks_its_index_and_never_the_table(crowd: Client, fields: dict[str, Any], index: str) -> None:
    """Seen at the plans of the statements that the service itself sent."""
    first = await plan(crowd, fields)
    assert index in first, first
    assert "Seq Scan on asset" not in first, first
    token = (await crowd.page(page_size=5, **fields)).next_page_token
    if token:
        later = await plan(crowd, {**fields, "page_token": token})
        assert "Seq Scan on asset" not in later, later


async def plan(user: Client, fields: dict[str, Any]) -> str:
    """How the database ran the page."""
    sent: list[tuple[str, Any]] = []

    def note(*arguments: Any) -> None:
        if "folder_path" in str(arguments[2]):
            sent.append((arguments[2], arguments[3]))

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        await user.page(page_size=5, **fields)
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    [(statement, parameters)] = sent
    return await user.gallery.explain(statement, parameters, DATABASE_SETTINGS)


async def test_deleted_assets_cost_a_list_nothing(crowd: Client) -> None:
    """The newest 5,000 are deleted: they are in no index that the list walks."""
    found = await plan(crowd, {})
    assert "Rows Removed by Filter" not in found, found


async def test_a_common_word_is_walked_and_a_rare_one_looked_up(crowd: Client) -> None:
    assert "never executed" in (await plan(crowd, {"query": "sea"})), "the index of words was read for nothing"
    assert "Bitmap Index Scan on ix_asset_search" in await plan(crowd, {"query": "zyzzyva"})
