"""What the caller may choose, and what each process is told."""

from pathlib import Path

import pytest

from deploy.local.postgres.binaries import Binaries
from deploy.local.postgres.cluster import Cluster
from deploy.local.processes import Ground, process_table
from deploy.local.settings import PORTS, SettingsError, load_settings
from deploy.local.spec import ProcessSpec, stages
from deploy.local.toolchain import Node
from tests.deploy.local.support import settings_for


def table(home: Path, **variables: str) -> dict[str, ProcessSpec]:
    """The process table as it is on a machine that has everything."""
    settings = settings_for(home, 1000, **variables)
    base = home / "postgres"
    base.mkdir(exist_ok=True)
    (base / "contentlab.password").write_text("secret", encoding="ascii")
    ground = Ground(
        cluster=None if settings.database_url else Cluster(base, None, Binaries(Path("/programs"), 18)),
        node=Node(Path("/usr/bin/node"), ()) if settings.uses_azurite else None,
        token_file=home / "token",
    )
    return {spec.name: spec for spec in process_table(settings, ground)}


async def told(specs: dict[str, ProcessSpec], name: str) -> dict[str, str]:
    return dict((await specs[name].launch()).environment)


async def test_the_whole_table_has_its_order_and_its_own_ports(tmp_path: Path) -> None:
    specs = table(tmp_path)
    order = stages(list(specs.values()))
    assert set(specs) == {"postgres", "azurite", "emulator", "gallery", "image", "video", "usage", "gateway"}
    assert order["postgres"] < order["image"] < order["gateway"]
    assert order["azurite"] < order["gallery"] < order["gateway"]
    ports = [port for spec in specs.values() for port in spec.ports]
    assert sorted(ports) == sorted(port + 1000 for port in PORTS.values())


async def test_only_gallery_gets_storage_and_only_the_paying_services_get_the_provider(tmp_path: Path) -> None:
    specs = table(
        tmp_path, AZURE_BLOB_IMAGE_CONTAINER="pictures", IMAGE_MODEL="gpt-image-2", CONTENTLAB_LOG_LEVEL="debug"
    )
    for name in ("gallery", "image", "video", "usage"):
        environment = await told(specs, name)
        assert environment["DATABASE_URL"] == "postgresql://contentlab:secret@127.0.0.1:16432/contentlab"
        assert environment["CONTENTLAB_LISTEN"] == f"127.0.0.1:{PORTS[name] + 1000}"
        assert environment["CONTENTLAB_METRICS_LISTEN"] == f"127.0.0.1:{PORTS[f'{name}-metrics'] + 1000}"
        assert environment["CONTENTLAB_GALLERY_TARGET"] == "127.0.0.1:51053"
        assert environment["CONTENTLAB_SERVICE_TOKEN_FILE"] == str(tmp_path / "token")
        assert environment["CONTENTLAB_LOG_LEVEL"] == "debug"
        assert ("AZURE_STORAGE_CONNECTION_STRING" in environment) == (name == "gallery")
        assert ("AZURE_BLOB_IMAGE_CONTAINER" in environment) == (name == "gallery")
        assert ("CONTENTLAB_EMULATOR_URL" in environment) == (name in {"image", "video"})
        assert ("IMAGE_MODEL" in environment) == (name in {"image", "video"})
    assert (await told(specs, "image"))["CONTENTLAB_EMULATOR_URL"] == "http://127.0.0.1:9190/v1"


async def test_a_process_inherits_nothing_by_accident(tmp_path: Path) -> None:
    specs = table(tmp_path, AWS_SECRET_ACCESS_KEY="x", HTTPS_PROXY="http://proxy", LANG="de_DE", SSL_CERT_FILE="/ca")
    for name in set(specs) - {"gateway", "postgres"}:  # rendering the gateway starts a program
        environment = await told(specs, name)
        assert environment["LANG"] == "C.UTF-8"
        assert environment["SSL_CERT_FILE"] == "/ca"
        assert not {"AWS_SECRET_ACCESS_KEY", "HTTPS_PROXY", "CONTENTLAB_HOME", "CONTENTLAB_PORT_BASE"} & set(
            environment
        )


@pytest.mark.parametrize(
    "choice",
    ["OPENAI_API_KEY", "OPENAI_BASE_URL", "MODEL_PROVIDER", "CONTENTLAB_MODELS_FILE", "IMAGEGEN_AOAI_RESOURCE"],
)
async def test_whoever_chooses_a_provider_gets_no_emulator(tmp_path: Path, choice: str) -> None:
    specs = table(tmp_path, **{choice: "chosen"})
    assert "emulator" not in specs
    image = await told(specs, "image")
    assert image[choice] == "chosen"
    assert "CONTENTLAB_EMULATOR_URL" not in image
    assert choice not in await told(specs, "gallery")


async def test_an_empty_variable_chooses_nothing(tmp_path: Path) -> None:
    specs = table(tmp_path, OPENAI_API_KEY="", DATABASE_URL="", AZURE_STORAGE_CONNECTION_STRING="")
    assert {"postgres", "azurite", "emulator"} <= set(specs)
    assert "OPENAI_API_KEY" not in await told(specs, "image")


async def test_a_given_database_and_a_given_storage_are_used_and_not_started(tmp_path: Path) -> None:
    specs = table(tmp_path, DATABASE_URL="postgresql://db/x", AZURE_STORAGE_ACCOUNT_NAME="mine", AZURE_CLIENT_ID="id")
    assert "postgres" not in specs
    assert "azurite" not in specs
    gallery = await told(specs, "gallery")
    assert gallery["DATABASE_URL"] == "postgresql://db/x"
    assert (gallery["AZURE_STORAGE_ACCOUNT_NAME"], gallery["AZURE_CLIENT_ID"]) == ("mine", "id")
    assert "AZURE_STORAGE_CONNECTION_STRING" not in gallery


def test_the_environment_wins_over_the_env_file(tmp_path: Path) -> None:
    lines = ["# mine", "", "export CONTENTLAB_PORT_BASE=200 # moved", "CONTENTLAB_HOME='data dir'", "IMAGE_MODEL=a=b"]
    (tmp_path / ".env").write_text("\n".join(lines), encoding="utf-8")
    settings = load_settings({"IMAGE_MODEL": "mine"}, tmp_path)
    assert settings.port("gateway") == 8280
    assert settings.home == tmp_path / "data dir"
    assert settings.variables["IMAGE_MODEL"] == "mine"
    assert load_settings({}, tmp_path).variables["IMAGE_MODEL"] == "a=b"


@pytest.mark.parametrize("base", ["99", "15001", "-5", "1e3", "x"])
def test_a_port_base_that_makes_no_sense_is_refused_by_name(tmp_path: Path, base: str) -> None:
    with pytest.raises(SettingsError, match=r"CONTENTLAB_PORT_BASE.*from 100 to 15000"):
        load_settings({"CONTENTLAB_PORT_BASE": base}, tmp_path)


def test_a_line_that_is_no_setting_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1\nwhat is this\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"\.env, line 2"):
        load_settings({}, tmp_path)


def test_all_ports_stay_in_range_with_the_largest_base() -> None:
    assert max(PORTS.values()) + 15_000 < 65_536
    assert len(set(PORTS.values())) == len(PORTS)
