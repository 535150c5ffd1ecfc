"""``stability``: seeds times splits of one configuration."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from pipelines.cli import main
from pipelines.runs import RunFolder, read_json
from pipelines.stability import StabilitySettings, stability
from pipelines.stability_statistics import variance_shares
from tests.pipelines.ablation_stores import labels_of, make_store, noisy


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    codes = labels_of(150)
    vectors = {"text": noisy(codes, 1.0, seed=1), "image": noisy(codes, 1.0, seed=2)}
    return make_store(tmp_path_factory.mktemp("s") / "s.h5", "s", vectors, codes)


def _run(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    capsys.readouterr()
    assert main(["stability", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_seed_meets_every_split(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The summary is the one of the scores on file, and the same command has nothing to do."""
    words = ["--features", store, "--head", "mlp", "--set", "max_epochs=5", "--seeds", 3, "--splits", 2]
    words += ["--folds", 2, "--out", tmp_path]
    found = _run(capsys, *words)
    with (Path(found["run"]) / "scores.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 3 * 2 * 2
    cells = np.array([float(line["macro_f1"]) for line in lines]).reshape(2, 3, 2)
    assert found["scores"]["macro_f1"]["mean"] == pytest.approx(cells.mean(), abs=1e-6)
    assert found["scores"]["macro_f1"]["deviation"] == pytest.approx(cells.mean(axis=2).std(ddof=1), abs=1e-6)
    assert [row["macro_f1"] for row in found["per_seed"]] == pytest.approx(cells.mean(axis=(0, 2)), abs=1e-6)
    per_fold = cells.mean(axis=1).ravel()
    error = np.sqrt(per_fold.var(ddof=1) * (1 / 4 + 1))  # two folds: as many validation rows as training rows
    expected = stats.t.interval(0.95, 3, loc=per_fold.mean(), scale=error)
    assert found["scores"]["macro_f1"]["ci95"] == pytest.approx(list(expected), abs=1e-5)
    with (Path(found["run"]) / "stability.csv").open(encoding="utf-8", newline="") as file:
        *_, whole = csv.DictReader(file)
    interval = [float(whole[f"95 % interval {end}"]) for end in ("low", "high")]
    assert interval == pytest.approx(found["scores"]["macro_f1"]["ci95"], rel=1e-11)
    assert found["draws"]
    assert len({round(row["macro_f1"], 9) for row in found["per_seed"]}) > 1
    capsys.readouterr()
    assert main(["stability", *map(str, words)]) == 0
    assert "Nothing to do" in capsys.readouterr().err
    replay = _run(capsys, "--config", Path(found["run"]) / "config.json", "--out", tmp_path / "again")
    assert replay["scores"] == found["scores"]


def test_head_without_chance_is_computed_once_per_split(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seeds of a logistic regression change nothing; a note says so, and all variance is the splits'."""
    words = ["--features", str(store), "--folds", "2", "--splits", "3", "--out", str(tmp_path)]
    assert main(["stability", *words]) == 0
    shown = capsys.readouterr()
    assert "draws nothing" in shown.err
    assert "split 100%, seed 0%" in shown.out


def test_run_gives_its_winner_and_stores(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--run takes head, resampler, parameters and stores of a finished run."""
    train = ["train", "--features", str(store), "--set", "C=0.5", "--resampler", "smote", "--folds", "2"]
    assert main([*train, "--study", "r", "--out", str(tmp_path)]) == 0
    found = _run(
        capsys, "--run", tmp_path / "r", "--seeds", 2, "--splits", 2, "--folds", 2, "--out", tmp_path
    )
    assert found["configuration"]["parameters"]["C"] == 0.5
    assert found["configuration"]["resampler"] == "smote"
    assert found["n"] == 150


def test_run_is_measured_as_it_was_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Metric, folds, duplicates and views are the run's, so the first cell is its own score; words win."""
    codes = np.repeat(labels_of(60), 2)
    x = noisy(codes, 0.5, width=20)
    views = np.stack([noisy(codes, 2.0, width=20, seed=seed) for seed in (1, 2)])
    texts = tuple(f"text number {row // 2}" for row in range(len(codes)))
    store = make_store(tmp_path / "v.h5", "v", {"text": x}, codes, texts=texts, views={"text": views})
    train = [
        "train",
        "--features",
        str(store),
        "--duplicates",
        "none",
        "--folds",
        "3",
        "--metric",
        "accuracy",
    ]
    assert main([*train, "--use-views", "1", "--study", "r", "--out", str(tmp_path)]) == 0
    run = json.loads((tmp_path / "r" / "metrics.json").read_text(encoding="utf-8"))
    words = ["--run", tmp_path / "r", "--seeds", 1, "--splits", 2, "--out", tmp_path]

    def first_split(found: dict) -> float:
        with (Path(found["run"]) / "scores.csv").open(encoding="utf-8", newline="") as file:
            lines = [line for line in csv.DictReader(file) if line["split"] == "0"]
        return float(np.mean([float(line["accuracy"]) for line in lines]))

    def settings(found: dict) -> dict:
        config = json.loads((Path(found["run"]) / "config.json").read_text(encoding="utf-8"))
        return {name: config.get(name) for name in ("metric", "folds", "duplicates", "use_views")}

    unasked = stability(StabilitySettings(run=tmp_path / "r", seeds=1, splits=2, out=tmp_path))
    found = _run(capsys, *words)
    assert Path(found["run"]) == unasked.path  # from Python as from the command line
    recorded = {"metric": "accuracy", "folds": 3, "duplicates": "none", "use_views": 1}
    assert settings(found) == recorded
    assert first_split(found) == pytest.approx(run["cv"]["accuracy"]["mean"], abs=1e-6)
    replay = _run(capsys, "--config", Path(found["run"]) / "config.json", "--out", tmp_path / "again")
    assert replay["scores"] == found["scores"]
    for given, changed in (
        (["--use-views", "none"], {"use_views": None}),
        (["--use-views", "all"], {"use_views": 2}),
        (["--duplicates", "exact"], {"duplicates": "exact"}),
    ):
        other = _run(capsys, *words, *given)
        assert settings(other) == {**recorded, **changed}
        assert first_split(other) != pytest.approx(first_split(found), abs=1e-6)
    other = _run(capsys, *words, "--folds", 2, "--metric", "macro-f1")
    assert settings(other) == {**recorded, "folds": 2, "metric": "macro-f1"}
    capsys.readouterr()
    assert main(["stability", *map(str, words), "--use-views", "3"]) == 2
    assert "there are 2 views of each row" in capsys.readouterr().err


def test_settings_keep_the_name_that_they_have_always_had(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A finished measurement is found again by a later version: the same words are recorded alike."""
    found = _run(
        capsys, "--features", store, "--head", "ridge", "--folds", 2, "--splits", 2, "--out", tmp_path
    )
    config = {**read_json(Path(found["run"]) / "config.json"), "spaces": []}  # hashes of stores are not meant
    assert RunFolder(tmp_path, None, config).identity == {
        "command": "stability",
        "class_names": ["positive", "neutral", "negative"],
        "folds": 2,
        "heads": ["ridge"],
        "metric": "macro-f1",
        "parameters": {
            "alpha": 300.0,
            "class_boost": None,
            "class_weight": "balanced",
            "effective_beta": 0.999,
        },
        "preset": None,
        "resampler": "none",
        "seed": 0,
        "seeds": 5,
        "spaces": [],
        "splits": 2,
    }
    assert RunFolder(tmp_path, None, config).path.name == "stability-8fde939da4"


def test_preset_and_its_parameters_are_one_measurement(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a preset was called changes no score: its replay, which has no such name, is the same run."""
    words = ["--features", store, "--preset", "clip-ln", "--set", "max_epochs=2", "--folds", 2]
    found = _run(capsys, *words, "--seeds", 1, "--splits", 2, "--out", tmp_path)
    assert (
        main(["stability", "--config", str(Path(found["run"]) / "config.json"), "--out", str(tmp_path)]) == 0
    )
    assert "Nothing to do" in capsys.readouterr().err


def test_permuted_labels_are_stably_chance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Labels that mean nothing score chance on every split."""
    codes = labels_of(240)
    mixed = np.random.default_rng(3).permutation(codes)
    store = make_store(tmp_path / "p.h5", "p", {"text": noisy(codes, 3.0)}, mixed)
    found = _run(capsys, "--features", store, "--folds", 3, "--splits", 3, "--out", tmp_path)
    assert found["scores"]["balanced_accuracy"]["mean"] == pytest.approx(1 / 3, abs=0.1)


def test_wrong_words_are_one_line(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two configurations, no spread, an unknown parameter, a run that is none."""
    for words, code, told in (
        (["--head", "mlp", "--preset", "clip-ln"], 2, "each name a configuration"),
        (["--seeds", "1", "--splits", "1"], 2, "has no spread"),
        (["--set", "CC=1"], 2, "'CC'"),
        (["--run", str(tmp_path)], 1, "is missing"),
    ):
        assert main(["stability", "--features", str(store), *words, "--out", str(tmp_path / "r")]) == code
        assert told in capsys.readouterr().err


def test_variance_is_split_as_it_was_made() -> None:
    """Known components of splits, seeds and the rest are found again; one factor alone holds everything."""
    generator = np.random.default_rng(0)
    parts = []
    for _ in range(200):
        split, seed = generator.normal(0, 2, (8, 1)), generator.normal(0, 1, (1, 8))
        parts.append(variance_shares(split + seed + generator.normal(0, 0.5, (8, 8))))
    means = {name: np.mean([part[name] for part in parts]) for name in ("split", "seed", "rest")}
    assert means == pytest.approx({"split": 4.0, "seed": 1.0, "rest": 0.25}, rel=0.15)
    assert variance_shares(np.array([[1.0], [2.0]]))["share"] == {"split": 1.0, "seed": 0.0, "rest": 0.0}
    assert variance_shares(np.ones((3, 3)))["share"] == {"split": 0.0, "seed": 0.0, "rest": 0.0}
