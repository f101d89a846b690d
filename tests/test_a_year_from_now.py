"""The suite's tests pass on every day: models that have ended by then are data, not the tests' ground."""

import asyncio
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.image.generating import today_utc
from tests.support import campaign
from tests.support.later import ASKS

ROOT = Path(__file__).resolve().parents[1]
# What looks at the registry's dates. With campaigns at full size everything runs that does.
QUICK = (
    "test_registry.py",
    "test_selection.py",
    "test_image_requests.py",
    "test_seed_variables.py",
    "test_lifecycles.py",
)
LONG = campaign.SECONDS > campaign.EVERYDAY_SECONDS
# They ask for an age or a moment, by the machine's clock: not for the day on which models end.
MOMENTS = {"services/models/failures.py", "services/image/adapters/retention.py"}
_ASKED = re.compile(r"\b(?:datetime\.(?:now|today|utcnow)|date\.today)\(")


async def test_the_tests_of_models_pass_a_year_from_now() -> None:
    chosen = ["tests/models", "tests/image"] if LONG else [f"tests/models/{name}" for name in QUICK]
    arguments = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "tests.support.later", *chosen)
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), 1500 if LONG else 180)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, said.decode()[-3000:]


async def test_a_year_later_it_is_another_day() -> None:
    """What the test above relies on."""
    code = (
        "import tests.support.later as it; it.pytest_configure(); from services.image.generating import today_utc as t"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", f"{code}; print(t())", cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    assert said.decode().strip() == (datetime.now(UTC) + timedelta(days=365)).date().isoformat()
    assert today_utc() == datetime.now(UTC).date()


def test_nothing_else_asks_what_day_it_is() -> None:
    files = [*(ROOT / "services" / "image").rglob("*.py"), *(ROOT / "services" / "models").rglob("*.py")]
    files += (ROOT / "emulator").rglob("*.py")
    asking = {str(path.relative_to(ROOT)) for path in files if _ASKED.search(path.read_text(encoding="utf-8"))}
    assert asking - MOMENTS == {f"{name.replace('.', '/')}.py" for name in ASKS}
