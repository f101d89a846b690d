"""Secrets of the local stack."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

from deploy.local.credentials import azurite_key, service_token_file

MAKERS = 8


def test_makers_at_the_same_moment_all_get_the_same_key(tmp_path: Path) -> None:
    """Azurite and gallery start together, and both ask for it."""
    for turn in range(30):
        home, together = tmp_path / str(turn), Barrier(MAKERS)

        def make(home: Path = home, together: Barrier = together) -> str:
            together.wait()
            return azurite_key(home)

        with ThreadPoolExecutor(MAKERS) as makers:
            keys = {made.result() for made in [makers.submit(make) for _ in range(MAKERS)]}
        assert len(keys) == 1
        assert [path.name for path in (home / "secrets").iterdir()] == ["azurite-key"]


def test_a_secret_is_for_its_owner_only(tmp_path: Path) -> None:
    path = service_token_file(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert service_token_file(tmp_path).read_text() == path.read_text()
