"""Pictures as a model is shown them, and what the process that prepares them withstands."""

import asyncio
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from services.common.errors import InvalidArgument, Unavailable
from services.models.helpers import flattener
from services.models.helpers.flatten import Flattening, UnusablePicture, flatten
from services.models.helpers.flattener import Flattener
from services.models.text_requests import Picture
from tests.support.media import png

WANTED = Flattening(edge_px=100, max_pixels=1_000_000)
ORIENTATION = 0x0112


def file(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, format, **options)
    return target.getvalue()


def shown(content: bytes, wanted: Flattening = WANTED) -> Image.Image:
    """What comes out, decoded."""
    flat, mime_type = flatten(content, wanted)
    image = Image.open(io.BytesIO(flat))
    assert mime_type == f"image/{(image.format or '').lower()}"
    image.load()
    return image


def drawing(mode: str, colour: Any, ground: Any, size: tuple[int, int] = (80, 60)) -> Image.Image:
    """A rectangle on a ground, in the upper left quarter."""
    image = Image.new(mode, size, ground)
    image.paste(colour, (0, 0, size[0] // 2, size[1] // 2))
    return image


@pytest.mark.parametrize(
    ("size", "fitted"), [((80, 60), (80, 60)), ((400, 200), (100, 50)), ((200, 400), (50, 100)), ((900, 3), (100, 1))]
)
def test_a_picture_is_made_smaller_where_it_must_and_never_larger(
    size: tuple[int, int], fitted: tuple[int, int]
) -> None:
    assert shown(file(Image.new("RGB", size, "red"))).size == fitted
    assert shown(file(Image.effect_noise(size, 90).convert("RGB"), "JPEG")).size == fitted


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "AVIF"])
def test_every_format_is_shown(format: str) -> None:
    image = shown(file(drawing("RGB", "red", "blue"), format))
    assert image.size == (80, 60)
    red, _, blue = image.convert("RGB").getpixel((5, 5))  # type: ignore[misc]  # of RGB it is a tuple
    assert red > 200 > 60 > blue


def test_drawings_stay_sharp_and_photographs_small() -> None:
    assert shown(file(drawing("RGB", "red", "blue"))).format == "PNG"
    assert shown(png(90, 90)).format == "JPEG"
    grey = file(Image.linear_gradient("L"))
    assert shown(grey, Flattening(edge_px=256, max_pixels=10**6)).format == "JPEG"


@pytest.mark.parametrize(
    ("colour", "ground"),
    [
        pytest.param((200, 0, 0, 255), 255, id="colours on white"),
        pytest.param((0, 0, 0, 255), 255, id="black on white"),
        pytest.param((255, 255, 255, 255), 128, id="white on grey"),
        pytest.param((250, 250, 240, 60), 128, id="a pale veil on grey"),
    ],
)
def test_what_is_transparent_gets_a_ground_on_which_the_rest_can_be_seen(colour: tuple[int, ...], ground: int) -> None:
    image = shown(file(drawing("RGBA", colour, (0, 0, 0, 0)))).convert("RGB")
    assert image.getpixel((70, 50)) == (ground, ground, ground)
    assert image.getpixel((5, 5)) != image.getpixel((70, 50))


@pytest.mark.parametrize("mode", ["P", "LA", "1", "L", "CMYK", "I;16"])
def test_every_kind_of_pixel_is_shown(mode: str) -> None:
    if mode == "P":
        content = file(drawing("RGBA", (200, 0, 0, 255), (0, 0, 0, 0)).quantize(4), "PNG")
    elif mode == "CMYK":
        content = file(drawing("CMYK", (0, 255, 255, 0), (0, 0, 0, 0)), "JPEG")
    elif mode == "I;16":
        line = struct.pack("<80H", *[20_000] * 40, *[60_000] * 40)
        content = file(Image.frombytes("I;16", (80, 60), line * 60))
    else:
        content = file(drawing(mode, (90, 255) if mode == "LA" else 0, (0, 0) if mode == "LA" else 255))
    image = shown(content).convert("L")
    dark, light = image.getpixel((5, 5)), image.getpixel((70, 50))
    assert isinstance(dark, int)
    assert isinstance(light, int)
    assert light - dark > 80
    if mode == "I;16":
        assert (dark, light) == (78, 234), "the upper halves, not white and white"


@pytest.mark.parametrize("size", [(80, 60), (800, 600)])
def test_a_photograph_is_turned_upright_and_tells_nothing_else(size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif[0x010F] = "a camera that somebody owns"
    content = file(drawing("RGB", "red", "blue", size), "JPEG", exif=exif, comment=b"secret")
    flat, _ = flatten(content, WANTED)
    image = Image.open(io.BytesIO(flat)).convert("RGB")
    assert image.width < image.height
    red, _, blue = image.getpixel((image.width - 5, 5))  # type: ignore[misc]  # of RGB it is a tuple
    assert red > blue, "the upper left is the upper right now"
    assert b"somebody" not in flat
    assert b"secret" not in flat
    assert b"Exif" not in flat


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_shown(format: str) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    content = file(frames[0], format, save_all=True, append_images=frames[1:], duration=100)
    red, _, blue = shown(content).convert("RGB").getpixel((5, 5))  # type: ignore[misc]  # of RGB it is a tuple
    assert red > blue


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header announces more than there is."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>'
REFUSED = [
    pytest.param(SVG, "no picture of a type", id="svg"),
    pytest.param(b"", "no picture of a type", id="nothing"),
    pytest.param(b"%PDF-1.7", "no picture of a type", id="pdf"),
    pytest.param(file(Image.new("RGB", (9, 9)), "TIFF"), "no picture of a type", id="tiff"),
    pytest.param(png(64, 64)[:2000], "broken", id="half of it"),
    pytest.param(bomb(1500, 1000), "more than 1000000 pixels", id="half too many pixels"),
    pytest.param(bomb(2000, 2000), "more than 1000000 pixels", id="too many pixels"),
    pytest.param(bomb(60_000, 60_000), "more than 1000000 pixels", id="a bomb"),
    pytest.param(bomb(500, 500), "broken", id="a lie"),
]


@pytest.mark.parametrize(("content", "told"), REFUSED)
def test_what_is_no_picture_is_refused(content: bytes, told: str) -> None:
    with pytest.raises(UnusablePicture, match=told):
        flatten(content, WANTED)


def test_a_format_that_is_not_wanted_is_not_decoded() -> None:
    with pytest.raises(UnusablePicture, match="PNG, JPEG"):
        flatten(file(Image.new("RGB", (9, 9)), "GIF"), Flattening(100, 10**6, ("PNG", "JPEG")))


async def test_a_process_prepares_pictures_in_their_order() -> None:
    contents = [file(Image.new("RGB", (300, 100), "red")), png(50, 60), file(drawing("RGBA", 0, (9, 9, 9, 0)))]
    pictures = await Flattener().prepare(contents, edge_px=100)
    sizes = [Image.open(io.BytesIO(picture.content)).size for picture in pictures]
    assert sizes == [(100, 33), (50, 60), (80, 60)]
    assert [picture.mime_type for picture in pictures] == ["image/png", "image/jpeg", "image/png"]


@pytest.mark.parametrize(("count", "field"), [(1, "image.inline"), (2, "image.inline[1]")])
async def test_the_picture_that_is_refused_is_named(count: int, field: str) -> None:
    contents = [SVG] if count == 1 else [png(8, 8), SVG]
    with pytest.raises(InvalidArgument) as refusal:
        await Flattener().prepare(contents, edge_px=100, field="image.inline")
    assert refusal.value.reason == "INVALID_IMAGE"
    assert [violation.field for violation in refusal.value.violations] == [field]
    assert refusal.value.billed.value == "no"


async def test_a_picture_that_takes_too_long_takes_nothing_along() -> None:
    """The process's own clock ends it: nobody has to wait for it."""
    with pytest.raises(Unavailable) as failure:
        await Flattener(seconds=0.02).prepare([png(1500, 1500)] * 3, edge_px=100)
    assert failure.value.retry_safe


async def test_a_picture_that_wants_too_much_memory_is_not_prepared() -> None:
    content = file(Image.new("RGB", (8000, 8000)))
    with pytest.raises(Unavailable, match="memory"):
        await Flattener(memory_bytes=2**28).prepare([content], edge_px=100)


@pytest.mark.parametrize(
    "source",
    [
        "import os; os.kill(os.getpid(), 11)",
        "import time; time.sleep(60)",
        "print('{')",
        "print('x' * 100_000)",
        'print(\'{"mime_type": "text/html", "size": 5}\'); print(\'hello\')',
        'print(\'{"mime_type": "image/png", "size": 99999999999}\')',
        "print('[]')",
        'print(\'{"mime_type": "image/png", "size": 5}\')',
    ],
)
async def test_a_process_that_dies_hangs_or_lies_is_believed_nothing(
    source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "impostor.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(flattener, "PROCESS", "impostor")
    monkeypatch.setattr(flattener, "START_SECONDS", 1.0)
    with pytest.raises(Unavailable):
        await Flattener(seconds=0.5).prepare([png(400, 400)], edge_px=100)


async def appears(path: Path) -> None:
    async with asyncio.timeout(20):
        while True:
            if await asyncio.to_thread(path.exists):
                return
            await asyncio.sleep(0.02)


async def test_a_caller_that_leaves_ends_the_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "impostor.py").write_text(f"open({str(tmp_path / 'here')!r}, 'w').close(); import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(flattener, "PROCESS", "impostor")
    ended: list[int | None] = []
    end = flattener._end

    async def watched(process: asyncio.subprocess.Process) -> None:
        await end(process)
        ended.append(process.returncode)

    monkeypatch.setattr(flattener, "_end", watched)
    waiting = asyncio.create_task(Flattener().prepare([png(8, 8)], edge_px=100))
    await appears(tmp_path / "here")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended == [-9]


async def test_no_secret_reaches_the_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "impostor.py").write_text(
        f"import os; open({str(tmp_path / 'seen')!r}, 'w').write(repr(dict(os.environ)))"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-a-secret")
    monkeypatch.setattr(flattener, "PROCESS", "impostor")
    with pytest.raises(Unavailable):
        await Flattener().prepare([png(8, 8)], edge_px=100)
    assert "sk-a-secret" not in (tmp_path / "seen").read_text()


@pytest.mark.parametrize("places", [1, 3])
async def test_no_more_processes_than_wanted_run_at_a_time(places: int, monkeypatch: pytest.MonkeyPatch) -> None:
    running, most = 0, 0
    converse = flattener._converse

    async def counted(*arguments: Any) -> list[Picture]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await asyncio.sleep(0.2)
            return await converse(*arguments)
        finally:
            running -= 1

    monkeypatch.setattr(flattener, "_converse", counted)
    flat = Flattener(processes=places)
    await asyncio.gather(*(flat.prepare([png(8, 8)], edge_px=100) for _ in range(3)))
    assert most <= places
