"""Generates the stubs and the descriptor set of the contract into `protos/gen`.

    python protos/generate.py            write protos/gen anew
    python protos/generate.py --check    write nothing; exit 1 and name the files that differ
    python protos/generate.py --baseline make the present contract the one that later ones must not break

Nothing third-party is kept in the tree: the `google/api` and `google/rpc` sources come from the
googleapis-common-protos wheel, and `buf/validate/validate.proto` is taken from the descriptor inside the protovalidate
wheel, which does not ship its source.
"""

import argparse
import ast
import filecmp
import importlib.util
import sys
import tempfile
from pathlib import Path

import google.api
from google.protobuf import descriptor_pb2, duration_pb2, field_mask_pb2, timestamp_pb2
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent
GENERATED = ROOT / "gen"
DESCRIPTOR_SET = "contentlab.binpb"
BASELINE = ROOT / "baseline.binpb"
WELL_KNOWN = Path(protoc.__file__).parent / "_proto"
GOOGLE_APIS = Path(next(iter(google.api.__path__))).parents[1]
# Envoy renders an error detail as JSON only when its type is in the descriptor set.
ERROR_TYPES = ("google/rpc/error_details.proto", "google/rpc/status.proto")
VALIDATE = "buf/validate/validate.proto"


def validate_descriptors() -> descriptor_pb2.FileDescriptorSet:
    """The descriptor of `buf/validate/validate.proto` and its imports, out of the protovalidate wheel."""
    spec = importlib.util.find_spec("protovalidate._gen.buf.validate.validate_pb")
    if spec is None or spec.origin is None:
        raise SystemExit("protovalidate is not installed: install requirements/dev.txt")
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    raw = next(
        node.value.args[0].value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == "_DESC"
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.args[0], ast.Constant)
    )
    assert isinstance(raw, bytes)
    files = descriptor_pb2.FileDescriptorSet()
    for module in (descriptor_pb2, duration_pb2, field_mask_pb2, timestamp_pb2):
        module.DESCRIPTOR.CopyToProto(files.file.add())
    files.file.add().ParseFromString(raw)
    return files


def run_protoc(arguments: list[str]) -> None:
    """Runs the bundled protoc; ends the program when it fails."""
    if protoc.main(["protoc", *arguments]) != 0:
        raise SystemExit(f"protoc failed: {' '.join(arguments)}")


def generate(target: Path) -> None:
    """Writes stubs, types and the descriptor set below `target`, which must be empty."""
    with tempfile.TemporaryDirectory() as scratch:
        dependencies = Path(scratch, "validate.binpb")
        dependencies.write_bytes(validate_descriptors().SerializeToString())
        whole = Path(scratch, "all.binpb")
        sources = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("contentlab/**/*.proto"))
        run_protoc(
            [
                f"--descriptor_set_in={dependencies}",
                f"-I{ROOT}",
                f"-I{GOOGLE_APIS}",
                f"-I{WELL_KNOWN}",
                "--include_imports",
                "--include_source_info",
                f"--descriptor_set_out={whole}",
                *sources,
                *ERROR_TYPES,
            ]
        )
        kinds = ("python_out=", "grpc_python_out=", "mypy_out=quiet:", "mypy_grpc_out=quiet:")
        outputs = [f"--{kind}{target}" for kind in kinds]
        run_protoc([f"--descriptor_set_in={whole}", *outputs, *sources])
        run_protoc(
            [f"--descriptor_set_in={dependencies}", f"--python_out={target}", f"--mypy_out=quiet:{target}", VALIDATE]
        )
        (target / "contentlab" / "py.typed").touch()
        (target / DESCRIPTOR_SET).write_bytes(whole.read_bytes())


def tree(folder: Path) -> set[Path]:
    """Relative paths of the files below `folder`, caches left out."""
    return {
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }


def differences(fresh: Path, committed: Path) -> list[str]:
    """Names of the files that are missing, superfluous or different in `committed`."""
    have, want = tree(committed), tree(fresh)
    _, different, odd = filecmp.cmpfiles(fresh, committed, [str(path) for path in have & want], shallow=False)
    return sorted([*map(str, have ^ want), *different, *odd])


def write_baseline() -> None:
    """Keeps the committed descriptor set, without its comments, as the baseline of `buf breaking`."""
    files = descriptor_pb2.FileDescriptorSet.FromString((GENERATED / DESCRIPTOR_SET).read_bytes())
    for file in files.file:
        file.ClearField("source_code_info")
    BASELINE.write_bytes(files.SerializeToString(deterministic=True))


def main() -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(description="Generate the stubs of the contract.")
    parser.add_argument("--check", action="store_true", help="compare with protos/gen instead of writing it")
    parser.add_argument(
        "--baseline", action="store_true", help="also make this contract the baseline of breaking changes"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch)
        generate(fresh)
        changed = differences(fresh, GENERATED)
        if arguments.check:
            if changed:
                print("protos/gen is not what the contract generates; run `make gen`:", *changed, sep="\n  ")
            return 1 if changed else 0
        for relative in changed:
            source, destination = fresh / relative, GENERATED / relative
            if source.exists():
                destination.parent.mkdir(parents=True, exist_ok=True)
                destination.write_bytes(source.read_bytes())
            else:
                destination.unlink()
    if arguments.baseline:
        write_baseline()
    return 0


if __name__ == "__main__":
    sys.exit(main())
