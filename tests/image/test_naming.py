"""Names made of prompts: short, readable in every language, safe as file names."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.image.domain.naming import LONGEST, display_name_of, numbered


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("a lighthouse at dusk", "a lighthouse at dusk"),
        ("  a \n\t lighthouse  ", "a lighthouse"),
        ('a/b\\c:d*e?f"g<h>i|j', "a b c d e f g h i j"),
        ("...", "Image"),
        ("\u202e\u200b", "Image"),
        ("灯台" * 40, "灯台" * 30),
        ("word " * 40, ("word " * 12).strip()),
        ("x" * 100, "x" * 60),
        ("e\u0301" * 10, "é" * 10),
        ("A cat. " + "b" * 80, "A cat. " + "b" * 53),
    ],
)
def test_a_name_is_the_beginning_of_the_prompt(prompt: str, name: str) -> None:
    assert display_name_of(prompt) == name


def test_a_name_is_not_cut_inside_what_a_reader_sees_as_one_character() -> None:
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    assert display_name_of("x" * 58 + family + "y" * 20) == "x" * 58
    assert display_name_of("a" * 59 + "z\u0323\u0302" + "b" * 20) == "a" * 59


@given(st.text(max_size=400))
def test_every_prompt_makes_a_name_that_every_file_system_takes(prompt: str) -> None:
    name = display_name_of(prompt)
    assert 1 <= len(name) <= LONGEST
    assert name == name.strip()
    assert not name.startswith(".")
    assert not name.endswith(".")
    assert not set(name) & set('\\/:*?"<>|\0\n\r\t')
    assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in name)


def test_several_pictures_are_numbered_and_one_is_not() -> None:
    assert numbered("Lamp", 0, 1) == "Lamp"
    assert [numbered("Lamp", index, 2) for index in range(2)] == ["Lamp (1)", "Lamp (2)"]
