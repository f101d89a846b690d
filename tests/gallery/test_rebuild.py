"""The index is lost: everything comes back from storage alone."""

import asyncio
import json
import os
import secrets
import sys
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest_asyncio
from azure.storage.blob.aio import BlobServiceClient
from google.protobuf.field_mask_pb2 import FieldMask

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.gallery.domain.document import from_document
from tests.conftest import ROOT, NewDatabase
from tests.gallery.counts import drift
from tests.gallery.harness import Client, Gallery, running_gallery
from tests.gallery.media import video
from tests.gallery.test_purge import purge, until_gone
from tests.gallery.upkeep import Upkeep, upkeep_of
from tests.support.media import png

OWNER = "owner-of-the-lost-index"
PICTURE = png(8, 8)

# What is not told by documents: made anew, or by the moment.
_MOMENTARY = {"derive_time", "derive_attempts", "variants"}


def connection_string(gallery: Gallery) -> str:
    assert gallery.settings.azure_storage_connection_string is not None
    return gallery.settings.azure_storage_connection_string.get_secret_value()


async def run(gallery: Gallery, *arguments: str) -> tuple[int, str, str]:
    """The gallery's command line, as an operator runs it."""
    settings = gallery.settings
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AZURE_", "CONTENTLAB_"))},
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "AZURE_STORAGE_CONNECTION_STRING": connection_string(gallery),
        "AZURE_BLOB_IMAGE_CONTAINER": settings.image_container,
        "AZURE_BLOB_VIDEO_CONTAINER": settings.video_container,
    }
    command = [sys.executable, "-m", "services.gallery", *arguments]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe)
    async with asyncio.timeout(60):
        output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


async def fill(user: Client) -> None:
    """A varied library: every field, every state, Unicode, nested folders, annotations."""
    provenance = pb.Provenance(
        owner=user.principal,
        prompt="灯台と夕暮れ " * 50,
        prompt_revisions=[pb.PromptRevision(step=pb.PromptRevision.ENHANCED, previous_prompt="灯台", model="llm")],
        model="gpt-image-2",
        parameters={"size": "1024x1024", "質": "高"},
        origin="imageGenerations/abc",
        parents=[pb.Parent(asset="assets/parent", relation=pb.Parent.EDITED_FROM)],
        usage=pb.Usage(input_tokens=5, output_tokens=2**40, output_image_tokens=3),
        cost=pb.Cost(source=pb.Cost.COMPUTED, amount_micro_usd=2**53 + 1),
    )
    provenance.usage.video_duration.FromMilliseconds(1500)
    full = await user.as_service().upload(
        PICTURE, asset_id=str(uuid.uuid4()), display_name="海 🌊.png", folder="旅/2026/夏", tags=["ä", "灯台"],
        labels={"ключ": "значение"}, provenance=provenance,
    )  # fmt: skip
    await user.as_service().call(
        pb.AnnotateAssetRequest(
            name=full.name,
            request_id=str(uuid.uuid4()),
            analysis=pb.Analysis(description="a lighthouse", products="none", tags=["sea"], feedback="good", model="m"),
            usage=pb.Usage(input_tokens=1),
            cost=pb.Cost(source=pb.Cost.COMPUTED, amount_micro_usd=1),
        )
    )
    await user.call(
        pb.UpdateAssetRequest(asset=pb.Asset(name=full.name, favorite=True), update_mask=FieldMask(paths=["favorite"]))
    )
    await user.upload(video(300_000), folder="旅", tags=["ä"])
    await user.upload(b"<svg xmlns='http://www.w3.org/2000/svg' width='3' height='4'/>", display_name="drawing")
    deleted = await user.upload(PICTURE, folder="x/y", tags=["only of the deleted"])
    await user.delete(deleted.name)
    undeleted = await user.upload(PICTURE, tags=["back"])
    await user.delete(undeleted.name)
    await user.call(pb.UndeleteAssetRequest(name=undeleted.name))
    moved = await user.upload(PICTURE, folder="before")
    await user.call(pb.RenameFolderRequest(name=moved.folder, new_path="after/the renaming"))
    await user.call(pb.CreateFolderRequest(folder=pb.Folder(path="empty/ü")))
    purged = await user.upload(PICTURE, folder="x")
    await user.delete(purged.name)
    await purge(user, purged.name)
    await until_gone(user, purged.name[7:])


async def shown(user: Client) -> dict[str, Any]:
    """Everything that an owner can see."""
    names = await user.names(show_deleted=True)
    assets = [await user.get(name) for name in names]
    for asset in assets:
        asset.ClearField("variants")  # they come by and by
    return {
        "order": names,
        "assets": assets,
        "folders": sorted((await user.call(pb.ListFoldersRequest(page_size=200))).folders, key=lambda f: f.path),
        "tags": list((await user.call(pb.ListTagsRequest())).tags),
        "stats": await user.call(pb.GetGalleryStatsRequest()),
        "found": await user.names(query="灯台"),
        "bytes": [(await user.download(name)).data for name in names],
    }


async def rows(database_url: str) -> dict[str, Any]:
    """Everything that the index holds of assets and folders."""
    found = {}
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        for table in ("asset", "folder", "tag", "total"):
            cursor = await connection.execute(f"SELECT to_jsonb(t) FROM gallery.{table} t".encode())  # noqa: S608 - ours
            kept = [{k: v for k, v in row[0].items() if k not in _MOMENTARY} for row in await cursor.fetchall()]
            found[table] = sorted(kept, key=lambda row: json.dumps(row, sort_keys=True))
    return found


async def drop_index(gallery: Gallery) -> None:
    await gallery.execute("DROP SCHEMA gallery CASCADE")


async def plant_thumbnail(gallery: Gallery, asset_id: str) -> None:
    """Whether or not one has been made in time."""
    async with BlobServiceClient.from_connection_string(connection_string(gallery)) as storage:
        blob = storage.get_blob_client(gallery.settings.image_container, f"{asset_id}/thumbnail.webp")
        await blob.upload_blob(b"a thumbnail", overwrite=True)


async def variants_are_those_in_storage(gallery: Gallery) -> None:
    async with BlobServiceClient.from_connection_string(connection_string(gallery)) as storage:
        blobs = await replace(gallery, storage=storage).blobs()
    stored = {name.partition("/")[2] for name in blobs}
    for asset_id, variants in await gallery.rows("SELECT id, variants FROM gallery.asset"):
        pictures = {name for name in stored if name.startswith(f"{asset_id}/") and name.endswith(".webp")}
        assert {f"{asset_id}/{variant}.webp" for variant in variants} == pictures


async def test_a_lost_index_comes_back_whole_from_storage(
    new_database: NewDatabase, azurite: str, tmp_path: Path
) -> None:
    suffix, url = secrets.token_hex(4), await new_database()
    containers = {"image_container": f"i-{suffix}", "video_container": f"v-{suffix}"}
    async with running_gallery(url, azurite, tmp_path, **containers) as gallery:
        user = gallery.user(OWNER)
        await fill(user)
        async with upkeep_of(gallery) as upkeep:
            await upkeep.mirror()
        before, kept = await shown(user), await rows(url)
        [incarnation] = await gallery.rows("SELECT id FROM gallery.incarnation")
    assert len(before["assets"]) == 6
    await plant_thumbnail(gallery, before["order"][0][7:])
    await drop_index(gallery)

    code, output, errors = await run(gallery, "rebuild-index")
    assert code == 0, output + errors
    assert "6 assets read, 6 of them written" in output
    assert "restoring assets: 6" in errors, "plain lines where there is no terminal"
    assert await rows(url) == kept
    await variants_are_those_in_storage(gallery)
    assert await gallery.rows("SELECT id FROM gallery.incarnation") != [incarnation]

    code, output, _ = await run(gallery, "rebuild-index")
    assert (code, "6 assets read, 0 of them written" in output) == (0, True)
    assert await rows(url) == kept

    async with running_gallery(url, azurite, tmp_path, **containers) as gallery:
        user = gallery.user(OWNER)
        assert await shown(user) == before
        code, output, errors = await run(gallery, "verify")
        assert (code, output.partition(";")[0]) == (0, "no findings, no notes"), output + errors
        newest = await user.upload(PICTURE)
        assert (await user.names())[0] == newest.name


@pytest_asyncio.fixture(loop_scope="session")
async def upkeep(gallery: Gallery) -> AsyncIterator[Upkeep]:
    async with upkeep_of(gallery) as running:
        yield running


async def test_what_is_newer_in_the_index_is_never_overwritten(user: Client, upkeep: Upkeep) -> None:
    asset = await user.upload(PICTURE)
    await upkeep.mirror()
    newer = "UPDATE gallery.asset SET display_name = 'newer', revision = revision + 1, document_revision = revision + 1"
    await user.gallery.execute(newer + " WHERE id = %s", asset.name[7:])
    await upkeep.rebuild()
    assert (await user.get(asset.name)).display_name == "newer"


async def test_what_is_older_in_the_index_is_brought_up(user: Client, upkeep: Upkeep) -> None:
    """An index that was restored from yesterday's backup."""
    asset = await user.upload(PICTURE, tags=["t"])
    deleted = await user.delete(asset.name)
    await upkeep.mirror()
    yesterday = "UPDATE gallery.asset SET delete_time = NULL, purge_time = NULL, revision = 1, document_revision = 1"
    await user.gallery.execute(yesterday + " WHERE id = %s", asset.name[7:])
    await upkeep.rebuild()
    assert await user.get(asset.name) == deleted
    assert await user.names() == []


async def test_purged_assets_stay_purged(user: Client, upkeep: Upkeep) -> None:
    asset = await user.upload(PICTURE)
    document = await user.gallery.blob(f"{asset.name[7:]}/asset.json")
    await user.delete(asset.name)
    await purge(user, asset.name)
    await until_gone(user, asset.name[7:])
    container = user.gallery.settings.image_container
    for part, data in (("original", PICTURE), ("asset.json", document)):
        await user.gallery.storage.get_blob_client(container, f"{asset.name[7:]}/{part}").upload_blob(data)
    summary = await upkeep.rebuild()
    assert summary.removed == 1
    assert await user.names(show_deleted=True) == []
    await upkeep.sweep()  # what was put back is no other test's business


async def test_a_folders_document_tells_its_path_and_an_assets_only_where_it_is_missing(
    user: Client, upkeep: Upkeep
) -> None:
    stale, orphan = await user.upload(PICTURE, folder="old/name"), await user.upload(PICTURE, folder="a/b")
    await user.call(pb.RenameFolderRequest(name=stale.folder, new_path="new/name"))
    await upkeep.mirror()
    told = from_document(await user.gallery.blob(f"{stale.name[7:]}/asset.json")).folder
    assert told is not None
    assert told.path == "old/name", "renaming a folder rewrites no asset's document"
    container = user.gallery.settings.image_container
    name = f"_folders/{orphan.folder.removeprefix('folders/')}.json"
    await user.gallery.storage.get_blob_client(container, name).delete_blob()
    await user.gallery.execute("DELETE FROM gallery.asset WHERE owner = %s", user.principal)
    await user.gallery.execute("DELETE FROM gallery.folder WHERE owner = %s", user.principal)
    await upkeep.rebuild()
    folders = {folder.name: folder.path for folder in (await user.call(pb.ListFoldersRequest())).folders}
    assert folders[stale.folder] == "new/name"
    assert folders[orphan.folder] == "a/b"
    assert (await user.get(stale.name)).folder == stale.folder
    assert {name: kept for name, kept in (await drift(user)).items() if "log" not in name} == {}


async def test_what_cannot_be_restored_is_told_and_the_rest_is_restored(user: Client, upkeep: Upkeep) -> None:
    assets = [await user.upload(png(8 + n, 8)) for n in range(6)]
    whole, unreadable, foreign, headless, cut, undocumented = (asset.name[7:] for asset in assets)
    storage, container = user.gallery.storage, user.gallery.settings.image_container
    damage = {
        f"{unreadable}/asset.json": b'{"schemaVersion": 1, "id": ',
        f"{foreign}/asset.json": await user.gallery.blob(f"{whole}/asset.json"),
        f"{headless}/original": None,
        f"{cut}/original": PICTURE[:20],
        f"{undocumented}/asset.json": None,
    }
    for name, data in damage.items():
        blob = storage.get_blob_client(container, name)
        await (blob.delete_blob() if data is None else blob.upload_blob(data, overwrite=True))
    await user.gallery.execute("DELETE FROM gallery.asset WHERE owner = %s", user.principal)
    summary = await upkeep.rebuild()
    assert await user.names() == [f"assets/{whole}"]
    told = {problem.partition(":")[0] for problem in summary.problems}
    assert told == {f"assets/{name}" for name in (unreadable, foreign, headless, cut, undocumented)}
    code, output, _ = await run(user.gallery, "rebuild-index")
    assert code == 1
    assert f"not restored: assets/{headless}: the original is missing" in output
