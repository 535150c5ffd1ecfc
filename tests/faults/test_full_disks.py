"""Disks that really are full, read-only or limited: a clear error, finished shards stay, the rest follows."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.faults.processes import run_script

SHARD_BYTES = 100 * 256 * 4


def _can_mount() -> bool:
    unshare = shutil.which("unshare")
    if os.geteuid() != 0 or unshare is None:
        return False
    return subprocess.run([unshare, "-m", "true"], capture_output=True, check=False).returncode == 0


needs_mount = pytest.mark.skipif(not _can_mount(), reason="mounting a small disk needs root and unshare")


def on_small_disk(folder: Path, *words: str) -> dict[str, Any]:
    """Run the script on a file system of 8 MiB that exists for it alone."""
    folder.mkdir(exist_ok=True)
    mount = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=8m small "$0" && exec "$@"', str(folder)]
    return run_script("fill_disks.py", folder, *words, before=mount)


def check_full(results: list[dict[str, Any]]) -> None:
    for result in results:
        assert result["error"] == "DiskFullError", result
        assert "is full" in result["text"]
        assert "Free some space and start again; what is finished is kept" in result["text"]


@needs_mount
def test_full_disk_keeps_what_is_finished(tmp_path: Path) -> None:
    """A disk that fills up at the first shard, in the middle, and while publishing."""
    left = [SHARD_BYTES // 2, 5 * SHARD_BYTES, 15 * SHARD_BYTES]
    results = on_small_disk(tmp_path / "disk", "full", *map(str, left))["results"]
    check_full(results)
    assert [result["done"] for result in results] == [0, 4, 10]


@pytest.mark.nightly
@needs_mount
def test_full_disk_keeps_what_is_finished_nightly(tmp_path: Path) -> None:
    """The same with 100 other sizes."""
    left = [int(SHARD_BYTES * 19 * i / 100) for i in range(100)]
    check_full(on_small_disk(tmp_path / "disk", "full", *map(str, left))["results"])


@needs_mount
def test_read_only_disk_is_one_clear_error(tmp_path: Path) -> None:
    """A disk that may only be read is named; when it can be written again, the pass goes on."""
    results = on_small_disk(tmp_path / "disk", "read-only")["results"]
    assert [result["error"] for result in results] == ["OSError"] * 2
    for result in results:
        assert "Read-only file system" in result["text"]
        assert str(tmp_path / "disk" / "s.h5") in result["text"]


def test_file_size_limit_is_named(tmp_path: Path) -> None:
    """A limit below a shard, and one between a shard and the store: the limit and the file are named."""
    limits = [str(SHARD_BYTES // 2), str(2 * SHARD_BYTES)]
    results = run_script("fill_disks.py", tmp_path, "limit", *limits)["results"]
    assert [result["done"] for result in results] == [0, 10]
    for result in results:
        assert result["error"] == "DiskFullError", result
        assert "no file grow as large as" in result["text"]
        assert "ulimit -f" in result["text"]
