"""One test for each variable of the system that this suite replaces: it takes effect, or a warning names it."""

from collections.abc import Callable, Mapping
from datetime import date

import pytest

from services.models import registry, seed, selection
from services.models.image_requests import ImageRequest, check_image_request
from services.models.rows import ImageModel, TextModel
from services.models.seed import WITHOUT_MEANING, WITHOUT_MEANING_IF_USED
from services.models.selection import Selection
from tests.models.test_selection import chosen

TODAY = date(2026, 11, 23)
AZURE = {
    "MODEL_PROVIDER": "azure",
    "IMAGEGEN_AOAI_RESOURCE": "pictures-res",
    "IMAGEGEN_DEPLOYMENT": "gpt-image-2",
    "LLM_AOAI_RESOURCE": "words-res",
    "LLM_DEPLOYMENT": "gpt-6-luna",
}
OPENAI = {"MODEL_PROVIDER": "openai", "OPENAI_API_KEY": "sk-made-up"}


def sent(found: Selection, field: str) -> object:
    """What a plain request is given."""
    return check_image_request(ImageRequest("x"), found.registry, today=TODAY).parameters.get(field)


def image_model(found: Selection) -> ImageModel:
    model = found.registry.models[found.registry.default(ImageModel)]
    assert isinstance(model, ImageModel)
    return model


def key(found: Selection, endpoint: str) -> str:
    given = found.registry.endpoints[endpoint].key
    return given.get_secret_value() if given else ""


# Variable, the others that it goes with, its value, what it decides, and what that is with it and without it.
EFFECTS: list[tuple[str, Mapping[str, str], str, Callable[[Selection], object], object, object]] = [
    ("MODEL_PROVIDER", {"OPENAI_API_KEY": "sk-x"}, "openai", lambda it: it.provider, "seed", "openai"),
    (
        "OPENAI_API_KEY",
        {},
        "sk-x",
        lambda it: (it.provider, key(it, it.provider)),
        ("openai", "sk-x"),
        ("emulator",) * 2,
    ),
    ("OPENAI_ORG_ID", OPENAI, "org-1", lambda it: it.registry.endpoints["openai"].organization, "org-1", ""),
    ("IMAGEGEN_AOAI_API_KEY", AZURE, "k1", lambda it: key(it, "azure-image"), "k1", ""),
    ("LLM_AOAI_API_KEY", AZURE, "k2", lambda it: key(it, "azure-text"), "k2", ""),
    (
        "LLM_AOAI_RESOURCE",
        AZURE,
        "https://words.example",
        lambda it: [row.base_url for name, row in it.registry.endpoints.items() if name == "azure-text"],
        ["https://words.example/openai/v1"],
        [],
    ),
    (
        "IMAGEGEN_AOAI_RESOURCE",
        {"IMAGEGEN_DEPLOYMENT": "gpt-image-2"},
        "res",
        lambda it: it.registry.endpoints[image_model(it).endpoint].base_url,
        "https://res.openai.azure.com/openai/v1",
        "http://127.0.0.1:8190/v1",
    ),
    (
        "AOAI_API_VERSION",
        AZURE,
        "2025-04-01-preview",
        lambda it: [(row.dialect, row.base_url, row.api_version) for row in it.registry.endpoints.values()],
        [
            ("azure-legacy", "https://pictures-res.openai.azure.com", "2025-04-01-preview"),
            ("azure-legacy", "https://words-res.openai.azure.com", "2025-04-01-preview"),
        ],
        [
            ("azure-v1", "https://pictures-res.openai.azure.com/openai/v1", ""),
            ("azure-v1", "https://words-res.openai.azure.com/openai/v1", ""),
        ],
    ),
    ("GPT_IMAGE_DEFAULT_SIZE", AZURE, "1536x1024", lambda it: sent(it, "size"), "1536x1024", None),
    ("GPT_IMAGE_DEFAULT_QUALITY", AZURE, "high", lambda it: sent(it, "quality"), "high", None),
    ("GPT_IMAGE_DEFAULT_FORMAT", AZURE, "JPEG", lambda it: sent(it, "output_format"), "jpeg", None),
    (
        "GPT_IMAGE_ALLOW_TRANSPARENT",
        AZURE,
        "false",
        lambda it: "transparent" in image_model(it).backgrounds,
        False,
        True,
    ),
]
NAMED: Mapping[str, Callable[[Selection], object]] = {
    "IMAGEGEN_DEPLOYMENT": lambda it: image_model(it).wire_id,
    "LLM_DEPLOYMENT": lambda it: it.registry.models[it.registry.default(TextModel)].wire_id,
}


@pytest.mark.parametrize(
    ("variable", "others", "value", "decides", "with_it", "without_it"), EFFECTS, ids=[row[0] for row in EFFECTS]
)
def test_a_variable_of_the_seed_takes_effect(
    variable: str,
    others: Mapping[str, str],
    value: str,
    decides: Callable[[Selection], object],
    with_it: object,
    without_it: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without = {name: other for name, other in others.items() if name != variable}
    assert decides(chosen({**without, variable: value}, monkeypatch)) == with_it
    monkeypatch.delenv(variable)
    assert decides(chosen(without, monkeypatch)) == without_it


@pytest.mark.parametrize("variable", NAMED)
def test_a_deployments_name_is_what_is_sent_as_the_model(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = chosen({**AZURE, variable: "named-by-us"}, monkeypatch)
    assert NAMED[variable](found) == "named-by-us"


@pytest.mark.parametrize("version", ["", "v1", "preview", "latest", " preview\n"])
def test_a_version_without_a_date_is_the_v1_api(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = chosen({**AZURE, "AOAI_API_VERSION": version}, monkeypatch)
    assert found.registry.endpoints["azure-image"].dialect == "azure-v1"


def test_a_version_that_is_none_stops_the_start_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(registry.RegistryError, match="AOAI_API_VERSION"):
        chosen({**AZURE, "AOAI_API_VERSION": "v2"}, monkeypatch)


CHOOSE = ("MODEL_PROVIDER", "IMAGEGEN_AOAI_RESOURCE", "OPENAI_API_KEY", "OPENAI_ORG_ID")
"""Those that choose a source themselves, or go with one; `test_selection` has what overrules them."""


@pytest.mark.parametrize("variable", [name for name in (*(row[0] for row in EFFECTS), *NAMED) if name not in CHOOSE])
def test_a_variable_that_has_no_effect_beside_another_source_is_named(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings = chosen({"OPENAI_API_KEY": "sk-x", variable: "x"}, monkeypatch).warnings
    assert [warning for warning in warnings if warning.startswith(f"{variable} ")]


def test_every_variable_of_the_seed_is_one_or_the_other() -> None:
    """Those of videos and of storage are their services'."""
    effective = {row[0] for row in EFFECTS} | set(NAMED)
    read = {*seed.DEFAULTS, "GPT_IMAGE_ALLOW_TRANSPARENT", *selection._READ_BY} - {
        "OPENAI_BASE_URL",
        "CONTENTLAB_OPENAI_DIALECT",
        "IMAGE_MODEL",
        "LLM_MODEL",
    }
    assert effective == read
    assert not effective & {*WITHOUT_MEANING, *WITHOUT_MEANING_IF_USED}
