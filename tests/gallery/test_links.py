"""Links: whoever has one reads that one object, under its name, for a while, and does nothing else."""

import io
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, unquote, urlsplit

import grpc
import httpx2
import pytest
import pytest_asyncio
from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas
from google.protobuf.duration_pb2 import Duration
from PIL import Image

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from tests.conftest import NewDatabase
from tests.gallery.harness import Client, refusal, running_gallery
from tests.gallery.media import SVG
from tests.support.links import cannot_do_anything_but_read, link_to
from tests.support.media import png

NAME = "夕焼け 100 % “final”.png"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=30) as client:
        yield client


async def test_a_link_gives_the_bytes_with_type_and_unicode_name(user: Client, http: httpx2.AsyncClient) -> None:
    data = png(30, 20)
    asset = await user.upload(data, display_name=NAME)
    link = await link_to(user, asset.name)
    answer = await http.get(link.uri)
    assert (answer.status_code, answer.content) == (200, data)
    assert answer.headers["content-type"] == "image/png"
    assert "filename*=UTF-8''%E5%A4%95%E7%84%BC%E3%81%91%20100%20%25" in answer.headers["content-disposition"]
    assert answer.headers["cache-control"] == "private"
    part = await http.get(link.uri, headers={"range": "bytes=5-9"})
    assert (part.status_code, part.content) == (206, data[5:10])


async def test_a_link_to_what_has_a_long_name_is_short_and_keeps_its_beginning_and_its_end(
    user: Client, http: httpx2.AsyncClient
) -> None:
    for name, ending in (("夕" * 200 + ".jpeg", "jpeg"), ("🏔" * 200, "png"), ("x" * 251 + ".png", "png")):
        asset = await user.upload(png(600, 400), display_name=name)
        for variant in (pb.Asset.VARIANT_UNSPECIFIED, pb.Asset.THUMBNAIL):
            link = await link_to(user, asset.name, variant=variant)
            answer = await http.get(link.uri)
            shown = unquote(answer.headers["content-disposition"].partition("UTF-8''")[2])
            stem, _, shown_ending = shown.rpartition(".")
            assert name.startswith(stem), shown
            assert shown_ending == ("webp" if variant else ending)
            assert 140 < len(shown.encode()) <= 151
            assert len(link.uri) < 2_000


async def test_a_link_can_only_read_and_only_its_own_object(user: Client, http: httpx2.AsyncClient) -> None:
    asset, other = await user.upload(png(8, 8)), await user.upload(png(8, 8, seed=1))
    link = await link_to(user, asset.name)
    await cannot_do_anything_but_read(http, link.uri, other.name.removeprefix("assets/"))
    assert (await user.download(asset.name)).data == png(8, 8)


async def test_a_link_to_an_svg_is_a_download_and_never_a_page(user: Client, http: httpx2.AsyncClient) -> None:
    asset = await user.upload(SVG, display_name="drawing.svg")
    answer = await http.get((await link_to(user, asset.name)).uri)
    assert answer.headers["content-type"] == "image/svg+xml"
    assert answer.headers["content-disposition"].startswith('attachment; filename="drawing.svg"')


async def test_a_link_lives_a_quarter_of_an_hour_unless_told_otherwise(user: Client) -> None:
    asset = await user.upload(png(8, 8))
    for ttl, seconds in ((None, 900), (Duration(seconds=60), 60), (Duration(seconds=86400), 86400)):
        before = datetime.now(UTC).replace(microsecond=0)
        link = await link_to(user, asset.name, ttl=ttl)
        ends = link.expire_time.ToDatetime(UTC)
        assert timedelta(0) <= ends - before - timedelta(seconds=seconds) < timedelta(seconds=30)
        query = parse_qs(urlsplit(link.uri).query)
        assert query["se"] == [ends.strftime("%Y-%m-%dT%H:%M:%SZ")], "what the answer says is what is signed"
        assert (query["sp"], query["sr"]) == (["r"], ["b"])


@pytest.mark.parametrize("ttl", [Duration(seconds=59), Duration(seconds=86401), Duration(seconds=-1)])
async def test_a_link_lives_no_shorter_and_no_longer_than_the_contract_says(user: Client, ttl: Duration) -> None:
    asset = await user.upload(png(8, 8))
    error = await refusal(link_to(user, asset.name, ttl=ttl))
    assert (error.code, error.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("ttl",))


async def test_nobody_gets_a_link_to_another_owners_asset_or_to_a_deleted_one(user: Client) -> None:
    asset = await user.upload(png(8, 8))
    stranger = user.gallery.user()
    for call in (link_to(stranger, asset.name), link_to(user, "assets/c0")):
        assert (await refusal(call)).reason == "ASSET_NOT_FOUND"
    await user.delete(asset.name)
    assert (await refusal(link_to(user, asset.name))).reason == "ASSET_NOT_FOUND"


async def test_a_link_to_a_derivative_leads_to_a_picture_that_is_made_if_need_be(
    user: Client, http: httpx2.AsyncClient
) -> None:
    asset = await user.upload(png(900, 600), display_name="雪.png")
    answer = await http.get((await link_to(user, asset.name, variant=pb.Asset.THUMBNAIL)).uri)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
    assert answer.headers["content-disposition"].endswith("filename*=UTF-8''%E9%9B%AA.webp")
    assert Image.open(io.BytesIO(answer.content)).size == (320, 213)
    assert answer.content == (await user.download(asset.name, variant=pb.Asset.THUMBNAIL)).data


async def test_there_is_no_link_to_a_derivative_that_can_never_be(user: Client) -> None:
    drawing, picture = await user.upload(SVG), await user.upload(png(8, 8))
    for asset, variant in ((drawing, pb.Asset.THUMBNAIL), (picture, pb.Asset.POSTER)):
        error = await refusal(link_to(user, asset.name, variant=variant))
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "VARIANT_NOT_FOUND")


async def test_no_link_is_ever_logged(
    user: Client, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")
    asset = await user.upload(png(8, 8))
    link = await link_to(user, asset.name)
    upload = await user.stub.CreateUpload(
        pb.CreateUploadRequest(size_bytes=1, sha256="0" * 64), metadata=user.metadata, timeout=30
    )
    shown = "\n".join([*capfd.readouterr(), caplog.text, *(str(record.__dict__) for record in caplog.records)])
    for uri in (link.uri, upload.upload_uri):
        assert parse_qs(urlsplit(uri).query)["sig"][0] not in shown
        assert urlsplit(uri).query not in shown


async def test_a_link_shows_the_public_address_and_is_signed_for_the_account(
    new_database: NewDatabase, azurite: str, tmp_path_factory: pytest.TempPathFactory, http: httpx2.AsyncClient
) -> None:
    directory = tmp_path_factory.mktemp("public")
    public = {"azure_blob_public_url": "https://media.example.org/library/"}
    async with running_gallery(await new_database(), azurite, directory, **public) as gallery:
        user = gallery.user()
        data = png(8, 8)
        link = await link_to(user, (await user.upload(data)).name)
        base = f"https://media.example.org/library/{gallery.settings.image_container}/"
        assert link.uri.startswith(base)
        # What a proxy at that address does: hands path and query on to the service's own URL.
        origin = gallery.storage.url.rstrip("/") + link.uri.removeprefix("https://media.example.org/library")
        assert (await http.get(origin)).content == data


async def test_a_gallery_without_a_key_and_without_an_identity_signs_nothing(
    new_database: NewDatabase, azurite: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    account = dict(part.split("=", 1) for part in azurite.rstrip(";").split(";"))
    token = generate_account_sas(
        account["AccountName"],
        account["AccountKey"],
        ResourceTypes(service=True, container=True, object=True),
        AccountSasPermissions(read=True, write=True, delete=True, list=True, add=True, create=True),
        datetime.now(UTC) + timedelta(hours=1),
        protocol="https,http",
    )
    connection = f"BlobEndpoint={account['BlobEndpoint']};SharedAccessSignature={token};"
    directory = tmp_path_factory.mktemp("unsigned")
    storage = {"azure_storage_connection_string": connection, "image_container": f"images-{secrets.token_hex(4)}"}
    async with running_gallery(await new_database(), azurite, directory, **storage) as gallery:
        user = gallery.user()
        asset = await user.upload(png(8, 8))
        environment = await user.stub.GetGalleryEnvironment(
            pb.GetGalleryEnvironmentRequest(), metadata=user.metadata, timeout=30
        )
        assert environment.link_signing == ""
        create = user.stub.CreateUpload(
            pb.CreateUploadRequest(size_bytes=1, sha256="0" * 64), metadata=user.metadata, timeout=30
        )
        for call in (link_to(user, asset.name), create):
            error = await refusal(call)
            assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "LINKS_NOT_CONFIGURED")
            assert error.metadata["billed"] == "no"


async def test_the_environment_tells_how_links_are_signed(user: Client) -> None:
    environment = await user.stub.GetGalleryEnvironment(
        pb.GetGalleryEnvironmentRequest(), metadata=user.metadata, timeout=30
    )
    assert environment.link_signing == "account_key"
    assert environment.max_direct_upload_bytes == 2 * 1024**3
