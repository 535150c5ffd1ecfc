"""Strings that are written and checked a block at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cache import FeatureStore, StoreCorruptError, columns, content, verify_store
from tests.cache.builders import Toy


@pytest.mark.parametrize("block", [1, 7, 64])
def test_store_is_the_same_whatever_is_in_memory_at_a_time(
    toy: Toy, toy_bytes: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    """Ids, texts and paths written, verified and read in blocks of a few bytes give the same file."""
    monkeypatch.setattr(columns, "BLOCK_BYTES", block)
    path = toy.write(tmp_path / "toy.h5")
    assert path.read_bytes() == toy_bytes
    verify_store(path)
    with FeatureStore.open(path) as store:
        assert store.ids == tuple(toy.table.ids)


def test_verify_tells_ids_with_one_hash_apart(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal hashes alone refuse nothing; equal ids are refused."""
    path = toy.write(tmp_path / "toy.h5")
    monkeypatch.setattr(content, "id_hashes", lambda ids: np.zeros(len(ids), dtype=np.int64))
    verify_store(path)
    monkeypatch.setattr(content, "are_unique", lambda _: False)
    with pytest.raises(StoreCorruptError, match="an id occurs more than once"):
        verify_store(path)
