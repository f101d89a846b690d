"""Settings and what a person reads when they are wrong."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field, SecretStr, ValidationError

from services.common.settings import Address, DatabaseSettings, ServiceSettings, load, variables

URL = "postgresql://user:s3cret-word@127.0.0.1:5432/db"


class Both(ServiceSettings, DatabaseSettings):
    listen: Address = "127.0.0.1:50051"
    sizes: list[int] = Field(default_factory=list, description="a JSON list of sizes")
    gallery: Annotated[str, Field(validation_alias="GALLERY_TARGET")] = "localhost"


def failure(capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        load(Both)
    assert ended.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert "s3cret-word" not in output.err
    return output.err


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", URL)
    monkeypatch.setenv("CONTENTLAB_LISTEN", "[::1]:1")
    monkeypatch.setenv("CONTENTLAB_REFLECTION", "true")
    monkeypatch.setenv("CONTENTLAB_DATABASE_POOL_SIZE", "3")
    settings = load(Both)
    assert (settings.listen, settings.reflection, settings.database_pool_size) == ("[::1]:1", True, 3)
    assert settings.database_url.get_secret_value() == URL


def test_a_missing_variable_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    expected = "configuration: DATABASE_URL is missing, expected postgresql://user:password@host:port/database\n"
    assert failure(capsys) == expected


def test_an_empty_variable_is_a_missing_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "")
    assert "DATABASE_URL is missing" in failure(capsys)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://user:s3cret-word@host/db"),
        ("CONTENTLAB_LISTEN", "50051"),
        ("CONTENTLAB_LISTEN", "host:70000"),
        ("CONTENTLAB_METRICS_LISTEN", "host:"),
        ("CONTENTLAB_LOG_LEVEL", "s3cret-word"),
        ("CONTENTLAB_DRAIN_SECONDS", "-1"),
        ("CONTENTLAB_DRAIN_SECONDS", "s3cret-word"),
        ("CONTENTLAB_REFLECTION", "maybe"),
        ("CONTENTLAB_SERVICE_TOKEN_FILE", "/nonexistent/s3cret-word"),
        ("CONTENTLAB_SERVICE_TOKEN_FILE", "/dev/null"),
    ],
)
def test_a_wrong_variable_is_named_with_what_is_expected_and_never_its_value(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", URL)
    monkeypatch.setenv(name, value)
    line = failure(capsys)
    assert line.startswith(f"configuration: {name} is wrong, expected ")
    assert len(line) > len(f"configuration: {name} is wrong, expected \n")


def test_several_wrong_variables_are_all_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CONTENTLAB_LOG_FORMAT", "xml")
    line = failure(capsys)
    assert "DATABASE_URL is missing" in line
    assert "CONTENTLAB_LOG_FORMAT is wrong, expected json or console" in line


def test_a_list_that_is_no_json_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DATABASE_URL", URL)
    monkeypatch.setenv("CONTENTLAB_SIZES", "s3cret-word")
    assert "CONTENTLAB_SIZES is wrong, expected a JSON list of sizes" in failure(capsys)


def test_settings_are_frozen_and_hide_secrets() -> None:
    settings = Both(database_url=SecretStr(URL))
    with pytest.raises(ValidationError):
        settings.listen = "127.0.0.1:1"
    assert "s3cret-word" not in repr(settings) + str(settings.model_dump())


def test_an_error_in_code_does_not_quote_the_value_either() -> None:
    with pytest.raises(ValidationError) as error:
        Both(database_url=SecretStr("mysql://user:s3cret-word@host/db"))
    assert "s3cret-word" not in str(error.value)
    wrong: dict[str, Any] = {"database_url": SecretStr(URL), "log_level": "s3cret-word"}
    with pytest.raises(ValidationError) as error:
        Both(**wrong)
    assert "s3cret-word" not in str(error.value)


def test_a_variable_without_the_prefix_keeps_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", URL)
    monkeypatch.setenv("GALLERY_TARGET", "gallery:50053")
    assert load(Both).gallery == "gallery:50053"


def test_every_variable_of_the_plumbing_is_described() -> None:
    described = variables(ServiceSettings) | variables(DatabaseSettings)
    assert "DATABASE_URL" in described
    assert "CONTENTLAB_DRAIN_SECONDS" in described
    assert all(meaning and meaning != "a valid value" for meaning in described.values())


def test_the_token_file_is_read_without_its_last_newline(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("  abc\n")
    assert Both(database_url=SecretStr(URL), service_token_file=str(file)).service_token_file == str(file)


def test_a_process_with_a_wrong_environment_ends_with_2_and_no_traceback() -> None:
    program = "from services.common.settings import Address, DatabaseSettings, load; load(DatabaseSettings)"
    ended = subprocess.run([sys.executable, "-c", program], env={}, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        "configuration: DATABASE_URL is missing, expected postgresql://user:password@host:port/database\n"
    )
