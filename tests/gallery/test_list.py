"""Lists: newest first, and pages that neither skip nor repeat while the gallery changes."""

import asyncio
import random
from datetime import UTC, datetime, timedelta

import grpc
import pytest

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from tests.gallery.harness import Client, refusal
from tests.gallery.media import video
from tests.support.media import png

PICTURE = png(8, 8)


async def several(user: Client, count: int) -> list[str]:
    """Names of new assets, newest first."""
    return [(await user.upload(PICTURE)).name for _ in range(count)][::-1]


async def test_a_new_gallery_is_empty(user: Client) -> None:
    assert await user.page() == pb.ListAssetsResponse(total_size=0, total_size_exact=True)


async def test_images_and_videos_come_together_newest_first(user: Client) -> None:
    names = [(await user.upload(data)).name for data in (PICTURE, video(5000), PICTURE, video(6000))]
    page = await user.page()
    assert [asset.name for asset in page.assets] == names[::-1]
    assert (page.total_size, page.total_size_exact, page.next_page_token) == (4, True, "")
    times = [asset.create_time.ToNanoseconds() for asset in page.assets]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 200])
async def test_pages_of_any_size_give_everything_once(user: Client, size: int) -> None:
    names = await several(user, 7)
    assert await user.names(page_size=size) == names


async def test_pages_neither_skip_nor_repeat_while_assets_are_added_and_deleted(user: Client) -> None:
    names = await several(user, 40)
    chance = random.Random(7)
    doomed = set(chance.sample(names, 15))
    seen: list[str] = []

    async def change() -> None:
        for name in chance.sample(sorted(doomed), len(doomed)):
            await asyncio.gather(user.delete(name), user.upload(PICTURE))

    async def walk() -> None:
        token = ""
        while True:
            page = await user.page(page_size=chance.randint(1, 4), page_token=token)
            seen.extend(asset.name for asset in page.assets)
            token = page.next_page_token
            if not token:
                return

    await asyncio.gather(change(), walk())
    assert len(seen) == len(set(seen)), "an asset came twice"
    kept = [name for name in names if name not in doomed]
    assert [name for name in seen if name in set(kept)] == kept, "an asset was skipped or came out of order"


async def test_assets_of_the_same_microsecond_are_paged_by_their_ids(user: Client) -> None:
    names = await several(user, 6)
    await user.gallery.execute(
        "UPDATE gallery.asset SET create_time = '2026-01-01T00:00:00.000001Z' WHERE owner = %s", user.principal
    )
    assert await user.names(page_size=2) == sorted(names, reverse=True)


async def test_counts_are_exact_up_to_a_thousand_and_then_say_so(user: Client) -> None:
    await several(user, 1)
    copy = (
        "INSERT INTO gallery.asset (id, owner, display_name, media_type, mime_type, size_bytes, sha256) "
        "SELECT 'copy-' || n || '-' || owner, owner, '', media_type, mime_type, size_bytes, sha256 "
        "FROM gallery.asset, generate_series(%s::int, %s::int) n WHERE owner = %s AND id NOT LIKE 'copy-%%'"
    )
    counted = "UPDATE gallery.total SET image_count = image_count + %s WHERE owner = %s"
    await user.gallery.execute(copy, 1, 999, user.principal)
    await user.gallery.execute(counted, 999, user.principal)
    assert (await user.page(page_size=3, favorite=False)).total_size_exact
    page = await user.page(page_size=3)
    assert (page.total_size, page.total_size_exact) == (1000, True)
    await user.gallery.execute(copy, 1000, 1000, user.principal)
    await user.gallery.execute(counted, 1, user.principal)
    for filters in ({}, {"favorite": False}):
        page = await user.page(page_size=3, **filters)
        assert (page.total_size, page.total_size_exact) == (1000, False)
    assert len(await user.names(page_size=1000)) == 1001, "a page has at most 200"


async def test_each_filter_keeps_what_it_names_and_filters_add_up(user: Client) -> None:
    service = user.as_service()
    provenance = pb.Provenance(owner=user.principal, model="m1", origin="imageGenerations/g1")
    made = await service.upload(PICTURE, provenance=provenance, tags=["sea", "夜"])
    tagged = await user.upload(PICTURE, tags=["sea"])
    clip = await user.upload(video(5000), tags=["夜"])
    assert await user.names(media_type=pb.Asset.IMAGE) == [tagged.name, made.name]
    assert await user.names(media_type=pb.Asset.VIDEO) == [clip.name]
    assert await user.names(tags=["sea"]) == [tagged.name, made.name]
    assert await user.names(tags=["sea", "夜"]) == [made.name]
    assert await user.names(tags=["se"]) == []
    assert await user.names(model="m1") == [made.name]
    assert await user.names(origin="imageGenerations/g1") == [made.name]
    assert await user.names(model="m1", media_type=pb.Asset.VIDEO) == []
    assert await user.names(favorite=False) == [clip.name, tagged.name, made.name]
    assert await user.names(favorite=True) == []
    await user.gallery.execute("UPDATE gallery.asset SET favorite = true WHERE id = %s", clip.name[7:])
    assert await user.names(favorite=True) == [clip.name]


async def test_the_window_of_time_is_half_open_to_the_microsecond(user: Client) -> None:
    names = await several(user, 3)
    moment = datetime(2026, 5, 1, tzinfo=UTC)
    for number, name in enumerate(names):
        when = moment + timedelta(microseconds=number)
        await user.gallery.execute("UPDATE gallery.asset SET create_time = %s WHERE id = %s", when, name[7:])
    request = pb.ListAssetsRequest()
    request.created_after.FromDatetime(moment + timedelta(microseconds=1))
    assert await user.names(created_after=request.created_after) == [names[2], names[1]]
    assert await user.names(created_before=request.created_after) == [names[0]]
    request.created_after.nanos += 1
    assert await user.names(created_after=request.created_after) == [names[2]]
    assert await user.names(created_before=request.created_after) == [names[1], names[0]]


async def test_a_time_that_is_none_is_refused_by_name(user: Client) -> None:
    request = pb.ListAssetsRequest()
    request.created_before.seconds = 2**60
    error = await refusal(user.page(created_before=request.created_before))
    assert (error.reason, error.fields) == ("INVALID_FIELD", ("created_before",))


async def test_a_folder_shows_what_is_in_it_and_below_it_when_asked(user: Client) -> None:
    top = await user.upload(PICTURE, folder="旅")
    below = await user.upload(PICTURE, folder="旅/2026/東京")
    await user.upload(PICTURE, folder="旅行")
    await user.upload(PICTURE)
    assert await user.names(folder="旅") == [top.name]
    assert await user.names(folder=top.folder) == [top.name]
    assert await user.names(folder="旅", include_subfolders=True) == [below.name, top.name]
    assert await user.names(folder="旅/2026") == []
    assert await user.names(folder=below.folder) == [below.name]
    assert (below.folder_path, top.folder_path) == ("旅/2026/東京", "旅")
    assert (await user.upload(PICTURE, folder=top.folder)).folder_path == "旅"


@pytest.mark.parametrize("folder", ["nowhere", "folders/nowhere"])
async def test_a_folder_that_is_not_there_is_not_found(user: Client, folder: str) -> None:
    error = await refusal(user.page(folder=folder))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "FOLDER_NOT_FOUND")
    assert (error.resource, error.metadata["folder"]) == (folder, folder)


async def test_a_folder_given_by_name_must_exist_for_an_upload(user: Client) -> None:
    assert (await refusal(user.upload(PICTURE, folder="folders/nowhere"))).reason == "FOLDER_NOT_FOUND"
    stranger = user.gallery.user()
    theirs = await stranger.upload(PICTURE, folder="private")
    assert (await refusal(user.upload(PICTURE, folder=theirs.folder))).reason == "FOLDER_NOT_FOUND"
    assert (await refusal(user.page(folder=theirs.folder))).reason == "FOLDER_NOT_FOUND"
    assert (await refusal(user.page(folder="private"))).reason == "FOLDER_NOT_FOUND"


@pytest.mark.parametrize("folder", ["/a", "a/", "a//b", ".", "a/../b", "a/./b", "a\nb", "a" * 1025, "/".join("a" * 17)])
async def test_a_path_that_breaks_the_rules_is_refused(user: Client, folder: str) -> None:
    for call in (user.upload(PICTURE, folder=folder), user.page(folder=folder)):
        error = await refusal(call)
        assert error.code == grpc.StatusCode.INVALID_ARGUMENT
        assert error.reason in ("INVALID_FOLDER_PATH", "INVALID_FIELD")


@pytest.mark.parametrize("path", ["𝕏" * 1024, "ä" * 500 + "/" + "漢" * 500, " a / b ", "Å", "A\u030a", "%2F", "a\\b"])
async def test_folders_keep_their_path_exactly(user: Client, path: str) -> None:
    asset = await user.upload(PICTURE, folder=path)
    assert asset.folder_path == path
    assert await user.names(folder=path) == [asset.name]


async def test_uploads_at_once_make_one_folder(user: Client) -> None:
    assets = await asyncio.gather(*(user.upload(PICTURE, folder="a/b/c") for _ in range(12)))
    assert len({asset.folder for asset in assets}) == 1
    assert len(await user.names(folder="a", include_subfolders=True)) == 12


async def test_only_orders_of_the_contract_are_known(user: Client) -> None:
    names = await several(user, 2)
    assert await user.names(order_by="create_time  desc") == names
    error = await refusal(user.page(order_by="mood desc"))
    assert (error.reason, error.fields) == ("INVALID_FIELD", ("order_by",))


async def test_a_page_token_belongs_to_its_caller_and_its_filters(user: Client) -> None:
    await several(user, 3)
    token = (await user.page(page_size=1)).next_page_token
    stranger = user.gallery.user()
    for caller, fields in ((stranger, {}), (user, {"show_deleted": True}), (user, {"tags": ["x"]})):
        error = await refusal(caller.page(page_token=token, **fields))
        assert (error.reason, error.fields) == ("INVALID_PAGE_TOKEN", ("page_token",))
    assert (await refusal(user.page(page_token="nonsense"))).reason == "INVALID_PAGE_TOKEN"
    assert len((await user.page(page_token=token, page_size=5)).assets) == 2


async def test_a_list_shows_the_beginning_of_a_prompt_and_everything_when_asked(user: Client) -> None:
    prompt = "夜の海 " * 100
    provenance = pb.Provenance(
        owner=user.principal,
        prompt=prompt,
        parameters={"size": "8x8"},
        prompt_revisions=[pb.PromptRevision(step=pb.PromptRevision.ENHANCED, previous_prompt=prompt)],
    )
    stored = await user.as_service().upload(PICTURE, provenance=provenance)
    [basic] = (await user.page()).assets
    assert (basic.prompt, dict(basic.parameters)) == (prompt[:200], {})
    assert basic.prompt_revisions[0].previous_prompt == prompt[:200]
    assert (await user.page(view=pb.Asset.FULL)).assets == [stored]


async def test_a_page_ends_before_it_grows_too_large_and_the_next_goes_on(user: Client) -> None:
    provenance = pb.Provenance(owner=user.principal, prompt="\x01" * 32_000)
    names = [(await user.as_service().upload(PICTURE, provenance=provenance)).name for _ in range(14)][::-1]
    page = await user.page(view=pb.Asset.FULL)
    assert 1 <= len(page.assets) < len(names)
    assert page.ByteSize() < 320_000
    assert await user.names(view=pb.Asset.FULL) == names


async def test_another_owners_assets_are_nowhere(user: Client) -> None:
    mine = await user.upload(PICTURE, tags=["mine"], folder="f")
    stranger = user.gallery.user()
    assert (await stranger.page(show_deleted=True)).total_size == 0
    assert await stranger.names(tags=["mine"]) == []
    for call in (stranger.get(mine.name), stranger.delete(mine.name), stranger.download(mine.name)):
        error = await refusal(call)
        assert (error.code, error.reason, error.resource) == (
            grpc.StatusCode.NOT_FOUND,
            "ASSET_NOT_FOUND",
            mine.name,
        )
    assert await user.get(mine.name) == mine
