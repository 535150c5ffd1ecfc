"""Stored views in the commands: joined into matrices, recorded in runs, compared in ablations."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cache import Plan, RowTable, ShardData, SpaceSpec, write_store
from pipelines.cli import main
from pipelines.errors import UsageError
from pipelines.matrices import read_matrix

N = 90
CLASSES = ["positive", "neutral", "negative"]
LABELS = np.repeat([0, 1, 2], [54, 9, 27]).astype(np.int32)


def _write(path: Path, modality: str, n_views: int, *, order: np.ndarray | None = None) -> Path:
    """Write a store of one space: the last column of row `i` is i, view k adds k / 10, row 4 is missing."""
    order = np.arange(N) if order is None else order
    rng = np.random.default_rng(5)
    x = rng.normal(size=(N, 6)).astype(np.float32)
    x[np.arange(N), LABELS] += 1.0
    x[:, 5] = np.arange(N)
    valid = np.ones(N, dtype=np.uint8)
    valid[4] = 0
    views = np.stack([x + 0.1 * (v + 1) for v in range(n_views)]) if n_views else np.empty((0, N, 6))
    x[4], views[:, 4] = 0, 0
    name = f"{modality}.pooled"
    plan = Plan(
        backbone="toy",
        n_rows=N,
        shard_rows=40,
        spaces=(SpaceSpec(name, 6, "float32", f"fp-{modality}", views=n_views),),
        modalities=(modality,),
        identity={"backbone": "toy", "views": n_views},
    )
    table = RowTable(
        ids=tuple(f"id{i}" for i in order),
        label=np.where(order % 10 == 9, -1, LABELS[order]).astype(np.int32),
        split=np.zeros(N, dtype=np.uint8),
        group=np.full(N, -1, dtype=np.int32),
        source_sha256=np.zeros((N, 32), dtype=np.uint8),
        status=(1 - valid[order])[:, None],
        text=tuple(f"text {i}" for i in order) if modality == "text" else None,
        encoding=np.ones(N, dtype=np.uint8) if modality == "text" else None,
        image_path=tuple(f"{i}.jpg" for i in order) if modality == "image" else None,
        image_width=np.ones(N, dtype=np.int32) if modality == "image" else None,
        image_height=np.ones(N, dtype=np.int32) if modality == "image" else None,
        image_sha256=np.zeros((N, 32), dtype=np.uint8) if modality == "image" else None,
    )
    data = ShardData(
        {name: x[order]},
        valid[order],
        1 - valid[order],
        {name: views[:, order].astype(np.float32)} if n_views else None,
    )
    meta = {"class_names": CLASSES, "encodings": ["", "utf-8"]}
    return write_store(path, plan, table=table, data={modality: data}, meta=meta)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A text store with three views, an image store in another order with two, and one without."""
    folder = tmp_path_factory.mktemp("stores")
    backwards = np.arange(N)[::-1].copy()
    return {
        "text": str(_write(folder / "text.h5", "text", 3)),
        "image": str(_write(folder / "image.h5", "image", 2, order=backwards)),
        "plain": str(_write(folder / "plain.h5", "image", 0)),
    }


# --- matrices ----------------------------------------------------------------------------------------


def test_matrix_joins_the_views_of_stores_by_id(stores: dict[str, str]) -> None:
    """View k of a row stands in row and columns of its clean vectors, whatever the order of the stores."""
    matrix = read_matrix([stores["text"], stores["image"]])
    assert matrix.views is not None
    assert (matrix.views.shape, matrix.views.dtype) == ((2, N, 12), np.float32)
    for view in range(2):
        np.testing.assert_allclose(matrix.views[view], matrix.X + 0.1 * (view + 1), atol=1e-5)
    assert matrix.stored_views == 2
    assert any("different numbers of views" in note and "the first 2" in note for note in matrix.notes)


def test_matrix_views_of_a_missing_embedding_are_missing(stores: dict[str, str]) -> None:
    """A row without a vector has NaN in every view, as in X."""
    matrix = read_matrix([stores["text"]])
    assert matrix.views is not None
    assert np.isnan(matrix.X[4]).all()
    assert np.isnan(matrix.views[:, 4]).all()
    assert np.isfinite(np.delete(matrix.views, 4, axis=1)).all()


def test_matrix_repeats_clean_columns_where_a_store_has_no_views(stores: dict[str, str]) -> None:
    """A store without views joins with its clean vectors in every view, and a note says so."""
    matrix = read_matrix([stores["text"], stores["plain"]])
    assert matrix.views is not None
    assert matrix.views.shape == (3, N, 12)
    np.testing.assert_array_equal(matrix.views[2, :, 6:], matrix.X[:, 6:])
    assert any("no views are stored of" in note and "plain.h5" in note for note in matrix.notes)


def test_matrix_without_stored_views_has_none(stores: dict[str, str]) -> None:
    """Nothing is read, noted or allocated where there is nothing."""
    matrix = read_matrix([stores["plain"]])
    assert (matrix.views, matrix.training_views, matrix.stored_views) == (None, None, 0)
    assert not any("view" in note for note in matrix.notes)


def test_matrix_reads_as_many_views_as_asked(stores: dict[str, str]) -> None:
    """The first ones are read; 0 reads none; more than there are is refused with what is stored."""
    one = read_matrix([stores["text"]], use_views=1).views
    all_views = read_matrix([stores["text"]]).views
    assert one is not None
    assert all_views is not None
    np.testing.assert_array_equal(one, all_views[:1])
    assert read_matrix([stores["text"]], use_views=0).views is None
    with pytest.raises(
        UsageError, match=r"--use-views 3 was asked for, but there are 2 .*text\.h5:text.pooled' 3"
    ):
        read_matrix([stores["text"], stores["image"]], use_views=3)


def test_matrix_picks_blocks_of_views(stores: dict[str, str]) -> None:
    """The view columns of a block are those of the block in X; training views are those of labelled rows."""
    matrix = read_matrix([stores["text"], stores["image"]])
    picked = matrix.view_columns(["image.pooled"])
    assert picked is not None
    np.testing.assert_allclose(picked[0], matrix.columns(["image.pooled"]) + 0.1, atol=1e-5)
    assert matrix.training_views is not None
    np.testing.assert_array_equal(matrix.training_views[1], matrix.views[1][matrix.training])


# --- commands ----------------------------------------------------------------------------------------


def _train(store: str, out: Path, name: str, *more: str) -> dict[str, dict]:
    """Train a small head; returns config and metrics of the run."""
    command = ["train", "--features", store, "--folds", "3", "--study", name, "--out", str(out), *more]
    assert main(command) == 0
    return {
        part: json.loads((out / name / f"{part}.json").read_text(encoding="utf-8"))
        for part in ("config", "metrics")
    }


def test_train_records_and_uses_the_views(stores: dict[str, str], tmp_path: Path) -> None:
    """All, some and no views give three models; config.json says which, and `all` is their number."""
    runs = {
        name: _train(stores["text"], tmp_path, name, *options)
        for name, options in {
            "default": (),
            "all": ("--use-views", "all"),
            "one": ("--use-views", "1"),
            "none": ("--use-views", "none"),
        }.items()
    }
    assert {name: run["config"]["use_views"] for name, run in runs.items()} == {
        "default": 3,
        "all": 3,
        "one": 1,
        "none": 0,
    }
    answers = {name: (tmp_path / name / "oof.csv").read_bytes() for name in runs}
    assert answers["default"] == answers["all"]
    assert len(set(answers.values())) == 3
    weights = {name: (tmp_path / name / "model").rglob("*.safetensors") for name in runs}
    assert len({next(paths).read_bytes() for paths in weights.values()}) == 3
    # Rows are counted once, however many views they have.
    assert {run["metrics"]["n"] for run in runs.values()} == {81}


def test_train_without_views_is_the_run_it_was(stores: dict[str, str], tmp_path: Path) -> None:
    """A store without views has no such setting in config.json, and leaving its views out changes nothing."""
    plain = _train(stores["plain"], tmp_path, "plain")
    assert "use_views" not in plain["config"]
    _train(stores["image"], tmp_path, "left-out", "--use-views", "none")
    # The image store holds the same vectors in another order, so ids tell the rows apart.
    rows = {
        name: sorted((tmp_path / name / "predictions.csv").read_text(encoding="utf-8").split())
        for name in ("plain", "left-out")
    }
    assert rows["plain"] == rows["left-out"]


def test_config_replays_the_number_of_views(stores: dict[str, str], tmp_path: Path) -> None:
    """--config trains on as many views as the run did; an option beside it wins."""
    _train(stores["text"], tmp_path, "first", "--use-views", "2")
    config = str(tmp_path / "first" / "config.json")
    for name, more, expected in (("again", (), 2), ("fewer", ("--use-views", "none"), 0)):
        command = ["train", "--config", config, "--study", name, "--out", str(tmp_path), *more]
        assert main(command) == 0
        values = json.loads((tmp_path / name / "config.json").read_text(encoding="utf-8"))
        assert values["use_views"] == expected
    first, again = (tmp_path / name / "oof.csv" for name in ("first", "again"))
    assert first.read_bytes() == again.read_bytes()


def test_tune_trains_every_trial_on_views(stores: dict[str, str], tmp_path: Path) -> None:
    """A search with views scores its default as train does, and says on stderr that views are used."""
    common = ["--features", stores["text"], "--folds", "3", "--out", str(tmp_path)]
    assert main(["tune", *common, "--trials", "1", "--heads", "logreg", "--study", "t"]) == 0
    _train(stores["text"], tmp_path, "one")
    searched, alone = (pd.read_csv(tmp_path / name / "oof.csv") for name in ("t", "one"))
    assert searched[["id", "fold", "label"]].equals(alone[["id", "fold", "label"]])
    probabilities = [column for column in alone if column.startswith("p_")]
    # The path of a search and a single fit stop where the loss is flat enough, each elsewhere.
    np.testing.assert_allclose(searched[probabilities], alone[probabilities], atol=1e-3)


@pytest.mark.parametrize("value", ["some", "-1", "1.5"])
def test_use_views_takes_all_none_or_a_number(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Anything else is wrong usage, and the message says what is allowed."""
    with pytest.raises(SystemExit, match="2"):
        main(["tune", f"--use-views={value}"])
    assert "is not all, none or a number" in capsys.readouterr().err


def test_too_many_views_are_wrong_usage(
    stores: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Asking for more views than are stored ends with status 2, before anything is written."""
    command = ["train", "--features", stores["plain"], "--use-views", "2", "--out", str(tmp_path / "runs")]
    assert main(command) == 2
    assert "there are 0 views of each row" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_ablation_adds_a_row_with_views(
    stores: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Views are compared with clean rows alone, on the same folds; without stored views there is no row."""
    names = {}
    for key in (("text", "image"), ("text", "plain"), ("plain",)):
        features = [word for name in key for word in ("--features", stores[name])]
        capsys.readouterr()
        assert main(["ablate", *features, "--folds", "3", "--out", str(tmp_path), "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)["rows"]
        names[key] = [row["features"] for row in rows]
        if len(key) == 2:
            assert rows[-2]["against_reference"] is None
            assert rows[-1]["against_reference"]["difference"] != 0
    assert names == {
        ("text", "image"): ["text", "image", "both", "both + views"],
        ("text", "plain"): ["text", "image", "both", "both + views"],
        ("plain",): ["image"],
    }
