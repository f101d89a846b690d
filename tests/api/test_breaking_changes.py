"""The committed baseline guards the contract: a change that breaks a client is caught before it lands."""

import shutil
import subprocess
import sys
from pathlib import Path

from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pb2

from tests.support import contract
from tests.support.contract import DESCRIPTOR_SET, ROOT

BASELINE = ROOT / "protos" / "baseline.binpb"
BUF = shutil.which("buf", path=str(Path(sys.executable).parent)) or "buf"


def breaking(image: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BUF, "breaking", image, "--against", BASELINE, "--path", "contentlab", "--config", "protos/buf.yaml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def planted(tmp_path: Path, plant: str) -> Path:
    files = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTOR_SET.read_bytes())
    image = next(file for file in files.file if file.package == "contentlab.image.v1")
    request = next(message for message in image.message_type if message.name == "GenerateImagesRequest")
    prompt = next(field for field in request.field if field.name == "prompt")
    if plant == "renamed field":
        prompt.name, prompt.json_name = "text", "text"
    elif plant == "removed method":
        del image.service[0].method[0]
    elif plant == "changed type":
        prompt.type = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
    changed = tmp_path / "changed.binpb"
    changed.write_bytes(files.SerializeToString())
    return changed


def test_the_contract_breaks_nothing_that_the_baseline_promises() -> None:
    result = breaking(DESCRIPTOR_SET)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_planted_break_is_caught(tmp_path: Path) -> None:
    assert breaking(planted(tmp_path, "nothing")).returncode == 0
    for plant, word in (("renamed field", "name"), ("removed method", "deleted"), ("changed type", "type")):
        result = breaking(planted(tmp_path, plant))
        assert result.returncode != 0, plant
        assert word in result.stdout, f"{plant}: {result.stdout}"


def rest_paths(image: Path) -> set[tuple[str, str, str]]:
    files = descriptor_pb2.FileDescriptorSet.FromString(image.read_bytes())
    found = set()
    for file in files.file:
        for service in file.service:
            for method in service.method:
                rule: http_pb2.HttpRule = contract.option(method.options, annotations_pb2.http)
                for one in (rule, *rule.additional_bindings):
                    if verb := one.WhichOneof("pattern"):
                        found.add((f"{file.package}.{service.name}.{method.name}", verb, getattr(one, verb)))
    return found


def test_no_rest_path_of_the_baseline_has_gone() -> None:
    """buf compares messages and methods; the paths are a promise too."""
    promised = rest_paths(BASELINE)
    assert len(promised) > 60
    assert promised - rest_paths(DESCRIPTOR_SET) == set()
