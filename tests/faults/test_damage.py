"""Damaged bytes: a flipped bit or a cut is refused by name, or changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cache.builders import Toy
from tests.faults.processes import run_script


def test_feature_store_never_reads_damaged_bytes(tmp_path: Path) -> None:
    """Each of 300 flipped bits and 50 cuts is refused with a named error, or changes no value."""
    toy = Toy(n=7, views=1, modalities=("text",))
    result = run_script("read_damaged.py", toy.write(tmp_path / "s.h5"), "300", "50")
    assert result["wrong"] == []
    assert result["flip refused"] >= 75
    assert result["flip refused"] + result.get("flip harmless", 0) == 300
    assert result["cut refused"] == 50


@pytest.mark.nightly
def test_feature_store_never_reads_damaged_bytes_nightly(tmp_path: Path) -> None:
    """The same with 5,000 flipped bits and 500 cuts, of a store with text, pictures and views."""
    result = run_script("read_damaged.py", Toy(n=7, views=1).write(tmp_path / "s.h5"), "5000", "500")
    assert result["wrong"] == []
    assert result["flip refused"] + result["flip harmless"] == 5000
    assert result["cut refused"] == 500
