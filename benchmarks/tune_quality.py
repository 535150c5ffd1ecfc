"""Compare what `tuning.search` chooses with what a plain loop chooses, on rows that neither has seen.

    python benchmarks/tune_quality.py [--seeds 5] [--trials 200] [--plain-trials 50] [--rows 1500]
        [--refits 8] [--features FILE[:SPACE] ...] [--sets clusters,products,features]

The plain loop is what a careful user writes: Optuna's TPE over the same space, every trial cross-validated by
fitting each fold's head by itself (`tuning.evaluate`), with as many epochs and rounds as the space asks for.
Both choose by five-fold macro-F1 and the choice is fitted again on all training rows, ``--refits`` times with
other seeds: one fit of an MLP alone differs by more from the next than the two sides. The loop is slow, so it
gets fewer trials; the table says how many.

Sets: ``clusters`` (three classes at 6 : 1 : 3 with normal noise around their means) and ``products`` (two
blocks; the class follows from the product of a hidden number of each, which no linear head can see), both
with an untouched test of 20,000 rows; ``features`` are stores given with ``--features``, of which a third is
held out, another third for each seed, duplicates together.

Printed: per set and seed the macro-F1 of both on the test, mean of the refits, and the mean difference, which
should not be below -0.005.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import optuna

import heads
from benchmarks.corrected_estimate import make_rows
from pipelines.finalists import repeats_of
from tuning import (
    Configuration,
    build_spaces,
    confusion,
    decide_on_splits,
    evaluate,
    macro_f1,
    make_folds,
    search,
)

_HEADS = ("mlp", "logreg", "lightgbm")


@dataclass(frozen=True)
class Problem:
    """Rows to choose on, with their groups, and untouched ones."""

    X: np.ndarray
    y: np.ndarray
    groups: np.ndarray | None
    X_test: np.ndarray
    y_test: np.ndarray
    blocks: dict[str, int] | None
    n_classes: int

    @property
    def task(self) -> dict[str, Any]:
        """What search and evaluation share."""
        return {"blocks": self.blocks, "n_classes": self.n_classes}


def main() -> None:
    """Run both on every set and seed, and print the table."""
    arguments = _arguments()
    makers: dict[str, Callable[[int], Problem]] = {
        "clusters": lambda seed: clusters(seed, arguments.rows),
        "products": lambda seed: products(seed, arguments.rows),
        "features": lambda seed: held_out(seed, arguments.features),
    }
    for name in arguments.sets:
        differences = []
        for seed in range(arguments.seeds):
            problem = makers[name](seed)
            began = time.process_time()
            chosen = searched(problem, seed, arguments.trials)
            middle = time.process_time()
            looped_to = looped(problem, seed, arguments.plain_trials)
            ended = time.process_time()
            ours, plain = (tested(each, problem, seed, arguments.refits) for each in (chosen, looped_to))
            differences.append(ours - plain)
            sys.stdout.write(
                f"{name}, seed {seed}, {len(problem.y)} x {problem.X.shape[1]}: search {ours:.4f} "
                f"({arguments.trials} trials, {middle - began:.0f} s of processor time), plain loop "
                f"{plain:.4f} ({arguments.plain_trials} trials, {ended - middle:.0f} s)\n"
            )
            sys.stdout.flush()
        spread = np.std(differences, ddof=1) / np.sqrt(len(differences)) if len(differences) > 1 else np.nan
        sys.stdout.write(f"{name}: search - plain loop {np.mean(differences):+.4f} +- {spread:.4f}\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--plain-trials", type=int, default=50)
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--refits", type=int, default=8)
    parser.add_argument("--features", action="append", default=[])
    parser.add_argument("--sets", type=lambda text: text.split(","))
    arguments = parser.parse_args()
    usual = ["clusters", "products", *(["features"] if arguments.features else [])]
    arguments.sets = arguments.sets or usual
    unknown = [name for name in arguments.sets if name not in ("clusters", "products", "features")]
    if unknown or ("features" in arguments.sets and not arguments.features):
        parser.error(
            f"--sets {','.join(arguments.sets)}: allowed are clusters, products, and features with --features"
        )
    return arguments


def clusters(seed: int, n_rows: int) -> Problem:
    """Classes around means in 64 columns."""
    rows = make_rows(seed, n_rows, 64, signal=1.5)
    return Problem(rows.X, rows.y, None, rows.X_test, rows.y_test, None, 3)


def products(seed: int, n_rows: int, n_test: int = 20_000) -> Problem:
    """Two blocks of 32 columns; the class is that of the product of a hidden number of each, at 6 : 1 : 3."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(2, n_rows + n_test))
    directions = rng.normal(size=(2, 32)) / np.sqrt(32) * 4
    blocks = [np.outer(hidden[i], directions[i]) + rng.normal(size=(n_rows + n_test, 32)) for i in range(2)]
    product = hidden[0] * hidden[1] + 0.2 * rng.normal(size=n_rows + n_test)
    low, high = np.quantile(product, [0.1, 0.4])
    y = np.where(product < low, 1, np.where(product < high, 2, 0))
    X = np.concatenate(blocks, axis=1).astype(np.float32)
    test = slice(n_rows, None)
    return Problem(X[:n_rows], y[:n_rows], None, X[test], y[test], {"text": 32, "image": 32}, 3)


def held_out(seed: int, features: list[str]) -> Problem:
    """The labelled rows of stores, a third of them held out; related rows on one side."""
    from pipelines.matrices import read_matrix

    matrix = read_matrix(tuple(features))
    X, y, groups = (part[matrix.training] for part in (matrix.X, matrix.labels, matrix.groups))
    train, test = make_folds(y, n_folds=3, groups=groups, random_state=seed)[0]
    return Problem(
        X[train], y[train], groups[train], X[test], y[test], dict(matrix.blocks), len(matrix.class_names)
    )


def searched(problem: Problem, seed: int, n_trials: int) -> Configuration:
    """Return what ``tune`` chooses: the search, then other splits among its best few."""
    folds = make_folds(problem.y, groups=problem.groups, random_state=seed)
    found = search(
        problem.X,
        problem.y,
        heads=_HEADS,
        n_trials=n_trials,
        folds=folds,
        random_state=seed,
        **problem.task,
    )
    n_repeats = repeats_of(None, n_trials=n_trials, shape=problem.X.shape)
    found, _ = decide_on_splits(
        found,
        problem.X,
        problem.y,
        blocks=problem.blocks,
        groups=problem.groups,
        n_repeats=n_repeats,
        random_state=seed,
    )
    return found.trials[found.best].configuration


def looped(problem: Problem, seed: int, n_trials: int) -> Configuration:
    """Return what Optuna's TPE chooses when every fold of every trial is fitted by itself."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folds = make_folds(problem.y, groups=problem.groups, random_state=seed)
    space = build_spaces(_HEADS, blocks=problem.blocks, n_features=problem.X.shape[1], n_rows=len(problem.y))
    asked: dict[int, Configuration] = {}

    def objective(trial: optuna.Trial) -> float:
        asked[trial.number] = space.suggest(trial)
        found = evaluate(asked[trial.number], problem.X, problem.y, folds, random_state=seed, **problem.task)
        return found.score

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed), direction="maximize")
    study.optimize(objective, n_trials=n_trials, catch=(ValueError,))
    return asked[study.best_trial.number]


def tested(configuration: Configuration, problem: Problem, seed: int, n_refits: int) -> float:
    """Fit on all rows, with several seeds; return the mean macro-F1 of the untouched ones."""
    scores = []
    for refit in range(n_refits):
        pipeline = heads.make_pipeline(
            configuration.head,
            blocks=problem.blocks,
            resampler=configuration.resampler,
            parameters=dict(configuration.parameters),
            random_state=seed + refit,
        )
        pipeline.fit(problem.X, problem.y)
        codes = pipeline.classes_[pipeline.predict_proba(problem.X_test).argmax(axis=1)]
        scores.append(macro_f1(confusion(problem.y_test, codes, problem.n_classes)))
    return float(np.mean(scores))


if __name__ == "__main__":
    main()
