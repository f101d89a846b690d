"""Where the models come from: the first source that is set decides, and nothing that is set is silently ignored."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path

import pytest

from services.common.settings import load
from services.models.image_requests import ImageRequest, check_image_request
from services.models.registry import RegistryError
from services.models.rows import ImageModel, TextModel
from services.models.seed import WITHOUT_MEANING, WITHOUT_MEANING_IF_USED
from services.models.selection import ModelSettings, Selection, select

TODAY = date(2026, 11, 23)
AZURE = {"MODEL_PROVIDER": "azure", "IMAGEGEN_AOAI_RESOURCE": "res", "IMAGEGEN_DEPLOYMENT": "pictures"}
ALIASES = {
    "MODEL_PROVIDER": "model_provider",
    "OPENAI_API_KEY": "openai_api_key",
    "OPENAI_ORG_ID": "openai_org_id",
    "OPENAI_BASE_URL": "openai_base_url",
    "IMAGE_MODEL": "image_model",
    "LLM_MODEL": "llm_model",
    "CONTENTLAB_MODELS_FILE": "models_file",
    "CONTENTLAB_EMULATOR_URL": "emulator_url",
    "CONTENTLAB_OPENAI_DIALECT": "openai_dialect",
}
UNSET = {"model_provider": None, "openai_api_key": None, "openai_base_url": None, "models_file": None}


def chosen(environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Selection:
    for name in ALIASES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return select(load(ModelSettings), environ)


@pytest.fixture
def registry_file(tmp_path: Path) -> Path:
    path = tmp_path / "models.toml"
    path.write_text(
        """
        [endpoints.gpu]
        base_url = "http://gpu.internal:8000/v1/"
        dialect = "vllm-omni"
        auth = "key"
        key_env = "GPU_KEY"

        [models.house-style]
        endpoint = "gpu"
        profile = "pass-through"
        wire_id = "org/house-style-xl"
        """
    )
    return path


def test_without_any_variable_it_is_the_emulator_with_every_shipped_model(monkeypatch: pytest.MonkeyPatch) -> None:
    selection = chosen({}, monkeypatch)
    assert selection.provider == "emulator"
    assert selection.registry.endpoints["emulator"].base_url == "http://127.0.0.1:8190/v1"
    assert selection.registry.default(ImageModel) == "gpt-image-2"
    assert selection.warnings == ()


def test_an_openai_key_alone_means_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    selection = chosen({"OPENAI_API_KEY": "sk-x", "OPENAI_ORG_ID": "org-1"}, monkeypatch)
    endpoint = selection.registry.endpoints["openai"]
    assert selection.provider == "openai"
    assert (endpoint.base_url, endpoint.auth, endpoint.organization) == ("https://api.openai.com/v1", "key", "org-1")
    assert endpoint.configured


def test_a_base_url_beats_a_key_and_the_default_needs_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    selection = chosen({"OPENAI_API_KEY": "sk-x", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1/"}, monkeypatch)
    assert selection.provider == "openai_base_url"
    checked = check_image_request(
        ImageRequest("x", size="1000x1001", quality="hd", seed=3), selection.registry, today=TODAY
    )
    assert checked.model.wire_id == "gpt-image-2"
    assert selection.registry.price(checked.model, TODAY) is None
    endpoint = selection.registry.endpoints[checked.model.endpoint]
    assert (endpoint.base_url, endpoint.auth) == ("http://127.0.0.1:9/v1", "key")


def test_a_base_url_without_a_key_is_called_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "IMAGE_MODEL": "org/flux", "LLM_MODEL": "org/llm"}
    registry = chosen(environ, monkeypatch).registry
    assert registry.endpoints["openai-base-url"].auth == "none"
    model_id = registry.default(ImageModel)
    assert (model_id, registry.models[model_id].wire_id) == ("org-flux", "org/flux")
    assert registry.models[registry.default(TextModel)].wire_id == "org/llm"


@pytest.mark.parametrize(
    ("address", "dialect"),
    [
        ("http://127.0.0.1:9/v1", "generic"),
        ("https://eu.api.openai.com/v1", "openai"),
        ("https://api.openai.com/v1", "openai"),
        ("https://api.openai.com.example.org/v1", "generic"),
        ("https://res.openai.azure.com/openai/v1", "azure-v1"),
    ],
)
def test_only_a_server_that_is_not_openais_is_told_to_send_bytes(
    address: str, dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenAI refuses the parameter, which is free; others answer without it with an address, which is not."""
    registry = chosen({"OPENAI_BASE_URL": address}, monkeypatch).registry
    assert registry.endpoints["openai-base-url"].dialect == dialect


def test_a_base_url_may_speak_another_dialect(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "CONTENTLAB_OPENAI_DIALECT": "vllm-omni"}
    registry = chosen(environ, monkeypatch).registry
    assert registry.dialect(registry.models["gpt-image-2"]).send_model is False
    with pytest.raises(RegistryError, match="klingon"):
        chosen({**environ, "CONTENTLAB_OPENAI_DIALECT": "klingon"}, monkeypatch)


def test_the_seeds_variables_beat_a_base_url_which_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {**AZURE, "IMAGEGEN_AOAI_API_KEY": "k", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
    selection = chosen(environ, monkeypatch)
    endpoint = selection.registry.endpoints["azure-image"]
    assert selection.provider == "seed"
    assert (endpoint.base_url, endpoint.auth, endpoint.dialect) == (
        "https://res.openai.azure.com/openai/v1",
        "key",
        "azure-v1",
    )
    assert [warning for warning in selection.warnings if "OPENAI_BASE_URL" in warning]


def test_an_azure_resource_alone_means_azure_as_it_did_in_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {name: value for name, value in AZURE.items() if name != "MODEL_PROVIDER"}
    selection = chosen(environ, monkeypatch)
    assert selection.provider == "seed"
    assert selection.registry.endpoints["azure-image"].auth == "entra"


def test_a_deployment_takes_what_its_model_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    named = chosen({**AZURE, "IMAGEGEN_DEPLOYMENT": "gpt-image-1.5"}, monkeypatch).registry.models["gpt-image-1.5"]
    assert named.shutdown_date == date(2026, 12, 1)
    told = chosen({**AZURE, "IMAGE_MODEL": "gpt-image-2.5-flare"}, monkeypatch).registry.models["pictures"]
    assert isinstance(told, ImageModel)
    assert "markup" in told.parameters
    assert told.price == "gpt-image-2"
    unknown = chosen(AZURE, monkeypatch).registry.models["pictures"]
    assert unknown.price == ""


@pytest.mark.parametrize(
    ("variable", "value", "field", "expected"),
    [
        ("GPT_IMAGE_DEFAULT_SIZE", "1536x1024", "size", "1536x1024"),
        ("GPT_IMAGE_DEFAULT_QUALITY", "HIGH", "quality", "high"),
        ("GPT_IMAGE_DEFAULT_FORMAT", "JPEG", "output_format", "jpeg"),
    ],
)
def test_the_seeds_defaults_are_sent_when_a_request_gives_none(
    variable: str, value: str, field: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = chosen({**AZURE, variable: value}, monkeypatch).registry
    assert check_image_request(ImageRequest("x"), registry, today=TODAY).parameters[field] == expected


def test_a_default_that_the_model_does_not_take_stops_the_start_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RegistryError, match="GPT_IMAGE_DEFAULT_FORMAT"):
        chosen({**AZURE, "GPT_IMAGE_DEFAULT_FORMAT": "WEBP"}, monkeypatch)


@pytest.mark.parametrize("size", ["large", "1024", "1024x", "x", "-16x16"])
def test_a_default_size_that_is_none_stops_the_start_and_is_named(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RegistryError, match="GPT_IMAGE_DEFAULT_SIZE"):
        chosen({**AZURE, "GPT_IMAGE_DEFAULT_SIZE": size}, monkeypatch)


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({**AZURE, "LLM_AOAI_RESOURCE": "res", "LLM_DEPLOYMENT": "pictures"}, "LLM_DEPLOYMENT"),
        ({"OPENAI_BASE_URL": "http://x/v1", "IMAGE_MODEL": "m", "LLM_MODEL": "m"}, "LLM_MODEL"),
        ({"OPENAI_BASE_URL": "http://x/v1", "IMAGE_MODEL": "org/m", "LLM_MODEL": "org-m"}, "LLM_MODEL"),
    ],
)
def test_one_id_for_two_kinds_stops_the_start(
    environ: Mapping[str, str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RegistryError, match=named):
        chosen(environ, monkeypatch)


def test_transparency_can_be_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    model = chosen({**AZURE, "GPT_IMAGE_ALLOW_TRANSPARENT": "false"}, monkeypatch).registry.models["pictures"]
    assert isinstance(model, ImageModel)
    assert model.backgrounds == ("auto", "opaque")


@pytest.mark.parametrize("variable", [*WITHOUT_MEANING, *WITHOUT_MEANING_IF_USED])
def test_a_seed_variable_without_meaning_is_named_in_a_warning(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings = chosen({**AZURE, variable: "x"}, monkeypatch).warnings
    assert [warning for warning in warnings if warning.startswith(variable)]


def test_a_seed_default_without_the_seed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    warnings = chosen({"GPT_IMAGE_DEFAULT_SIZE": "1024x1024"}, monkeypatch).warnings
    assert [warning for warning in warnings if "GPT_IMAGE_DEFAULT_SIZE" in warning]


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"MODEL_PROVIDER": "azure"}, "IMAGEGEN_AOAI_RESOURCE"),
        ({"MODEL_PROVIDER": "azure", "IMAGEGEN_AOAI_RESOURCE": "res"}, "IMAGEGEN_DEPLOYMENT"),
        ({"MODEL_PROVIDER": "openai"}, "OPENAI_API_KEY"),
        ({"OPENAI_API_KEY": "sk-x", "IMAGE_MODEL": "dall-e-3"}, "IMAGE_MODEL"),
        ({"IMAGE_MODEL": "gpt-6-luna"}, "IMAGE_MODEL"),
    ],
)
def test_a_variable_that_is_missing_or_wrong_is_named(
    environ: Mapping[str, str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RegistryError, match=named):
        chosen(environ, monkeypatch)


@pytest.mark.parametrize(
    ("environ", "endpoint"),
    [
        ({"OPENAI_API_KEY": "sk-x\n", "OPENAI_ORG_ID": "org-1\n"}, "openai"),
        ({"OPENAI_API_KEY": "sk-x\n", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}, "openai-base-url"),
        ({"OPENAI_API_KEY": "sk-x\n", "MODEL_PROVIDER": "openai"}, "openai"),
        ({**AZURE, "IMAGEGEN_AOAI_API_KEY": "sk-x\n"}, "azure-image"),
    ],
)
def test_the_line_break_at_the_end_of_a_key_is_not_sent(
    environ: Mapping[str, str], endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = chosen(environ, monkeypatch).registry.endpoints[endpoint].key
    assert key is not None
    assert key.get_secret_value() == "sk-x"


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({**AZURE, "IMAGEGEN_AOAI_API_KEY": "sk-ab\u2026c"}, "IMAGEGEN_AOAI_API_KEY"),
        ({**AZURE, "IMAGEGEN_AOAI_RESOURCE": "http://x:99999999"}, "IMAGEGEN_AOAI_RESOURCE"),
    ],
)
def test_a_key_or_address_that_cannot_be_used_stops_the_start_and_is_named(
    environ: Mapping[str, str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RegistryError, match=named) as refusal:
        chosen(environ, monkeypatch)
    assert "sk-ab" not in str(refusal.value)


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID"])
def test_a_setting_that_cannot_be_used_is_named_and_not_shown(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        chosen({name: "http://x:99999999/\u2026"}, monkeypatch)
    said = capsys.readouterr().err
    assert name in said
    assert "99999999" not in said


def test_image_model_chooses_the_default_among_the_known(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = chosen({"IMAGE_MODEL": "gpt-image-2.6-flare"}, monkeypatch).registry
    assert registry.default(ImageModel) == "gpt-image-2.6-flare"
    assert registry.default(TextModel) == "gpt-6-luna"


def test_a_registry_file_beats_everything(registry_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"CONTENTLAB_MODELS_FILE": str(registry_file), "GPU_KEY": "secret", **AZURE}
    selection = chosen(environ, monkeypatch)
    assert selection.provider == "registry"
    assert list(selection.registry.models) == ["house-style"]
    endpoint = selection.registry.endpoints["gpu"]
    assert endpoint.base_url == "http://gpu.internal:8000/v1"
    assert endpoint.key is not None
    assert endpoint.key.get_secret_value() == "secret"
    assert [warning for warning in selection.warnings if "MODEL_PROVIDER" in warning]


REGISTRY_FILE = {"CONTENTLAB_MODELS_FILE": ""}
BASE_URL = {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
SEED_OPENAI = {"MODEL_PROVIDER": "openai", "OPENAI_API_KEY": "sk-x"}


@pytest.mark.parametrize(
    ("source", "further", "named"),
    [
        (REGISTRY_FILE, AZURE, {"MODEL_PROVIDER", "IMAGEGEN_AOAI_RESOURCE", "IMAGEGEN_DEPLOYMENT"}),
        (REGISTRY_FILE, {**BASE_URL, "OPENAI_API_KEY": "k"}, {"OPENAI_BASE_URL", "OPENAI_API_KEY"}),
        (REGISTRY_FILE, {"IMAGE_MODEL": "a", "LLM_MODEL": "b"}, {"IMAGE_MODEL", "LLM_MODEL"}),
        (REGISTRY_FILE, {"CONTENTLAB_OPENAI_DIALECT": "sglang"}, {"CONTENTLAB_OPENAI_DIALECT"}),
        (REGISTRY_FILE, {"GPU_KEY": "secret"}, set()),
        (
            AZURE,
            {**BASE_URL, "OPENAI_API_KEY": "k", "OPENAI_ORG_ID": "o"},
            {*BASE_URL, "OPENAI_API_KEY", "OPENAI_ORG_ID"},
        ),
        (AZURE, {"IMAGE_MODEL": "gpt-image-2.5-flare"}, set()),
        (
            SEED_OPENAI,
            {"IMAGEGEN_DEPLOYMENT": "d", "LLM_AOAI_RESOURCE": "r"},
            {"IMAGEGEN_DEPLOYMENT", "LLM_AOAI_RESOURCE"},
        ),
        (BASE_URL, {"OPENAI_API_KEY": "k", "OPENAI_ORG_ID": "o", "IMAGE_MODEL": "m", "LLM_MODEL": "l"}, set()),
        (BASE_URL, {"LLM_DEPLOYMENT": "d"}, {"LLM_DEPLOYMENT"}),
        ({"OPENAI_API_KEY": "k"}, {"CONTENTLAB_OPENAI_DIALECT": "sglang"}, {"CONTENTLAB_OPENAI_DIALECT"}),
    ],
)
def test_each_variable_that_an_earlier_source_overrules_is_named(
    source: Mapping[str, str],
    further: Mapping[str, str],
    named: set[str],
    registry_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = {"CONTENTLAB_MODELS_FILE": str(registry_file)} if source is REGISTRY_FILE else {}
    warnings = chosen({**source, **further, **file}, monkeypatch).warnings
    assert {warning.split()[0] for warning in warnings if "has no effect" in warning} == named


def test_a_variable_that_a_registry_file_names_is_not_called_unused(
    registry_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry_file.write_text(registry_file.read_text().replace("GPU_KEY", "OPENAI_API_KEY"))
    environ = {"CONTENTLAB_MODELS_FILE": str(registry_file), "OPENAI_API_KEY": "k"}
    assert chosen(environ, monkeypatch).warnings == ()


def test_an_endpoint_without_its_key_is_a_warning_and_its_models_are_refused(
    registry_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    selection = chosen({"CONTENTLAB_MODELS_FILE": str(registry_file)}, monkeypatch)
    assert [warning for warning in selection.warnings if "gpu" in warning]
    with pytest.raises(Exception, match="credentials"):
        check_image_request(ImageRequest("x"), selection.registry, today=TODAY)


ENDPOINT = '[endpoints.a]\nbase_url = "http://x/v1"\n'
MODEL = '[models.x]\nendpoint = "a"\nprofile = "pass-through"\n'


@pytest.mark.parametrize(
    ("text", "named"),
    [
        pytest.param("nonsense", "models.toml", id="no toml"),
        pytest.param("[modells.x]", "modells", id="unknown table"),
        pytest.param('[endpoints.a]\nbase_url = "http://x"\nkey = "sk-1"', "key_env", id="a key in the file"),
        pytest.param('[endpoints.a]\nbase_url = "ftp://x"', "endpoints.a", id="no http"),
        pytest.param('[endpoints.a]\nbase_url = "http://x"', "models", id="no models"),
        pytest.param(f"endpoints = [1]\n{MODEL}", "endpoints: is no table", id="endpoints in a list"),
        pytest.param(f"[endpoints]\na = 1\n{MODEL}", "endpoints.a", id="an endpoint that is no table"),
        pytest.param(f"{ENDPOINT}[models]\nx = 1", "models.x: is no table", id="a model that is no table"),
        pytest.param(f"models = [1]\n{ENDPOINT}", "models: is no table", id="models in a list"),
        pytest.param(f"dialects = 1\n{ENDPOINT}{MODEL}", "dialects: is no table", id="dialects that are none"),
        pytest.param(f"[profiles]\np = 1\n{ENDPOINT}{MODEL}", "profiles.p", id="a profile that is no table"),
        pytest.param(f"[prices]\np = 1\n{ENDPOINT}{MODEL}", r"\[\[prices.p\]\]", id="a price that is no list"),
        pytest.param(f"[prices]\np = []\n{ENDPOINT}{MODEL}", "prices.p: has no row", id="a price of no day"),
        pytest.param(f'{ENDPOINT}[models.x]\nendpoint = "a"\nprofile = [1]', "models.x.profile", id="profiles"),
        pytest.param(ENDPOINT + MODEL.replace("models.x", 'models."org/x"'), "org/x", id="an id of two segments"),
        pytest.param(f'{ENDPOINT}{MODEL}defaults = {{size = "big"}}', "models.x.defaults.size", id="a size in words"),
        pytest.param(f'{ENDPOINT}{MODEL}defaults = {{size = ""}}', "models.x.defaults.size", id="no size"),
        pytest.param(
            f'{ENDPOINT}{MODEL}size_rule = {{fixed = ["big"]}}', "size_rule.fixed", id="a fixed size in words"
        ),
        pytest.param("[endpoints.a]\nkey_env = 1", "endpoints.a.key_env", id="a variable that is a number"),
    ],
)
def test_a_wrong_registry_file_is_refused(
    text: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "models.toml"
    path.write_text(text)
    with pytest.raises(RegistryError, match=named) as refusal:
        chosen({"CONTENTLAB_MODELS_FILE": str(path)}, monkeypatch)
    assert "sk-1" not in str(refusal.value)
