"""What the README tells a newcomer to type works as it stands."""

import asyncio
import json
import os
import re
import shutil
import signal
from pathlib import Path

from deploy.local.postgres import remove_postgres
from tests.support.ports import free_port_base
from tests.support.stack import PROVIDER_VARIABLES

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SERVING_SECONDS = 120


def commands() -> list[str]:
    """Every command of the README's shell blocks, comments cut off."""
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    lines = [line.split("   #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


async def read_until(stream: asyncio.StreamReader, word: str) -> str:
    seen = ""
    async with asyncio.timeout(SERVING_SECONDS):
        while word not in seen:
            line = await stream.readline()
            assert line, f"make run ended before it said {word!r}:\n{seen}"
            seen += line.decode()
    return seen


async def test_the_two_commands_of_the_readme_make_and_list_a_picture(tmp_path: Path) -> None:
    run, generate, listing = commands()
    assert run == "make run"
    assert generate.startswith("curl")
    assert listing.startswith("curl")
    assert shutil.which("curl"), "the README's commands need curl"

    base = free_port_base()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PROVIDER_VARIABLES)}
    environment |= {"CONTENTLAB_HOME": str(tmp_path / "home"), "CONTENTLAB_PORT_BASE": str(base)}
    maker = await asyncio.create_subprocess_shell(
        f"exec {run}",
        cwd=ROOT,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        assert maker.stdout is not None
        await read_until(maker.stdout, "serving")
        made = json.loads(await output(generate, base))
        assert made["state"] == "SUCCEEDED"
        listed = json.loads(await output(listing, base))
        assert made["assets"][0] in [asset["name"] for asset in listed["assets"]]
    finally:
        os.killpg(maker.pid, signal.SIGINT)  # Ctrl-C reaches the whole process group
        async with asyncio.timeout(60):
            await maker.communicate()
        await remove_postgres(tmp_path / "home")


async def output(command: str, base: int) -> bytes:
    curl = await asyncio.create_subprocess_shell(
        command.replace("localhost:8080", f"localhost:{8080 + base}"), stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        found, _ = await curl.communicate()
    assert curl.returncode == 0, command
    return found


def test_every_part_that_the_readme_names_is_there_and_no_other() -> None:
    linked = re.findall(r"\]\(([^)#]+)\)", README)
    assert [path for path in linked if not (ROOT / path).exists()] == []
    parts = set(re.findall(r"^\| \[`([^`]+)`\]", README, re.MULTILINE))
    services = {f"services/{path.parent.name}" for path in (ROOT / "services").glob("*/README.md")}
    others = {path for path in ("protos", "gateway", "emulator", "deploy") if (ROOT / path).is_dir()}
    assert parts == services | others
