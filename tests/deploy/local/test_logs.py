"""Logs: rotated, bounded, and followed through both."""

import os
from pathlib import Path

import pytest

from deploy.local.logfiles import cut_if_too_large, log_path, open_for_append, previous, rotate, tail
from deploy.local.logs import Follower, NoSuchLogError, show_logs


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8") as log:
        log.write(text)


def test_a_start_keeps_the_log_of_the_start_before(tmp_path: Path) -> None:
    path = log_path(tmp_path, "image")
    for start in ("first", "second", "third"):
        rotate(path)
        write(path, start)
    assert path.read_text(encoding="utf-8") == "third"
    assert previous(path).read_text(encoding="utf-8") == "second"


def test_a_log_is_cut_below_a_process_that_keeps_it_open(tmp_path: Path) -> None:
    path = log_path(tmp_path, "image")
    descriptor = open_for_append(path)
    os.write(descriptor, b"x" * 100)
    assert not cut_if_too_large(path, limit=100)
    os.write(descriptor, b"y")
    assert cut_if_too_large(path, limit=100)
    os.write(descriptor, b"after")
    os.close(descriptor)
    assert path.read_bytes() == b"after"
    assert len(previous(path).read_bytes()) == 101
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_follower_reads_whole_lines_across_a_cut_and_a_new_start(tmp_path: Path) -> None:
    path = log_path(tmp_path, "image")
    write(path, "old\n")
    follower = Follower(path, path.stat().st_size)
    write(path, "one\ntw")
    assert follower.new_lines() == ["one"]
    write(path, "o\n")
    assert follower.new_lines() == ["two"]
    path.write_text("cut\n", encoding="utf-8")
    assert follower.new_lines() == ["cut"]
    write(path, "last words\n")
    rotate(path)
    write(path, "new start\n")
    assert follower.new_lines() == ["last words"]
    assert follower.new_lines() == ["new start"]


def test_logs_of_all_are_shown_by_name_and_of_one_alone(tmp_path: Path) -> None:
    write(log_path(tmp_path, "image"), "painted\n")
    write(log_path(tmp_path, "gallery"), "hung\n")
    shown: list[str] = []
    show_logs(tmp_path, None, follow=False, out=shown.append)
    assert shown == ["gallery   | hung", "image     | painted"]
    shown.clear()
    show_logs(tmp_path, "image", follow=False, out=shown.append)
    assert shown == ["painted"]
    with pytest.raises(NoSuchLogError, match="nobody"):
        show_logs(tmp_path, "nobody", follow=False, out=shown.append)


def test_the_tail_of_a_log_is_its_last_lines(tmp_path: Path) -> None:
    path = log_path(tmp_path, "image")
    assert tail(path) == []
    write(path, "".join(f"line {number}\n" for number in range(100_000)))
    assert tail(path, 2) == ["line 99998", "line 99999"]
