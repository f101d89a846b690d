"""A brand that is left is found however it is written; what only looks like one is let through."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.models.helpers.brands import brands_in, same_brand

LEFT = [
    ("a Nike shoe", "Nike"),
    ("a NIKE shoe", "nike"),
    ("shoes (Nike)", "Nike"),
    ("Nike's best", "Nike"),
    ("Nike’s best", "Nike"),
    ("two Nikes", "Nike"),
    ("N I K E", "Nike"),
    ("N.I.K.E.", "Nike"),
    ("Ni-ke", "Nike"),
    ("Ni\u200bke", "Nike"),
    ("Ni\u00adke", "Nike"),
    ("ＮＩＫＥ", "Nike"),
    ("#NikeShoes", "Nike"),
    ("Nike2026", "Nike"),
    ("my_nike_shoe", "Nike"),
    ("coca cola", "Coca-Cola"),
    ("Coca\nCola", "Coca-Cola"),
    ("CocaCola", "Coca-Cola"),
    ("COCA·COLA", "coca cola"),
    ("Nestle", "Nestlé"),
    ("NESTLÉ", "Nestle"),
    ("Nestle\u0301", "Nestle"),
    ("Straßenbräu", "STRASSENBRÄU"),
    ("H & M", "H&M"),
    ("H&M", "h&m"),
    ("7-Eleven", "7 Eleven"),
    ("ナイキの靴", "ナイキ"),
    ("Nikeの靴", "Nike"),
    ("穿着耐克跑鞋", "耐克"),
    ("나이키의 신발", "나이키"),
    ("รองเท้าไนกี้ใหม่", "ไนกี้"),
    ("a ★ on it", "★"),
    ("I phone", "iPhone"),
    ("3m tape", "3M"),
    ("LA", "lA"),
]
NOT_LEFT = [
    ("snikers", "Nike"),
    ("pineapple", "Apple"),
    ("hm, a fine day", "H&M"),
    ("treat her as us", "Asus"),
    ("I, Kea", "Ikea"),
    ("nik e", "Nike"),
    ("", "Nike"),
    ("a shoe", "★"),
    ("running shoes", ""),
]


@pytest.mark.parametrize(("text", "brand"), LEFT)
def test_a_brand_is_found(text: str, brand: str) -> None:
    assert brands_in(text, ["Other", brand]) == [brand]


@pytest.mark.parametrize(("text", "brand"), [pair for pair in NOT_LEFT if pair[1]])
def test_a_word_that_only_looks_like_it_is_none(text: str, brand: str) -> None:
    assert brands_in(text, [brand]) == []


def test_the_callers_own_brand_may_have_anothers_name_in_it() -> None:
    assert brands_in("a can of Acme Cola", ["Cola"], allowed="Acme Cola") == []
    assert brands_in("a can of ACME-COLA", ["Cola"], allowed="Acme Cola") == []
    assert brands_in("Acme Cola and another cola", ["Cola"], allowed="Acme Cola") == ["Cola"]
    assert brands_in("Coca-Cola", ["Coca-Cola"], allowed="Cola") == ["Coca-Cola"]


def test_two_ways_to_write_one_brand() -> None:
    assert same_brand("Coca-Cola", "COCA COLA")
    assert not same_brand("Coca-Cola", "Cola")
    assert not same_brand("★", "☆")


words = st.text(st.characters(categories=["Lu", "Ll", "Lo", "Nd"]), min_size=1, max_size=8)
around = st.text(st.sampled_from(" .,;:!?-–_()'\"\n\t…「」"), max_size=4)


@settings(max_examples=200, deadline=None)
@given(around, words, around, st.sampled_from(["", "upper", "title", "casefold"]))
def test_neither_punctuation_nor_case_hides_a_brand(before: str, brand: str, after: str, case: str) -> None:
    written = getattr(brand, case)() if case else brand
    if written.casefold() == brand.casefold():
        assert brands_in(f"{before} {written} {after}", [brand]) == [brand]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60), st.text(min_size=1, max_size=10))
def test_any_text_and_any_name_can_be_compared(text: str, brand: str) -> None:
    assert brands_in(text, [brand]) in ([], [brand])
