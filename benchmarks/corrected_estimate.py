"""Measure how honest the corrected estimate is: against rows that no search has seen.

    python benchmarks/corrected_estimate.py [--draws 50] [--rows 600] [--columns 32] [--trials 48] [...]
    python benchmarks/corrected_estimate.py --permuted --resampler all --draws 20 --rows 300 --trials 12 \
        --heads mlp,ridge
    python benchmarks/corrected_estimate.py --repeats 3
    python benchmarks/corrected_estimate.py --through classifiers --columns 64 --signal 0.7

One draw: rows of three classes at 6 : 1 : 3 with normal noise around class means, `tuning.search` by
five-fold macro-F1, the chosen one fitted again on all rows, and its true score on 20,000 further rows.
``--repeats`` lets so many other splits decide among the best five, as ``tune`` does after 100 trials or more.
``--permuted`` shuffles the labels: then chance is the truth. ``--resampler`` lets every configuration
resample.

``--through classifiers`` replaces the search by 100 least-squares classifiers with ridge penalty, each on a
random half of the columns and with its own class weights. That design is chosen so that the correction
matters: many nearly equal configurations that err on different rows, so that luck decides and the raw best is
too good. It says nothing about how optimistic the raw best of a real search is.

Printed: mean and standard error over draws of (estimate - true score) for the raw best and for `bbc_cv`; how
often the 95 % interval holds the true score; and by how much models of four fifths of the rows are worse than
those of all rows, which pulls every cross-validated estimate down.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from scipy.stats import norm

import heads
from pipelines.finalists import repeats_of
from tuning import (
    EarlyDrops,
    Estimate,
    bbc_cv,
    bbc_finalists,
    build_spaces,
    confusion,
    decide_on_splits,
    macro_f1,
    make_folds,
    search,
)

_SHARES = np.array([0.6, 0.1, 0.3])
_HEADS = ("mlp", "logreg", "lightgbm")

# The highest macro-F1 of a guess that does not look at its row: each class as often as it occurs.
CHANCE = 1 / 3


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


@dataclass(frozen=True)
class Rows:
    """Rows to search on, and untouched ones."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


def main() -> None:
    """Run the draws and print what they say."""
    arguments = _arguments()
    resamplers = heads.RESAMPLERS if arguments.resampler == "all" else (arguments.resampler,)
    shape = (arguments.rows, arguments.columns)
    n_repeats = repeats_of(arguments.repeats, n_trials=arguments.trials, shape=shape)
    for resampler in resamplers:
        began, draws = time.process_time(), []
        for seed in range(arguments.draws):
            rows = make_rows(
                seed,
                arguments.rows,
                arguments.columns,
                signal=arguments.signal,
                permuted=arguments.permuted,
            )
            if arguments.through == "classifiers":
                draws.append(draw_classifiers(seed, rows))
            else:
                draws.append(
                    draw_search(
                        seed,
                        rows,
                        names=arguments.heads,
                        n_trials=arguments.trials,
                        resampler=resampler,
                        n_repeats=n_repeats,
                    )
                )
            if (seed + 1) % 10 == 0:
                sys.stderr.write(f"{seed + 1} draws, {time.process_time() - began:.0f} s of processor time\n")
        through = "100 classifiers"
        if arguments.through == "search":
            through = f"{arguments.trials} trials of {','.join(arguments.heads)}"
            through += f", {n_repeats} other splits" if n_repeats else ""
        title = (
            f"{through}, {arguments.rows} rows x {arguments.columns} columns, signal {arguments.signal}"
            f"{', permuted labels' if arguments.permuted else ''}"
            f"{f', resampler {resampler}' if resampler else ''}: {arguments.draws} draws"
        )
        sys.stdout.write("\n".join([title, *summary(draws), "", ""]))
        sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--through", choices=("search", "classifiers"), default="search")
    parser.add_argument("--draws", type=int, default=50)
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--columns", type=int, default=32)
    parser.add_argument("--trials", type=int, default=48)
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--heads", type=lambda text: tuple(text.split(",")), default=_HEADS)
    parser.add_argument("--resampler", choices=("all", *heads.RESAMPLERS))
    parser.add_argument(
        "--signal", type=float, default=1.5, help="length of a class mean, in noise deviations"
    )
    parser.add_argument("--permuted", action="store_true", help="labels that mean nothing")
    arguments = parser.parse_args()
    if arguments.draws < 2:
        parser.error(f"--draws is {arguments.draws}, allowed is 2 or more")
    return arguments


def summary(draws: list[Draw]) -> list[str]:
    """Say what the draws say, a line each."""
    true = np.array([one.true for one in draws])
    corrected = np.array([one.corrected for one in draws])
    low, high = np.array([one.ci95 for one in draws]).T
    chance = (low <= CHANCE).sum()
    # One interval of 95 % in forty lies above the truth by design; Bonferroni's hold for all draws.
    standard_error = (high - low) / (2 * norm.isf(0.025))
    together = (corrected - norm.isf(0.025 / len(draws)) * standard_error <= CHANCE).sum()
    held = ((low <= true) & (true <= high)).mean()
    return [
        f"true score           {true.mean():.3f}",
        f"raw best - true      {_with_error(np.array([one.raw for one in draws]) - true)}",
        f"corrected - true     {_with_error(corrected - true)}",
        f"fold models - true   {_with_error(np.array([one.of_folds for one in draws]) - true)}",
        f"interval holds true  {held:.0%} (mean width {(high - low).mean():.3f}; true below in "
        f"{(true < low).mean():.0%}, above in {(true > high).mean():.0%})",
        f"not above chance     {chance} of {len(draws)} draws (interval reaches down to {CHANCE:.3f}); "
        f"{together} with intervals that hold for all draws",
    ]


def _with_error(values: np.ndarray) -> str:
    """Mean and standard error."""
    return f"{values.mean():+.4f} +- {values.std(ddof=1) / np.sqrt(len(values)):.4f}"


def make_rows(
    seed: int, n_rows: int, n_columns: int, *, signal: float, n_test: int = 20_000, permuted: bool = False
) -> Rows:
    """Draw rows around class means, with class counts exactly in their shares."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(len(_SHARES), n_columns)) * signal / np.sqrt(n_columns)

    def drawn(n: int) -> tuple[np.ndarray, np.ndarray]:
        y = rng.permutation(np.repeat(np.arange(len(_SHARES)), np.round(n * _SHARES).astype(int)))
        X = means[y] + rng.normal(size=(len(y), n_columns))
        return X.astype(np.float32), rng.permutation(y) if permuted else y

    return Rows(*drawn(n_rows), *drawn(n_test))


def draw_search(
    seed: int,
    rows: Rows,
    *,
    names: Sequence[str],
    n_trials: int,
    resampler: str | None = None,
    n_repeats: int = 0,
    n_bootstrap: int = 1000,
) -> Draw:
    """Search, let other splits decide, and score the choice on untouched rows."""
    X, y = rows.X, rows.y
    declared = None if resampler is None else {head: {"balance": resampler} for head in names}
    space = build_spaces(names, n_features=X.shape[1], n_rows=len(y), declared=declared)
    folds = make_folds(y, random_state=seed)
    found = search(
        X,
        y,
        heads=names,
        n_trials=n_trials,
        folds=folds,
        n_classes=len(_SHARES),
        random_state=seed,
        space=space,
    )
    found, finalists = decide_on_splits(found, X, y, n_repeats=n_repeats, random_state=seed)
    best = found.trials[found.best]
    if resampler not in (None, "none") and {t.configuration.resampler for t in found.trials} != {resampler}:
        raise RuntimeError(f"A configuration did not resample with {resampler}.")

    def tested(chosen: np.ndarray) -> float:
        one = best.configuration
        pipeline = heads.make_pipeline(
            one.head, resampler=one.resampler, parameters=dict(one.parameters), random_state=seed
        )
        pipeline.fit(X[chosen], y[chosen])
        codes = pipeline.classes_[pipeline.predict_proba(rows.X_test).argmax(axis=1)]
        return float(macro_f1(confusion(rows.y_test, codes, len(_SHARES))))

    options = {"n_bootstrap": n_bootstrap, "random_state": seed}
    if finalists is not None:
        estimate = bbc_finalists(finalists.choice(found, y), **options)
    else:
        drops = EarlyDrops.of(found.trials, found.dropped)
        estimate = bbc_cv(found.predictions, y, n_classes=len(_SHARES), dropped=drops, **options)
    return _draw(estimate["macro_f1"], y, folds, best.score, tested)


def draw_classifiers(seed: int, rows: Rows, *, n_classifiers: int = 100, n_bootstrap: int = 1000) -> Draw:
    """Try classifiers on halves of the columns, and score the choice on untouched rows."""
    rng = np.random.default_rng([seed, 1])
    classifiers = [_classifier(rng, rows.X.shape[1]) for _ in range(n_classifiers)]
    X, y = rows.X, rows.y
    folds = make_folds(y, random_state=seed)
    predictions = np.empty((n_classifiers, len(y)), dtype=np.int64)
    for train, valid in folds:
        predictions[:, valid] = fit_predict(classifiers, X[train], y[train], X[valid])
    by_fold = [macro_f1(confusion(y[valid], predictions[:, valid], 3)) for _, valid in folds]
    scores = np.mean(by_fold, axis=0)
    chosen = [classifiers[int(scores.argmax())]]

    def tested(trained: np.ndarray) -> float:
        codes = fit_predict(chosen, X[trained], y[trained], rows.X_test)[0]
        return float(macro_f1(confusion(rows.y_test, codes, 3)))

    estimate = bbc_cv(predictions, y, n_classes=3, n_bootstrap=n_bootstrap, random_state=seed)
    return _draw(estimate["macro_f1"], y, folds, float(scores.max()), tested)


def _draw(
    estimate: Estimate,
    y: np.ndarray,
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    raw: float,
    tested: Callable[[np.ndarray], float],
) -> Draw:
    """Put an estimate beside the truth; ``tested`` gives the true score of models of some rows."""
    return Draw(
        raw=raw,
        corrected=estimate["mean"],
        ci95=estimate["ci95"],
        true=tested(np.arange(len(y))),
        of_folds=float(np.mean([tested(train) for train, _ in folds])),
    )


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
