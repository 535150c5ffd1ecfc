"""Rows picked from a matrix on disk: the same rows as from memory, and not read before they are needed."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from heads import large_rows, make_pipeline, select_rows, selected_rows, trains_by_chunks


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """A float16 matrix of 200 x 6 in an HDF5 file that counts as large, and the same rows in memory."""
    monkeypatch.setattr(large_rows, "LARGE_BYTES", 0)
    X = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float16)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        yield file.create_dataset("x", data=X, chunks=(16, 6)), X


@pytest.mark.parametrize("read_bytes", [1, 300, 4 << 20])
def test_selected_rows_are_those_of_memory(stored, monkeypatch, read_bytes):
    """Whatever is read at once, every slice of a selection holds its rows in their order."""
    on_disk, X = stored
    monkeypatch.setattr(selected_rows, "_READ_BYTES", read_bytes)
    numbers = np.flatnonzero(np.random.default_rng(1).random(200) < 0.3)
    found = select_rows(on_disk, numbers)
    assert found.shape == (len(numbers), 6)
    assert found.dtype == np.float16
    for rows in (slice(None), slice(3, 17), slice(5, 5), slice(40, 10_000)):
        np.testing.assert_array_equal(found[rows], X[numbers][rows])
    np.testing.assert_array_equal(np.asarray(found, dtype=np.float32), X[numbers].astype(np.float32))


@pytest.mark.parametrize("rows", [np.array([5, 3, 8]), slice(9, 2, -1), 4])
def test_selected_rows_are_asked_for_by_ascending_slices_alone(stored, rows):
    """Anything else is refused: it would be answered with other rows."""
    found = select_rows(stored[0], np.arange(0, 200, 3))
    with pytest.raises(TypeError, match="is no ascending slice"):
        found[rows]


def test_selected_rows_of_selected_rows_are_read_from_the_matrix(stored):
    """A fold of the training rows is one selection, whose rows are read once."""
    on_disk, X = stored
    outer, inner = np.arange(0, 200, 3), np.arange(1, 60, 2)
    found = select_rows(select_rows(on_disk, outer), inner)
    assert found._source is on_disk
    np.testing.assert_array_equal(found[:], X[outer][inner])


def test_nothing_is_read_before_it_is_needed(stored):
    """Picking rows reads none, and a read spans no more of the matrix than it may."""

    class Counted:
        shape, dtype = (200, 6), np.dtype(np.float16)
        longest = 0

        def __getitem__(self, rows):
            self.longest = max(self.longest, rows.stop - rows.start)
            return stored[1][rows]

    counted = Counted()
    found = select_rows(counted, np.arange(0, 200, 7))
    found._step = 32
    assert counted.longest == 0
    np.testing.assert_array_equal(found[:], stored[1][::7])
    assert 0 < counted.longest <= 32


def test_small_matrices_are_copied(tmp_path):
    """Rows of an array and of a small dataset come as an array; those of an array in any order."""
    X = np.arange(12.0).reshape(4, 3)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        dataset = file.create_dataset("x", data=X)
        for source in (X, dataset):
            found = select_rows(source, np.array([0, 2]))
            assert type(found) is np.ndarray
            np.testing.assert_array_equal(found, X[[0, 2]])
    np.testing.assert_array_equal(select_rows(X, np.array([3, 1, 1])), X[[3, 1, 1]])


@pytest.mark.parametrize("numbers", [[3, 2], [2, 2], [-1, 4], [0, 200]])
def test_selected_rows_refuse_another_order(stored, numbers):
    """Rows on disk are read forwards, so labels cannot silently go with other rows."""
    with pytest.raises(
        ValueError, match=r"once each and in ascending order, from 0 to 199; got others\. Sort"
    ):
        select_rows(stored[0], np.array(numbers))


@pytest.mark.parametrize(
    ("head", "resampler", "parameters", "blocks", "by_chunks"),
    [
        ("logreg", "none", {}, None, True),
        ("logreg", "none", {"l1_ratio": 0.5}, None, False),
        ("logreg", "smote", {}, None, False),
        ("logreg", "none", {}, {"text.terms": 6}, False),
        ("mlp", "none", {}, None, True),
        ("mlp", "smote", {}, None, False),
        ("mlp", "none", {"pca": 4}, None, False),
        ("ridge", "none", {}, None, False),
        ("lightgbm", "none", {}, None, False),
    ],
)
def test_pipelines_say_whether_they_train_by_chunks(head, resampler, parameters, blocks, by_chunks):
    """What needs all rows at once is known before anything is read."""
    pipeline = make_pipeline(head, blocks=blocks, resampler=resampler, parameters=parameters)
    assert trains_by_chunks(pipeline, 6) is by_chunks


def test_wide_logistic_regression_needs_all_rows():
    """Above 2,048 columns logistic regression has another solver."""
    assert trains_by_chunks(make_pipeline("logreg"), 2048)
    assert not trains_by_chunks(make_pipeline("logreg"), 2049)
