"""What `tune` says about steps after training."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score, log_loss

from heads import fit_temperature
from pipelines.after import AFTER, after_training
from pipelines.cli import main
from pipelines.report import write_report
from tests.pipelines.conftest import World
from tuning import SCORES, Configuration, SearchResult, Trial, make_folds


def _metrics(world: World) -> dict:
    return json.loads((world.run / "metrics.json").read_text(encoding="utf-8"))


def _oof(world: World, classes: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read probabilities, class codes and fold numbers from oof.csv."""
    with (world.run / "oof.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    probabilities = np.array([[float(row[f"p_{name}"]) for name in classes] for row in rows])
    return (
        probabilities,
        np.array([classes.index(r["label"]) for r in rows]),
        np.array([int(r["fold"]) for r in rows]),
    )


def test_after_has_every_step_and_starts_from_the_winner(world: World) -> None:
    """Each step has all scores; "none" is the winner's cross-validation, which temperature cannot change."""
    metrics = _metrics(world)
    after = metrics["after"]
    assert [*after, "applied"] == list(AFTER)  # this run was not asked to apply anything
    assert all(set(entry) == {*SCORES, "log_loss", "ece"} for entry in after.values())
    assert {name: after["none"][name] for name in SCORES} == metrics["cv"]
    assert {name: after["temperature"][name] for name in SCORES} == metrics["cv"]
    assert [name for name in after if after[name]["ece"] is None] == ["decision_weights"]


def test_after_follows_from_the_out_of_fold_rows(world: World) -> None:
    """The log loss after temperature scaling is scikit-learn's, of fits without the fold that is scored."""
    metrics = _metrics(world)
    p, y, folds = _oof(world, metrics["classes"])
    p /= p.sum(axis=1, keepdims=True)
    assert metrics["after"]["none"]["log_loss"] == pytest.approx(log_loss(y, p), abs=1e-4)
    scaled = np.empty_like(p)
    for fold in np.unique(folds):
        inside = folds == fold
        scaled[inside] = fit_temperature(p[~inside], y[~inside]).apply(p[inside])
    assert metrics["after"]["temperature"]["log_loss"] == pytest.approx(log_loss(y, scaled), abs=1e-4)


def test_after_is_shown_on_the_terminal_and_on_the_page(
    in_world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both tables have a line for each step."""
    assert main(["tune", "--trials", "5", "--heads", "logreg,mlp", "--folds", "3", "--study", "small"]) == 0
    terminal = capsys.readouterr().out
    page = (in_world.run / "report.html").read_text(encoding="utf-8")
    for label in (label for step, label in AFTER.items() if step != "applied"):
        assert label in terminal
        assert label in page


def test_after_has_no_ensemble_of_one_trial(
    in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`train` makes one trial: neither table has a line for an ensemble, nor does the page speak of one."""
    assert main(["train", "--folds", "2", "--study", "one", "--out", str(tmp_path)]) == 0
    terminal = capsys.readouterr().out
    page = (tmp_path / "one" / "report.html").read_text(encoding="utf-8")
    assert AFTER["vector"] in terminal
    assert AFTER["vector"] in page
    assert AFTER["greedy"] not in terminal
    assert AFTER["greedy"] not in page
    assert "The ensemble is chosen" not in page


def test_after_may_be_missing_in_a_run_of_an_earlier_version(world: World, tmp_path: Path) -> None:
    """The page of a run without these numbers is made all the same."""
    for name in ("config.json", "trials.csv", "oof.csv"):
        (tmp_path / name).write_bytes((world.run / name).read_bytes())
    metrics = {key: value for key, value in _metrics(world).items() if key != "after"}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    write_report(tmp_path, tmp_path / "report.html", title="old")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Confusion" in page
    assert "After training" not in page


def _found(y: np.ndarray, tables: list[np.ndarray]) -> SearchResult:
    folds = make_folds(y, n_folds=3)
    trials = [
        Trial(
            number=number,
            configuration=Configuration(head="logreg", resampler="none", parameters={}),
            score=float(f1_score(y, table.argmax(axis=1), average="macro")),
            fold_scores=[0.0] * 3,
            seconds=0.0,
            oof=table.astype(np.float32),
        )
        for number, table in enumerate(tables)
    ]
    best = int(np.argmax([trial.score for trial in trials]))
    return SearchResult(trials, [], best, 0, folds, "macro_f1", 3)


def test_after_of_models_that_know_nothing_does_not_win_by_choosing() -> None:
    """Of many coin-tossing models the winner looks good; an ensemble chosen without the fold does not."""
    random = np.random.default_rng(0)
    y = np.arange(90) % 3
    found = _found(y, list(random.dirichlet(np.ones(3), size=(200, 90))))
    after = after_training(found, y, random_state=0)
    assert after["none"]["macro_f1"]["mean"] > 0.44
    assert after["greedy"]["macro_f1"]["mean"] < 0.42


def test_after_names_the_rare_class_when_that_pays() -> None:
    """Decision weights gain on a rare class that is hardly ever the most probable."""
    random = np.random.default_rng(1)
    y = np.repeat([0, 1, 2], [1800, 300, 900])
    x = random.normal(size=(3000, 3)) + 1.2 * np.eye(3)[y]
    p = np.exp(1.2 * x) * [0.6, 0.1, 0.3]
    found = _found(y, [p / p.sum(axis=1, keepdims=True)])
    after = after_training(found, y, random_state=0)
    assert after["decision_weights"]["macro_f1"]["mean"] > after["none"]["macro_f1"]["mean"] + 0.01
    assert after["greedy"] == after["none"]
