"""Tags in use, totals, and words of rows that came without."""

import asyncio
from pathlib import Path

import psycopg

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services import gallery as package
from services.common.migrations import migrate
from services.gallery.adapters.tables import SCHEMA
from tests.conftest import NewDatabase
from tests.gallery.harness import Client, running_gallery
from tests.gallery.media import video
from tests.support.media import png

PICTURE = png(8, 8)


async def tags(user: Client, **fields: object) -> list[tuple[str, int, bool]]:
    """Tags with their counts, page by page."""
    found, token = [], ""
    while True:
        page = await user.call(pb.ListTagsRequest(page_token=token, **fields))  # type: ignore[arg-type]  # any of its fields
        found += [(one.tag, one.asset_count, one.count_exact) for one in page.tags]
        token = page.next_page_token
        if not token:
            return found


async def test_tags_come_with_their_counts_most_used_first(user: Client) -> None:
    for names in (["sea", "夜"], ["sea", "boat"], ["sea", "Sea", "夜"]):
        await user.upload(PICTURE, tags=names)
    expected = [("sea", 3, True), ("夜", 2, True), ("Sea", 1, True), ("boat", 1, True)]
    assert await tags(user) == expected
    for size in (1, 2, 3):
        assert await tags(user, page_size=size) == expected
    assert await tags(user, prefix="se") == [("sea", 3, True)]
    assert await tags(user, prefix="夜", page_size=1) == [("夜", 2, True)]
    assert await tags(user, prefix="%") == await tags(user, prefix="_") == []
    assert await tags(user.gallery.user()) == []


async def test_a_tag_leaves_with_its_last_asset(user: Client) -> None:
    first, _ = await user.upload(PICTURE, tags=["sea", "lone"]), await user.upload(PICTURE, tags=["sea"])
    await user.delete(first.name)
    assert await tags(user) == [("sea", 1, True)]


async def test_counts_of_tags_end_at_a_thousand(user: Client) -> None:
    await user.upload(PICTURE, tags=["sea", "few"])
    await user.gallery.execute(
        "UPDATE gallery.tag SET asset_count = 1001 WHERE tag = 'sea' AND owner = %s", user.principal
    )
    assert await tags(user) == [("sea", 1000, False), ("few", 1, True)]


async def test_totals_tell_what_is_there(user: Client) -> None:
    assert await user.call(pb.GetGalleryStatsRequest()) == pb.GalleryStats()
    doomed = await user.upload(PICTURE, folder="a/b")
    await user.upload(PICTURE)
    clip = await user.upload(video(3000), folder="a")
    await user.delete(doomed.name)
    stats = await user.call(pb.GetGalleryStatsRequest())
    size = 2 * len(PICTURE) + clip.size_bytes
    assert stats == pb.GalleryStats(
        image_count=1, video_count=1, deleted_count=1, total_size_bytes=size, folder_count=2
    )


async def test_rows_from_before_there_was_search_become_findable(
    new_database: NewDatabase, azurite: str, tmp_path: Path
) -> None:
    """The migrations run over a database with rows of the first version, and then the service."""
    url = await new_database()
    await migrate(url, SCHEMA, Path(package.__file__).parent / "migrations", revision="0001")
    statement = (
        "INSERT INTO gallery.asset "
        "(id, owner, display_name, media_type, mime_type, size_bytes, sha256, prompt, analysis) "
        "SELECT 'old-' || n, 'somebody', 'Old ' || n, 'image', 'image/png', 1, repeat('0', 64), '夜の海', "
        """'{"description": "a lighthouse", "products": "", "tags": [], "feedback": "", "model": "", """
        """"instructions": "", "analyzeTime": null}' FROM generate_series(1, 450) n"""
    )
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(statement.encode())
    async with running_gallery(url, azurite, tmp_path) as gallery:
        user = gallery.user("somebody")
        async with asyncio.timeout(60):
            await _until_found(user, "lighthouse", 450)
        page = await user.page(query="海")
        assert page.total_size == 450
        [found] = (await user.page(query="old 449")).assets
        assert (found.name, found.update_time) == ("assets/old-449", (await user.get("assets/old-449")).create_time)


async def _until_found(user: Client, query: str, number: int) -> None:
    while (await user.page(query=query)).total_size < number:  # noqa: ASYNC110 - another process's work, seen from outside
        await asyncio.sleep(0.1)
