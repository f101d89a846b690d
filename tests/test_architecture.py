"""Who may import whom. The table is the architecture; ARCHITECTURE.md explains it."""

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SERVICES = ("image", "video", "gallery", "usage")
LIBRARIES = ("common", "models")
VENDORS = ("openai", "azure", "sqlalchemy", "psycopg", "alembic", "PIL", "httpx2", "aiohttp", "dbos", "av")
RPC = ("grpc", "grpc_status", "grpc_health", "google", "contentlab", "protovalidate")

# Pattern of a module's path, and what it must not import. `{service}` stands for each service in turn.
FORBIDDEN: dict[str, tuple[str, ...]] = {
    # Plumbing knows gRPC and no business word; model access knows no service.
    "services/common/**": (
        "services.image",
        "services.video",
        "services.gallery",
        "services.usage",
        "services.models",
        "contentlab",
        "openai",
        "azure",
    ),
    "services/models/**": (
        "services.image",
        "services.video",
        "services.gallery",
        "services.usage",
        "contentlab",
        "azure.storage",
    ),
    # The domain decides: no vendor, no transport.
    "services/{service}/domain.py": (*VENDORS, *RPC),
    "services/{service}/domain/**": (*VENDORS, *RPC),
    "services/{service}/ports.py": (*VENDORS, *RPC),
    # The servicer translates: no vendor, no adapter.
    "services/{service}/servicer.py": (*VENDORS, "services.{service}.adapters"),
    "services/{service}/convert.py": (*VENDORS, "services.{service}.adapters"),
    # Gallery never calls a model; nobody but gallery touches storage.
    "services/gallery/**": ("openai", "services.models"),
    "services/image/**": ("azure.storage",),
    "services/video/**": ("azure.storage",),
    "services/usage/**": ("azure.storage", "openai"),
    # The emulator is the judge of what was charged: it shares no code with those it judges.
    "emulator/**": ("services", "contentlab", "gateway", "deploy"),
    "gateway/**": ("services", "emulator", "deploy"),
    # A shipped part never leans on tests or on the local stack.
    "services/**": ("tests", "deploy", "emulator", "gateway"),
}


@cache
def modules() -> list[Path]:
    folders = [ROOT / top for top in ("services", "emulator", "gateway", "deploy")]
    return sorted(
        path
        for folder in folders
        for path in folder.rglob("*.py")
        if "node_modules" not in path.relative_to(ROOT).parts
    )


@cache
def imported_by(path: Path) -> tuple[str, ...]:
    return tuple(imports(path))


def imports(path: Path, source: str | None = None) -> Iterator[str]:
    """Absolute names of everything a module imports, `from a import b` as `a.b`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8") if source is None else source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(ROOT).parent.parts
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def rules() -> Iterator[tuple[str, tuple[str, ...]]]:
    for pattern, forbidden in FORBIDDEN.items():
        if "{service}" in pattern:
            for service in SERVICES:
                yield pattern.format(service=service), tuple(name.format(service=service) for name in forbidden)
        else:
            yield pattern, forbidden
    for service in SERVICES:
        # No service imports another: they meet in the contract.
        yield f"services/{service}/**", tuple(f"services.{other}" for other in SERVICES if other != service)


def violations(path: Path, forbidden: tuple[str, ...], source: str | None = None) -> list[str]:
    return [name for name in imports(path, source) for bad in forbidden if name == bad or name.startswith(f"{bad}.")]


def test_modules_import_only_what_their_place_allows() -> None:
    found = [
        f"{path.relative_to(ROOT)} imports {name}"
        for pattern, forbidden in rules()
        for path in modules()
        if fnmatch(path.relative_to(ROOT).as_posix(), pattern)
        for name in violations(path, forbidden)
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    ["import openai", "from services.image import domain", "from services import image", "from ..image import domain"],
)
def test_a_planted_import_is_seen(line: str) -> None:
    assert violations(ROOT / "services" / "gallery" / "planted.py", ("openai", "services.image"), line)


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_the_same_files(service: str) -> None:
    folder = ROOT / "services" / service
    for name in ("__main__.py", "settings.py", "servicer.py", "README.md"):
        assert (folder / name).is_file(), f"services/{service}/{name} is missing"


def test_only_service_folders_and_libraries_stand_in_services() -> None:
    folders = {path.name for path in (ROOT / "services").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == {*SERVICES, *LIBRARIES}
