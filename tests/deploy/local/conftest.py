"""Directories that every user of the machine may enter: pytest's own are closed to others."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """An empty directory that others may enter; removed afterwards, whoever owns what is in it by then."""
    path = Path(tempfile.mkdtemp(prefix="contentlab-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)
