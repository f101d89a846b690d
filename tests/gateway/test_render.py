"""What is rendered, and what is refused."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.binary import CONFIG_FILE, envoy_binary
from gateway.contract import Kind, load_methods
from gateway.render import DESCRIPTOR_FILE, render
from gateway.routes import template_regex
from gateway.settings import Address, GatewaySettings, SettingsError
from tests.gateway.harness import gateway_settings
from tests.support.contract import DESCRIPTOR_SET, ROOT

PORTS = {"image": 50051, "video": 50052, "gallery": 50053, "usage": 50054}


def settings() -> GatewaySettings:
    return replace(gateway_settings(PORTS), listen=Address("127.0.0.1", 8080), admin=Address("127.0.0.1", 9901))


def rendered(directory: Path) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(render(settings(), directory).read_text())
    return config


def grpc_routes(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Routes of the first virtual host by the path of their method."""
    [chain] = config["static_resources"]["listeners"][0]["filter_chains"]
    hosts = chain["filters"][0]["typed_config"]["route_config"]["virtual_hosts"]
    return {route["match"]["path"]: route for route in hosts[0]["routes"] if "route" in route}


def cli(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_envoy_accepts_what_is_rendered_with_all_options_of_the_contract(tmp_path: Path) -> None:
    made = cli("render", "--output", str(tmp_path / "envoy"))
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "envoy" / DESCRIPTOR_FILE).read_bytes() == DESCRIPTOR_SET.read_bytes()
    checked = cli("validate", str(tmp_path / "envoy"))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_validate_finds_what_envoy_would_refuse(tmp_path: Path) -> None:
    config = render(settings(), tmp_path)
    config.write_text(config.read_text().replace("convert_grpc_status", "convert_grpc_statue"))
    checked = cli("validate", str(tmp_path))
    assert checked.returncode != 0
    assert "convert_grpc_statue" in checked.stdout + checked.stderr


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    def made(seed: str) -> bytes:
        assert cli("render", "--output", str(tmp_path), PYTHONHASHSEED=seed).returncode == 0
        return (tmp_path / CONFIG_FILE).read_bytes()

    assert len({made(seed) for seed in ("0", "1", "2")}) == 1


def test_the_configuration_is_plain_yaml(tmp_path: Path) -> None:
    events = list(yaml.parse(render(settings(), tmp_path).read_text()))
    assert not [event for event in events if isinstance(event, yaml.AliasEvent)]
    assert not [event for event in events if isinstance(event, yaml.ScalarEvent) and event.value == "<<"]


@pytest.mark.parametrize("address", ["0.0.0.0:8080", "[::]:8080", "192.168.1.5:8080", "localhost:8080", "10.0.0.1:1"])
def test_without_authentication_only_loopback_is_listened_on(tmp_path: Path, address: str) -> None:
    refused = cli("render", "--output", str(tmp_path / "envoy"), "--listen", address)
    assert refused.returncode == 1
    assert "CONTENTLAB_AUTH=none is allowed on loopback addresses only" in refused.stderr
    assert not (tmp_path / "envoy").exists()


def test_the_admin_page_stays_on_loopback_too(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="admin page"):
        render(replace(settings(), admin=Address("0.0.0.0", 9901)), tmp_path)  # noqa: S104 - is refused


def test_an_authentication_that_does_not_exist_is_not_silently_left_out(tmp_path: Path) -> None:
    refused = cli("render", "--output", str(tmp_path / "envoy"), CONTENTLAB_AUTH="jwt")
    assert refused.returncode == 1
    assert "CONTENTLAB_AUTH=jwt is not supported" in refused.stderr


@pytest.mark.parametrize("address", ["8080", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", ":8080", "a:b"])
def test_an_address_that_is_none_is_named(address: str) -> None:
    with pytest.raises(SettingsError, match="is not an address"):
        Address.parse(address)


@pytest.mark.parametrize("arguments", [(), ("render",), ("validate",)])
def test_every_command_explains_itself(arguments: tuple[str, ...]) -> None:
    shown = cli(*arguments, "--help")
    assert shown.returncode == 0
    assert "usage: python -m gateway" in shown.stdout


def test_several_processes_of_a_service_and_names_are_taken(tmp_path: Path) -> None:
    made = cli("render", "--output", str(tmp_path), "--image", "127.0.0.1:1,127.0.0.1:2", "--gallery", "gallery:50053")
    assert made.returncode == 0, made.stderr
    config = yaml.safe_load((tmp_path / CONFIG_FILE).read_text())
    clusters = {cluster["name"]: cluster for cluster in config["static_resources"]["clusters"]}
    [locality] = clusters["image_rpc"]["load_assignment"]["endpoints"]
    assert len(locality["lb_endpoints"]) == 2
    assert clusters["gallery_bulk"]["type"] == "STRICT_DNS"


def test_paid_methods_have_fifteen_minutes_and_no_retries(tmp_path: Path) -> None:
    routes = grpc_routes(rendered(tmp_path))
    paid = [method for method in load_methods(DESCRIPTOR_SET) if method.kind.is_paid]
    assert paid
    for method in paid:
        action = routes[method.path]["route"]
        assert "retry_policy" not in action, method.path
        assert action["max_stream_duration"]["max_stream_duration"] == "900s", method.path


def test_only_reads_are_retried_for_more_than_a_refused_connection(tmp_path: Path) -> None:
    routes = grpc_routes(rendered(tmp_path))
    for method in load_methods(DESCRIPTOR_SET):
        retries = routes[method.path]["route"].get("retry_policy", {}).get("retry_on", "connect-failure")
        assert method.kind is Kind.READ or retries == "connect-failure", method.path


def test_every_cluster_has_windows_that_a_stalled_client_cannot_use_up(tmp_path: Path) -> None:
    clusters = rendered(tmp_path)["static_resources"]["clusters"]
    assert {cluster["name"] for cluster in clusters} == {
        f"{service}_{lane}" for service in PORTS for lane in ("rpc", "watch", "bulk")
    }
    for cluster in clusters:
        [options] = cluster["typed_extension_protocol_options"].values()
        windows = options["explicit_http_config"]["http2_protocol_options"]
        assert windows["initial_stream_window_size"] == 262144
        assert windows["initial_connection_window_size"] == 2147483647
        requests = {"rpc": 1000, "watch": 20000, "bulk": 200}[cluster["name"].rpartition("_")[2]]
        assert all(row["max_requests"] == requests for row in cluster["circuit_breakers"]["thresholds"])


@pytest.mark.parametrize(
    ("template", "regex"),
    [
        ("/api/v1/assets:upload", r"/api/v1/assets:upload"),
        ("/api/v1/{name=assets/*}:download", r"/api/v1/assets/[^/]+:download"),
        ("/api/v1/{name=files/**}", r"/api/v1/files/.+"),
        ("/api/v1/things/{id}.v1", r"/api/v1/things/[^/]+\.v1"),
    ],
)
def test_a_path_template_becomes_a_regular_expression(template: str, regex: str) -> None:
    assert template_regex(template) == regex


def test_the_binary_is_envoy_itself_and_no_script() -> None:
    assert envoy_binary().read_bytes()[:4] == b"\x7fELF"
