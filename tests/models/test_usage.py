"""Every dialect's usage becomes one shape; what cannot be believed is no usage."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.models.usage import Usage, UsageNames, image_usage

FULL = {
    "input_tokens": 50,
    "input_tokens_details": {"text_tokens": 40, "image_tokens": 10},
    "output_tokens": 1000,
    "output_tokens_details": {"image_tokens": 990, "text_tokens": 10},
    "total_tokens": 1050,
}


@pytest.mark.parametrize(
    ("raw", "names", "expected"),
    [
        pytest.param(FULL, "images", Usage(40, 10, 10, 990), id="openai"),
        pytest.param({**FULL, "output_tokens_details": None}, "images", Usage(40, 10, 0, 1000), id="no output details"),
        pytest.param({"input_tokens": 7, "output_tokens": 9}, "images", Usage(7, 0, 0, 9), id="totals only"),
        pytest.param({"prompt_tokens": 7, "completion_tokens": 9}, "chat", Usage(7, 0, 0, 9), id="chat names"),
        pytest.param({"input_tokens": 5, "output_tokens": 0}, "images", Usage(5), id="nothing out"),
        pytest.param(
            {"input_tokens": 5, "input_tokens_details": {"text_tokens": 9}, "output_tokens": 1},
            "images",
            Usage(5, 0, 0, 1),
            id="details beyond their total",
        ),
    ],
)
def test_usage_is_split_by_kind(raw: Any, names: UsageNames, expected: Usage) -> None:
    assert image_usage(raw, names) == expected


@pytest.mark.parametrize(
    ("raw", "names"),
    [
        pytest.param(None, "images", id="absent"),
        pytest.param("many", "images", id="a string"),
        pytest.param({}, "images", id="empty"),
        pytest.param({"input_tokens": 0, "output_tokens": 0}, "images", id="a server that does not count"),
        pytest.param({"input_tokens": -1, "output_tokens": 5}, "images", id="negative"),
        pytest.param({"input_tokens": True, "output_tokens": 5}, "images", id="a boolean"),
        pytest.param({"input_tokens": 1.5, "output_tokens": 5}, "images", id="a fraction"),
        pytest.param({"input_tokens": 10**30, "output_tokens": 5}, "images", id="absurd"),
        pytest.param({"prompt_tokens": 1, "completion_tokens": 5}, "images", id="another dialect's names"),
        pytest.param(FULL, "none", id="a dialect without usage"),
    ],
)
def test_what_is_no_usage_is_none_and_not_zero(raw: Any, names: UsageNames) -> None:
    assert image_usage(raw, names) is None


def test_unsplit_input_counts_as_the_dearer_kind_when_pictures_were_sent() -> None:
    raw = {"input_tokens": 7, "output_tokens": 9}
    assert image_usage(raw, "images", has_image_inputs=True) == Usage(0, 7, 0, 9)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["input_tokens", "output_tokens", "input_tokens_details", "text_tokens", "x"]), inner
            )
        ),
    )
)
def test_no_answer_whatever_breaks_the_reading(raw: Any) -> None:
    usage = image_usage(raw, "images")
    assert usage is None or usage.input_tokens + usage.output_tokens > 0
