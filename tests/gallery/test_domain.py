"""The gallery's rules by themselves: folders, ranges, documents, formats, conversion."""

import string
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.common.errors import InvalidArgument, OutOfRange
from services.gallery import convert_assets
from services.gallery.domain import failures, lifecycle
from services.gallery.domain.assets import (
    Analysis,
    Asset,
    Cost,
    CostSource,
    Folder,
    Media,
    MediaType,
    Parent,
    PromptRevision,
    PromptStep,
    Provenance,
    Relation,
    Usage,
)
from services.gallery.domain.document import from_document, to_document
from services.gallery.domain.downloads import Span, parse_range
from services.gallery.domain.folders import FolderId, FolderPath, FolderRecord, parse_folder
from services.gallery.domain.media import FORMATS, sniff
from tests.gallery.media import NOT_DECODED, RASTER, REFUSED, SVG, VIDEOS

NOW = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)

text = st.text(max_size=20)
counts = st.integers(0, 2**63 - 1)
times = st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC))
durations = st.timedeltas(min_value=timedelta(), max_value=timedelta(days=365))
media = st.builds(
    Media,
    media_type=st.sampled_from(MediaType),
    mime_type=st.sampled_from([format.mime_type for format in FORMATS]),
    size_bytes=st.integers(1, 2**40),
    sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    width_px=st.none() | st.integers(1, 2**31 - 1),
    height_px=st.none() | st.integers(1, 2**31 - 1),
    duration=st.none() | durations,
    has_transparency=st.none() | st.booleans(),
    has_content_credentials=st.none() | st.booleans(),
)
usage = st.builds(Usage, *(counts for _ in range(6)), st.none() | durations)
provenance = st.builds(
    Provenance,
    prompt=text,
    prompt_revisions=st.lists(
        st.builds(PromptRevision, st.none() | st.sampled_from(PromptStep), text, text), max_size=3
    ).map(tuple),
    model=text,
    parameters=st.dictionaries(text, text, max_size=3),
    origin=text,
    parents=st.lists(st.builds(Parent, text, st.sampled_from(Relation)), max_size=3).map(tuple),
    usage=st.none() | usage,
    cost=st.none() | st.builds(Cost, st.sampled_from(CostSource), st.none() | st.integers(-(2**63), 2**63 - 1)),
)
assets = st.builds(
    Asset,
    id=text,
    owner=text,
    display_name=text,
    media=media,
    create_time=times,
    update_time=times,
    folder=st.none() | st.builds(Folder, text, text),
    provenance=provenance,
    analysis=st.none()
    | st.builds(Analysis, text, text, st.lists(text).map(tuple), text, text, text, st.none() | times),
    tags=st.lists(text, max_size=3).map(tuple),
    labels=st.dictionaries(text, text, max_size=3),
    favorite=st.booleans(),
    revision=st.integers(1, 2**62),
    delete_time=st.none() | times,
    purge_time=st.none() | times,
)


@given(assets)
def test_an_asset_comes_back_from_its_document_as_it_was(asset: Asset) -> None:
    assert from_document(to_document(asset)) == asset


def test_a_document_of_a_later_version_is_not_misread() -> None:
    document = to_document(an_asset()).replace(b'"schemaVersion": 1', b'"schemaVersion": 2')
    with pytest.raises(ValueError, match="schema version 2"):
        from_document(document)


def an_asset() -> Asset:
    kept = Media(MediaType.IMAGE, "image/png", 9, "0" * 64)
    return Asset(id="a", owner="o", display_name="n", media=kept, create_time=NOW, update_time=NOW)


def test_every_change_gives_another_etag() -> None:
    asset = an_asset()
    etags = {replace(asset, revision=revision).etag for revision in range(1, 100)}
    assert len(etags | {replace(asset, id="b").etag}) == 100


def test_an_etag_does_not_come_again_with_a_revision_of_a_restored_index() -> None:
    folder = FolderRecord("f", "o", "path", 0, revision=2, create_time=NOW, update_time=NOW)
    for item in (an_asset(), folder):
        later = replace(item, update_time=item.update_time + timedelta(microseconds=1))
        assert later.etag != item.etag


def test_a_deleted_asset_does_not_live_longer_by_being_deleted_again() -> None:
    deleted = lifecycle.soft_delete(an_asset(), NOW, retention=timedelta(days=30))
    assert (deleted.delete_time, deleted.purge_time) == (NOW, NOW + timedelta(days=30))
    later = NOW + timedelta(days=20)
    assert lifecycle.soft_delete(deleted, later, retention=timedelta(days=30)) is deleted


segments = st.text(st.characters(exclude_characters="/", exclude_categories=("Cc", "Cs")), min_size=1, max_size=30)


@given(st.lists(segments.filter(lambda segment: segment not in (".", "..")), min_size=1, max_size=16))
def test_a_path_of_good_segments_is_kept_exactly(names: list[str]) -> None:
    path = "/".join(names)
    ref = parse_folder(path)
    if isinstance(ref, FolderId):
        assert path == f"folders/{ref.id}"
        return
    assert ref == FolderPath(path)
    assert ref.with_parents()[-1] == path
    assert len(ref.with_parents()) == len(names)


@given(st.text(string.ascii_letters + "/.\x00\n", max_size=40))
def test_a_path_with_a_bad_segment_or_character_is_refused(text: str) -> None:
    good = all(segment not in ("", ".", "..") for segment in text.split("/")) and not {"\0", "\n"} & set(text)
    if good or not text:
        assert (parse_folder(text) is None) == (text == "")
    else:
        with pytest.raises(InvalidArgument, match="folder"):
            parse_folder(text)


@given(st.integers(1, 10**9), st.integers(0, 2 * 10**9), st.none() | st.integers(0, 2 * 10**9))
def test_a_range_gives_bytes_that_are_there(total: int, first: int, last: int | None) -> None:
    try:
        span = parse_range(f"bytes={first}-{'' if last is None else last}", total)
    except OutOfRange:
        assert first >= total
        return
    assert 0 <= span.start < span.start + span.length <= total == span.total
    if last is None or first <= last:
        assert span.start == first
        assert span.length == min(total, total if last is None else last + 1) - first
    else:
        assert not span.partial


@given(st.integers(1, 10**9), st.integers(1, 2 * 10**9))
def test_a_range_from_the_end_gives_the_last_bytes(total: int, length: int) -> None:
    taken = min(total, length)
    assert parse_range(f"bytes=-{length}", total) == Span(total - taken, taken, total)


@pytest.mark.parametrize(("mime_type", "data"), [*RASTER.items(), *VIDEOS.items(), *NOT_DECODED.items()])
def test_a_format_is_told_by_its_first_bytes(mime_type: str, data: bytes) -> None:
    found = sniff(data[:400])
    assert found is not None
    assert found.mime_type == mime_type


@pytest.mark.parametrize("name", ["text", "HTML", "XML", "PDF", "HEIC", "QuickTime", "M4A", "Matroska", "BMP", "TIFF"])
def test_a_format_that_is_not_accepted_is_none(name: str) -> None:
    assert sniff(REFUSED[name]) is None


@given(st.binary(max_size=200))
def test_any_bytes_can_be_looked_at(data: bytes) -> None:
    for start in (b"", b"\0\0\0\x20ftyp", b"<!--", b"<!DOCTYPE svg [", b"<?xml", b"\xff\xfe<\0"):
        sniff(start + data)


@pytest.mark.parametrize(
    "text",
    [
        "<svg/>",
        "\n\n<svg xmlns='x'>",
        "<?xml version='1.0' encoding='utf-8'?><svg>",
        "<!-- <html> --><!-- a --><svg>",
        '<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/x"><svg>',
        "<svg:svg xmlns:svg='x'>",
    ],
)
def test_an_svg_is_told_by_its_root(text: str) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        found = sniff(text.encode(encoding))
        assert found is not None
        assert found.mime_type == "image/svg+xml"


@pytest.mark.parametrize("text", ["<svgx>", "svg", "<html><svg>", "<!-- <svg>", "<!DOCTYPE html><svg>x", "<?xml <svg>"])
def test_an_svg_somewhere_inside_is_none(text: str) -> None:
    assert sniff(text.encode()) is None or text == "<!DOCTYPE html><svg>x"


def test_looking_for_an_svg_takes_no_longer_for_hostile_text() -> None:
    for text in ("<!--" * 16_000, "<!--" + "-" * 64_000, "<?" * 32_000, " " * 64_000, "<!DOCTYPE [" * 6000):
        assert sniff(text.encode()) is None
    assert sniff(b" " * 60_000 + SVG) is not None


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (convert_assets.MEDIA_TYPES, pb.Asset.MediaType),
        (convert_assets.RELATIONS, pb.Parent.Relation),
        (convert_assets.SOURCES, pb.Cost.Source),
        (convert_assets.STEPS, pb.PromptRevision.Step),
    ],
)
def test_every_value_of_an_enum_is_known_on_both_sides(
    ours: dict[object, int], theirs: type[pb.Parent.Relation]
) -> None:
    assert set(ours.values()) | {0} == set(theirs.values())
    assert {str(value).upper() for value in ours} == {theirs.Name(number) for number in theirs.values() if number}


def test_every_reason_is_one_of_the_contract() -> None:
    made = [
        failures.asset_not_found("assets/a"),
        failures.asset_exists("assets/a"),
        failures.etag_mismatch("assets/a"),
        failures.variant_not_found("assets/a", "POSTER"),
        failures.not_implemented("query", "search"),
        failures.folder_not_found("a"),
        failures.invalid_folder_path("folder", "x"),
        failures.field_reserved("asset_id"),
        failures.upload_out_of_order("x"),
        failures.upload_incomplete(1, 2),
        failures.checksum_mismatch("a", "b"),
        failures.length_required(),
        failures.upload_too_large(1),
        failures.unsupported_media("x"),
        failures.image_too_large(1),
        failures.range_not_satisfiable(1),
        failures.storage_unavailable(),
        failures.uploads_busy(),
        failures.no_room_for_upload(),
        failures.stalled("x", 1),
    ]
    assert {error.reason for error in made} <= set(pb.ErrorReason.keys())
