"""What the caller may choose: read once, from the environment and the checkout's ``.env``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# CONTENTLAB_PORT_BASE is added to each, so that checkouts can run side by side.
PORTS: Mapping[str, int] = {
    "postgres": 15432,
    "azurite": 10000,
    "emulator": 8190,
    "gallery": 50053,
    "image": 50051,
    "video": 50052,
    "usage": 50054,
    "gallery-metrics": 9466,
    "image-metrics": 9464,
    "video-metrics": 9465,
    "usage-metrics": 9467,
    "gateway": 8080,
    "gateway-admin": 9901,
}
SMALLEST_PORT_BASE = 100
LARGEST_PORT_BASE = 15_000

# Any of these chooses a model provider, and the emulator is then neither started nor offered.
PROVIDER_CHOICES = (
    "CONTENTLAB_MODELS_FILE",
    "MODEL_PROVIDER",
    "IMAGEGEN_AOAI_RESOURCE",
    "OPENAI_BASE_URL",
    "OPENAI_API_KEY",
)

# Any of these chooses a Blob Storage, and Azurite is then not started.
STORAGE_CHOICES = ("AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCOUNT_NAME", "AZURE_BLOB_SERVICE_URL")


class SettingsError(ValueError):
    """A setting is unusable; the message names it and says what it may be."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The caller's choices. ``variables`` is ``.env`` with the environment laid over it."""

    root: Path
    home: Path
    port_base: int
    variables: Mapping[str, str]

    def port(self, name: str) -> int:
        """The port of a part (a key of ``PORTS``), moved by CONTENTLAB_PORT_BASE."""
        return PORTS[name] + self.port_base

    @property
    def database_url(self) -> str | None:
        """The caller's own database server; None means that the runner starts one."""
        return self.variables.get("DATABASE_URL") or None

    @property
    def uses_emulator(self) -> bool:
        """Whether nothing chooses another model provider."""
        return not any(self.variables.get(name) for name in PROVIDER_CHOICES)

    @property
    def uses_azurite(self) -> bool:
        """Whether nothing chooses another Blob Storage."""
        return not any(self.variables.get(name) for name in STORAGE_CHOICES)

    @property
    def drain_seconds(self) -> float:
        """How long a service may finish its work after SIGTERM."""
        return float(self.variables.get("CONTENTLAB_DRAIN_SECONDS") or 10)


def load_settings(environment: Mapping[str, str], root: Path = ROOT) -> Settings:
    """Read the settings of the checkout at ``root``. Raises SettingsError."""
    variables = {**read_env_file(root / ".env"), **environment}
    home = Path(variables.get("CONTENTLAB_HOME") or ".contentlab").expanduser()
    settings = Settings(root, (root / home).absolute(), _port_base(variables), variables)
    try:
        drain = settings.drain_seconds
    except ValueError:
        drain = -1
    if not 0 <= drain <= 3600:
        raise SettingsError("CONTENTLAB_DRAIN_SECONDS must be a number of seconds from 0 to 3600")
    return settings


def read_env_file(path: Path) -> dict[str, str]:
    """Read lines of KEY=VALUE; blank lines and # comments are ignored, matching quotes are removed."""
    if not path.is_file():
        return {}
    variables: dict[str, str] = {}
    for number, raw in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        line = raw.strip().removeprefix("export ").lstrip()
        if not line or line.startswith("#"):
            continue
        name, separator, value = line.partition("=")
        if not separator or not name.strip().isidentifier():
            raise SettingsError(f"{path.name}, line {number}: expected KEY=VALUE")
        variables[name.strip()] = _unquoted(value.strip())
    return variables


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value.partition(" #")[0].rstrip()


def _port_base(variables: Mapping[str, str]) -> int:
    text = variables.get("CONTENTLAB_PORT_BASE") or "0"
    base = int(text) if text.isascii() and text.isdigit() else -1
    if base != 0 and not SMALLEST_PORT_BASE <= base <= LARGEST_PORT_BASE:
        raise SettingsError(
            f"CONTENTLAB_PORT_BASE is {text!r}; it must be 0 or a number "
            f"from {SMALLEST_PORT_BASE} to {LARGEST_PORT_BASE}, which is added to every port"
        )
    return base
