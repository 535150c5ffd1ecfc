"""How sure a score or a difference is, from stored out-of-fold predictions and without fitting anything.

Drawing n rows with replacement from rows that fall into few cells (true class x predicted class) is a
multinomial draw of the cell counts. So these bootstraps are exact without touching a row, and cost
milliseconds. Related rows are drawn as groups, see `tuning.bootstrap`.

References
----------
Efron, Tibshirani (1993). An Introduction to the Bootstrap, chapters 13 and 16.
Davison, Hinkley (1997). Bootstrap Methods and their Application, section 4.2 (the +1 in bootstrap p-values).
McNemar (1947). Note on the sampling error of the difference between correlated proportions. Psychometrika 12.
"""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike

from tuning.bootstrap import checked_groups, redrawn_cells
from tuning.folds import Fold
from tuning.scores import SCORES, Floats, Ints, class_codes, score, score_name


class Estimate(TypedDict):
    """A score with its 95 % interval, ready for JSON: ``{"mean": float, "ci95": [low, high]}``."""

    mean: float
    ci95: list[float]


class Difference(TypedDict):
    """How much better one configuration is than another, with its 95 % interval and two-sided p-value."""

    difference: float
    ci95: list[float]
    p_value: float


def percentile_interval(values: Floats) -> list[float]:
    """Return the 2.5 and 97.5 percentiles of ``values``, shape (n_bootstrap,)."""
    low, high = np.percentile(values, [2.5, 97.5])
    return [float(low), float(high)]


def difference_of(observed: float, draws: Floats) -> Difference:
    """Return a difference with the interval and the p-value that bootstrap draws of it give.

    Parameters
    ----------
    observed : float
    draws : ndarray of shape (n_bootstrap,), float64

    Returns
    -------
    Difference
        ``p_value`` is twice the smaller share of draws on either side of 0, counting one more draw than were
        made on each side, so it is never 0 (Davison and Hinkley 1997).
    """
    smaller_side = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    return Difference(
        difference=observed,
        ci95=percentile_interval(draws),
        p_value=min(1.0, 2 * (smaller_side + 1) / (len(draws) + 1)),
    )


def check_bootstrap(n_bootstrap: int) -> None:
    """Refuse a bootstrap without draws (ValueError)."""
    if n_bootstrap < 1:
        raise ValueError(f"'n_bootstrap' is {n_bootstrap}, allowed is 1 or more. The default is 1000.")


def _most_probable(oof: ArrayLike, n_samples: int, n_classes: int, *, name: str) -> Ints:
    """Class codes of a checked table of probabilities, shape (n_samples,); the lowest code wins a tie."""
    table = np.asarray(oof)
    if table.shape != (n_samples, n_classes):
        raise ValueError(
            f"'{name}' has shape {table.shape}, allowed is ({n_samples}, {n_classes}): a row per label and a "
            "probability per class. Pass the out-of-fold probabilities of a trial on the rows of 'y'."
        )
    bad = np.flatnonzero(~np.isfinite(table).all(axis=1))
    if bad.size:
        raise ValueError(
            f"'{name}' is not finite in row {bad[0]} ({bad.size} such rows), allowed are probabilities. "
            "Pass only rows that were in a validation fold."
        )
    classes: Ints = table.argmax(axis=1)
    return classes


def _redrawn_by_part(
    cells: Ints,
    codes: Ints,
    parts: Sequence[Ints],
    groups: Ints | None,
    *,
    n_cells: int,
    n_bootstrap: int,
    random_state: int,
) -> tuple[Ints, Ints]:
    """Count cells per part, shape (parts, n_cells), and in draws of each, (n_bootstrap, parts, n_cells)."""
    generator = np.random.default_rng(random_state)
    counted = np.stack([np.bincount(cells[rows], minlength=n_cells) for rows in parts])
    drawn = [
        redrawn_cells(
            cells[rows],
            codes[rows],
            None if groups is None else groups[rows],
            n_cells=n_cells,
            n_bootstrap=n_bootstrap,
            generator=generator,
        )
        for rows in parts
    ]
    return counted, np.stack(drawn, axis=1)


def cv_summary(
    oof: ArrayLike,
    y: ArrayLike,
    folds: Sequence[Fold],
    *,
    n_classes: int,
    groups: ArrayLike | None = None,
    n_bootstrap: int = 1000,
    random_state: int = 0,
) -> dict[str, Estimate]:
    """Every score of one configuration: the mean over folds and its interval.

    Parameters
    ----------
    oof : array-like of shape (n_samples, n_classes), float
        Out-of-fold probabilities.
    y : array-like of shape (n_samples,), integer
        Class codes.
    folds : sequence of (train, valid)
    n_classes : int
    groups : array-like of shape (n_samples,) or None
        Related rows have equal values and are drawn together; see `tuning.bootstrap`.
    n_bootstrap, random_state : int

    Returns
    -------
    dict of str to Estimate
        A key for each of ``SCORES``. ``mean`` is the mean of the per-fold scores; ``ci95`` is the percentile
        interval of that statistic over bootstraps of the rows (or groups) within each (fold, true class).

    Raises
    ------
    ValueError
        When the shapes disagree, a probability is not finite, a code is not allowed, or a group lies in two
        folds.

    Notes
    -----
    The interval holds the fitted models fixed: it covers the luck of the validation rows, not of the training
    rows. For the winner of a search it says nothing about the luck of winning; see `tuning.bbc_cv`.
    """
    check_bootstrap(n_bootstrap)
    codes = class_codes(y, n_classes)
    predictions = _most_probable(oof, len(codes), n_classes, name="oof")
    numbers = checked_groups(groups, len(codes), folds)
    counted, redrawn = _redrawn_by_part(
        codes * n_classes + predictions,
        codes,
        [valid for _, valid in folds],
        numbers,
        n_cells=n_classes**2,
        n_bootstrap=n_bootstrap,
        random_state=random_state,
    )
    per_fold = counted.reshape(len(folds), n_classes, n_classes)
    drawn = redrawn.reshape(n_bootstrap, *per_fold.shape)
    return {
        name: Estimate(
            mean=float(score(per_fold, name).mean()),
            ci95=percentile_interval(score(drawn, name).mean(axis=-1)),
        )
        for name in SCORES
    }


def paired_difference(
    oof_a: ArrayLike,
    oof_b: ArrayLike,
    y: ArrayLike,
    *,
    n_classes: int,
    metric: str = "macro-f1",
    folds: Sequence[Fold] | None = None,
    groups: ArrayLike | None = None,
    n_bootstrap: int = 1000,
    random_state: int = 0,
) -> Difference:
    """Score of A minus score of B on the same rows.

    Parameters
    ----------
    oof_a, oof_b : array-like of shape (n_samples, n_classes), float
        Out-of-fold probabilities of two configurations.
    y : array-like of shape (n_samples,), integer
        Class codes.
    n_classes : int
    metric : str
        A score name.
    folds : sequence of (train, valid), optional
        Given, the score is the mean over folds, as in `cv_summary` and the search; else all rows are pooled.
    groups : array-like of shape (n_samples,) or None
        Related rows have equal values and are drawn together; see `tuning.bootstrap`.
    n_bootstrap, random_state : int

    Returns
    -------
    Difference
        ``ci95`` is the percentile interval over bootstraps of the rows (or groups) within each fold and true
        class, in which a row brings both its predictions. ``p_value`` is twice the smaller share of draws on
        either side of 0, counting one more draw than were made on each side, so it is never 0 (Davison and
        Hinkley 1997).

    Raises
    ------
    ValueError
        When the shapes disagree, a probability is not finite, a code or the metric is not allowed, or a group
        lies in two folds.
    """
    check_bootstrap(n_bootstrap)
    name = score_name(metric)
    codes = class_codes(y, n_classes)
    a = _most_probable(oof_a, len(codes), n_classes, name="oof_a")
    b = _most_probable(oof_b, len(codes), n_classes, name="oof_b")
    parts = [np.arange(len(codes))] if folds is None else [valid for _, valid in folds]
    observed, draws = paired_draws(
        a,
        b,
        codes,
        parts,
        groups=checked_groups(groups, len(codes), folds or ()),
        n_classes=n_classes,
        metric=name,
        n_bootstrap=n_bootstrap,
        random_state=random_state,
    )
    return difference_of(observed, draws)


def paired_draws(
    a: Ints,
    b: Ints,
    codes: Ints,
    parts: Sequence[Ints],
    *,
    groups: Ints | None = None,
    n_classes: int,
    metric: str,
    n_bootstrap: int,
    random_state: int,
) -> tuple[float, Floats]:
    """Return score of A minus score of B, and that of bootstrap samples of the rows.

    Parameters
    ----------
    a, b, codes : ndarray of shape (n_samples,), int64
        Class codes by A, by B, and true.
    parts : sequence of ndarray, int64
        Row numbers; the score is the mean over parts.
    groups : ndarray of shape (n_samples,), int64, or None
        From `checked_groups`.
    n_classes : int
    metric : str
        A score name in snake_case.
    n_bootstrap, random_state : int

    Returns
    -------
    (float, ndarray of shape (n_bootstrap,), float64)
    """
    counted, redrawn = _redrawn_by_part(
        (codes * n_classes + a) * n_classes + b,
        codes,
        parts,
        groups,
        n_cells=n_classes**3,
        n_bootstrap=n_bootstrap,
        random_state=random_state,
    )
    # part, true class, class by A, class by B
    joint = counted.reshape(len(parts), n_classes, n_classes, n_classes)
    drawn = redrawn.reshape(n_bootstrap, *joint.shape)

    def difference(cells: Ints) -> Floats:
        by_part = score(cells.sum(axis=-1), metric) - score(cells.sum(axis=-2), metric)
        means: Floats = by_part.mean(axis=-1)
        return means

    return float(difference(joint)), difference(drawn)


def mcnemar(pred_a: ArrayLike, pred_b: ArrayLike, y: ArrayLike) -> float:
    """Two-sided exact p-value that A and B are right equally often, from the rows where one of them is right.

    Parameters
    ----------
    pred_a, pred_b, y : array-like of shape (n_samples,)
        Predicted and true classes, codes or names.

    Returns
    -------
    float
        At most 1, and 1 when A and B are right on the same rows.

    Raises
    ------
    ValueError
        When the shapes differ.
    """
    a, b, true = np.asarray(pred_a), np.asarray(pred_b), np.asarray(y)
    if not a.shape == b.shape == true.shape or true.ndim != 1:
        raise ValueError(
            f"'pred_a', 'pred_b' and 'y' have shapes {a.shape}, {b.shape} and {true.shape}, allowed is "
            "(n_samples,) for all three. Select the same rows."
        )
    only_a = int(((a == true) & (b != true)).sum())
    only_b = int(((a != true) & (b == true)).sum())
    return _sign_test(min(only_a, only_b), only_a + only_b)


def _sign_test(n_fewer: int, n: int) -> float:
    """Twice the tail P(at most ``n_fewer`` of ``n`` fair coins are heads), at most 1, in whole numbers."""
    term, tail = 1, 0
    for i in range(n_fewer + 1):
        tail += term
        term = term * (n - i) // (i + 1)
    return min(1.0, 2 * tail / (1 << n))
