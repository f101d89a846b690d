"""What each process is told. Nothing is inherited by accident: a child sees what its row needs and no more."""

from collections.abc import Mapping
from pathlib import Path

from deploy.local.settings import Settings

# Where this machine keeps its certificate authorities; without these TLS to a provider fails behind some proxies.
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
# The runner's own settings, and those that it decides for each service.
RUNNERS_OWN = ("CONTENTLAB_HOME", "CONTENTLAB_PORT_BASE", "CONTENTLAB_MODELS_FILE", "CONTENTLAB_EMULATOR_URL")
# How the paying services reach a model: variables with these beginnings, or exactly these names.
PROVIDER_PREFIXES = ("OPENAI_", "AZURE_OPENAI_", "AOAI_", "IMAGEGEN_", "LLM_", "SORA_", "GPT_IMAGE_")
PROVIDER_NAMES = ("MODEL_PROVIDER", "IMAGE_MODEL", "VIDEO_MODEL", "CONTENTLAB_MODELS_FILE")
STORAGE_PREFIXES = ("AZURE_STORAGE_", "AZURE_BLOB_")
# Entra ID: workload identity, managed identity or a client secret, as azure-identity reads them.
IDENTITY_NAMES = (
    "AZURE_CLIENT_ID",
    "AZURE_TENANT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_CLIENT_CERTIFICATE_PATH",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_AUTHORITY_HOST",
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
)


def base_environment(settings: Settings) -> dict[str, str]:
    """What every process gets. Proxies are left out: they would catch the loopback calls, gRPC's first."""
    passed = {name: settings.variables[name] for name in CERTIFICATES if name in settings.variables}
    return {
        "PATH": settings.variables.get("PATH", "/usr/local/bin:/usr/bin:/bin"),
        "HOME": settings.variables.get("HOME", "/"),
        "LANG": "C.UTF-8",
        **passed,
    }


def service_environment(settings: Settings, name: str, database_url: str, token_file: Path) -> dict[str, str]:
    """What one service gets; the caller's other CONTENTLAB_ settings reach every service."""
    chosen = {
        key: value
        for key, value in settings.variables.items()
        if value and key.startswith("CONTENTLAB_") and key not in RUNNERS_OWN
    }
    return {
        **base_environment(settings),
        "PYTHONUNBUFFERED": "1",
        "CONTENTLAB_REFLECTION": "true",
        **chosen,
        "CONTENTLAB_DRAIN_SECONDS": f"{settings.drain_seconds:g}",
        "DATABASE_URL": database_url,
        "CONTENTLAB_LISTEN": f"127.0.0.1:{settings.port(name)}",
        "CONTENTLAB_METRICS_LISTEN": f"127.0.0.1:{settings.port(f'{name}-metrics')}",
        "CONTENTLAB_GALLERY_TARGET": f"127.0.0.1:{settings.port('gallery')}",
        "CONTENTLAB_SERVICE_TOKEN_FILE": str(token_file),
    }


def provider_environment(settings: Settings) -> dict[str, str]:
    """How the paying services reach their models. The emulator is offered only when nothing else is chosen."""
    passed = _passed(settings.variables, PROVIDER_PREFIXES, (*PROVIDER_NAMES, *IDENTITY_NAMES))
    if settings.uses_emulator:
        passed["CONTENTLAB_EMULATOR_URL"] = f"http://127.0.0.1:{settings.port('emulator')}/v1"
    return passed


def storage_environment(settings: Settings, azurite_connection: str | None) -> dict[str, str]:
    """How gallery, and nobody else, reaches Blob Storage."""
    passed = _passed(settings.variables, STORAGE_PREFIXES, IDENTITY_NAMES)
    if azurite_connection is not None:
        passed["AZURE_STORAGE_CONNECTION_STRING"] = azurite_connection
    return passed


def _passed(variables: Mapping[str, str], prefixes: tuple[str, ...], names: tuple[str, ...]) -> dict[str, str]:
    # An empty variable means that nothing was chosen, here as in the settings.
    return {key: value for key, value in variables.items() if value and (key.startswith(prefixes) or key in names)}
