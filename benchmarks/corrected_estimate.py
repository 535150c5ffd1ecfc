"""Measure how honest the corrected estimate is: against rows that no search has seen.

    python benchmarks/corrected_estimate.py [--draws 50] [--rows 600] [--columns 64] [...]

One draw: rows of three classes at 6 : 1 : 3 with normal noise around class means, a search over 100
configurations by five-fold macro-F1, the chosen one fitted again on all rows, and its true score on 20,000
further rows. A configuration is a least-squares classifier with ridge penalty on a random half of the
columns, with its own strength and class weights. The design is chosen so that the correction matters: many
nearly equal configurations that err on different rows, so that luck decides and the raw best is too good. It
says nothing about how optimistic the raw best of a real search is. ``--permuted`` shuffles the labels: then
chance is the truth.

Printed: mean and standard error over draws of (estimate - true score) for the raw best and for `bbc_cv`; how
often the 95 % interval holds the true score; and by how much models of four fifths of the rows are worse than
those of all rows, which pulls every cross-validated estimate down.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from tuning import bbc_cv, confusion, macro_f1, make_folds

_SHARES = np.array([0.6, 0.1, 0.3])


@dataclass(frozen=True)
class Classifier:
    """A least-squares classifier on some columns; ``balance`` is the power of the class weights."""

    columns: np.ndarray
    penalty: float
    balance: float


@dataclass(frozen=True)
class Draw:
    """Scores of one search: macro-F1 in [0, 1].

    ``raw`` is the best cross-validated score, ``corrected`` and ``ci95`` are from `bbc_cv`, ``true`` is the
    chosen classifier's on untouched rows, ``of_folds`` the mean there of its five models.
    """

    raw: float
    corrected: float
    ci95: list[float]
    true: float
    of_folds: float


def main() -> None:
    """Run the draws and print what they say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--draws", type=int, default=50)
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--columns", type=int, default=64)
    parser.add_argument(
        "--signal", type=float, default=0.7, help="length of a class mean, in noise deviations"
    )
    parser.add_argument("--permuted", action="store_true", help="labels that mean nothing")
    arguments = parser.parse_args()
    if arguments.draws < 2:
        parser.error(f"--draws is {arguments.draws}, allowed is 2 or more")
    began = time.perf_counter()
    draws = []
    for seed in range(arguments.draws):
        draws.append(
            draw(
                seed,
                arguments.rows,
                arguments.columns,
                signal=arguments.signal,
                permuted=arguments.permuted,
            )
        )
        if (seed + 1) % 10 == 0:
            sys.stderr.write(f"{seed + 1} draws, {time.perf_counter() - began:.0f} s\n")
    title = (
        f"{arguments.rows} rows x {arguments.columns} columns, signal {arguments.signal}"
        f"{', permuted labels' if arguments.permuted else ''}: {arguments.draws} draws"
    )
    sys.stdout.write("\n".join([title, *summary(draws), ""]))


def summary(draws: list[Draw]) -> list[str]:
    """Say what the draws say, a line each."""
    true = np.array([one.true for one in draws])
    low, high = np.array([one.ci95 for one in draws]).T
    held = ((low <= true) & (true <= high)).mean()
    return [
        f"true score           {true.mean():.3f}",
        f"raw best - true      {_with_error(np.array([one.raw for one in draws]) - true)}",
        f"corrected - true     {_with_error(np.array([one.corrected for one in draws]) - true)}",
        f"fold models - true   {_with_error(np.array([one.of_folds for one in draws]) - true)}",
        f"interval holds true  {held:.0%} (mean width {(high - low).mean():.3f})",
    ]


def _with_error(values: np.ndarray) -> str:
    """Mean and standard error."""
    return f"{values.mean():+.4f} +- {values.std(ddof=1) / np.sqrt(len(values)):.4f}"


def draw(
    seed: int,
    n_rows: int,
    n_columns: int,
    *,
    signal: float,
    n_classifiers: int = 100,
    n_test: int = 20_000,
    n_bootstrap: int = 1000,
    permuted: bool = False,
) -> Draw:
    """Make a data set, search it, and score the choice on untouched rows."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(len(_SHARES), n_columns)) * signal / np.sqrt(n_columns)
    X, y = _rows(rng, n_rows, means)
    X_test, y_test = _rows(rng, n_test, means)
    if permuted:
        y, y_test = rng.permutation(y), rng.permutation(y_test)
    classifiers = [_classifier(rng, n_columns) for _ in range(n_classifiers)]
    folds = make_folds(y, random_state=seed)
    predictions = np.empty((n_classifiers, n_rows), dtype=np.int64)
    for train, valid in folds:
        predictions[:, valid] = fit_predict(classifiers, X[train], y[train], X[valid])
    by_fold = [macro_f1(confusion(y[valid], predictions[:, valid], 3)) for _, valid in folds]
    scores = np.mean(by_fold, axis=0)
    chosen = [classifiers[int(scores.argmax())]]

    def tested(rows: np.ndarray) -> float:
        return float(macro_f1(confusion(y_test, fit_predict(chosen, X[rows], y[rows], X_test)[0], 3)))

    estimate = bbc_cv(predictions, y, n_classes=3, n_bootstrap=n_bootstrap, random_state=seed)["macro_f1"]
    return Draw(
        raw=float(scores.max()),
        corrected=estimate["mean"],
        ci95=estimate["ci95"],
        true=tested(np.arange(n_rows)),
        of_folds=float(np.mean([tested(train) for train, _ in folds])),
    )


def _rows(rng: np.random.Generator, n: int, means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw n rows around the class means, with class counts exactly in their shares."""
    y = rng.permutation(np.repeat(np.arange(len(_SHARES)), np.round(n * _SHARES).astype(int)))
    return means[y] + rng.normal(size=(len(y), means.shape[1])), y


def _classifier(rng: np.random.Generator, n_columns: int) -> Classifier:
    """Draw one from the search space."""
    columns = np.sort(rng.choice(n_columns, n_columns // 2, replace=False))
    return Classifier(columns, penalty=10.0 ** rng.uniform(0, 3), balance=float(rng.choice([0.5, 1.0])))


def fit_predict(classifiers: list[Classifier], X: np.ndarray, y: np.ndarray, X_new: np.ndarray) -> np.ndarray:
    """Fit every classifier on the same rows and predict others: codes of shape (classifiers, rows)."""
    inputs, targets = np.c_[X, np.ones(len(X))], np.eye(len(_SHARES))[y]
    moments = {}
    for balance in {one.balance for one in classifiers}:
        weights = (np.bincount(y, minlength=len(_SHARES)) ** -balance)[y]
        weighted = inputs * (weights / weights.mean())[:, None]
        moments[balance] = weighted.T @ inputs, weighted.T @ targets
    new = np.c_[X_new, np.ones(len(X_new))]
    predictions = np.empty((len(classifiers), len(new)), dtype=np.int64)
    for i, one in enumerate(classifiers):
        gram, cross = moments[one.balance]
        used = np.r_[one.columns, X.shape[1]]
        penalty = np.diag(np.r_[np.full(len(one.columns), one.penalty), 0.0])  # none on the intercept
        weights = np.linalg.solve(gram[np.ix_(used, used)] + penalty, cross[used])
        predictions[i] = (new[:, used] @ weights).argmax(axis=1)
    return predictions


if __name__ == "__main__":
    main()
