"""The main job: a prompt sent to the gateway comes back as a picture that is stored, listed and downloadable."""

import hashlib
import io
import uuid

from PIL import Image

from contentlab.gallery.v1 import gallery_service_pb2 as gallery_pb
from contentlab.gallery.v1 import gallery_service_pb2_grpc as gallery_rpc
from contentlab.image.v1 import image_service_pb2 as image_pb
from contentlab.image.v1 import image_service_pb2_grpc as image_rpc
from tests.support.stack import Stack


async def sent_by_provider(stack: Stack) -> set[str]:
    """SHA-256 of every picture that the emulator sent."""
    return {digest for charge in await stack.charges() for digest in charge["pictures"]}


async def test_a_prompt_becomes_a_stored_picture_over_rest(stack: Stack) -> None:
    async with stack.client() as client:
        made = await client.post("/api/v1/images:generate", json={"prompt": "a lighthouse at dusk"})
        assert made.status_code == 200, made.text
        generation = made.json()
        assert generation["state"] == "SUCCEEDED"
        assert int(generation["usage"]["outputTokens"]) > 0
        assert int(generation["cost"]["amountMicroUsd"]) > 0
        [name] = generation["assets"]

        listed = (await client.get("/api/v1/assets")).json()["assets"]
        assert listed[0]["name"] == name
        assert listed[0]["prompt"] == "a lighthouse at dusk"
        assert listed[0]["origin"] == generation["name"]
        assert listed[0]["cost"] == generation["cost"]

        downloaded = await client.get(f"/api/v1/{name}:download")
        assert downloaded.status_code == 200
        assert downloaded.headers["content-type"] == "image/png"
        with Image.open(io.BytesIO(downloaded.content)) as picture:
            picture.load()
            assert picture.format == "PNG"
            assert picture.size == (generation["results"][0]["widthPx"], generation["results"][0]["heightPx"])
        digest = hashlib.sha256(downloaded.content).hexdigest()
        assert digest == generation["results"][0]["sha256"] == listed[0]["sha256"]
        assert digest in await sent_by_provider(stack)


async def test_the_same_over_grpc_stubs(stack: Stack) -> None:
    async with stack.channel() as channel:
        image = image_rpc.ImageServiceStub(channel)
        gallery = gallery_rpc.GalleryServiceStub(channel)
        generation = await image.GenerateImages(
            image_pb.GenerateImagesRequest(prompt="灯台と夕暮れ", n=2, output_format="webp"), timeout=60
        )
        assert generation.state == image_pb.ImageGeneration.SUCCEEDED
        assert len(generation.assets) == 2

        listed = await gallery.ListAssets(gallery_pb.ListAssetsRequest(origin=generation.name), timeout=10)
        assert {asset.name for asset in listed.assets} == set(generation.assets)
        assert {asset.prompt for asset in listed.assets} == {"灯台と夕暮れ"}
        assert sum(asset.cost.amount_micro_usd for asset in listed.assets) == generation.cost.amount_micro_usd

        for name, result in zip(generation.assets, generation.results, strict=True):
            call = gallery.DownloadAsset(gallery_pb.DownloadAssetRequest(name=name), timeout=30)
            content = b"".join([message.data async for message in call])
            digest = hashlib.sha256(content).hexdigest()
            assert digest == result.sha256
            assert digest in await sent_by_provider(stack)
            with Image.open(io.BytesIO(content)) as picture:
                assert picture.format == "WEBP"


async def test_a_transparent_picture_is_known_to_be_transparent(stack: Stack) -> None:
    async with stack.client() as client:
        request = {"prompt": "a red apple", "background": "transparent", "outputFormat": "png"}
        seen = (await client.post("/api/v1/images:generate", json=request)).json()
        assert seen["results"][0]["hasTransparency"] is True
        opaque = (await client.post("/api/v1/images:generate", json={"prompt": "a red apple"})).json()
        assert opaque["results"][0]["hasTransparency"] is False


async def test_the_same_request_id_is_paid_for_once(stack: Stack) -> None:
    request = {"prompt": "paid once", "requestId": str(uuid.uuid4())}
    async with stack.client() as client:
        first = (await client.post("/api/v1/images:generate", json=request)).json()
        charges = len(await stack.charges())
        again = (await client.post("/api/v1/images:generate", json=request)).json()
        assert again["assets"] == first["assets"]
        assert len(await stack.charges()) == charges
        other = await client.post("/api/v1/images:generate", json={**request, "prompt": "something else"})
        assert other.status_code == 400
        assert other.json()["details"][0]["reason"] == "REQUEST_ID_REUSED"


async def test_a_method_that_is_not_built_yet_says_so(stack: Stack) -> None:
    async with stack.client() as client:
        for path in ("/api/v1/videoJobs", "/api/v1/usagePrices"):
            answer = await client.get(path)
            assert answer.status_code == 501, (path, answer.text)
            assert answer.json()["details"][0]["reason"] == "NOT_IMPLEMENTED"
