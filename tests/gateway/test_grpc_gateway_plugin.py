"""grpc-gateway's own plugins read our contract: its HTTP annotations are theirs, not merely Envoy's reading of them."""

import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from tests.support.contract import bindings, file_set, services

PACKAGE = "golang-grpc-gateway"
"""Debian's name for grpc-gateway; bookworm has 1.6.4."""
NO_WAITING = ("-q", "-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=20")


class NotToBeHadError(Exception):
    """The plugins cannot be fetched on this machine."""


def run(*command: str, cwd: Path, seconds: float = 60) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=seconds, check=False)
    if done.returncode != 0:
        raise NotToBeHadError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-300:]}")


def fetched_plugins(directory: Path) -> Path:
    """The directory of the plugins, unpacked from Debian's package and not installed.

    Raises:
        NotToBeHadError: no apt-get, no network, no such package.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise NotToBeHadError("this machine has no apt-get")
    try:
        try:
            run("apt-get", *NO_WAITING, "download", PACKAGE, cwd=directory)
        except NotToBeHadError:  # for want of package lists, most of the time
            run("apt-get", *NO_WAITING, "update", cwd=directory, seconds=120)
            run("apt-get", *NO_WAITING, "download", PACKAGE, cwd=directory)
    except subprocess.TimeoutExpired as error:
        raise NotToBeHadError(f"{error.cmd[0]} took too long") from error
    [package] = directory.glob("*.deb")
    run("dpkg-deb", "--extract", str(package), "unpacked", cwd=directory)
    return directory / "unpacked" / "usr" / "bin"


def without_presence(message: descriptor_pb2.DescriptorProto) -> None:
    """Drops `optional` from scalar fields: grpc-gateway 1.6 is older than that, and HTTP bindings do not know it."""
    synthetic = {field.oneof_index for field in message.field if field.proto3_optional}
    for field in message.field:
        if field.proto3_optional:
            field.ClearField("proto3_optional")
            field.ClearField("oneof_index")
    if synthetic:
        del message.oneof_decl[min(synthetic) :]  # they come after all others
    for nested in message.nested_type:
        without_presence(nested)


def older_contract(directory: Path) -> Path:
    """Our descriptor set with every annotation, as a plugin of 2018 can read it."""
    files = descriptor_pb2.FileDescriptorSet()
    files.CopyFrom(file_set())
    for file in files.file:
        for message in file.message_type:
            without_presence(message)
    target = directory / "contract.binpb"
    target.write_bytes(files.SerializeToString())
    return target


def generate(plugin: Path, contract: Path, file: str, output: Path) -> None:
    """Runs one plugin over one file; fails the test if the plugin refuses it."""
    name = plugin.name.removeprefix("protoc-gen-")
    packages = ",".join(f"M{each.name}=example.com/{each.name.rpartition('/')[0]}" for each in file_set().file)
    command = [
        *(sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_in={contract}"),
        *(f"--plugin={plugin.name}={plugin}", f"--{name}_out=allow_delete_body=true,{packages}:{output}", file),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """The plugins, or None with a warning: what is missing here is a package of the machine's, not a part of ours."""
    try:
        return fetched_plugins(tmp_path_factory.mktemp("grpc-gateway"))
    except NotToBeHadError as error:
        warnings.warn(f"NOT PROVED that grpc-gateway reads the annotations: {error}", stacklevel=1)
        return None


def test_grpc_gateways_openapi_has_every_bound_method_with_its_verb_and_path(
    plugins: Path | None, tmp_path: Path
) -> None:
    if plugins is None:
        return
    contract = older_contract(tmp_path)
    found, expected = set(), set()
    for service in services():
        file = service.file.name
        generate(plugins / "protoc-gen-swagger", contract, file, tmp_path)
        page = json.loads((tmp_path / file).with_suffix(".swagger.json").read_text(encoding="utf-8"))
        found |= {
            (file, verb.upper(), path, operation["operationId"])
            for path, operations in page["paths"].items()
            for verb, operation in operations.items()
        }
        expected |= {
            (file, binding.verb, binding.path, method.name)
            for method in service.methods
            for binding in bindings(method)
        }
    assert len(expected) > 60
    assert found == expected


def test_grpc_gateway_generates_its_proxy_for_every_service(plugins: Path | None, tmp_path: Path) -> None:
    """The code generator checks what the OpenAPI one does not: body fields, path fields, streams."""
    if plugins is None:
        return
    contract = older_contract(tmp_path)
    for service in services():
        if not any(bindings(method) for method in service.methods):
            continue
        generate(plugins / "protoc-gen-grpc-gateway", contract, service.file.name, tmp_path)
        [code] = tmp_path.rglob(f"{Path(service.file.name).stem}.pb.gw.go")
        text = code.read_text(encoding="utf-8")
        for method in service.methods:
            assert (f"func request_{service.name}_{method.name}_0(" in text) is bool(bindings(method)), method.full_name
