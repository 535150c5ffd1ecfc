"""Stores that hold the samples in another order: put in order once, in a temporary file."""

from __future__ import annotations

import resource
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache import FeatureStore
from heads import large_rows
from pipelines import reordered_rows
from pipelines.errors import RunError
from pipelines.matrices import read_matrix
from pipelines.reordered_rows import ReorderedBlock, in_sample_order
from pipelines.stored_rows import StoredBlock, stored_block
from tests.pipelines.planted_stores import planted_rows, write_planted

N = 97
ORDER = np.random.default_rng(5).permutation(N)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FeatureStore, np.ndarray]]:
    """A store in random order, and its vectors in the order of the samples, NaN where there is none."""
    x, labels = planted_rows(N, 5, 0)
    path = tmp_path_factory.mktemp("stores") / "x.h5"
    write_planted(path, "text", x, labels, missing=(0, 13, 96), order=ORDER)
    expected = x.astype(np.float16)
    expected[[0, 13, 96]] = np.nan
    with FeatureStore.open(path) as store:
        yield store, expected


@settings(max_examples=30)
@given(seed=st.integers(0, 99), n=st.integers(1, N), start=st.integers(0, N), length=st.integers(0, N))
def test_samples_come_in_the_order_asked_for(stored, seed, n, start, length):
    """Any samples, in any order, read from any place on, are those of the store."""
    store, expected = stored
    samples = np.random.default_rng(seed).permutation(N)[:n]
    with ExitStack() as stack:
        block = in_sample_order(stored_block(store, "text", np.argsort(ORDER)[samples]), stack)
        np.testing.assert_array_equal(
            block.read(slice(start, start + length)), expected[samples][start:][:length]
        )
        np.testing.assert_array_equal(block.read(slice(None)), expected[samples])
        np.testing.assert_array_equal(block.valid, ~np.isnan(expected[samples, 0]))


def test_vectors_of_some_rows_are_float32_with_nan(stored):
    """Rows may be asked for in any order; those without a vector are NaN."""
    store, expected = stored
    vectors = stored_block(store, "text.pooled", np.argsort(ORDER)[[96, 0, 5]]).vectors()
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, expected[[96, 0, 5]].astype(np.float32))


def test_rows_in_order_need_no_file(stored):
    """A store that holds the samples in order, some left out, is read as it is."""
    store, _ = stored
    with ExitStack() as stack:
        assert isinstance(
            in_sample_order(stored_block(store, "text", np.arange(0, N, 3)), stack), StoredBlock
        )


def test_store_is_read_once_from_front_to_back(stored, monkeypatch):
    """However many pieces are asked for, each row is read once, and never more than a few at a time."""
    store, expected = stored
    monkeypatch.setattr(reordered_rows, "_READ_BYTES", 10 * 5 * 2)
    read: list[np.ndarray] = []
    plain = StoredBlock.read

    def noted(self: StoredBlock, places: np.ndarray) -> np.ndarray:
        read.append(self.rows[places])
        return plain(self, places)

    monkeypatch.setattr(StoredBlock, "read", noted)
    with ExitStack() as stack:
        block = in_sample_order(stored_block(store, "text", np.argsort(ORDER)), stack)
        assert read == []
        for start in range(0, N, 7):
            np.testing.assert_array_equal(block.read(slice(start, start + 7)), expected[start : start + 7])
    assert max(map(len, read)) == 10
    np.testing.assert_array_equal(np.concatenate(read), np.arange(N))


def test_rows_go_where_there_is_room_not_to_memory(stored, monkeypatch):
    """Unless the user names a folder, the file is not put in ``/tmp``, which may be memory."""
    store, expected = stored
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(name, raising=False)
    block = ReorderedBlock(stored_block(store, "text", np.argsort(ORDER)))
    np.testing.assert_array_equal(block.read(slice(0, 5)), expected[:5])
    assert Path(f"/dev/fd/{block._file.fileno()}").readlink().is_relative_to("/var/tmp")
    block.close()


def test_nothing_is_left_behind(stored, tmp_path, monkeypatch):
    """The temporary file has no name from the start, so that no end of the process leaves it."""
    store, _ = stored
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with ExitStack() as stack:
        block = in_sample_order(stored_block(store, "text", np.argsort(ORDER)), stack)
        block.read(slice(0, 5))
        assert isinstance(block, ReorderedBlock)
        assert block._file is not None
        assert list(tmp_path.iterdir()) == []
    assert block._file.closed


def test_too_little_room_is_one_clear_error(stored, tmp_path, monkeypatch):
    """Before anything is written, the size, the room there is and a way out are said."""
    store, _ = stored
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    room = type(shutil.disk_usage("."))(total=1000, used=900, free=100)
    monkeypatch.setattr(reordered_rows.shutil, "disk_usage", lambda _: room)
    block = ReorderedBlock(stored_block(store, "text", np.argsort(ORDER)))
    with pytest.raises(
        RunError, match=r"another order .* of 970 bytes, but '.*' has 100 bytes free\. Name .*TMPDIR"
    ):
        block.read(slice(0, 5))
    assert block._file is None


@contextmanager
def _largest_file(n_bytes: int) -> Iterator[None]:
    """Let the system refuse files that are larger."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_write_that_fails_is_one_clear_error(stored):
    """A system that refuses to write ends the read; asked again with room, it succeeds."""
    store, expected = stored
    block = ReorderedBlock(stored_block(store, "text", np.argsort(ORDER)))
    with _largest_file(500), pytest.raises(RunError, match=r"cannot be put in order in '.*': .*too large"):
        block.read(slice(0, 5))
    np.testing.assert_array_equal(block.read(slice(0, 5)), expected[:5])
    block.close()


@pytest.mark.parametrize("first", [0, 1])
def test_matrix_of_stores_in_two_orders_is_the_one_in_memory(tmp_path, monkeypatch, first):
    """Whichever store comes first, rows on disk are those in memory, in any slice."""
    x, labels = planted_rows(N, 5, 0)
    y, _ = planted_rows(N, 4, 1)
    paths = [
        write_planted(tmp_path / "x.h5", "text", x, labels, missing=(3,)),
        write_planted(tmp_path / "y.h5", "image", y, labels, missing=(50,), order=ORDER),
    ]
    specs = [paths[first], paths[1 - first]]
    expected = read_matrix(specs)
    monkeypatch.setattr(large_rows, "LARGE_BYTES", 0)
    with ExitStack() as stack:
        matrix = read_matrix(specs, stay_open=stack)
        assert matrix.is_on_disk
        assert matrix.ids == expected.ids
        np.testing.assert_array_equal(matrix.X[40:60], expected.X[40:60])
        np.testing.assert_array_equal(matrix.rows(np.arange(0, N, 7))[3:], expected.X[::7][3:])
        np.testing.assert_array_equal(matrix.in_memory("").X, expected.X)
