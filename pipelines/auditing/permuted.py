"""Permutation check: with labels that mean nothing, a score above chance is a leak."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pipelines.auditing.findings import Finding, Tested
from pipelines.auditing.rows import AuditRows
from tuning import Fold, centred, unit_rows

CHECK = "score above chance on permuted labels"
_DRAWS = 20
_LEAST_EXCESS = 0.01
_MOST_ROWS = 20_000

Predict = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def permutation_test(
    X: np.ndarray,
    y: np.ndarray,
    units: np.ndarray,
    folds: Sequence[Fold],
    *,
    random_state: int,
    predict: Callable[[Fold], Predict] | None = None,
    draws: int = _DRAWS,
) -> Tested:
    """Score a classifier on labels that were dealt out anew, 20 times.

    Rows that are the same thing get the same new label, as copies of one sample have one label. A
    classifier that beats chance has then seen the copy, or the row itself, or its label.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), float32
    y : ndarray of shape (n_samples,), int
        Class codes.
    units : ndarray of shape (n_samples,), int
        Rows that are the same thing: exact and near duplicates.
    folds : sequence of (train, valid)
        The folds on trial.
    random_state : int
    predict : callable, optional
        ``predict(fold)(X, y, fold's training rows) -> codes of the fold's validation rows``; the default is
        the nearest training row, which copies a leaked label best.
    draws : int

    Returns
    -------
    Tested
        The statistic is accuracy minus what independent labels of the same shares would give; the p-value
        is that of a one-sided t-test over the draws.
    """
    from scipy.stats import ttest_1samp

    rng = np.random.default_rng(random_state)
    first, unit = np.unique(units, return_index=True, return_inverse=True)[1:]
    predictors = [(predict or _nearest_row(X))(fold) for fold in folds]
    scored = np.concatenate([valid for _, valid in folds])
    k = int(y.max()) + 1
    excess = np.empty(draws)
    for draw in range(draws):
        dealt = rng.permutation(y[first])[unit]
        predicted = np.empty(len(y), dtype=np.int64)
        for fold, ask in zip(folds, predictors, strict=True):
            predicted[fold[1]] = ask(X, dealt, fold[0])
        guess, truth = predicted[scored], dealt[scored]
        expected = np.bincount(guess, minlength=k) @ np.bincount(truth, minlength=k) / len(scored) ** 2
        excess[draw] = float((guess == truth).mean()) - expected
    p = float(ttest_1samp(excess, 0.0, alternative="greater").pvalue) if np.ptp(excess) else 1.0
    error = float(excess.std(ddof=1) / np.sqrt(draws))
    detail = (
        f"accuracy above chance {excess.mean():+.4f} (95 % {excess.mean() - 2 * error:+.4f} to "
        f"{excess.mean() + 2 * error:+.4f}) over {draws} draws"
    )
    finding = None
    if excess.mean() >= _LEAST_EXCESS:
        finding = Finding(
            CHECK,
            "high",
            len(scored),
            detail,
            (),
            "Copies of a row, or its label, reach the rows it is predicted from: see the duplicates above, "
            "and keep them in one fold (--duplicates near).",
        )
    return Tested(CHECK, p, detail, finding)


def _nearest_row(X: np.ndarray) -> Callable[[Fold], Predict]:
    U = unit_rows(centred(X))

    def of_fold(fold: Fold) -> Predict:
        train, valid = fold
        nearest = np.concatenate(
            [
                (U[valid[start : start + 512]] @ U[train].T).argmax(axis=1)
                for start in range(0, len(valid), 512)
            ]
        )
        return lambda _X, y, rows: y[rows[nearest]]

    return of_fold


def permuted_rows_test(
    rows: AuditRows, folds: Callable[[np.ndarray], Sequence[Fold]], *, random_state: int
) -> list[Tested]:
    """Run the permutation test on the labelled rows that have a vector; none without vectors.

    Parameters
    ----------
    rows : AuditRows
    folds : callable
        Row numbers -> folds over them; none if they cannot be made.
    random_state : int
    """
    if rows.X is None:
        return []
    kept = rows.labelled[np.isfinite(rows.X[rows.labelled]).all(axis=1)]
    if len(kept) > _MOST_ROWS:
        kept = np.sort(np.random.default_rng(random_state).choice(kept, _MOST_ROWS, replace=False))
    if len(kept) < 40:
        return []
    y = np.unique(rows.labels[kept], return_inverse=True)[1]
    made = folds(kept)
    units = rows.related.groups[kept]
    return [permutation_test(rows.X[kept], y, units, made, random_state=random_state)] if made else []
