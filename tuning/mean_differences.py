"""How much better one configuration is than several together, such as the seeds of one disturbance."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tuning.bootstrap import Units, checked_groups, units_of
from tuning.folds import Fold
from tuning.scores import Floats, Ints, class_codes, score, score_name
from tuning.uncertainty import Difference, check_bootstrap, percentile_interval

# Numbers in one chunk of draws: 4 Mi, 32 MiB in float64.
_CHUNK_CELLS = 2**22


def mean_paired_difference(
    predictions: ArrayLike,
    others: Sequence[ArrayLike],
    y: ArrayLike,
    folds: Sequence[Fold],
    *,
    n_classes: int,
    metric: str = "macro-f1",
    groups: ArrayLike | None = None,
    n_bootstrap: int = 1999,
    random_state: int = 0,
) -> Difference:
    """Score of one minus the mean score of others, on the same rows.

    Parameters
    ----------
    predictions : array-like of shape (n_samples,), integer
        Out-of-fold class codes.
    others : sequence of array-like of shape (n_samples,), integer
        One or more.
    y : array-like of shape (n_samples,), integer
        True class codes.
    folds : sequence of (train, valid)
    n_classes : int
    metric : str
        A score name; the score is the mean over folds.
    groups : array-like of shape (n_samples,) or None
        Related rows have equal values and are drawn together; see `tuning.bootstrap`.
    n_bootstrap, random_state : int

    Returns
    -------
    Difference
        As `tuning.paired_difference`, of which this is the case of one other: a draw of rows (or groups),
        within each fold and true class, brings the predictions of all.

    Raises
    ------
    ValueError
        When there are no others, shapes disagree, a code or the metric is not allowed, or a group lies in two
        folds.

    Notes
    -----
    It covers the luck of the rows that were scored, not of the seeds: look at the spread of the others too.
    """
    check_bootstrap(n_bootstrap)
    name = score_name(metric)
    codes = class_codes(y, n_classes)
    if not others:
        raise ValueError("'others' is empty, allowed is one prediction or more. Pass what to compare with.")
    models = [class_codes(model, n_classes, name="predictions") for model in (predictions, *others)]
    if any(model.shape != codes.shape for model in models):
        shapes = [model.shape for model in models]
        raise ValueError(f"Predictions have shapes {shapes}, allowed is {codes.shape}. Select the same rows.")
    fold_of = np.empty(len(codes), dtype=np.int64)
    for fold, (_, valid) in enumerate(folds):
        fold_of[valid] = fold
    cells = [_one_hot(codes, model, fold_of, n_classes, len(folds)) for model in models]

    def differences(weights: Floats) -> Floats:
        shape = (len(weights), len(folds), n_classes, n_classes)
        scores = [score((weights @ cell).reshape(shape), name).mean(axis=-1) for cell in cells]
        result: Floats = scores[0] - np.mean(scores[1:], axis=0)
        return result

    observed = float(differences(np.ones((1, len(codes))))[0])
    units = _units_by_fold(codes, checked_groups(groups, len(codes), folds), folds)
    draws = np.concatenate([differences(w) for w in _weights(units, n_bootstrap, random_state)])
    smaller_side = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    return Difference(
        difference=observed,
        ci95=percentile_interval(draws),
        p_value=min(1.0, 2 * (smaller_side + 1) / (n_bootstrap + 1)),
    )


def _one_hot(codes: Ints, model: Ints, fold_of: Ints, n_classes: int, n_folds: int) -> NDArray[np.float64]:
    """Which (fold, true, predicted) cell each row falls into, shape (n_samples, cells)."""
    cell = (fold_of * n_classes + codes) * n_classes + model
    hot: NDArray[np.float64] = np.equal(cell[:, None], np.arange(n_folds * n_classes**2)).astype(np.float64)
    return hot


def _units_by_fold(codes: Ints, groups: Ints | None, folds: Sequence[Fold]) -> list[tuple[Ints, Units]]:
    """Return the rows that each fold validates and what is drawn of them."""
    return [(valid, units_of(codes[valid], None if groups is None else groups[valid])) for _, valid in folds]


def _weights(by_fold: list[tuple[Ints, Units]], n_bootstrap: int, random_state: int) -> Iterator[Floats]:
    """Yield how often each row is drawn, float64 of shape (draws, n_samples), a chunk of draws at a time."""
    generator = np.random.default_rng(random_state)
    n_samples = sum(len(rows) for rows, _ in by_fold)
    chunk = max(1, _CHUNK_CELLS // n_samples)
    for start in range(0, n_bootstrap, chunk):
        n_draws = min(chunk, n_bootstrap - start)
        weights = np.zeros((n_draws, n_samples))
        for rows, units in by_fold:
            drawn = np.zeros((n_draws, int(units.of_row.max()) + 1))
            for members in units.strata:
                shares = np.full(len(members), 1 / len(members))
                drawn[:, members] = generator.multinomial(len(members), shares, size=n_draws)
            weights[:, rows] = drawn[:, units.of_row]
        yield weights
