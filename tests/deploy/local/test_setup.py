"""Set-up of a small checkout: one wheel and no npm package, but the real venv, pip, uv and npm."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.local.setup_steps import AzuriteStep, VenvStep, site_packages
from tests.deploy.local.support import ROOT

WHEEL = "idna"


def checkout(root: Path) -> Path:
    """What set-up reads, with everything cut down to one small wheel."""
    for name in ("__init__.py", "setup.sh", "setup.py", "setup_steps.py", "toolchain.py"):
        target = root / "deploy" / "local" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / "deploy" / "local" / name, target)
    (root / "deploy" / "__init__.py").touch()
    (root / "requirements").mkdir()
    shutil.copy2(ROOT / "requirements" / "bootstrap.txt", root / "requirements")
    locked = (ROOT / "requirements" / "local.txt").read_text(encoding="utf-8")
    [block] = re.findall(rf"^{WHEEL}==(?:.*\\\n)+.*\n", locked, re.MULTILINE)
    for profile in ("local", "dev"):
        (root / "requirements" / f"{profile}.txt").write_text(block, encoding="utf-8")
    package = {"name": "nothing", "version": "1.0.0", "private": True}
    lock = {**package, "lockfileVersion": 3, "requires": True, "packages": {"": package}}
    azurite = root / "deploy" / "local" / "azurite"
    azurite.mkdir()
    (azurite / "package.json").write_text(json.dumps(package), encoding="utf-8")
    (azurite / "package-lock.json").write_text(json.dumps(lock), encoding="utf-8")
    return root


def set_up(root: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [root / "deploy" / "local" / "setup.sh", "local"],
        env={**os.environ, "PYTHON": sys.executable, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def works(root: Path) -> bool:
    """Whether the environment has the wheel, is made for this place, and finds the sources of this checkout."""
    (root / "protos" / "gen").mkdir(parents=True, exist_ok=True)
    (root / "protos" / "gen" / "found_by_path.py").touch()
    question = f"import {WHEEL}, deploy.local, found_by_path, os; print(os.path.dirname(found_by_path.__file__))"
    python = root / ".venv" / "bin" / "python"
    answer = subprocess.run([python, "-c", question], check=False, cwd="/", capture_output=True, text=True)
    made_here = str(root / ".venv") in (root / ".venv" / "bin" / "activate").read_text(encoding="utf-8")
    return made_here and answer.stdout.strip() == str(root / "protos" / "gen")


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout that is set up."""
    root = checkout(tmp_path_factory.mktemp("checkout"))
    done = set_up(root)
    assert done.returncode == 0, done.stdout + done.stderr
    return root


def test_a_fresh_checkout_is_set_up_by_one_command(ready: Path) -> None:
    assert works(ready)
    assert AzuriteStep(ready).is_current()


def test_a_second_set_up_only_looks(ready: Path) -> None:
    before = (ready / ".venv" / "contentlab" / "local.stamp").stat().st_mtime_ns
    os.utime(ready / "requirements" / "local.txt")  # the contents decide, not the time
    done = set_up(ready)
    assert (done.returncode, done.stdout) == (0, "")
    assert (ready / ".venv" / "contentlab" / "local.stamp").stat().st_mtime_ns == before


def test_a_changed_lock_is_installed(ready: Path) -> None:
    with (ready / "requirements" / "local.txt").open("a", encoding="utf-8") as lock:
        lock.write("# changed\n")
    assert not VenvStep(ready, "local", with_node=False).is_current()
    assert set_up(ready).returncode == 0
    assert VenvStep(ready, "local", with_node=False).is_current()


def test_a_copied_checkout_gets_an_environment_of_its_own(ready: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(ready, copy, symlinks=True)
    assert not works(copy)
    assert set_up(copy).returncode == 0
    assert works(copy)


async def test_two_at_once_after_an_interrupted_one_leave_one_whole_environment(ready: Path) -> None:
    with (ready / "requirements" / "local.txt").open("a", encoding="utf-8") as lock:
        lock.write("# changed again\n")
    interrupted = await asyncio.create_subprocess_exec(
        *(ready / "deploy" / "local" / "setup.sh", "local"),
        env={**os.environ, "PYTHON": sys.executable},
        stdout=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    unfinished = ready / ".venv" / "contentlab" / "unfinished"
    deadline = time.monotonic() + 30
    while not unfinished.exists():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    os.killpg(interrupted.pid, 9)
    await interrupted.wait()
    # Half a package, as an interrupted installer may leave it: by its metadata it is there.
    (site_packages(ready) / WHEEL / "core.py").unlink()

    one, two = await asyncio.gather(asyncio.to_thread(set_up, ready), asyncio.to_thread(set_up, ready))
    assert (one.returncode, two.returncode) == (0, 0), one.stderr + two.stderr
    assert ("waiting for it" in one.stdout) != ("waiting for it" in two.stdout)
    assert works(ready)


def test_a_machine_without_a_new_enough_python_is_told_what_is_missing(tmp_path: Path) -> None:
    root = checkout(tmp_path / "checkout")
    old = tmp_path / "bin"
    old.mkdir()
    for name in ("dirname",):
        (old / name).symlink_to(str(shutil.which(name)))
    (old / "python3").write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2 || exit 1\n', encoding="utf-8")
    (old / "python3").chmod(0o755)
    done = set_up(root, PATH=str(old), PYTHON="python3")
    assert done.returncode == 1
    assert "needs Python 3.11 or newer" in done.stderr
    assert "found: Python 3.9.2" in done.stderr
    assert not (root / ".venv").exists()


def test_a_failed_step_says_what_the_program_said_and_is_done_again(ready: Path) -> None:
    lock = ready / "requirements" / "local.txt"
    good = lock.read_text(encoding="utf-8")
    lock.write_text("packaging\n", encoding="utf-8")  # neither a version nor a hash
    failed = set_up(ready)
    assert failed.returncode == 1
    assert "hash" in failed.stderr.lower()
    lock.write_text(good, encoding="utf-8")
    assert set_up(ready).returncode == 0
    assert works(ready)
