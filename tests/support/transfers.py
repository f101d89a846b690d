"""Large real videos and the ways to send and fetch them, a piece at a time."""

import asyncio
import hashlib
import random
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from tests.support.gallery_process import GalleryProcess
from tests.support.media import mp4

PIECE = 256 * 1024


@dataclass(frozen=True)
class Video:
    """A file with a video in it."""

    path: Path
    size: int
    sha256: str

    def pieces(self) -> Iterator[bytes]:
        """Its bytes."""
        with self.path.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece


def large_video(path: Path, size: int) -> Video:
    """An MP4 that plays, with a `free` box behind it (ISO/IEC 14496-12, 8.1.2) that makes it as large as wanted."""
    head = mp4()
    noise, left = random.Random(size).randbytes(PIECE), size - len(head)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for piece in _padded(head + struct.pack(">I4s", left, b"free"), left - 8, noise):
            file.write(piece)
            digest.update(piece)
    return Video(path, size, digest.hexdigest())


def _padded(head: bytes, length: int, noise: bytes) -> Iterator[bytes]:
    yield head
    for at in range(0, length, len(noise)):
        yield noise[: length - at]


async def upload_by_grpc(gallery: GalleryProcess, video: Video) -> str:
    """Uploads by `UploadAsset`: the asset's name."""

    async def messages() -> AsyncIterator[pb.UploadAssetRequest]:
        yield pb.UploadAssetRequest(metadata=pb.UploadMetadata(size_bytes=video.size, sha256=video.sha256))
        for piece in video.pieces():
            yield pb.UploadAssetRequest(chunk=piece)

    asset = await gallery.stub.UploadAsset(messages(), timeout=600)
    assert (asset.sha256, asset.size_bytes) == (video.sha256, video.size)
    return str(asset.name)


async def upload_by_rest(client: httpx2.AsyncClient, video: Video) -> str:
    """Uploads as a raw body with a length, as browsers do: the asset's name."""

    async def body() -> AsyncIterator[bytes]:
        for piece in video.pieces():
            yield piece
            await asyncio.sleep(0)

    headers = {"content-length": str(video.size), "content-type": "video/mp4"}
    answer = await client.post("/api/v1/assets:upload", content=body(), headers=headers)
    assert answer.status_code == 200, answer.text
    asset = answer.json()
    assert asset["sha256"] == video.sha256
    return str(asset["name"])


async def download_by_grpc(gallery: GalleryProcess, name: str) -> str:
    """Reads all of an asset: its SHA-256."""
    digest = hashlib.sha256()
    async for message in gallery.stub.DownloadAsset(pb.DownloadAssetRequest(name=name), timeout=600):
        digest.update(message.data)
    return digest.hexdigest()


async def download_by_rest(client: httpx2.AsyncClient, name: str) -> str:
    """The same through the gateway."""
    digest = hashlib.sha256()
    async with client.stream("GET", f"/api/v1/{name}:download") as answer:
        assert answer.status_code == 200, answer.status_code
        async for piece in answer.aiter_bytes():
            digest.update(piece)
    return digest.hexdigest()
