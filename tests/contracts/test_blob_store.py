"""What the gallery relies on in blob storage: Azure's (Azurite) and the dictionary of the unit tests alike."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from azure.storage.blob.aio import BlobServiceClient

from services.gallery.adapters.azure_blobs import (
    BLOCK_BYTES,
    LARGE_PIECE_BYTES,
    LARGE_PIECES,
    PIECE_BYTES,
    AzureBlobStore,
    client_options,
)
from services.gallery.adapters.memory_blobs import MemoryBlobStore
from services.gallery.domain.assets import MediaType
from services.gallery.ports import NO_VERSION, BlobConflict, BlobKey, BlobMissing, BlobStore

SMALL = 1000
LARGE = 2 * BLOCK_BYTES + 12_345  # three blocks


class Bytes:
    """Content in memory that may hand out its pieces slowly."""

    def __init__(self, data: bytes, *, pause: float = 0.0) -> None:
        self._data = data
        self._pause = pause

    @property
    def size(self) -> int:
        return len(self._data)

    async def read(self, offset: int, length: int) -> bytes:
        await asyncio.sleep(self._pause)
        return self._data[offset : offset + length]


class HeldBytes(Bytes):
    """Content whose first piece is held back."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.asked_for = asyncio.Event()
        self.released = asyncio.Event()

    async def read(self, offset: int, length: int) -> bytes:
        self.asked_for.set()
        await self.released.wait()
        return await super().read(offset, length)


@pytest_asyncio.fixture(params=["azure", "memory"], loop_scope="session")
async def store(request: pytest.FixtureRequest, azurite: str) -> AsyncIterator[BlobStore]:
    async with AsyncExitStack() as stack:
        made: BlobStore
        if request.param == "memory":
            made = MemoryBlobStore()
        else:
            client = BlobServiceClient.from_connection_string(azurite, **client_options())
            await stack.enter_async_context(client)
            suffix = secrets.token_hex(6)
            containers = {kind: f"{kind.value}-{suffix}" for kind in MediaType}
            made = AzureBlobStore(client, containers, page_size=2)
        await made.prepare()
        yield made


@pytest.fixture
def key() -> BlobKey:
    return BlobKey(MediaType.IMAGE, f"{secrets.token_hex(8)}/original")


async def put(store: BlobStore, key: BlobKey, data: bytes, *, pause: float = 0.0) -> None:
    digest = hashlib.sha256(data).hexdigest()
    await store.put(key, Bytes(data, pause=pause), mime_type="image/png", sha256=digest)


async def read(store: BlobStore, key: BlobKey, start: int, length: int) -> bytes:
    return b"".join([piece async for piece in store.read(key, start=start, length=length)])


@pytest.mark.parametrize("size", [1, SMALL, BLOCK_BYTES, BLOCK_BYTES + 1, LARGE])
async def test_bytes_come_back_as_they_were_put(store: BlobStore, key: BlobKey, size: int) -> None:
    data = secrets.token_bytes(size)
    await put(store, key, data)
    assert await read(store, key, 0, size) == data


@pytest.mark.parametrize(("start", "length"), [(0, 1), (LARGE - 1, 1), (BLOCK_BYTES - 10, 20), (5, LARGE - 5)])
async def test_any_range_can_be_read(store: BlobStore, key: BlobKey, start: int, length: int) -> None:
    data = secrets.token_bytes(LARGE)
    await put(store, key, data)
    assert await read(store, key, start, length) == data[start : start + length]


async def test_pieces_are_small_whatever_the_blob_is(store: BlobStore, key: BlobKey) -> None:
    await put(store, key, secrets.token_bytes(LARGE))
    sizes = [len(piece) async for piece in store.read(key, start=0, length=LARGE)]
    assert sizes[0] <= 1024**2, "all that a reader holds who takes nothing"
    assert max(sizes) <= 4 * 1024**2
    assert sum(sizes) == LARGE


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_putting_the_same_bytes_again_changes_nothing(store: BlobStore, key: BlobKey, size: int) -> None:
    data = secrets.token_bytes(size)
    await put(store, key, data)
    await put(store, key, data)
    assert await read(store, key, 0, size) == data


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_other_bytes_never_overwrite(store: BlobStore, key: BlobKey, size: int) -> None:
    data = secrets.token_bytes(size)
    await put(store, key, data)
    with pytest.raises(BlobConflict):
        await put(store, key, secrets.token_bytes(size))
    assert await read(store, key, 0, size) == data


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_of_two_writers_at_once_one_wins_whole(store: BlobStore, key: BlobKey, size: int) -> None:
    """Blocks that are numbered alike would mix: the slower writer's first block with the faster one's second."""
    contents = [secrets.token_bytes(size) for _ in range(4)]
    outcomes = await asyncio.gather(
        *(put(store, key, data, pause=0.01 * number) for number, data in enumerate(contents)), return_exceptions=True
    )
    winners = [data for data, outcome in zip(contents, outcomes, strict=True) if outcome is None]
    assert [type(outcome) for outcome in outcomes if outcome is not None] == [BlobConflict] * 3
    assert [await read(store, key, 0, size)] == winners


async def test_a_slow_writer_does_not_overwrite_what_came_meanwhile(store: BlobStore, key: BlobKey) -> None:
    """It found the name free, and all its blocks come after the other's commit."""
    slow, fast = HeldBytes(secrets.token_bytes(LARGE)), secrets.token_bytes(LARGE)
    writing = asyncio.ensure_future(store.put(key, slow, mime_type="image/png", sha256="0" * 64))
    await slow.asked_for.wait()
    await put(store, key, fast)
    slow.released.set()
    with pytest.raises(BlobConflict):
        await writing
    assert await read(store, key, 0, LARGE) == fast


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_writers_of_the_same_bytes_all_succeed(store: BlobStore, key: BlobKey, size: int) -> None:
    data = secrets.token_bytes(size)
    await asyncio.gather(*(put(store, key, data, pause=0.01 * number) for number in range(4)))
    assert await read(store, key, 0, size) == data


async def test_a_writer_that_stops_half_way_leaves_nothing_to_read(store: BlobStore, key: BlobKey) -> None:
    writing = asyncio.ensure_future(put(store, key, secrets.token_bytes(LARGE), pause=0.1))
    await asyncio.sleep(0.25)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    with pytest.raises(BlobMissing):
        await read(store, key, 0, 1)


async def test_a_document_is_replaced(store: BlobStore) -> None:
    key = BlobKey(MediaType.VIDEO, f"{secrets.token_hex(8)}/asset.json")
    for document in (b'{"a": 1}', '{"名": "夜"}'.encode()):
        await store.replace(key, document, mime_type="application/json")
        assert await read(store, key, 0, len(document)) == document


async def test_a_document_is_loaded_whole_with_its_version(store: BlobStore) -> None:
    key = BlobKey(MediaType.IMAGE, f"{secrets.token_hex(8)}/asset.json")
    with pytest.raises(BlobMissing):
        await store.load(key)
    for document in (b"", secrets.token_bytes(3_000_000)):
        await store.replace(key, document, mime_type="application/json")
        assert await store.load(key) == (document, (await store.facts(key)).etag)


async def test_a_document_is_replaced_only_while_its_version_is_there(store: BlobStore) -> None:
    key = BlobKey(MediaType.IMAGE, f"{secrets.token_hex(8)}/asset.json")

    async def replace_over(version: str, data: bytes) -> None:
        await store.replace(key, data, mime_type="application/json", over=version)

    with pytest.raises(BlobConflict):
        await replace_over("0x8D0000000000000", b"over what is not there")
    await replace_over(NO_VERSION, b"first")
    _, first = await store.load(key)
    await replace_over(first, b"second")
    for version in (NO_VERSION, first):
        with pytest.raises(BlobConflict):
            await replace_over(version, b"late")
    data, second = await store.load(key)
    assert data == b"second"
    await store.delete(key)
    with pytest.raises(BlobConflict):
        await replace_over(second, b"late")
    with pytest.raises(BlobMissing):
        await store.load(key)


async def test_a_blob_that_is_not_there_is_missing(store: BlobStore, key: BlobKey) -> None:
    with pytest.raises(BlobMissing):
        await read(store, key, 0, 1)


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_what_is_deleted_is_gone_and_its_name_free_again(store: BlobStore, key: BlobKey, size: int) -> None:
    data = secrets.token_bytes(size)
    await store.delete(key)
    await put(store, key, data)
    await store.delete(key)
    with pytest.raises(BlobMissing):
        await read(store, key, 0, 1)
    await put(store, key, data[::-1])
    assert await read(store, key, 0, size) == data[::-1]


async def test_containers_keep_apart(store: BlobStore, key: BlobKey) -> None:
    await put(store, key, b"image")
    with pytest.raises(BlobMissing):
        await read(store, BlobKey(MediaType.VIDEO, key.name), 0, 1)


async def test_preparing_again_keeps_what_is_there(store: BlobStore, key: BlobKey) -> None:
    await put(store, key, b"kept")
    await store.prepare()
    assert await read(store, key, 0, 4) == b"kept"
    assert await store.is_reachable()


async def test_a_discarded_blob_is_gone_and_so_is_one_that_never_was(store: BlobStore, key: BlobKey) -> None:
    await put(store, key, b"bytes")
    for _ in range(2):
        await store.discard(key)
        with pytest.raises(BlobMissing):
            await store.facts(key)


async def test_only_readers_who_are_fast_and_few_get_large_pieces(
    azurite: str, key: BlobKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever stalls then holds little, and all who stall together hold a bounded amount."""
    async with BlobServiceClient.from_connection_string(azurite, **client_options()) as client:
        store = AzureBlobStore(client, {kind: f"{kind.value}-{secrets.token_hex(6)}" for kind in MediaType})
        await store.prepare()
        await put(store, key, bytes(LARGE))
        monkeypatch.setattr("services.gallery.adapters.azure_blobs.FAST_SECONDS", 60.0)
        readers = [store.read(key, start=0, length=LARGE) for _ in range(LARGE_PIECES + 3)]
        firsts = [len(await anext(reader)) for reader in readers]
        seconds = [len(await anext(reader)) for reader in readers]
        assert set(firsts) == {PIECE_BYTES}
        assert sorted(seconds) == [PIECE_BYTES] * 3 + [LARGE_PIECE_BYTES] * LARGE_PIECES
        for reader in readers:
            await reader.aclose()
        monkeypatch.setattr("services.gallery.adapters.azure_blobs.FAST_SECONDS", 0.0)
        slow = [len(piece) async for piece in store.read(key, start=0, length=LARGE)]
        assert max(slow) == PIECE_BYTES
        monkeypatch.setattr("services.gallery.adapters.azure_blobs.FAST_SECONDS", 60.0)
        assert max([len(piece) async for piece in store.read(key, start=0, length=LARGE)]) == LARGE_PIECE_BYTES


async def test_facts_tell_size_hash_type_and_version(store: BlobStore, key: BlobKey) -> None:
    await put(store, key, b"first")
    facts = await store.facts(key)
    assert (facts.key, facts.size, facts.mime_type) == (key, 5, "image/png")
    assert facts.sha256 == hashlib.sha256(b"first").hexdigest()
    await store.replace(key, b"second", mime_type="image/png")
    replaced = await store.facts(key)
    assert (replaced.size, replaced.sha256) == (6, "")
    assert replaced.etag != facts.etag
    assert replaced.write_time >= facts.write_time
    with pytest.raises(BlobMissing):
        await store.facts(BlobKey(MediaType.IMAGE, "nothing/original"))


async def test_a_version_is_read_or_deleted_only_while_it_is_there(store: BlobStore, key: BlobKey) -> None:
    await put(store, key, b"first")
    old = (await store.facts(key)).etag
    assert b"".join([piece async for piece in store.read(key, start=0, length=5, etag=old)]) == b"first"
    await store.replace(key, b"other", mime_type="image/png")
    with pytest.raises(BlobMissing):
        _ = [piece async for piece in store.read(key, start=0, length=5, etag=old)]
    await store.delete(key, etag=old)
    assert await read(store, key, 0, 5) == b"other"
    await store.delete(key, etag=(await store.facts(key)).etag)
    with pytest.raises(BlobMissing):
        await store.facts(key)
    await store.delete(key, etag=old)


async def test_a_walk_goes_through_all_pages_by_name_and_sees_only_its_prefix_and_container(store: BlobStore) -> None:
    names = [
        "a-b/original",
        "a/asset.json",
        "a/original",
        "a0/original",
        "b/original",
        "_folders/x.json",
        "ab/original",
    ]
    for name in names:
        await put(store, BlobKey(MediaType.IMAGE, name), name.encode())
    await put(store, BlobKey(MediaType.VIDEO, "a/original"), b"elsewhere")
    found = [facts async for facts in store.walk(MediaType.IMAGE)]
    assert [facts.key.name for facts in found] == sorted(names)
    assert {facts.sha256 for facts in found} == {hashlib.sha256(name.encode()).hexdigest() for name in names}
    assert [facts.etag for facts in found] == [(await store.facts(facts.key)).etag for facts in found]
    assert [facts.key.name async for facts in store.walk(MediaType.IMAGE, "a/")] == ["a/asset.json", "a/original"]
    assert [facts async for facts in store.walk(MediaType.VIDEO, "b/")] == []
