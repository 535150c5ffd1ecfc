"""Several writers of one store: one at a time, and no wrong store even where locks do nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.processes import run_script


def test_eight_starters_write_one_after_the_other(tmp_path: Path) -> None:
    """Of eight processes that start at once one is inside at a time; the others are told who it is."""
    result = run_script("contend_for_store.py", tmp_path, "20", "locked")
    assert result["finished"] >= 20
    assert result["busy"] >= 20
    assert result["other"] == 0


def test_writers_without_locks_make_no_wrong_store(tmp_path: Path) -> None:
    """Where flock says yes to everybody, writers may fail by name, but every visible store is right."""
    result = run_script("contend_for_store.py", tmp_path, "10", "unlocked")
    assert result["busy"] == 0
    assert result["finished"] + result["other"] == 80


@pytest.mark.nightly
@pytest.mark.parametrize("mode", ["locked", "unlocked"])
def test_starters_nightly(tmp_path: Path, mode: str) -> None:
    """Both 200 times."""
    result = run_script("contend_for_store.py", tmp_path, "200", mode)
    assert result["finished"] + result["busy"] + result["other"] == 1600
