"""Facts and an array in one file come back equal, or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.hashed_files import read_hashed, write_hashed

FACTS = {"score": 0.1 + 0.2, "name": "Überfall\n", "none": None, "list": [1, 2.5]}


def test_hashed_file_gives_back_what_was_written(tmp_path: Path) -> None:
    """Facts and numbers are the same to the last bit; a file that is not there is none."""
    array = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    write_hashed(tmp_path / "a.row", FACTS, array)
    found = read_hashed(tmp_path / "a.row")
    assert found is not None
    assert found[0] == FACTS
    assert found[1].tobytes() == array.tobytes()
    assert read_hashed(tmp_path / "b.row") is None


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_hashed_file_that_is_damaged_goes(tmp_path: Path, damage: str) -> None:
    """Whichever byte is wrong, nothing is returned and the file is computed anew."""
    path = tmp_path / "a.row"
    write_hashed(path, FACTS, np.eye(3))
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes({"flip": bytes(damaged), "cut": whole[:place], "empty": b""}[damage])
        assert read_hashed(path) is None
        assert not path.exists()
