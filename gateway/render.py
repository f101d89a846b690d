"""Rendering: settings and contract in, a directory that Envoy can start from out."""

import shutil
from pathlib import Path

import yaml

from gateway.binary import CONFIG_FILE
from gateway.clusters import clusters, socket_address
from gateway.contract import load_methods
from gateway.envoy_types import Config
from gateway.listener import listener
from gateway.settings import GatewaySettings

DESCRIPTOR_FILE = "contentlab.binpb"
# Any page of the web can post to a loopback port, and Envoy's admin page looks at neither Origin nor Host.
_ADMIN_PATHS = ({"exact": "/ready"}, {"safe_regex": {"regex": r"/stats(/prometheus)?(\?.*)?"}})


def bootstrap(settings: GatewaySettings, descriptor: Path) -> Config:
    """Envoy's whole configuration; `descriptor` is where Envoy will find the descriptor set."""
    methods = load_methods(settings.descriptor)
    return {
        "node": {"id": "gateway", "cluster": "contentlab"},
        "admin": {"address": socket_address(settings.admin), "allow_paths": list(_ADMIN_PATHS)},
        "static_resources": {
            "listeners": [listener(settings, descriptor, methods)],
            "clusters": clusters(settings, methods),
        },
    }


def render(settings: GatewaySettings, output: Path) -> Path:
    """Writes `envoy.yaml` and the descriptor set into `output`, and returns the path of the former.

    Raises:
        SettingsError: the settings would open a door, or lack something.
        ContractError: the descriptor set cannot be routed.
    """
    settings.check()
    output.mkdir(parents=True, exist_ok=True)
    descriptor = output.resolve() / DESCRIPTOR_FILE
    config = output / CONFIG_FILE
    text = to_yaml(bootstrap(settings, descriptor))
    shutil.copyfile(settings.descriptor, descriptor)
    config.write_text(text, encoding="utf-8")
    return config


class _PlainDumper(yaml.SafeDumper):
    """Envoy reads no merge keys, and people no anchors."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def to_yaml(config: Config) -> str:
    """The configuration as YAML without anchors, in the order in which it was built."""
    return yaml.dump(config, Dumper=_PlainDumper, sort_keys=False, width=120, allow_unicode=True)
