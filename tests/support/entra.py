"""Entra ID as far as workload identity goes: a federated token in a file is traded for one that storage takes."""

import base64
import json
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web
from azure.core.credentials import AccessToken, AccessTokenInfo

from tests.support.certificates import Certificate
from tests.support.ports import free_port

TENANT = "aaaaaaaa-0000-4000-8000-000000000001"
CLIENT = "aaaaaaaa-0000-4000-8000-000000000002"
FEDERATED = "what-kubernetes-says-of-this-pod"
SCOPE = "https://storage.azure.com/.default"
TOKEN_SECONDS = 3600


def storage_token() -> str:
    """A token as Azurite's `--oauth basic` wants it: issuer, audience and times are looked at, the signature is not."""
    now = int(time.time())
    claims = {
        "aud": "https://storage.azure.com",
        "iss": f"https://sts.windows.net/{TENANT}/",
        "iat": now,
        "nbf": now - 60,
        "exp": now + TOKEN_SECONDS,
        "oid": CLIENT,
        "tid": TENANT,
    }
    parts = (json.dumps(part).encode() for part in ({"typ": "JWT", "alg": "RS256"}, claims))
    return ".".join([*(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts), "c2lnbmVk"])


class StaticCredential:
    """A credential that needs no authority."""

    async def get_token(self, *scopes: str, **options: object) -> AccessToken:
        return AccessToken(storage_token(), int(time.time()) + TOKEN_SECONDS)

    async def get_token_info(self, *scopes: str, **options: object) -> AccessTokenInfo:
        return AccessTokenInfo(storage_token(), int(time.time()) + TOKEN_SECONDS)

    async def close(self) -> None:
        """Nothing is open."""

    async def __aenter__(self) -> "StaticCredential":
        return self

    async def __aexit__(self, *error: object) -> None:
        """Nothing is open."""


@dataclass
class Authority:
    """A running authority, and the paths that it was asked for a token under."""

    url: str
    token_file: Path
    asked: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What Kubernetes' webhook for workload identity puts into a pod."""
        return {
            "AZURE_AUTHORITY_HOST": self.url,
            "AZURE_TENANT_ID": TENANT,
            "AZURE_CLIENT_ID": CLIENT,
            "AZURE_FEDERATED_TOKEN_FILE": str(self.token_file),
        }


@asynccontextmanager
async def running_authority(directory: Path, certificate: Certificate) -> AsyncIterator[Authority]:
    """An authority over HTTPS, for clients that trust the certificate."""
    token_file = directory / "federated-token"
    token_file.write_text(FEDERATED, encoding="ascii")
    port = free_port()
    authority = Authority(f"https://127.0.0.1:{port}", token_file)

    async def token(request: web.Request) -> web.Response:
        form = await request.post()
        authority.asked.append(request.path)
        wanted = {
            "client_id": CLIENT,
            "scope": SCOPE,
            "grant_type": "client_credentials",
            "client_assertion": FEDERATED,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        }
        if any(form.get(name) != value for name, value in wanted.items()):
            return web.json_response({"error": "invalid_client"}, status=401)
        answer = {"token_type": "Bearer", "expires_in": TOKEN_SECONDS, "access_token": storage_token()}
        return web.json_response(answer)

    application = web.Application()
    application.router.add_post(f"/{TENANT}/oauth2/v2.0/token", token)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.certificate, certificate.key)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
        yield authority
    finally:
        await runner.cleanup()
