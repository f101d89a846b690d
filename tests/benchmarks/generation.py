"""What the suite adds to a provider's own time: `python -m tests.benchmarks.generation --help`.

The provider is an emulator whose pictures are drawn once and tagged for each answer, so that it costs little and no two
answers are alike. Ratios are of one run on one machine; the processor time of each part is told apart.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from tests.support.ports import free_port
from tests.support.stack import Stack, running_stack

REQUEST = {"prompt": "a lighthouse at dusk", "size": "1024x1024", "outputFormat": "png"}
Call = Callable[[], Awaitable[None]]
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Load:
    """One measured load: seconds of each call, wall-clock seconds of all, processor seconds of each part."""

    name: str
    calls: Sequence[float]
    wall: float
    cpu: Mapping[str, float]

    def report(self) -> str:
        """A few lines for people."""
        milliseconds = sorted(call * 1000 for call in self.calls)
        spent = ", ".join(f"{part} {1000 * seconds / len(self.calls):.1f}" for part, seconds in self.cpu.items())
        return (
            f"{self.name}: {len(self.calls) / self.wall:.1f} images/s, p50 {statistics.median(milliseconds):.1f} ms, "
            f"p95 {milliseconds[int(len(milliseconds) * 0.95)]:.1f} ms\n"
            f"  processor ms an image: {spent}; all {1000 * sum(self.cpu.values()) / len(self.calls):.1f}"
        )


@asynccontextmanager
async def provider(port: int) -> AsyncIterator[int]:
    """The emulator in a process of its own; gives its pid."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "emulator", "--port", str(port), "--prerendered", stdout=asyncio.subprocess.DEVNULL
    )
    try:
        async with httpx2.AsyncClient() as client:
            async with asyncio.timeout(30):
                while not await _answers(client, f"http://127.0.0.1:{port}/healthz"):  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        await process.wait()


def models_file(directory: Path, port: int) -> Path:
    """A registry with the provider's one model."""
    file = directory / "models.toml"
    file.write_text(
        f"""
[endpoints.provider]
base_url = "http://127.0.0.1:{port}/v1"
dialect = "emulator"
auth = "key"
key_env = "PATH"

[models.gpt-image-2]
profile = "gpt-image-2"
endpoint = "provider"
price = "gpt-image-2"
""",
        encoding="utf-8",
    )
    return file


async def _answers(client: httpx2.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).is_success
    except httpx2.HTTPError:
        return False


def processor_seconds(pids: Mapping[str, int]) -> dict[str, float]:
    """What each part and its children have used so far; the children of a part count as it."""
    spent = dict.fromkeys(pids, 0.0)
    parents: dict[int, tuple[int, float]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = (int(fields[1]), (int(fields[11]) + int(fields[12])) / TICKS)
    for pid, (_, seconds) in parents.items():
        ancestor: int | None = pid
        while ancestor is not None and ancestor not in pids.values():
            ancestor = parents[ancestor][0] if ancestor in parents else None
        for name, part in pids.items():
            if part == ancestor:
                spent[name] += seconds
    return spent


async def measure(name: str, calls: int, at_once: int, call: Call, pids: Mapping[str, int]) -> Load:
    """Runs `call` so many times, `at_once` at a time."""
    left, times = iter(range(calls)), []

    async def worker() -> None:
        for _ in left:
            begin = time.perf_counter()
            await call()
            times.append(time.perf_counter() - begin)

    before, begin = processor_seconds(pids), time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    wall, after = time.perf_counter() - begin, processor_seconds(pids)
    return Load(name, times, wall, {part: after[part] - before[part] for part in pids})


async def run(calls: int) -> None:
    """Prints the report."""
    port = free_port()
    with tempfile.TemporaryDirectory() as home:
        async with (
            provider(port) as emulator,
            running_stack(Path(home) / "stack", CONTENTLAB_MODELS_FILE=str(models_file(Path(home), port))) as stack,
            httpx2.AsyncClient(timeout=60, limits=httpx2.Limits(max_connections=64)) as client,
        ):
            pids = {"provider": emulator, **_pids(stack), "client": os.getpid()}

            async def direct() -> None:
                body = {"model": "gpt-image-2", "prompt": REQUEST["prompt"], "size": "1024x1024"}
                answer = await client.post(
                    f"http://127.0.0.1:{port}/v1/images/generations", json=body, headers={"authorization": "Bearer any"}
                )
                answer.raise_for_status()

            async def through() -> None:
                body = {**REQUEST, "requestId": str(uuid.uuid4())}
                answer = await client.post(f"{stack.url}/api/v1/images:generate", json=body)
                if answer.status_code != 200 or answer.json()["state"] != "SUCCEEDED":
                    raise RuntimeError(answer.text)

            await measure("warm-up", 20, 4, through, pids)
            for at_once in (1, 16):
                alone = await measure(f"provider, {at_once} at once", calls, at_once, direct, pids)
                suite = await measure(f"suite, {at_once} at once", calls, at_once, through, pids)
                own = statistics.median(suite.calls) - statistics.median(alone.calls)
                lines = (alone.report(), suite.report(), f"  own share of a call: {own * 1000:.1f} ms", "")
                sys.stdout.write("\n".join(lines) + "\n")


def _pids(stack: Stack) -> dict[str, int]:
    names = ("gateway", "image", "gallery", "postgres", "azurite")
    return {name: pid for name in names if (pid := stack.pid(name)) is not None}


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.generation", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--calls", type=int, default=200, help="images of each load (default 200)")
    asyncio.run(run(parser.parse_args().calls))


if __name__ == "__main__":
    main()
