"""Set-up of a checkout: the virtual environment and Azurite's packages. Standard library only, any Python from 3.11.

Every step leaves a stamp that is a hash of what it was made from, so that a second set-up only compares. A set-up that
was interrupted leaves its mark and is done again; two at once wait for each other.
"""

import argparse
import fcntl
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from deploy.local.setup_steps import AzuriteStep, SetupError, VenvStep, has_wheel_node
from deploy.local.toolchain import system_node

ROOT = Path(__file__).resolve().parents[2]
PROFILES = ("local", "dev")


def main(arguments: Sequence[str] | None = None) -> int:
    """Set up this checkout; returns the exit code."""
    parser = argparse.ArgumentParser(prog="deploy/local/setup.sh", description="Sets up this checkout.")
    parser.add_argument("profile", choices=PROFILES, help="local: to run the suite; dev: to check and test it as well")
    profile: str = parser.parse_args(arguments).profile
    try:
        set_up(ROOT, profile)
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the next set-up begins this step anew", file=sys.stderr)
        return 130
    return 0


def set_up(root: Path, profile: str) -> None:
    """Bring the checkout up to date with its locks; a moment when it is. Raises SetupError."""
    if not _outdated(root, profile):
        return
    with _alone(root):
        steps = _outdated(root, profile)  # another set-up may have just done it
        if steps:
            _run(steps)


def _outdated(root: Path, profile: str) -> list[VenvStep | AzuriteStep]:
    needs_wheel = has_wheel_node(root) or system_node() is None
    steps = (VenvStep(root, profile, with_node=needs_wheel), AzuriteStep(root))
    return [step for step in steps if not step.is_current()]


def _run(steps: Sequence[VenvStep | AzuriteStep]) -> None:
    began = time.monotonic()
    print("Setting up (the first time takes about half a minute) ...", flush=True)
    # One after the other where npm itself comes out of a wheel, else side by side: npm mostly waits.
    workers = len(steps) if system_node() else 1
    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(step.run) for step in steps]:
            done.result()
    print(f"Set up in {time.monotonic() - began:.0f} s.", flush=True)


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    # The directory itself is locked: it needs no file, and the lock ends with this process however it ends.
    descriptor = os.open(root / "deploy" / "local", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another set-up of this checkout is under way; waiting for it ...", flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())
