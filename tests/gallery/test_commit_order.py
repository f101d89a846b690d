"""New assets come on top of all that could be seen before, in whichever order slow uploads end."""

import asyncio
import random
from datetime import UTC

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.gallery.adapters import catalog
from services.gallery.adapters.azure_blobs import AzureBlobStore
from services.gallery.domain.assets import Asset
from services.gallery.domain.document import from_document
from services.gallery.domain.folders import FolderRef
from services.gallery.ports import BlobKey
from tests.gallery.harness import Client
from tests.support.media import png

PICTURE = png(8, 8)


class HeldDocuments:
    """Storage that writes the documents of some assets only when it is told to."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()
        self._replace = AzureBlobStore.replace

    def install(self, patch: pytest.MonkeyPatch) -> None:
        held = self

        async def replace(
            self: AzureBlobStore, key: BlobKey, data: bytes, *, mime_type: str, over: str | None = None
        ) -> None:
            if from_document(data).display_name == "slow":
                held.reached.set()
                await held.go_on.wait()
            await held._replace(self, key, data, mime_type=mime_type, over=over)

        patch.setattr(AzureBlobStore, "replace", replace)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> HeldDocuments:
    held = HeldDocuments()
    held.install(monkeypatch)
    return held


async def test_an_upload_that_ends_later_is_newer(user: Client, held: HeldDocuments) -> None:
    first = await user.upload(PICTURE)
    slow = asyncio.ensure_future(user.upload(PICTURE, display_name="slow"))
    await held.reached.wait()
    quick = await user.upload(PICTURE)
    page = await user.page(page_size=1)
    assert [asset.name for asset in page.assets] == [quick.name]
    held.go_on.set()
    late = await slow
    assert late.create_time.ToNanoseconds() > quick.create_time.ToNanoseconds()
    assert late.create_time == late.update_time
    assert late == await user.get(late.name)
    rest = await user.page(page_token=page.next_page_token)
    assert [asset.name for asset in rest.assets] == [first.name], "a walk shows what was there when it began"
    assert await user.names(created_after=quick.create_time) == [late.name, quick.name], "who asks for news gets it"


async def test_the_document_gets_the_time_of_the_row(user: Client, held: HeldDocuments) -> None:
    slow = asyncio.ensure_future(user.upload(PICTURE, display_name="slow"))
    await held.reached.wait()
    await user.upload(PICTURE)
    held.go_on.set()
    late = await slow
    async with asyncio.timeout(20):
        while (await written_time(user, late)) != late.create_time.ToDatetime(UTC):  # noqa: ASYNC110 - the mirror writes it
            await asyncio.sleep(0.1)


async def test_a_clock_that_was_set_back_changes_no_order(user: Client) -> None:
    future = await user.upload(PICTURE)
    await user.gallery.execute(
        "UPDATE gallery.asset SET create_time = create_time + interval '1 h' WHERE id = %s", future.name[7:]
    )
    later = [(await user.upload(PICTURE)).name for _ in range(3)]
    assert await user.names(page_size=1) == [*later[::-1], future.name]


async def test_a_walking_reader_sees_new_assets_on_top_only_while_uploads_overlap(
    user: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance, replace = random.Random(11), AzureBlobStore.replace

    async def uneven(
        self: AzureBlobStore, key: BlobKey, data: bytes, *, mime_type: str, over: str | None = None
    ) -> None:
        await asyncio.sleep(chance.choice((0, 0, 0.05, 0.2)))
        await replace(self, key, data, mime_type=mime_type, over=over)

    async def settle_and_linger(connection: AsyncConnection, stored: Asset, ref: FolderRef | None) -> Asset:
        settled = await settle(connection, stored, ref)
        await asyncio.sleep(chance.choice((0, 0.02, 0.05)))
        return settled

    settle = catalog._settle
    monkeypatch.setattr(catalog, "_settle", settle_and_linger)
    monkeypatch.setattr(AzureBlobStore, "replace", uneven)
    uploads = [asyncio.ensure_future(user.upload(PICTURE)) for _ in range(40)]
    walks: list[list[str]] = [[]]
    while not all(upload.done() for upload in uploads):
        acknowledged = {upload.result().name for upload in uploads if upload.done()}
        walk = await user.names(page_size=chance.randint(1, 7))
        assert acknowledged <= set(walk), "an acknowledged asset was skipped"
        assert walk[len(walk) - len(walks[-1]) :] == walks[-1], "an asset appeared below one that was seen before"
        walks.append(walk)
    assert len(await user.names(page_size=3)) == 40
    assert len({len(walk) for walk in walks}) > 3, "the reader has seen the gallery grow"


async def written_time(user: Client, asset: pb.Asset) -> object:
    return from_document(await user.gallery.blob(f"{asset.name[7:]}/asset.json")).create_time
