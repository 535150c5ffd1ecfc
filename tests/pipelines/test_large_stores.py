"""``train`` on stores that are too big for memory: the same run as in memory, from rows that stay on disk."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from heads import large_rows
from pipelines import matrix_memory
from pipelines.cli import main
from pipelines.errors import RunError
from pipelines.matrices import read_matrix
from pipelines.stored_rows import StoredBlock
from tests.pipelines.ablation_stores import labels_of, make_store, noisy
from tests.pipelines.planted_stores import planted_rows, write_planted

N = 240


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A text store and an image store with a few missing vectors, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    text, labels = planted_rows(N, 6, 0)
    image, _ = planted_rows(N, 8, 1)
    return [
        write_planted(tmp_path / "text.h5", "text", text, labels, missing=(4, 50)),
        write_planted(tmp_path / "image.h5", "image", image, labels, missing=(4, 77, 130)),
    ]


def _train(specs: list[str], out: str, *words: str) -> Path:
    """Train in two folds and return the run folder."""
    named = [word for spec in specs for word in ("--features", spec)]
    assert main(["train", *named, "--folds", "2", "--out", out, "--study", "run", *words]) == 0
    return Path(out) / "run"


def _numbers(path: Path) -> np.ndarray:
    return pd.read_csv(path).filter(like="p_").to_numpy()


VARIANTS = {
    "logreg": ["--head", "logreg"],
    "gated": [
        *("--head", "mlp", "--set", "fusion=gated", "--set", "max_epochs=5", "--set", "hidden=8"),
        *("--set", "learning_rate=0.01", "--set", "batch_size=16"),
    ],
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_train_from_disk_equals_train_in_memory(variant, stores, monkeypatch, capsys):
    """Folds, out-of-fold rows, scores, test scores and predictions of two stores are those of memory."""
    in_memory = _train(stores, "memory", *VARIANTS[variant])
    assert "read by chunks" not in capsys.readouterr().err
    monkeypatch.setattr(large_rows, "LARGE_BYTES", 0)
    on_disk = _train(stores, "disk", *VARIANTS[variant])
    told = capsys.readouterr().err
    assert "240 x 14 values (13.4 kB as float32) stay in the stores and are read by chunks" in told
    assert "fold 2 of 2" in told
    first, second = (pd.read_csv(run / "oof.csv") for run in (in_memory, on_disk))
    assert first[["id", "fold", "label"]].equals(second[["id", "fold", "label"]])
    tolerance = 1e-4 if variant == "logreg" else 2e-6
    np.testing.assert_allclose(_numbers(on_disk / "oof.csv"), _numbers(in_memory / "oof.csv"), atol=tolerance)
    assert (on_disk / "predictions.csv").read_bytes() == (in_memory / "predictions.csv").read_bytes()
    scores = [json.loads((run / "metrics.json").read_text()) for run in (in_memory, on_disk)]
    for part in ("cv", "test"):
        assert scores[1][part]["macro_f1"] == scores[0][part]["macro_f1"]
    assert scores[0]["cv"]["macro_f1"]["mean"] > 0.6
    if variant == "gated":
        weights = [pd.read_csv(run / "model" / "fusion_weights.csv") for run in (in_memory, on_disk)]
        np.testing.assert_allclose(weights[1].iloc[:, 1:], weights[0].iloc[:, 1:], atol=2e-6)
        assert weights[1]["id"].equals(weights[0]["id"])


def test_train_from_disk_never_holds_all_rows(tmp_path, monkeypatch):
    """No read of a fold, a fit or a prediction spans more than a chunk of a store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(large_rows, "LARGE_BYTES", 0)
    x, labels = planted_rows(6000, 1024, 0)
    store = write_planted(tmp_path / "wide.h5", "image", x, labels)
    chunk = large_rows._CHUNK_BYTES // (1024 * 2)
    read: list[int] = []
    plain = StoredBlock.read

    def counted(self: StoredBlock, places: slice) -> np.ndarray:
        values = plain(self, places)
        read.append(len(values))
        return values

    monkeypatch.setattr(StoredBlock, "read", counted)
    words = ("--head", "mlp", "--set", "max_epochs=1", "--set", "hidden=8", "--duplicates", "exact")
    _train([store], "runs", *words)
    assert sum(read) > 6000 * 6  # means, scale, an epoch, held-out rows, predictions: of every fit
    assert max(read) <= chunk < 6000


def _noted_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note from now on which spaces are read as a whole."""
    read: list[str] = []
    plain = StoredBlock.read

    def noted(self: StoredBlock, places: slice) -> np.ndarray:
        values = plain(self, places)
        if len(values) == len(self.rows):
            read.append(self.space.name)
        return values

    monkeypatch.setattr(StoredBlock, "read", noted)
    return read


def test_only_compared_blocks_of_large_stores_are_read(tmp_path, monkeypatch):
    """Rows with texts are compared by these: their vectors stay on disk, those of pictures are read."""
    codes = labels_of(40)
    vectors = {"text": noisy(codes, 1.0), "image": noisy(codes, 1.0, seed=1)}
    store = make_store(tmp_path / "s.h5", "s", vectors, codes, texts=tuple(f"text {i}" for i in range(40)))
    bare = make_store(tmp_path / "bare.h5", "s", {"text": vectors["text"]}, codes)
    expected = [read_matrix([str(path)]).groups for path in (store, bare)]
    monkeypatch.setattr(large_rows, "LARGE_BYTES", 0)
    read = _noted_reads(monkeypatch)
    with ExitStack() as stack:
        for path, groups, spaces in zip((store, bare), expected, ("image", "text"), strict=True):
            matrix = read_matrix([str(path)], stay_open=stack)
            assert matrix.is_on_disk
            assert read == [f"{spaces}.pooled"]
            np.testing.assert_array_equal(matrix.groups, groups)
            read.clear()


def test_finished_run_is_not_read_into_memory_again(stores, monkeypatch, capsys):
    """The same command again has nothing to do, and finds that out without the rows."""
    monkeypatch.setattr(large_rows, "LARGE_BYTES", 0)
    read = _noted_reads(monkeypatch)
    words = ("--head", "ridge", "--duplicates", "exact")
    _train(stores, "runs", *words)
    assert read == ["text.pooled", "image.pooled"]
    read.clear()
    capsys.readouterr()
    monkeypatch.setattr(matrix_memory, "memory_bytes", lambda: 0)
    _train(stores, "runs", *words)
    assert not read
    assert "are read into memory" not in capsys.readouterr().err


def test_permuted_labels_score_chance_from_disk(tmp_path, monkeypatch):
    """With labels that say nothing, training from disk says nothing: no row is seen before it is scored."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(large_rows, "LARGE_BYTES", 0)
    x, labels = planted_rows(600, 40, 0)
    store = write_planted(tmp_path / "x.h5", "text", x, np.random.default_rng(3).permutation(labels))
    run = _train([store], "runs", "--head", "logreg", "--set", "C=1")
    assert json.loads((run / "metrics.json").read_text())["cv"]["macro_f1"]["mean"] < 0.42


def test_heads_that_need_all_rows_get_them(stores, monkeypatch, capsys):
    """Ridge reads large rows into memory, says so, and its run is the same."""
    in_memory = _train(stores, "memory", "--head", "ridge")
    monkeypatch.setattr(large_rows, "LARGE_BYTES", 0)
    from_disk = _train(stores, "disk", "--head", "ridge")
    assert "are read into memory: head 'ridge', as it is set here, needs all rows" in capsys.readouterr().err
    assert (from_disk / "oof.csv").read_bytes() == (in_memory / "oof.csv").read_bytes()


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--head", "ridge"],
        ["train", "--head", "logreg", "--resampler", "smote"],
        ["tune", "--trials", "2"],
    ],
)
def test_rows_that_do_not_fit_are_refused(words, stores, monkeypatch, capsys):
    """What needs more memory than there is ends in one message with sizes and ways out, and no files."""
    monkeypatch.setattr(large_rows, "LARGE_BYTES", 0)
    monkeypatch.setattr(matrix_memory, "memory_bytes", lambda: 30_000)
    assert main([*words, "--features", stores[0], "--features", stores[1], "--folds", "2"]) == 1
    told = capsys.readouterr().err
    assert "240 rows of 14 columns take 13.4 kB as float32 and about 94.1 kB with the copies" in told
    assert "this machine has 30.0 kB of memory. Use embedonce train --head logreg (L2 penalty" in told
    assert "Traceback" not in told
    assert ("Head '" in told) == (words[0] == "train")
    assert not Path("runs").exists()


def test_rows_that_cannot_even_be_read_are_refused(stores, monkeypatch):
    """A matrix that does not fit is not begun to be read."""
    monkeypatch.setattr(matrix_memory, "memory_bytes", lambda: 20_000)
    with pytest.raises(
        RunError, match=r"13\.4 kB as float32 and about 26\.9 kB with .* has 20\.0 kB of memory"
    ):
        read_matrix(stores)


_MIDDLE = np.random.default_rng(0).permutation(np.arange(1, N - 1))


_ORDERS = {"reversed": np.arange(N)[::-1].copy(), "same ends": np.array([0, *_MIDDLE, N - 1])}


@pytest.mark.parametrize("order", _ORDERS)
def test_train_from_stores_in_another_order_is_the_same_run(tmp_path, stores, monkeypatch, capsys, order):
    """Rows that lie elsewhere in the second store are put in order on disk, and the run stays the same.

    Also where the first and the last row lie where they lie in order.
    """
    image, labels = planted_rows(N, 8, 1)
    turned = write_planted(
        tmp_path / "turned.h5", "image", image, labels, missing=(4, 77, 130), order=_ORDERS[order]
    )
    monkeypatch.setattr(large_rows, "LARGE_BYTES", 0)
    in_order = _train(stores, "order", *VARIANTS["logreg"])
    other = _train([stores[0], turned], "other", *VARIANTS["logreg"])
    assert capsys.readouterr().err.count("stay in the stores and are read by chunks") == 2
    for name in ("oof.csv", "predictions.csv"):
        assert (other / name).read_bytes() == (in_order / name).read_bytes()


def test_rows_with_views_are_read_whole(tmp_path, monkeypatch):
    """Augmented views are extra rows in memory; without them the same store stays on disk."""
    monkeypatch.setattr(large_rows, "LARGE_BYTES", 0)
    x, labels = planted_rows(60, 5, 0)
    store = write_planted(tmp_path / "views.h5", "image", x, labels, n_views=2)
    with ExitStack() as stack:
        assert not read_matrix([store], stay_open=stack).is_on_disk
        assert read_matrix([store], stay_open=stack, use_views=0).is_on_disk


def test_matrix_on_disk_is_the_one_in_memory(stores, monkeypatch):
    """Blocks, missing rows, groups and any slice are what `read_matrix` gives in memory."""
    expected = read_matrix(stores)
    monkeypatch.setattr(large_rows, "LARGE_BYTES", 0)
    with ExitStack() as stack:
        matrix = read_matrix(stores, stay_open=stack)
        assert matrix.blocks == expected.blocks == {"text.pooled": 6, "image.pooled": 8}
        assert matrix.X.dtype == np.float16
        np.testing.assert_array_equal(matrix.X[40:60], expected.X[40:60])
        np.testing.assert_array_equal(np.asarray(matrix.X), expected.X)
        np.testing.assert_array_equal(matrix.rows(np.arange(0, N, 7))[3:], expected.X[::7][3:])
        np.testing.assert_array_equal(matrix.in_memory("").X, expected.X)
        np.testing.assert_array_equal(matrix.groups, expected.groups)
        with pytest.raises(IndexError, match="one after the other, not in steps of 2"):
            matrix.X[::2]
