"""The best five of a search on other splits: what the run records, prints and leaves out."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest

from pipelines.cli import main
from pipelines.finalists import finalist_entries, finalist_rows, repeated_finalists, repeats_of
from pipelines.matrices import read_matrix
from tuning import EvaluationOnSplits, RepeatError, evaluate, make_folds, nadeau_bengio, search


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 150 rows, of which some come twice."""
    folder = tmp_path_factory.mktemp("finalists")
    rng = np.random.default_rng(5)
    labels = rng.permutation(np.repeat(["a", "b", "c"], [90, 15, 45]))
    X = rng.normal(size=(150, 10)).astype(np.float32)
    X[:, 0] += np.unique(labels, return_inverse=True)[1]
    np.save(folder / "x.npy", X)
    lines = ["id,label,group", *(f"{i},{label},{i // 2}" for i, label in enumerate(labels))]
    (folder / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    make = ["import", "--table", str(folder / "t.csv"), "--text", str(folder / "x.npy")]
    assert main([*make, "--out", str(folder / "s.h5")]) == 0
    return folder / "s.h5"


def _tuned(store: Path, out: Path, *words: str) -> dict:
    """Run ``tune`` and return its metrics."""
    base = ["tune", "--features", str(store), "--heads", "ridge", "--trials", "8", "--study", "r"]
    assert main([*base, "--out", str(out), *words]) == 0
    return json.loads((out / "r" / "metrics.json").read_text(encoding="utf-8"))


def test_tune_repeats_its_finalists_and_compares_them_with_the_winner(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five trials, two repeats of five folds; differences are to the winner; the table is printed."""
    monkeypatch.setattr("pipelines.finalists._TOLD_EVERY", 0.0)
    metrics = _tuned(store, tmp_path, "--repeats", "2")
    finalists = metrics["finalists"]
    assert len(finalists) in (5, 6)  # the default comes besides, if it is not among the best five
    assert finalists[0]["number"] == metrics["winner"]["number"]
    assert finalists[0]["configuration"]["parameters"] == metrics["winner"]["parameters"]
    scores = np.array([entry["scores"] for entry in finalists])
    assert scores.shape == (len(finalists), 2, 5)
    for entry, own in zip(finalists, scores, strict=True):
        expected = nadeau_bengio((own - scores[0]).ravel(), test_share=0.25)
        assert entry["difference"] == pytest.approx(expected["difference"])
        assert entry["p_value"] == pytest.approx(expected["p_value"], abs=0.02)  # folds differ by a row
    assert [entry["mean"] for entry in finalists[1:]] == sorted(
        (entry["mean"] for entry in finalists[1:]), reverse=True
    )
    captured = capsys.readouterr()
    assert "on 2 other splits" in captured.out
    told = f"other splits decide among {len(finalists)} finalists: repeat 2 of 2"
    assert f"{told}, about " in captured.err
    assert re.search(rf"{told}; now \d x ridge, 5 folds", captured.err)
    assert json.loads((tmp_path / "r" / "config.json").read_text(encoding="utf-8"))["repeats"] == 2


def test_other_splits_decide_unless_the_simplest_or_none_are_asked_for(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The highest mean wins; the corrected score and the runner-up come from the same splits."""
    monkeypatch.setattr("pipelines.finalists._TOLD_EVERY", np.inf)
    metrics = _tuned(store, tmp_path / "a", "--repeats", "2")
    assert "; now" not in capsys.readouterr().err.partition("other splits decide among")[2]
    means = [entry["mean"] for entry in metrics["finalists"]]
    assert metrics["chosen_on"] == "other splits"
    assert means == sorted(means, reverse=True)
    second = metrics["finalists"][1]
    assert metrics["runner_up"]["number"] == second["number"]
    assert metrics["runner_up"]["difference"] == -second["difference"] >= 0
    low, high = metrics["corrected"]["macro_f1"]["ci95"]
    assert low < metrics["corrected"]["macro_f1"]["mean"] < high
    alone = _tuned(store, tmp_path / "b", "--repeats", "0")
    assert (alone["chosen_on"], alone["finalists"]) == ("search split", [])
    assert alone["corrected"] != metrics["corrected"]
    simplest = _tuned(store, tmp_path / "c", "--repeats", "2", "--select", "simplest")
    assert simplest["chosen_on"] == "search split"
    assert simplest["corrected"] == alone["corrected"]
    assert "other splits compare" in capsys.readouterr().err
    assert simplest["finalists"][0]["number"] == simplest["winner"]["number"]


def test_finalists_that_cannot_be_repeated_leave_the_search_as_it_is(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class too small for SMOTE on another split costs the comparison, not the run."""

    def refuse(*_: object, **__: object) -> None:
        raise RepeatError("SMOTE needs 2 rows of each class")

    monkeypatch.setattr(EvaluationOnSplits, "__call__", refuse)
    metrics = _tuned(store, tmp_path, "--repeats", "1")
    assert not metrics.get("finalists")
    assert "not compared on other splits: SMOTE needs 2 rows" in capsys.readouterr().err


def test_a_fault_of_our_own_is_not_taken_for_a_split_that_cannot_be_scored(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any other ValueError ends the command, and is not one of many notes."""

    def torn(*_: object, **__: object) -> None:
        raise ValueError("operands could not be broadcast together")

    monkeypatch.setattr(EvaluationOnSplits, "__call__", torn)
    base = ["tune", "--features", str(store), "--heads", "ridge", "--trials", "8", "--study", "r"]
    assert main([*base, "--out", str(tmp_path), "--repeats", "1"]) == 1
    assert "could not be broadcast" in capsys.readouterr().err


def test_small_searches_repeat_nothing_unless_asked(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Eight trials have no finalists by default, and settings without the option keep the run's name."""
    assert _tuned(store, tmp_path)["finalists"] == []
    assert "other splits" not in capsys.readouterr().out
    assert "repeats" not in json.loads((tmp_path / "r" / "config.json").read_text(encoding="utf-8"))


def test_repeats_of_follows_length_size_and_request_only() -> None:
    """Long searches repeat three times, on large matrices once; what is asked for holds."""
    assert repeats_of(None, n_trials=100, shape=(574, 1664)) == 3
    assert repeats_of(None, n_trials=99, shape=(574, 1664)) == 0
    assert repeats_of(None, n_trials=200, shape=(4000, 1536)) == 1
    assert repeats_of(0, n_trials=200, shape=(574, 1664)) == 0
    assert repeats_of(5, n_trials=1, shape=(100_000, 1536)) == 5
    assert repeats_of(None, n_trials=200, shape=(574, 1664), decides=False) == 0


def test_repeated_finalists_keep_to_the_deadline_and_to_the_groups(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Past the deadline nothing is begun, and it is said; in time, splits keep groups together."""
    matrix = read_matrix((str(store),))
    y, groups = matrix.labels[matrix.training], matrix.groups[matrix.training]
    folds = make_folds(y, groups=groups)
    found = search(
        matrix.X[matrix.training], y, heads=["ridge"], n_trials=3, folds=folds, n_classes=3, random_state=1
    )
    late = repeated_finalists(found, matrix, n_repeats=2, random_state=0, deadline=time.perf_counter() - 1)
    assert late == (found, None)
    assert "--timeout leaves no time" in capsys.readouterr().err
    _, finalists = repeated_finalists(found, matrix, n_repeats=1, random_state=0, deadline=None)
    (first, *_) = finalist_entries(finalists, found)
    split_seed, model_seed = np.random.SeedSequence([0, 0]).generate_state(2).tolist()
    folds = make_folds(y, groups=groups, random_state=split_seed)
    best = found.trials[found.best]
    plain = evaluate(
        best.configuration,
        matrix.X[matrix.training],
        y,
        folds,
        blocks=matrix.blocks,
        n_classes=3,
        random_state=model_seed,
    )
    assert first["scores"] == [pytest.approx(plain.fold_scores)]
    assert finalist_rows([first])[0][-3:] == ["winner", "", ""]


def test_the_same_seed_and_store_give_the_same_numbers_twice(store: Path, tmp_path: Path) -> None:
    """Winner, scores, intervals and finalists of three heads are equal to the last digit in two runs."""
    words = ["--heads", "mlp,logreg,lightgbm", "--trials", "9", "--repeats", "1"]
    first, again = (_tuned(store, tmp_path / name, *words) for name in ("a", "b"))
    for metrics in (first, again):
        del metrics["seconds"]
    assert first == again


def test_a_negative_number_of_repeats_is_a_usage_error(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, with the value found."""
    words = ["tune", "--features", str(store), "--out", str(tmp_path), "--repeats", "-1"]
    assert main(words) == 2
    assert "repeats -1 must not be negative" in capsys.readouterr().err
