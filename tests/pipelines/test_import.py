"""Import: stores from arrays made elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cache import FeatureStore, verify_store
from pipelines.cli import main


def _table(folder: Path, n: int = 12) -> Path:
    rows = {
        "id": [str(i) for i in range(n)],
        "label": ["a", "b", "null"] * (n // 3),
        "split": ["train", "test", ""] * (n // 3),
        "text": [f"text {i}" for i in range(n)],
        "group": ["g"] * 2 + [""] * (n - 2),
    }
    pd.DataFrame(rows).to_csv(folder / "t.csv", index=False)
    return folder / "t.csv"


@pytest.mark.parametrize("kind", ["npy", "npz", "csv", "parquet"])
def test_import_keeps_rows_labels_and_vectors(tmp_path: Path, kind: str) -> None:
    """Every array format gives the same verified store."""
    x = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    path = tmp_path / f"x.{kind}"
    if kind == "npy":
        np.save(path, x)
    elif kind == "npz":
        np.savez(path, x=x)
    else:
        frame = pd.DataFrame(x, columns=[f"f{i}" for i in range(5)])
        frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path)
    out = tmp_path / "s.h5"
    assert (
        main(
            [
                "import",
                "--table",
                str(_table(tmp_path)),
                "--text",
                str(path),
                "--image",
                str(path),
                "--out",
                str(out),
            ]
        )
        == 0
    )
    verify_store(out)
    with FeatureStore.open(out) as store:
        assert store.spaces == ("text.pooled", "image.pooled")
        np.testing.assert_allclose(np.asarray(store.select("image")), x, rtol=1e-6)
        assert store.class_names == ("a", "b")
        assert np.asarray(store.labels)[:3].tolist() == [0, 1, -1]
        assert np.asarray(store.splits)[:3].tolist() == [1, 3, 0]
        assert np.asarray(store.groups)[:3].tolist() == [0, 0, -1]
        assert store.texts is not None and store.texts[3] == "text 3"


def test_import_renames_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the error about a table without ids advises works."""
    table, out = tmp_path / "renamed.csv", tmp_path / "s.h5"
    pd.read_csv(_table(tmp_path)).rename(columns={"id": "guid", "label": "tag"}).to_csv(table, index=False)
    np.save(tmp_path / "x.npy", np.ones((12, 3), dtype=np.float32))
    words = ["import", "--table", str(table), "--text", str(tmp_path / "x.npy"), "--out", str(out)]
    assert main(words) == 1
    assert "Rename with --columns id=YOUR_COLUMN" in capsys.readouterr().err
    assert main([*words, "--columns", "id=guid,label=tag"]) == 0
    with FeatureStore.open(out) as store:
        assert store.class_names == ("a", "b") and store.ids[:2] == ("0", "1")


def test_import_takes_a_nan_row_for_no_embedding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row of NaN is stored as invalid, and said."""
    x = np.ones((12, 5), dtype=np.float32)
    x[4] = np.nan
    np.save(tmp_path / "x.npy", x)
    assert (
        main(
            [
                "import",
                "--table",
                str(_table(tmp_path)),
                "--joint",
                str(tmp_path / "x.npy"),
                "--out",
                str(tmp_path / "s.h5"),
            ]
        )
        == 0
    )
    note = "note: 1 of 12 rows have no joint: its numbers are NaN or all zero"
    assert note in capsys.readouterr().err
    with FeatureStore.open(tmp_path / "s.h5") as store:
        assert np.flatnonzero(~store.select("joint").valid).tolist() == [4]


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.ones((11, 5)), "has 11 rows, but table"),
        (np.ones(12), "it must be (rows, width)"),
        (np.array([[1.0, np.inf]] * 12), "infinite"),
        (np.array([[1.0, np.nan]] * 12), "partly missing"),
        (np.array([["a"]] * 12), "matrix of numbers"),
        (np.array([[None]] * 12, dtype=object), "matrix of numbers"),
    ],
)
def test_import_refuses_wrong_arrays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], array: np.ndarray, says: str
) -> None:
    """Wrong shapes, wrong numbers and pickled objects are one clear line, and nothing is written."""
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    assert (
        main(
            [
                "import",
                "--table",
                str(_table(tmp_path)),
                "--text",
                str(tmp_path / "x.npy"),
                "--out",
                str(tmp_path / "s.h5"),
            ]
        )
        == 1
    )
    assert says in capsys.readouterr().err
    assert not list(tmp_path.glob("s.h5*"))


def test_import_refuses_repeated_ids(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The arrays' rows follow the table, so an id listed twice cannot be merged."""
    pd.DataFrame({"id": ["1", "1.0"], "label": ["a", "b"]}).to_csv(tmp_path / "t.csv", index=False)
    np.save(tmp_path / "x.npy", np.ones((2, 3)))
    assert (
        main(
            [
                "import",
                "--table",
                str(tmp_path / "t.csv"),
                "--text",
                str(tmp_path / "x.npy"),
                "--out",
                str(tmp_path / "s.h5"),
            ]
        )
        == 1
    )
    assert "more than once: '1'" in capsys.readouterr().err


def test_import_never_writes_over_another_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same import again has nothing to do; its own table, a folder or another store is left alone."""
    table, array, out = _table(tmp_path), tmp_path / "x.npy", tmp_path / "s.h5"
    np.save(array, np.ones((12, 3)))
    command = ["import", "--table", str(table), "--text", str(array), "--out"]
    assert main([*command, str(out)]) == 0
    before = out.read_bytes()
    assert main([*command, str(out)]) == 0
    assert "Nothing to do" in capsys.readouterr().err
    np.save(array, np.full((12, 3), 2.0))
    for target in (out, table, tmp_path):
        kept = target.read_bytes() if target.is_file() else None
        assert main([*command, str(target)]) == 2
        assert "exists and is not the store" in capsys.readouterr().err
        assert kept is None or target.read_bytes() == kept
    assert out.read_bytes() == before
