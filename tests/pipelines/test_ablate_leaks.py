"""``ablate --leaky``: what the leaks of the reports seem to add, beside the honest score."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.ablation.feature_sets import named_specs, read_feature_sets
from pipelines.ablation.fitted_rows import RowMemory
from pipelines.ablation.fitting import fit_rows
from pipelines.ablation.grid import Candidate
from pipelines.ablation.leaks import (
    AUGMENTED_ERRORS,
    HONEST,
    HONEST_SMOTE,
    MERGED,
    SMOTE_FIRST,
    leaky_table,
)
from pipelines.cli import main
from tests.pipelines.ablation_stores import CLASSES, labels_of, make_store, noisy
from tuning import default_configuration

N, WIDTH = 300, 60


def _store(folder: Path, *, views: int, seed: int = 0) -> Path:
    """Write a store whose labels were permuted after its vectors were made."""
    codes = np.random.default_rng(seed + 100).permutation(labels_of(N, seed=seed))
    x = noisy(labels_of(N, seed=seed), 2.0, width=WIDTH, seed=seed)
    jitter = np.random.default_rng(seed + 200).normal(scale=0.1, size=(views, N, WIDTH))
    stored = {"text": (x + jitter).astype(np.float32)} if views else None
    return make_store(folder / f"{views}-{seed}.h5", "toy", {"text": x}, codes, views=stored)


def _leaks(store: Path, folder: Path, head: str = "logreg", seed: int = 0) -> dict[str, dict]:
    sets = read_feature_sets(named_specs([str(store)], []))
    row = Candidate("all", "", "all", tuple(sets.samples.blocks), default_configuration(head))
    folds = sets.folds(5, seed)
    memory = RowMemory(folder)
    fitted = fit_rows([row], sets, folds, seed=seed, memory=memory, on_row=lambda *_: None)[row.key]
    return {line["practice"]: line for line in leaky_table(row, fitted.oof, sets, folds, seed=seed)}


@pytest.mark.parametrize("head", ["logreg", "knn"])
def test_permuted_labels_leave_the_honest_rows_at_chance_and_lift_the_leaky_ones(
    tmp_path: Path, head: str
) -> None:
    """There is nothing to learn, so whatever is above chance is the leak."""
    recalls: dict[str, list[float]] = {}
    for seed in range(4):
        (tmp_path / str(seed)).mkdir()
        found = _leaks(_store(tmp_path, views=2, seed=seed), tmp_path / str(seed), head, seed)
        assert list(found) == [HONEST, HONEST_SMOTE, MERGED, SMOTE_FIRST, AUGMENTED_ERRORS]
        for name, line in found.items():
            recalls.setdefault(name, []).append(line["cv"]["balanced_accuracy"]["mean"])
    chance = 1 / len(CLASSES)
    for practice in (HONEST, HONEST_SMOTE):
        assert abs(np.mean(recalls[practice]) - chance) < 0.05, practice
    for practice in (MERGED, SMOTE_FIRST, AUGMENTED_ERRORS):
        assert np.mean(recalls[practice]) > chance + 0.12, practice


def test_leaky_rows_are_scored_on_what_the_practice_would_score(tmp_path: Path) -> None:
    """SMOTE before the split scores synthetic rows too; the others score every real row once."""
    found = _leaks(_store(tmp_path, views=1), tmp_path)
    largest = np.bincount(labels_of(N)).max()
    assert {name: line["n_scored"] for name, line in found.items()} == {
        HONEST: N,
        HONEST_SMOTE: N,
        MERGED: N,
        SMOTE_FIRST: len(CLASSES) * largest,
        AUGMENTED_ERRORS: N,
    }
    assert [line["leaky"] for line in found.values()] == [False, False, True, True, True]
    assert found[SMOTE_FIRST]["honest"] == HONEST_SMOTE


def test_leaks_without_views_say_what_is_missing(tmp_path: Path) -> None:
    """The practice stays in the table, with the option that would let it run."""
    line = _leaks(_store(tmp_path, views=0), tmp_path)[AUGMENTED_ERRORS]
    assert line["cv"] is None
    assert "--views 2" in line["why"]


def test_leaks_draw_related_rows_together_as_the_table_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With every text there four times the honest row has the intervals of the table's own row."""
    codes = np.repeat(labels_of(N // 4), 4)
    texts = tuple(f"number {row // 4} of all" for row in range(len(codes)))
    x = np.repeat(noisy(codes[::4], 1.0, width=8), 4, axis=0)
    views = np.stack([x + np.float32(0.1)])
    store = make_store(tmp_path / "r.h5", "toy", {"text": x}, codes, texts=texts, views={"text": views})
    words = ["--use-views", "none", "--folds", "3", "--duplicates", "exact", "--out", str(tmp_path)]
    capsys.readouterr()
    assert main(["ablate", "--features", str(store), *words, "--leaky", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    honest, *others = found["leaks"]
    assert honest["practice"] == HONEST
    assert honest["cv"] == found["rows"][0]["cv"]
    widths = {line["practice"]: np.ptp(line["cv"]["accuracy"]["ci95"]) for line in [honest, *others]}
    # Synthetic rows are related to nobody: only that practice has the interval of four times as many rows.
    assert widths[SMOTE_FIRST] < 0.75 * widths[HONEST]
    assert widths[HONEST_SMOTE] > 0.75 * widths[HONEST]


def test_ablate_leaky_writes_and_prints_the_lesson(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """leaks.csv, .md and .tex; the run has a name of its own, and its replay is the same run."""
    words = ["ablate", "--features", str(_store(tmp_path, views=0)), "--folds", "3", "--out", str(tmp_path)]
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["leaks"] == []
    assert main([*words, "--leaky"]) == 0
    shown = capsys.readouterr().out
    assert "LEAKY: SMOTE before the split" in shown
    assert "only the honest rows are results" in shown
    run = Path(shown.strip().splitlines()[-1])
    assert run != Path(plain["run"])
    with (run / "leaks.csv").open(encoding="utf-8", newline="") as file:
        lines = {line["practice"]: line for line in csv.DictReader(file)}
    assert float(lines[MERGED]["seems better by"]) > 0.2
    assert {"leaks.md", "leaks.tex"} <= {path.name for path in run.iterdir()}
    assert main(["ablate", "--config", str(run / "config.json"), "--out", str(tmp_path)]) == 0
    assert "Nothing to do" in capsys.readouterr().err
    assert main(["ablate", "--preset", "clip-fusions", "--leaky"]) == 2
    assert "pass --leaky without it" in capsys.readouterr().err
    viewed = ["--features", str(_store(tmp_path, views=1)), "--use-views", "1", "--leaky"]
    assert main(["ablate", *viewed, "--out", str(tmp_path)]) == 2
    assert "needs a reference row without views" in capsys.readouterr().err
