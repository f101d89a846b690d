"""File names that every system takes, that say what they said, and that are not taken."""

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.models.helpers.names import MAX_BYTES, MAX_CHARS, safe_name, unique_name

RESERVED = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    f"{port}{n}" for port in ("com", "lpt") for n in "0123456789¹²³"
}


@pytest.mark.parametrize(
    ("said", "extension", "name"),
    [
        ("Red fox in snow", "png", "Red-fox-in-snow.png"),
        ("red-fox.png", "png", "red-fox.png"),
        ("red-fox.PNG", "webp", "red-fox.webp"),
        ("red-fox.jpeg", "", "red-fox"),
        ("狐 雪", "png", "狐-雪.png"),
        ("Füchse für São Paulo", "", "Füchse-für-São-Paulo"),
        ("Fu\u0308chse", "", "Füchse"),
        ("семья 👨\u200d👩\u200d👧", "png", "семья-👨\u200d👩\u200d👧.png"),
        ("../../etc/passwd", "png", "etc-passwd.png"),
        ('a<b>:"c"|d?*\\e/f', "", "a-b-c-d-e-f"),
        ("  .hidden. ", "png", "hidden.png"),
        ("-rf ~", "png", "rf.png"),
        ("a\u202egnp.exe", "png", "agnp.exe.png"),
        ("line\nbreak\ttab\0nul", "", "line-break-tabnul"),
        ("con", "png", "con-image.png"),
        ("CON.fox", "png", "CON-image.png"),
        ("COM¹", "", "COM¹-image"),
        ("console", "png", "console.png"),
        ("", "png", "image.png"),
        ("\u200d\ufe0f…?", "png", "….png"),
        ("///", "", "image"),
        ("v1.2 of it", "png", "v1.2-of-it.png"),
    ],
)
def test_names(said: str, extension: str, name: str) -> None:
    assert safe_name(said, extension, fallback="image") == name


def test_a_long_name_ends_between_words() -> None:
    name = safe_name("a lighthouse " * 20, "png", fallback="image")
    assert re.fullmatch(r"(a-lighthouse-)*(a|a-lighthouse)\.png", name)
    assert len(name) <= MAX_CHARS + 4


def test_a_long_name_without_words_ends_between_characters() -> None:
    family = "👨\u200d👩\u200d👧"
    stem = safe_name(family * 30, fallback="image")
    assert stem == family * (len(stem) // len(family))
    assert len(stem.encode()) <= MAX_BYTES


@settings(max_examples=400, deadline=None)
@given(st.text(max_size=300), st.sampled_from(["", "png", "webp"]))
def test_any_text_becomes_a_name_that_every_system_takes(said: str, extension: str) -> None:
    name = safe_name(said, extension, fallback="image")
    stem = name.removesuffix(f".{extension}") if extension else name
    assert stem
    assert len(stem) <= MAX_CHARS
    assert len(stem.encode()) <= MAX_BYTES
    assert not re.search(r'[\\/:*?"<>|\x00-\x1f\x7f\s]', name)
    assert name[0] not in ".-~ "
    assert name[-1] not in ". "
    assert stem.partition(".")[0].casefold() not in RESERVED
    assert unicodedata.is_normalized("NFC", name)
    assert safe_name(name, extension, fallback="image") == name, "it is stable"


def test_a_name_that_is_taken_gets_a_number() -> None:
    assert unique_name("fox.png", []) == "fox.png"
    assert unique_name("fox.png", ["fox.png"]) == "fox-2.png"
    assert unique_name("fox.png", ["FOX.PNG", "fox-2.png", "Fox-3.png"]) == "fox-4.png"
    assert unique_name("fox", ["fox"]) == "fox-2"
    assert unique_name("füchse.png", ["fu\u0308chse.png"]) == "füchse-2.png"
    assert unique_name("straße.png", ["STRASSE.png"]) == "straße-2.png"


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["fox.png", "fox", "Fox-2.png"]),
    st.lists(st.sampled_from(["fox.png", "fox", "FOX-2.png", "fox-3.png"])),
)
def test_a_number_never_meets_another_name(name: str, taken: list[str]) -> None:
    assert unique_name(name, taken).casefold() not in {each.casefold() for each in taken}
