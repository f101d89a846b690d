"""What a picture's first bytes say of it, whoever wrote them, and the rules for pictures that are edited."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from services.common.errors import InvalidArgument
from services.models.image_files import (
    MAX_IMAGE_BYTES,
    MAX_MASK_BYTES,
    EditFiles,
    PictureFacts,
    PictureFile,
    check_files,
    read_facts,
)
from tests.support.media import encoded, png


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P"])
@pytest.mark.parametrize("size", [(1, 1), (33, 70), (1000, 3)])
def test_the_facts_of_a_png_are_read(mode: str, size: tuple[int, int]) -> None:
    content = encoded(Image.new(mode, size), "PNG")
    facts = read_facts(content)
    assert facts == PictureFacts("image/png", *size, len(content), alpha=mode in ("RGBA", "LA"))


def test_a_palette_with_a_transparent_colour_has_alpha() -> None:
    picture = Image.new("P", (8, 8))
    picture.info["transparency"] = 0
    facts = read_facts(encoded(picture, "PNG"))
    assert facts is not None
    assert facts.alpha is True


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("lossless", [True, False])
def test_the_facts_of_a_webp_are_read(mode: str, lossless: bool, tmp_path: Path) -> None:
    picture = Image.new(mode, (57, 31), "teal" if mode == "RGB" else (0, 0, 0, 0))
    path = tmp_path / "picture.webp"
    picture.save(path, lossless=lossless)
    facts = read_facts(path.read_bytes())
    assert facts is not None
    assert (facts.mime_type, facts.width_px, facts.height_px, facts.alpha) == ("image/webp", 57, 31, mode == "RGBA")


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_the_facts_of_a_jpeg_are_read(mode: str) -> None:
    facts = read_facts(encoded(Image.new(mode, (57, 31)), "JPEG"))
    assert facts is not None
    assert (facts.mime_type, facts.width_px, facts.height_px, facts.alpha) == ("image/jpeg", 57, 31, False)


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"GIF89a" + bytes(50), b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"])
def test_what_is_none_of_them_has_no_facts(content: bytes) -> None:
    assert read_facts(content) is None


@given(
    st.sampled_from([encoded(Image.new("RGB", (9, 9)), kind) for kind in ("PNG", "JPEG", "WEBP")]),
    st.integers(0, 400),
    st.binary(max_size=40),
)
def test_broken_bytes_break_nothing(content: bytes, cut: int, rest: bytes) -> None:
    facts = read_facts(content[:cut] + rest)
    assert facts is None or facts.size_bytes == len(content[:cut] + rest)


PHOTO = PictureFacts("image/jpeg", 64, 48, 1000)
OVERLAY = PictureFacts("image/png", 64, 48, 1000, alpha=True)


@pytest.mark.parametrize(
    ("facts", "overlay", "fields"),
    [
        pytest.param([None], None, {"images[0]"}, id="unreadable"),
        pytest.param([PHOTO, PictureFacts("image/gif", 1, 1, 9)], None, {"images[1]"}, id="gif"),
        pytest.param([PictureFacts("image/png", 1, 1, MAX_IMAGE_BYTES + 1)], None, {"images[0]"}, id="too large"),
        pytest.param([PHOTO], PictureFacts("image/webp", 64, 48, 9, alpha=True), {"mask"}, id="a mask that is no PNG"),
        pytest.param([PHOTO], PictureFacts("image/png", 48, 64, 9, alpha=True), {"mask"}, id="another size"),
        pytest.param([PHOTO], PictureFacts("image/png", 64, 48, 9, alpha=False), {"mask"}, id="an opaque mask"),
        pytest.param(
            [PHOTO], PictureFacts("image/png", 64, 48, MAX_MASK_BYTES + 1, alpha=True), {"mask"}, id="a large mask"
        ),
    ],
)
def test_what_cannot_be_edited_is_refused_by_name(
    facts: list[PictureFacts | None], overlay: PictureFacts | None, fields: set[str]
) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        check_files(facts, overlay)
    assert refusal.value.reason == "INVALID_IMAGE"
    assert {violation.field for violation in refusal.value.violations} == fields


def test_a_mask_belongs_to_the_first_picture_alone() -> None:
    check_files([PHOTO, PictureFacts("image/png", 9, 9, 9)], OVERLAY)
    check_files([PHOTO], None, OVERLAY)


def test_one_picture_is_image_and_several_are_image_brackets() -> None:
    file = PictureFile(png(4, 4), "image/png")
    assert [name for name, _ in EditFiles((file,), mask=file).form("mask_image")] == ["image", "mask_image"]
    assert [name for name, _ in EditFiles((file, file), markup=file).form("mask")] == ["image[]", "image[]", "markup"]
