"""Previews, thumbnails and posters: made once, beside the original, and again when they are lost."""

import asyncio
import io
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from PIL import Image, ImageCms

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.gallery.adapters.inspection.renderer import NotRenderedError, Renderer
from tests.conftest import NewDatabase
from tests.gallery.harness import Client, Gallery, refusal, running_gallery
from tests.gallery.media import MP4, NOT_DECODED, RASTER, VIDEOS, encoded
from tests.support.media import encode_video, png

PREVIEW, THUMBNAIL, POSTER = pb.Asset.PREVIEW, pb.Asset.THUMBNAIL, pb.Asset.POSTER


async def variant(user: Client, asset: pb.Asset, which: pb.Asset.Variant.ValueType) -> Image.Image:
    download = await user.download(asset.name, variant=which)
    assert download.messages[0].content_type == "image/webp"
    image = Image.open(io.BytesIO(download.data), formats=["WEBP"])
    image.load()
    return image


def colour(image: Image.Image, at: tuple[int, int]) -> tuple[int, ...]:
    found = image.getpixel(at)
    assert isinstance(found, tuple)
    return found


def id_of(asset: pb.Asset) -> str:
    return asset.name.removeprefix("assets/")


@pytest.mark.parametrize("mime_type", RASTER)
async def test_every_raster_picture_has_a_preview_and_a_thumbnail(user: Client, mime_type: str) -> None:
    picture = Image.radial_gradient("L").resize((1500, 900)).convert("RGB")
    asset = await user.upload(encoded(picture, mime_type.removeprefix("image/").upper()))
    assert (await variant(user, asset, PREVIEW)).size == (1024, 614)
    assert (await variant(user, asset, THUMBNAIL)).size == (320, 192)
    assert list((await user.get(asset.name)).variants) == [PREVIEW, THUMBNAIL]


async def test_a_small_picture_keeps_its_size_and_still_has_both(user: Client) -> None:
    asset = await user.upload(RASTER["image/webp"])
    assert {(await variant(user, asset, which)).size for which in (PREVIEW, THUMBNAIL)} == {(20, 10)}


@pytest.mark.parametrize("data", VIDEOS.values(), ids=VIDEOS)
async def test_a_video_has_a_poster_as_well(user: Client, data: bytes) -> None:
    asset = await user.upload(data)
    assert {(await variant(user, asset, which)).size for which in (POSTER, PREVIEW, THUMBNAIL)} == {(64, 48)}
    assert list((await user.page()).assets[0].variants) == [PREVIEW, THUMBNAIL, POSTER]


async def test_a_poster_is_not_the_black_that_a_video_begins_with(user: Client) -> None:
    black = Image.new("RGB", (320, 240))
    sun = Image.linear_gradient("L").resize((320, 240)).convert("RGB")
    asset = await user.upload(encode_video([*[black] * 8, *[sun] * 4], "mp4", "libx264", 10))
    still = await variant(user, asset, POSTER)
    assert colour(still.resize((1, 1), Image.Resampling.BOX), (0, 0)) > (90, 90, 90)


async def test_a_black_video_has_a_black_poster(user: Client) -> None:
    asset = await user.upload(encode_video([Image.new("RGB", (64, 48))] * 3, "mp4", "libx264", 10))
    assert max((await variant(user, asset, POSTER)).resize((1, 1)).tobytes()) < 20


async def test_a_large_video_has_a_poster_that_is_bounded(user: Client) -> None:
    asset = await user.upload(encode_video([Image.new("RGB", (2560, 1440), (200, 80, 20))], "mp4", "libx264", 10))
    assert (await variant(user, asset, POSTER)).size == (1920, 1080)


@pytest.mark.parametrize(
    ("data", "which"),
    [(RASTER["image/png"], POSTER), (NOT_DECODED["image/svg+xml"], PREVIEW), (NOT_DECODED["image/svg+xml"], POSTER)],
    ids=["a poster of a picture", "a preview of a drawing", "a poster of a drawing"],
)
async def test_what_there_can_never_be_is_not_found(
    user: Client, data: bytes, which: pb.Asset.Variant.ValueType
) -> None:
    asset = await user.upload(data)
    error = await refusal(user.download(asset.name, variant=which))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "VARIANT_NOT_FOUND")


async def test_the_picture_is_turned_upright(user: Client) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    picture = Image.new("RGB", (400, 200), (0, 0, 255))
    picture.paste((255, 0, 0), (0, 0, 200, 200))
    asset = await user.upload(encoded(picture, "JPEG", exif=exif))
    upright = await variant(user, asset, THUMBNAIL)
    assert upright.size == (160, 320)
    red, _, blue = colour(upright, (80, 20))
    assert red > 200 > blue
    assert not upright.getexif()


def palette(index: int) -> Image.Image:
    image = Image.new("P", (40, 40), index)
    image.putpalette([9, 9, 9] * 2 + [200, 9, 9] * 2)
    return image


TRANSPARENT = {
    "RGBA": encoded(Image.new("RGBA", (40, 40), (9, 200, 9, 0)), "PNG"),
    "LA": encoded(Image.new("LA", (40, 40), (9, 0)), "PNG"),
    "palette": encoded(palette(3), "PNG", transparency=3),
    "grey with a transparent grey": encoded(Image.new("L", (40, 40), 3), "PNG", transparency=3),
    "GIF": encoded(palette(3), "GIF", transparency=3),
}


@pytest.mark.parametrize("data", TRANSPARENT.values(), ids=TRANSPARENT)
async def test_what_is_transparent_stays_so(user: Client, data: bytes) -> None:
    image = await variant(user, await user.upload(data), THUMBNAIL)
    assert image.mode == "RGBA"
    assert image.getchannel("A").getextrema() == (0, 0)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encoded(Image.new("CMYK", (30, 30), (0, 255, 255, 0)), "JPEG"), (255, 0, 0)),
        (encoded(Image.new("I;16", (30, 30), 0x8000), "PNG"), (128, 128, 128)),
        (encoded(Image.new("1", (30, 30), 1), "PNG"), (255, 255, 255)),
    ],
    ids=["CMYK", "16 bit grey", "1 bit"],
)
async def test_every_mode_keeps_its_colours(user: Client, data: bytes, expected: tuple[int, int, int]) -> None:
    found = colour(await variant(user, await user.upload(data), THUMBNAIL), (15, 15))
    assert max(abs(one - other) for one, other in zip(found, expected, strict=True)) < 12


async def test_colours_are_converted_from_the_pictures_own_profile(user: Client) -> None:
    """In this profile red and green are each other's."""
    swapped = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = swapped.index(b"rXYZ"), swapped.index(b"gXYZ")
    swapped[red : red + 4], swapped[green : green + 4] = b"gXYZ", b"rXYZ"
    asset = await user.upload(encoded(Image.new("RGB", (30, 30), (255, 0, 0)), "PNG", icc_profile=bytes(swapped)))
    red_part, green_part, _ = colour(await variant(user, asset, THUMBNAIL), (15, 15))
    assert green_part > 200 > red_part


async def test_a_broken_profile_is_left_out(user: Client) -> None:
    asset = await user.upload(encoded(Image.new("RGB", (30, 30), (255, 0, 0)), "PNG", icc_profile=b"no profile" * 20))
    assert colour(await variant(user, asset, THUMBNAIL), (15, 15))[0] > 240


async def test_an_animation_is_shown_by_its_first_frame(user: Client) -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    asset = await user.upload(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True))
    assert colour(await variant(user, asset, PREVIEW), (20, 20))[0] > 240


async def test_a_derivative_is_a_resource_of_its_own(user: Client) -> None:
    asset = await user.upload(png(400, 300), display_name="夕暮れ.png")
    whole = await user.download(asset.name, variant=THUMBNAIL)
    etag = whole.headers["etag"]
    assert etag != f'"{asset.sha256}"'
    assert not etag.startswith("W/")
    assert whole.headers["x-http-content-length"] == str(len(whole.data))
    assert "%E5%A4%95%E6%9A%AE%E3%82%8C.webp" in whole.headers["content-disposition"]
    part = await user.download(asset.name, ("range", "bytes=4-9"), variant=THUMBNAIL)
    assert (part.headers["x-http-code"], part.data) == ("206", whole.data[4:10])
    unchanged = await user.download(asset.name, ("if-none-match", etag), variant=THUMBNAIL)
    assert (unchanged.headers["x-http-code"], unchanged.data) == ("304", b"")
    assert (await user.get(asset.name)).etag == asset.etag, "derivatives are no change of the asset"


async def test_another_owners_derivatives_are_not_found(gallery: Gallery, user: Client) -> None:
    asset = await user.upload(png(32, 24))
    await user.download(asset.name, variant=THUMBNAIL)
    error = await refusal(gallery.user().download(asset.name, variant=THUMBNAIL))
    assert error.reason == "ASSET_NOT_FOUND"


async def test_a_lost_derivative_is_made_anew(gallery: Gallery, user: Client) -> None:
    asset = await user.upload(png(32, 24))
    first = await user.download(asset.name, variant=THUMBNAIL)
    name = f"{id_of(asset)}/thumbnail.webp"
    await gallery.storage.get_blob_client(gallery.settings.image_container, name).delete_blob()
    assert (await user.download(asset.name, variant=THUMBNAIL)).data == first.data


async def test_who_asks_at_the_same_time_waits_for_one_making(
    gallery: Gallery, user: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset, made = await user.upload(png(600, 600)), 0
    render = Renderer.render

    async def counted(*arguments: object) -> object:
        nonlocal made
        made += 1
        return await render(*arguments)  # type: ignore[arg-type]  # handed through

    monkeypatch.setattr(Renderer, "render", counted)
    found = await asyncio.gather(*(user.download(asset.name, variant=which) for which in (PREVIEW, THUMBNAIL) * 6))
    assert len({download.data for download in found}) == 2
    assert made == 1


async def test_bytes_that_cannot_be_shown_are_tried_once_a_day(gallery: Gallery, user: Client) -> None:
    asset = await user.upload(png(32, 24))
    whole = await spoil(gallery, asset)
    for which, name in ((THUMBNAIL, "THUMBNAIL"), (PREVIEW, "PREVIEW")):
        error = await refusal(user.download(asset.name, variant=which))
        assert (error.reason, error.metadata["variant"]) == ("VARIANT_NOT_FOUND", name)
    time, *rest = await state(gallery, asset)
    assert rest == [3, []]
    assert timedelta(hours=23) < time - datetime.now(UTC) < timedelta(hours=25)
    await spoil(gallery, asset, whole)
    assert (await refusal(user.download(asset.name, variant=THUMBNAIL))).reason == "VARIANT_NOT_FOUND"
    await gallery.execute("UPDATE gallery.asset SET derive_time = now() WHERE id = %s", id_of(asset))
    assert (await variant(user, asset, THUMBNAIL)).size == (32, 24)
    assert await state(gallery, asset) == (None, 0, ["preview", "thumbnail"])


async def test_after_three_failures_nobody_tries_again(
    gallery: Gallery, user: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*arguments: object) -> object:
        raise NotRenderedError("time")

    monkeypatch.setattr(Renderer, "render", fail)
    asset = await user.upload(png(32, 24))
    reasons = [(await refusal(user.download(asset.name, variant=THUMBNAIL))).reason for _ in range(4)]
    assert reasons == ["UNAVAILABLE", "UNAVAILABLE", "UNAVAILABLE", "VARIANT_NOT_FOUND"]


async def test_what_is_purged_while_its_derivatives_are_made_leaves_none(
    gallery: Gallery, user: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset = await user.upload(png(32, 24))
    render = Renderer.render

    async def purge_meanwhile(*arguments: object) -> object:
        await gallery.execute("DELETE FROM gallery.asset WHERE id = %s", id_of(asset))
        return await render(*arguments)  # type: ignore[arg-type]  # handed through

    monkeypatch.setattr(Renderer, "render", purge_meanwhile)
    assert (await refusal(user.download(asset.name, variant=THUMBNAIL))).reason == "ASSET_NOT_FOUND"
    assert [name for name in await gallery.blobs() if id_of(asset) in name and name.endswith(".webp")] == []


async def spoil(gallery: Gallery, asset: pb.Asset, data: bytes = b"") -> bytes:
    """The original as it could be from a time with other rules; what it was."""
    blob = gallery.storage.get_blob_client(gallery.settings.image_container, f"{id_of(asset)}/original")
    before = await (await blob.download_blob()).readall()
    await blob.upload_blob(data or b"\x89PNG\r\n\x1a\n".ljust(asset.size_bytes, b"\0"), overwrite=True)
    return before


async def state(gallery: Gallery, asset: pb.Asset) -> tuple[Any, int, list[str]]:
    query = "SELECT derive_time, derive_attempts, variants FROM gallery.asset WHERE id = %s"
    [row] = await gallery.query(query, id_of(asset))
    return row[0], row[1], row[2]


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110 - another process's state
            await asyncio.sleep(0.05)


async def test_they_are_made_in_the_background_each_once_however_many_processes_do_it(
    new_database: NewDatabase, azurite: str, tmp_path: Path
) -> None:
    database = await new_database()
    containers: dict[str, str] = {}
    async with running_gallery(database, azurite, tmp_path, derive_on_ingest=True) as one:
        containers = {
            "image_container": one.settings.image_container,
            "video_container": one.settings.video_container,
        }
        async with running_gallery(database, azurite, tmp_path, derive_on_ingest=True, **containers) as other:
            user = one.user()
            broken = await user.upload(png(30, 24))
            await spoil(one, broken)
            uploads = [png(32 + number, 24) for number in range(8)]
            assets = [*[await user.upload(data) for data in uploads], await user.upload(MP4)]
            drawing = await user.upload(NOT_DECODED["image/svg+xml"])

            async def all_are_there() -> bool:
                found = {asset.name: len(asset.variants) for asset in (await user.page()).assets}
                return all(found[asset.name] == 2 + (asset.mime_type == "video/mp4") for asset in assets)

            await eventually(all_are_there)

            async def nothing_waits() -> bool:
                return not await one.query("SELECT 1 FROM gallery.asset WHERE derive_time < now() + interval '1 h'")

            await eventually(nothing_waits)
            assert await state(one, drawing) == (None, 0, [])
            made = [
                gallery.registry.get_sample_value("contentlab_gallery_derivatives_total", {"variant": "thumbnail"})
                for gallery in (one, other)
            ]
            # The broken one may have been rendered before its bytes were spoiled.
            assert sum(number or 0 for number in made) - len(assets) in (0, 1)


async def test_what_a_process_began_and_left_is_taken_over(
    new_database: NewDatabase, azurite: str, tmp_path: Path
) -> None:
    async with running_gallery(await new_database(), azurite, tmp_path) as gallery:
        user = gallery.user()
        left, spent = await user.upload(png(32, 24)), await user.upload(png(33, 24))
        begun = "UPDATE gallery.asset SET derive_time = now() + %s::interval, derive_attempts = %s WHERE id = %s"
        await gallery.execute(begun, "1 second", 1, id_of(left))
        await gallery.execute(begun, "1 hour", 3, id_of(spent))
        containers = {
            "image_container": gallery.settings.image_container,
            "video_container": gallery.settings.video_container,
        }
        url = gallery.settings.database_url.get_secret_value()
        async with running_gallery(url, azurite, tmp_path, derive_on_ingest=True, **containers):

            async def settled() -> bool:
                return (await state(gallery, left))[2] == ["preview", "thumbnail"]

            await eventually(settled)
            assert (await state(gallery, spent))[1:] == (3, [])
