"""The registry: what is shipped is valid, what an operator writes is checked and named when wrong."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from services.models.binding import bind_all
from services.models.registry import Catalogue, Registry, RegistryError, build, lifecycle, shipped
from services.models.rows import Endpoint, ImageModel, TextModel

HERE = Endpoint(base_url="http://127.0.0.1:1/v1")


def bound(dialect: str = "openai") -> Registry:
    version = "2025-04-01-preview" if dialect == "azure-legacy" else ""
    endpoint = Endpoint(base_url="http://127.0.0.1:1/v1", dialect=dialect, api_version=version)
    return bind_all(shipped(), "here", endpoint, "", "")


def image_model(registry: Registry, name: str) -> ImageModel:
    found = registry.find(ImageModel, name)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("dialect", sorted(shipped().dialects))
def test_every_shipped_row_is_valid_in_every_dialect(dialect: str) -> None:
    registry = bound(dialect)
    assert set(registry.models) == set(shipped().models)
    for _, model in registry.of_kind(ImageModel):
        assert model.formats


def test_a_replacement_is_a_model_that_is_still_there() -> None:
    registry = bound()
    for model_id, model in registry.models.items():
        if model.shutdown_date:
            assert model.replacement in registry.models, model_id
            replacement = registry.models[model.replacement]
            assert replacement.shutdown_date is None or replacement.shutdown_date > model.shutdown_date


def test_there_is_one_default_a_kind_and_it_has_no_end_and_a_price() -> None:
    registry = bound()
    for kind in (ImageModel, TextModel):
        model = registry.models[registry.default(kind)]
        assert model.default
        assert model.shutdown_date is None
        assert registry.price(model, date(2026, 11, 23)) is not None


def test_a_models_last_day_is_its_shutdown_date() -> None:
    model = image_model(bound(), "gpt-image-1.5")
    last = date(2026, 12, 1)
    assert lifecycle(model, last) == "deprecated"
    assert lifecycle(model, last + timedelta(days=1)) == "retired"
    assert lifecycle(image_model(bound(), "gpt-image-2"), date(2099, 1, 1)) == "active"


def test_what_a_dialect_does_not_take_is_taken_out_of_its_models() -> None:
    free, restricted = (
        image_model(bound(), "gpt-image-2.6-flare"),
        image_model(bound("vllm-omni"), "gpt-image-2.6-flare"),
    )
    assert "auto" in free.size_rule.fixed
    assert "auto" not in restricted.size_rule.fixed
    assert free.qualities
    assert restricted.qualities == ()
    assert restricted.backgrounds == ()
    assert "moderation" in free.parameters
    assert "moderation" not in restricted.parameters
    assert "webp" not in image_model(bound("azure-v1"), "gpt-image-2").formats


def test_prices_hold_from_their_day_on() -> None:
    rows = [
        {"effective_date": date(2026, 1, 1), "source": "a", "output_image": "30"},
        {"effective_date": date(2026, 6, 1), "source": "b", "output_image": "20.5"},
    ]
    catalogue = Catalogue({"openai": {}}, {}, {"p": rows}, {})
    registry = build(catalogue, {"here": HERE}, {"m": {"endpoint": "here", "price": "p"}})
    model = registry.models["m"]
    assert registry.price(model, date(2025, 12, 31)) is None
    before, after = registry.price(model, date(2026, 5, 31)), registry.price(model, date(2026, 6, 1))
    assert before is not None
    assert after is not None
    assert (before.output_image, after.output_image) == (30_000_000, 20_500_000)


def test_a_price_in_integers_is_micro_usd_already() -> None:
    rows = [{"effective_date": date(2026, 1, 1), "source": "a", "output_image": 7}]
    registry = build(
        Catalogue({"openai": {}}, {}, {"p": rows}, {}), {"here": HERE}, {"m": {"endpoint": "here", "price": "p"}}
    )
    price = registry.price(registry.models["m"], date(2026, 1, 1))
    assert price is not None
    assert price.output_image == 7


@pytest.mark.parametrize(
    ("row", "named"),
    [
        pytest.param({"endpoint": "nowhere"}, "models.m.endpoint", id="unknown endpoint"),
        pytest.param({"endpoint": "here", "price": "none"}, "models.m.price", id="unknown price"),
        pytest.param({"endpoint": "here", "profile": "none"}, "models.m.profile", id="unknown profile"),
        pytest.param({"endpoint": "here", "qualitys": ["low"]}, "qualitys", id="unknown key"),
        pytest.param({"endpoint": "here", "max_images": 11}, "max_images", id="more images than the contract has"),
        pytest.param(
            {"endpoint": "here", "size_rule": {"free": True}}, "free sizes need", id="free sizes without limits"
        ),
        pytest.param({"endpoint": "here", "shutdown_date": "soon"}, "shutdown_date", id="no date"),
        pytest.param({"endpoint": "here", "formats": []}, "formats", id="no format"),
        pytest.param({"endpoint": "here", "kind": "sound"}, "kind", id="unknown kind"),
    ],
)
def test_a_wrong_model_row_is_named(row: Mapping[str, Any], named: str) -> None:
    with pytest.raises(RegistryError, match=named):
        build(shipped(), {"here": HERE}, {"m": row})


@pytest.mark.parametrize(
    ("price", "named"),
    [
        pytest.param({"output_image": 1.5}, "decimal string", id="a float"),
        pytest.param({"output_image": "0.0000001"}, "whole number of micro-USD", id="less than a micro-USD"),
        pytest.param({"output_image": "-1"}, "greater than or equal", id="negative"),
        pytest.param({"output_image": "1e30"}, "less than or equal", id="more than a column holds"),
        pytest.param({"output_image": "free"}, "not a number", id="no number"),
        pytest.param({"output_image": "Infinity"}, "whole number of micro-USD", id="no end of it"),
    ],
)
def test_a_wrong_price_is_refused(price: Mapping[str, Any], named: str) -> None:
    rows = {"p": [{"effective_date": date(2026, 1, 1), "source": "a", **price}]}
    with pytest.raises(RegistryError, match=named):
        build(Catalogue({"openai": {}}, {}, rows, {}), {"here": HERE}, {})


def test_two_defaults_of_a_kind_are_refused() -> None:
    rows = {name: {"endpoint": "here", "default": True} for name in ("a", "b")}
    with pytest.raises(RegistryError, match="more than one default"):
        build(shipped(), {"here": HERE}, rows)


def test_a_models_wire_id_finds_it_too() -> None:
    registry = build(shipped(), {"here": HERE}, {"flux": {"endpoint": "here", "wire_id": "org/flux"}})
    assert registry.find(ImageModel, "org/flux") == ("flux", registry.models["flux"])


UNUSABLE = """
    ftp://x/v1 //x/v1 http:///v1 http://u@/v1 http://[::1/v1 http://x:99999999/v1 http://x:0/v1 http://x:y/v1
    http://x/v1?a=b http://x/v1#a http://x\u2026/v1
"""


@pytest.mark.parametrize("address", [*UNUSABLE.split(), "http://x y/v1", ""])
def test_an_address_that_no_request_can_be_sent_to_is_refused(address: str) -> None:
    with pytest.raises(ValidationError):
        Endpoint(base_url=address)


def test_a_key_loses_the_line_break_that_its_file_ends_with() -> None:
    endpoint = Endpoint(base_url="http://127.0.0.1:1", auth="key", key=SecretStr(" sk-a\r\n"), organization="org-1\n")
    assert endpoint.key == SecretStr("sk-a")
    assert endpoint.organization == "org-1"


@pytest.mark.parametrize("key", ["sk-ab\u2026c", "sk-a\nb", "sk-a\x00"])
def test_a_key_that_no_header_can_carry_is_refused(key: str) -> None:
    with pytest.raises(ValidationError):
        Endpoint(base_url="http://127.0.0.1:1", auth="key", key=SecretStr(key))


def test_a_key_of_nothing_but_white_space_is_none() -> None:
    assert not Endpoint(base_url="http://127.0.0.1:1", auth="key", key=SecretStr(" \n")).configured


def test_a_key_is_in_no_text_form_of_an_endpoint() -> None:
    endpoint = Endpoint(base_url="http://127.0.0.1:1", auth="key", key=SecretStr("sk-secret"))
    assert "sk-secret" not in repr(endpoint) + str(endpoint) + endpoint.model_dump_json()
