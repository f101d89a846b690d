"""Thousands of hostile names: kept exactly or refused with a reason, and none of them ever names a blob."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import quote

import grpc
import grpc.aio
import httpx2
import pytest
import pytest_asyncio
from google.protobuf.field_mask_pb2 import FieldMask

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from tests.gallery import hostile
from tests.gallery.counts import drift
from tests.gallery.harness import Client, Gallery, refusal
from tests.gallery.test_folders import listed
from tests.gateway.harness import gateway_settings, running_envoy
from tests.support.campaign import scaled
from tests.support.errors import rest_error
from tests.support.media import png

PICTURE = png(8, 8)
OVER_GRPC, OVER_REST = scaled(420, 3600), scaled(200, 1500)
BLOB = re.compile(
    r"[^/]+/(?:[a-z0-9-]{1,63}/(?:original|asset\.json|thumbnail\.webp|preview\.webp|poster\.webp)"
    r"|_folders/[a-z0-9-]{1,63}\.json|_staging/[a-z0-9-]{1,63})"
)
REFUSALS = {"INVALID_FIELD", "INVALID_FOLDER_PATH"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rest(gallery: Gallery, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx2.AsyncClient]:
    """The gallery through a real gateway; the caller is `local`."""
    settings = gateway_settings({"gallery": gallery.port})
    async with running_envoy(settings, tmp_path_factory.mktemp("gateway")):
        base = f"http://127.0.0.1:{settings.listen.port}/api/v1"
        async with httpx2.AsyncClient(base_url=base, timeout=30) as client:
            yield client


@pytest.fixture
def local(gallery: Gallery) -> Client:
    """Who the gateway's callers are."""
    return gallery.user("local")


async def each(texts: list[str], do: Callable[[str], Awaitable[None]]) -> None:
    """A few at a time."""
    for at in range(0, len(texts), 8):
        async with asyncio.TaskGroup() as group:
            for text in texts[at : at + 8]:
                group.create_task(_awaited(do(text)))


async def _awaited(work: Awaitable[None]) -> None:
    await work


async def test_folders_over_grpc(user: Client) -> None:
    made: set[str] = set()

    async def try_one(path: str) -> None:
        request = pb.CreateFolderRequest(folder=pb.Folder(path=path))
        if not hostile.is_path(path):
            error = await refusal(user.call(request))
            assert (error.code, error.reason in REFUSALS) == (grpc.StatusCode.INVALID_ARGUMENT, True), repr(path)
            assert error.fields == ("folder.path",)
            return
        try:
            assert (await user.call(request)).path == path
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.ALREADY_EXISTS, repr(path)  # noqa: PT017 - made as a parent
        made.update("/".join(path.split("/")[: depth + 1]) for depth in range(path.count("/") + 1))
        assert not (await user.page(folder=path)).assets, "it is found by its path"

    await each(hostile.paths(OVER_GRPC, 1), try_one)
    assert [folder.path for folder in await listed(user, page_size=37)] == sorted(made)
    await nothing_escaped(user)


async def test_names_and_tags_over_grpc(user: Client) -> None:
    assets = [await user.upload(PICTURE) for _ in range(8)]

    async def try_one(text: str) -> None:
        name = assets[len(text) % 8].name
        for fields, good, wanted in (
            ({"display_name": text}, hostile.is_name(text), text),
            ({"tags": [text, "t"]}, hostile.is_tag(text), [text, "t"]),
            ({"labels": {"k": text}}, len(text) <= 255 and "\0" not in text, {"k": text}),
        ):
            [field] = fields
            request = pb.UpdateAssetRequest(asset=pb.Asset(name=name, **fields), update_mask=FieldMask(paths=[field]))
            if good:
                updated = getattr(await user.call(request), field)
                assert (updated if isinstance(updated, str) else type(wanted)(updated)) == wanted, repr(text)
            elif text:
                error = await refusal(user.call(request))
                assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"), repr(text)

    await each(hostile.names(OVER_GRPC // 3, 2), try_one)
    assert await drift(user) == {}
    await nothing_escaped(user)


async def test_folders_over_rest(rest: httpx2.AsyncClient, local: Client) -> None:
    async def try_one(path: str) -> None:
        answer = await rest.post("/folders", json={"folder": {"path": path}})
        if not hostile.is_path(path):
            error = rest_error(answer)
            assert (error.status, error.reason in REFUSALS) == (400, True), repr(path)
            return
        assert answer.status_code in {200, 409}, repr(path)
        if answer.status_code == 200:
            assert answer.json()["path"] == path
        found = await rest.get(f"/assets?folder={quote(path, safe='')}")
        assert found.status_code == 200, repr(path)

    await each(hostile.paths(OVER_REST, 3), try_one)
    await nothing_escaped(local)


async def test_names_over_rest_come_back_exactly_and_as_a_harmless_file_name(
    rest: httpx2.AsyncClient, local: Client
) -> None:
    assets = [await local.upload(PICTURE) for _ in range(8)]
    turns = [asyncio.Lock() for _ in assets]

    async def try_one(text: str) -> None:
        number = len(text) % 8
        name = assets[number].name
        async with turns[number]:
            answer = await rest.patch(f"/{name}", json={"asset": {"displayName": text}, "updateMask": "displayName"})
            if not hostile.is_name(text) and text:
                error = rest_error(answer)
                assert (error.status, error.reason) == (400, "INVALID_FIELD"), repr(text)
                return
            assert answer.json()["displayName"] == (text or f"{name[7:]}.png")
            download = await rest.get(f"/{name}:download")
        assert (download.status_code, download.content) == (200, PICTURE), repr(text)
        assert "set-cookie" not in download.headers
        assert download.headers["content-disposition"].isascii()

    await each(hostile.names(OVER_REST // 3, 4), try_one)
    await nothing_escaped(local)


async def test_a_missing_folder_with_a_hostile_path_is_told_to_be_missing(rest: httpx2.AsyncClient) -> None:
    for path in ("😀" * 1024, "夜" * 1024, "a%2Fb\u2028", "\u202e" * 1024, "<" * 1024):
        error = rest_error(await rest.get(f"/assets?folder={quote('m' + path[1:], safe='')}"))
        assert (error.status, error.reason) == (404, "FOLDER_NOT_FOUND"), repr(path[:9])


@pytest.mark.parametrize("escape", [r"\ud800", r"\udc00x", r"\ud800\ud800", r"a\udfff"])
async def test_half_a_character_in_json_is_refused(rest: httpx2.AsyncClient, local: Client, escape: str) -> None:
    asset = await local.upload(PICTURE)
    json = {"content-type": "application/json"}
    for method, path, body in (
        ("POST", "/folders", f'{{"folder": {{"path": "{escape}"}}}}'),
        ("PATCH", f"/{asset.name}", f'{{"asset": {{"displayName": "{escape}"}}}}'),
    ):
        error = rest_error(await rest.request(method, path, content=body, headers=json))
        assert (error.status, error.reason) == (400, "MALFORMED_REQUEST")
    assert await local.get(asset.name) == asset


async def test_bytes_that_are_no_text_are_refused(user: Client) -> None:
    """Field 1 (folder) with field 2 (path): half a surrogate pair, an overlong slash, a byte alone."""
    call: Any = user.gallery.channel.unary_unary("/contentlab.gallery.v1.GalleryService/CreateFolder")
    for text in (b"\xed\xa0\x80", b"\xc0\xaf", b"\xff"):
        folder = b"\x12" + bytes([len(text)]) + text
        error = await refusal(call(b"\x0a" + bytes([len(folder)]) + folder, metadata=user.metadata))
        assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST")
    assert not await listed(user)


async def test_normal_forms_of_one_name_are_different_folders(user: Client) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    asset = await user.upload(PICTURE, folder=composed)
    await user.upload(PICTURE, folder=decomposed)
    assert await user.names(folder=composed) == [asset.name]
    assert [folder.path for folder in await listed(user)] == [decomposed, composed]


async def nothing_escaped(user: Client) -> None:
    """Blobs have names of ours only."""
    assert [name for name in await user.gallery.blobs() if not BLOB.fullmatch(name)] == []
