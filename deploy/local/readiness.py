"""When a process may be used: probes that are data, so that ``status`` can repeat them from the state file."""

import asyncio
import contextlib
from dataclasses import asdict, dataclass
from typing import Any, Literal

HOST = "127.0.0.1"
PROBE_SECONDS = 2.0
Kind = Literal["tcp", "http", "grpc", "postgres"]


@dataclass(frozen=True, slots=True)
class Readiness:
    """A probe of one loopback port. ``detail`` is the path of http and the pg_isready binary of postgres."""

    kind: Kind
    port: int
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


async def is_ready(readiness: Readiness) -> bool:
    """Probe once; no answer within two seconds counts as not ready."""
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            match readiness.kind:
                case "tcp":
                    return await _accepts(readiness.port)
                case "http":
                    return await _answers_200(readiness.port, readiness.detail)
                case "grpc":
                    return await _accepts(readiness.port) and await _is_serving(readiness.port)
                case "postgres":
                    return await _pg_isready(readiness.detail, readiness.port)
    except (OSError, TimeoutError):
        return False


async def _accepts(port: int) -> bool:
    _, writer = await asyncio.open_connection(HOST, port)
    writer.close()
    return True


async def _answers_200(port: int, path: str) -> bool:
    reader, writer = await asyncio.open_connection(HOST, port)
    with contextlib.closing(writer):
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
        status_line = (await reader.readline()).split()
        return len(status_line) > 1 and status_line[1] == b"200"


async def _is_serving(port: int) -> bool:
    # Imported here: the other commands should not wait 0.2 s for gRPC.
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    # A shared subchannel would carry its connection backoff from one probe to the next.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    async with grpc.aio.insecure_channel(f"{HOST}:{port}", options=options) as channel:
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=PROBE_SECONDS
            )
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def _pg_isready(binary: str, port: int) -> bool:
    process = await asyncio.create_subprocess_exec(
        binary, "-q", "-h", HOST, "-p", str(port), "-t", "1", env={"LC_ALL": "C"}, cwd="/"
    )
    try:
        return await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
