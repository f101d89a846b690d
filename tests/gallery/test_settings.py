"""Settings of the gallery: each way to sign in to storage, and mistakes that name their variable."""

import os
from typing import Any

import pytest
from azure.identity.aio import DefaultAzureCredential

from services.common.settings import EXIT_CONFIGURATION, load
from services.gallery.adapters.azure_client import account_of, open_client, storage_kind
from services.gallery.settings import GallerySettings

KEY = "bWFkZSB1cA=="
CONNECTION = f"DefaultEndpointsProtocol=http;AccountName=a;AccountKey={KEY};BlobEndpoint=http://127.0.0.1:1/a;"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("CONTENTLAB_", "AZURE_", "DATABASE_URL")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:p@127.0.0.1:1/d")


def mistake(capsys: pytest.CaptureFixture[str]) -> str:
    """The line with which the process ends."""
    with pytest.raises(SystemExit) as end:
        load(GallerySettings)
    assert end.value.code == EXIT_CONFIGURATION
    return capsys.readouterr().err


def test_a_storage_account_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    line = mistake(capsys)
    assert "AZURE_BLOB_SERVICE_URL is wrong" in line
    assert "AZURE_STORAGE_CONNECTION_STRING is needed" in line


@pytest.mark.parametrize("name", ["UP", "ab", "a_b", "a" * 64, "-ab", "ab-", "a--b", "bücher"])
def test_a_container_name_that_azure_would_refuse_is_refused_at_start(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "acc")
    monkeypatch.setenv("AZURE_BLOB_IMAGE_CONTAINER", name)
    assert "AZURE_BLOB_IMAGE_CONTAINER is wrong" in mistake(capsys)


@pytest.mark.parametrize(
    ("variables", "auth", "url"),
    [
        ({"AZURE_STORAGE_CONNECTION_STRING": CONNECTION}, "connection_string", "http://127.0.0.1:1/a"),
        (
            {"AZURE_STORAGE_ACCOUNT_NAME": "acc", "AZURE_STORAGE_ACCOUNT_KEY": KEY},
            "account_key",
            "https://acc.blob.core.windows.net",
        ),
        (
            {"AZURE_BLOB_SERVICE_URL": "http://127.0.0.1:1/acc", "AZURE_STORAGE_ACCOUNT_KEY": KEY},
            "account_key",
            "http://127.0.0.1:1/acc",
        ),
        ({"AZURE_STORAGE_ACCOUNT_NAME": "acc"}, "workload_identity", "https://acc.blob.core.windows.net"),
        ({"AZURE_BLOB_SERVICE_URL": "https://blobs.example"}, "workload_identity", "https://blobs.example"),
    ],
)
async def test_each_way_to_sign_in_gives_its_client(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], auth: str, url: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = load(GallerySettings)
    assert settings.storage_auth == auth
    assert (settings.image_container, settings.video_container) == ("images", "videos")
    async with open_client(settings) as client:
        assert client.url.rstrip("/") == url
        credential: Any = client.credential
        assert isinstance(credential, DefaultAzureCredential) == (auth == "workload_identity")
        if auth != "workload_identity":
            assert credential.account_name in ("a", "acc")


@pytest.mark.parametrize(
    ("url", "account", "kind"),
    [
        ("https://acc.blob.core.windows.net/", "acc", "azure"),
        ("http://127.0.0.1:10000/contentlab", "contentlab", "azurite"),
        ("http://localhost:10000/devstoreaccount1", "devstoreaccount1", "azurite"),
        ("http://azurite:10000/devstoreaccount1", "devstoreaccount1", "azurite"),
        ("https://blobs.example.org", "blobs", "azure"),
    ],
)
def test_account_and_kind_of_storage_are_read_from_its_address(url: str, account: str, kind: str) -> None:
    assert (account_of(url), storage_kind(url)) == (account, kind)


def test_no_secret_is_in_the_settings_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "acc")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
    assert KEY not in repr(load(GallerySettings))
