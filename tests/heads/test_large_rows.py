"""Rows on disk that are too many for memory: the same heads as from rows in memory."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import heads
from heads import large_rows
from heads.columns import ColumnScale
from heads.large_columns import measured_scale
from heads.large_rows import LargeRows, is_large, read_ahead
from heads.large_training import LargeWeightedRows

BLOCKS = {"text": 5, "image": 7}


@pytest.fixture
def stored(hard, tmp_path, monkeypatch):
    """The rows of `hard` in float16 in an HDF5 file that counts as large, and the same rows in memory."""
    monkeypatch.setattr(large_rows, "LARGE_BYTES", 0)
    X, y = hard
    half = X.astype(np.float16)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        yield file.create_dataset("x", data=half, chunks=(32, 12)), half.astype(np.float32), y


PARAMETERS = {
    "logreg": {},
    "mlp": {"max_epochs": 4, "hidden": 16, "n_members": 2},
    "gated, mixed": {
        "max_epochs": 4,
        "hidden": 16,
        "fusion": "gated",
        "mixup": 0.2,
        "stop_metric": "macro_f1",
    },
    "late, all rows": {"max_epochs": 4, "hidden": 16, "fusion": "late", "validation_fraction": 0.0},
}


@pytest.mark.parametrize("variant", PARAMETERS)
def test_pipeline_learns_from_disk_what_it_learns_in_memory(variant, stored):
    """Imputing, splitting, scaling, the order of the rows and early stopping are the same by chunks."""
    on_disk, in_memory, y = stored
    name = "logreg" if variant == "logreg" else "mlp"
    first, second = (
        heads.make_pipeline(name, blocks=BLOCKS, parameters=PARAMETERS[variant]) for _ in range(2)
    )
    weight = np.where(np.arange(len(y)) % 7 == 0, 0.0, 1.0 + np.arange(len(y)) % 3)
    expected = first.fit(in_memory, y, head__sample_weight=weight).predict_proba(in_memory)
    found = second.fit(on_disk, y, head__sample_weight=weight).predict_proba(on_disk)
    np.testing.assert_allclose(found, expected, atol=1e-5 if variant == "logreg" else 1e-9)
    if name == "mlp":
        assert first["head"].best_epoch_ == second["head"].best_epoch_


def test_missing_blocks_are_filled_in_by_chunks(stored, monkeypatch):
    """Rows without a text get the mean of the others, and a block without any row is dead, as in memory."""
    on_disk, in_memory, y = stored
    monkeypatch.setattr(large_rows, "_CHUNK_BYTES", 32 * 12 * 2)
    with h5py.File(on_disk.file.filename.replace("x.h5", "holes.h5"), "w") as file:
        in_memory = in_memory.copy()
        in_memory[::9, :5] = np.nan
        in_memory[:, 5:8] = np.nan
        holes = file.create_dataset("x", data=in_memory.astype(np.float16), chunks=(32, 12))
        blocks = {"text": 5, "dead": 3, "image": 4}
        first, second = (heads.make_pipeline("logreg", blocks=blocks) for _ in range(2))
        expected = first.fit(in_memory, y).predict_proba(in_memory)
        found = second.fit(holes, y).predict_proba(holes)
    assert second["impute"].dead_blocks_ == ["dead"]
    np.testing.assert_allclose(second["impute"].means_, first["impute"].means_, rtol=1e-12)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ridge", {}),
        ("knn", {}),
        ("logreg", {"resampler": "smote"}),
        ("logreg", {"parameters": {"l1_ratio": 0.5, "tol": 1e-2}}),
        ("mlp", {"parameters": {"pca": 3, "max_epochs": 2, "hidden": 8}}),
    ],
    ids=["ridge", "knn", "smote", "elastic net", "pca"],
)
def test_pipeline_that_needs_all_rows_reads_them(name, options, stored):
    """Behind the imputer too, what cannot work by chunks gets all rows, filled in."""
    on_disk, in_memory, y = stored
    in_memory[::9, :5] = np.nan
    with h5py.File(on_disk.file.filename.replace("x.h5", "holes.h5"), "w") as file:
        holes = file.create_dataset("x", data=in_memory.astype(np.float16), chunks=(32, 12))
        first, second = (heads.make_pipeline(name, blocks=BLOCKS, **options) for _ in range(2))
        expected = first.fit(in_memory, y).predict_proba(in_memory)
        np.testing.assert_allclose(second.fit(holes, y).predict_proba(holes), expected, atol=1e-5)


def test_mapped_rows_are_no_array_without_a_copy(stored):
    """As an array they are read in the dtype that is asked for; a view of the disk is refused."""
    on_disk, in_memory, _ = stored
    mapped = large_rows.MappedRows(on_disk, lambda rows, first: rows + first)
    assert np.asarray(mapped, dtype=np.float64).dtype == np.float64
    np.testing.assert_array_equal(mapped[40:43], in_memory[40:43] + 40)
    with pytest.raises(ValueError, match="cannot become an array without a copy"):
        np.asarray(mapped, copy=False)


@pytest.mark.parametrize("name", heads.HEADS)
def test_head_predicts_by_chunks(name, stored):
    """Every head gives a matrix on disk the probabilities of the same rows in memory."""
    on_disk, in_memory, y = stored
    head = heads.make_pipeline(name)["head"].fit(in_memory, y)
    np.testing.assert_allclose(head.predict_proba(on_disk), head.predict_proba(in_memory), atol=1e-12)


def test_head_that_needs_all_rows_reads_them(stored):
    """A head or an argument that cannot work by chunks reads the matrix as a whole."""
    on_disk, in_memory, y = stored
    for head in (heads.RidgeHead(), heads.MLPHead(max_epochs=2, resampler="random-over")):
        expected = head.fit(in_memory, y).predict_proba(in_memory)
        np.testing.assert_array_equal(head.fit(on_disk, y).predict_proba(in_memory), expected)


def test_only_large_matrices_on_disk_are_read_by_chunks(tmp_path):
    """A small dataset, an array, a table and a list are not large; a big memmap is."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        assert not is_large(file.create_dataset("x", (10, 4), "f2"))
        assert is_large(file.create_dataset("wide", (large_rows.LARGE_BYTES // 4 // 100 + 1, 100), "f2"))
        assert not is_large(file.create_dataset("codes", (large_rows.LARGE_BYTES, 1), "i4"))
    assert is_large(np.memmap(tmp_path / "m", "f4", "w+", shape=(large_rows.LARGE_BYTES // 4 + 1, 1)))
    assert not is_large(np.broadcast_to(np.float32(0), (large_rows.LARGE_BYTES, 1)))
    assert not is_large([[1.0]])


def _many(n_rows: int, tmp_path: Path) -> tuple[LargeRows, np.ndarray]:
    """Return rows that know their number, in chunks of 16, without every third."""
    X = np.stack([np.arange(n_rows), np.full(n_rows, 7.0)], axis=1).astype(np.float32)
    file = h5py.File(tmp_path / "many.h5", "w")
    dataset = file.create_dataset("x", data=X, chunks=(16, 2))
    numbers = np.flatnonzero(np.arange(n_rows) % 3 > 0)
    return LargeRows(dataset, numbers, chunk_bytes=16 * 8), X[numbers]


def test_scale_is_measured_in_one_pass(tmp_path):
    """Means and spreads are those of all rows at once, for columns far from zero and rows of weight 0 too."""
    rows, X = _many(4000, tmp_path)
    weights = np.random.default_rng(0).integers(0, 3, len(rows)).astype(float)
    weights[:100] = 0
    found, expected = measured_scale(rows, weights), ColumnScale.of(X, weights)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-12)
    np.testing.assert_allclose(found.inverse, expected.inverse, rtol=1e-12)
    assert found.inverse[1] == 0.0  # a constant column


@pytest.mark.parametrize("window_bytes", [1, 16 * 8 * 10, 1 << 20])
def test_every_epoch_visits_every_row_once_in_another_order(window_bytes, tmp_path):
    """Whatever the window, batches are of equal size, hold every row once, and differ between epochs."""
    rows, X = _many(2000, tmp_path)
    codes = torch.arange(len(rows))
    scale = ColumnScale(np.zeros(2), np.ones(2))
    source = LargeWeightedRows(
        rows, scale, codes, torch.ones(len(rows)), torch.device("cpu"), window_bytes=window_bytes
    )
    order = torch.Generator().manual_seed(0)
    epochs = []
    for _ in range(2):
        batches = list(source.batches(order, 13))
        assert {len(batch.X) for batch in batches} <= {len(rows) // 13, len(rows) // 13 + 1}
        seen = torch.cat([batch.codes for batch in batches]).numpy()
        np.testing.assert_array_equal(np.sort(seen), np.arange(len(rows)))
        np.testing.assert_array_equal(torch.cat([batch.X for batch in batches]).numpy(), X[seen])
        epochs.append(seen)
    assert (epochs[0] != epochs[1]).mean() > 0.9
    if window_bytes > 1:  # chunks from all over the rows lie in one window
        assert np.ptp(epochs[0][:100]) > len(rows) / 2


def test_one_window_is_the_full_shuffle(tmp_path):
    """When all rows fit in a window their order is that of rows in memory."""
    rows, _ = _many(500, tmp_path)
    source = LargeWeightedRows(
        rows,
        ColumnScale(np.zeros(2), np.ones(2)),
        torch.arange(len(rows)),
        torch.ones(len(rows)),
        torch.device("cpu"),
    )
    found = torch.cat([batch.codes for batch in source.batches(torch.Generator().manual_seed(4), 7)])
    assert torch.equal(found, torch.randperm(len(rows), generator=torch.Generator().manual_seed(4)))


def test_faulty_rows_on_disk_are_named(stored, tmp_path):
    """NaN and infinity are found wherever they are, held-out rows included, and named by row."""
    _, in_memory, y = stored
    faulty = in_memory.copy()
    faulty[[40, 299], [3, 0]] = np.nan, np.inf
    with h5py.File(tmp_path / "faulty.h5", "w") as file:
        X = file.create_dataset("x", data=faulty, chunks=(32, 12))
        for head in (heads.LogisticHead(), heads.MLPHead(max_epochs=1)):
            with pytest.raises(ValueError, match=r"NaN or infinity in 2 row\(s\): 40, 299\. Values must be"):
                head.fit(X, y)
        with pytest.raises(ValueError, match=r"row 40, block 'all': partly NaN; row 299, block 'all': inf"):
            heads.make_pipeline("logreg").fit(X, y)


def test_faulty_rows_are_named_as_in_the_input_when_predicted(stored, tmp_path, monkeypatch):
    """The number of a row is its place in the matrix, not in the chunk that was being read."""
    _, in_memory, y = stored
    monkeypatch.setattr(large_rows, "_CHUNK_BYTES", 32 * 12 * 4)
    whole = heads.make_pipeline("logreg").fit(in_memory, y)
    faulty = in_memory.copy()
    faulty[299, 3] = np.inf
    with h5py.File(tmp_path / "faulty.h5", "w") as file:
        X = file.create_dataset("x", data=faulty, chunks=(32, 12))
        assert LargeRows(X).n_chunks == 10
        with pytest.raises(ValueError, match=r"NaN or infinity in 1 row\(s\): 299\. Values"):
            whole["head"].predict_proba(X)
        with pytest.raises(ValueError, match=r"row 299, block 'all': infinity"):
            whole.predict_proba(X)


def test_faults_of_rows_on_disk_are_told_together(stored):
    """What is wrong beside the rows is one message, before anything is read."""
    X, _, y = stored
    head = heads.LogisticHead(class_weight={"5": 2.0}, blocks={"a": 5})
    with pytest.raises(ValueError, match=r"2 faults: \(1\) The widths of blocks .* \(2\) class_weight has 1"):
        head.fit(X, y)


def test_read_ahead_passes_errors_on():
    """An error of a read in the thread reaches the caller, after the results before it."""

    def fail() -> int:
        raise OSError("the disk is gone")

    found = []
    with pytest.raises(OSError, match="the disk is gone"):
        for value in read_ahead([lambda: 1, fail, lambda: 3]):
            found.append(value)
    assert found == [1]
