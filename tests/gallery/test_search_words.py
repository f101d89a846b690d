"""The words of an asset, and those asked for: the rules of full text, without a database."""

from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.gallery.domain.assets import Analysis
from services.gallery.domain.search import MAX_LEXEME_CHARACTERS, document_of, query_of, ranking_of, terms_of
from tests.conftest import NewDatabase

Database = psycopg.Connection[Any]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def database(new_database: NewDatabase) -> AsyncIterator[Database]:
    with psycopg.connect(await new_database(), autocommit=True) as connection:
        yield connection


def found(prompt: str, query: str, database: Database) -> bool:
    """Whether Postgres finds the prompt by the query."""
    words = query_of(terms_of(query))
    if not words:
        return False
    values = (document_of("", (), prompt, None), words)
    row = database.execute("SELECT %s::tsvector @@ %s::tsquery", values).fetchone()
    assert row is not None
    return bool(row[0])


@pytest.mark.parametrize(
    ("prompt", "query"),
    [
        ("A quiet HARBOUR at dawn", "harbour quiet"),
        ("sunset_over-the.sea.png", "sea sunset"),
        ("eine Straße im Regen", "STRASSE"),
        ("cafe\u0301 noir", "café"),
        ("ｆｕｌｌｗｉｄｔｈ", "fullwidth"),
        ("ﬁne ﬂower", "fine flower"),
        ("夜の東京タワーと海", "東京"),
        ("夜の東京タワーと海", "海"),
        ("夜の東京タワーと海", "タ"),
        ("ｶﾞﾗｽの城", "ガラス"),
        ("서울의 밤 풍경", "서울"),
        ("ภาษาไทยสวยมาก", "ไทย"),
        ("हिन्दी कविता", "हिन्दी"),
        ("soft\u00adware", "software"),
        ("iPhone15 on a desk", "iphone15"),
        ("𞤀𞤣𞤤𞤢𞤥\U0001e944 rimmii", "𞤀𞤣𞤤𞤢𞤥\U0001e944"),
        ("photo of Ἀθῆναι", "ἀθῆναι"),
        ("İstanbul", "i\u0307stanbul"),
        ("葛\U000e0100城", "葛城"),
        ("many words here", "words he"),
        ("a fish's tail", "fish's"),
    ],
)
def test_words_are_found_whatever_their_form(database: Database, prompt: str, query: str) -> None:
    assert found(prompt, query, database)


@pytest.mark.parametrize(
    ("prompt", "query"),
    [
        ("a harbour", "harbor"),
        ("a harbour", "arbour"),
        ("a harbour at dawn", "harb dawn"),
        ("東京の夜", "京都"),
        ("夜の海", "海の"),
        ("a | b", "c"),
        ("the word", "the wordy"),
        ("anything", "!!!"),
        ("anything", " \t"),
    ],
)
def test_what_is_not_there_is_not_found(database: Database, prompt: str, query: str) -> None:
    assert not found(prompt, query, database)


@pytest.mark.parametrize(
    "query", ["sea | cat", "!cat sea", "sea:*", "(sea)", "sea <-> sea", "sea & ' \\", "'sea'::tsquery"]
)
def test_operators_of_the_database_are_only_characters(query: str) -> None:
    words = query_of(terms_of(query))
    assert "|" not in words
    assert "!" not in words
    assert "(" not in words
    assert "<->" not in words
    assert "'sea'" in words


def test_a_row_is_ranked_by_each_word_alone_which_costs_the_sum_of_their_places_and_not_the_product() -> None:
    terms = terms_of("sea cat sea harb")
    assert query_of(terms) == "'sea' & 'cat' & 'harb':*"
    assert ranking_of(terms) == "'sea' | 'cat' | 'harb':*"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=500), st.lists(st.text(max_size=64), max_size=5), st.text(max_size=500))
def test_any_text_is_one_that_the_database_takes(database: Database, name: str, tags: list[str], text: str) -> None:
    words = document_of(name, tags, text, Analysis(description=text[::-1]))
    database.execute("SELECT %s::tsvector", (words,))
    if query := query_of(terms_of(text)):
        row = database.execute("SELECT %s::tsvector @@ %s::tsquery", (words, query)).fetchone()
        assert row == (True,), "a text is found by itself"


@pytest.mark.parametrize(
    "prompt",
    [
        "".join(chr(0x4E00 + number % 20_000) for number in range(32_000)),
        " ".join(f"{number:x}" for number in range(9_000)),
        "x" * 32_000,
        "\U0001f600 " * 16_000,
        "a " * 16_000,
        "\U00020000" * 32_000,
        " ".join(chr(0x1E900 + number % 34) * MAX_LEXEME_CHARACTERS + str(number) for number in range(700)),
    ],
)
def test_the_longest_prompt_makes_a_row_that_the_database_takes(database: Database, prompt: str) -> None:
    seen = Analysis(description=prompt[:20_000], products=prompt[-20_000:], feedback=prompt[6_000:26_000])
    tags = [f"{number}" + prompt[number : number + 60] for number in range(50)]
    database.execute("CREATE TEMP TABLE IF NOT EXISTS t (search tsvector)")
    database.execute("CREATE INDEX IF NOT EXISTS ix ON t USING gin (search)")
    database.execute("INSERT INTO t VALUES (%s)", (document_of(prompt[:255], tags, prompt, seen),))


def test_a_long_word_is_cut_alike_on_both_sides(database: Database) -> None:
    assert found("x" * 100, "x" * 100, database)
    assert found("x" * 100, "x" * 30, database)


def test_name_and_tags_weigh_more_than_the_prompt_and_that_more_than_an_analysis() -> None:
    words = document_of("sea", ["salt"], "wind", Analysis(description="gull", tags=("foam",)))
    assert words == "'sea':1A 'salt':2A 'wind':3B 'gull':4C 'foam':5C"
