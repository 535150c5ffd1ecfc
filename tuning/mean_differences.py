"""How much better one configuration is than several together, such as the seeds of one disturbance."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
    n_bootstrap, random_state : int

    Returns
    -------
    Difference
        As `tuning.paired_difference`, of which this is the case of one other: a draw of rows, within each
        fold and true class, brings the predictions of all.

    Raises
    ------
    ValueError
        When there are no others, shapes disagree, or a code or the metric is not allowed.

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
    strata = fold_of * n_classes + codes
    draws = np.concatenate([differences(w) for w in _weights(strata, n_bootstrap, random_state)])
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


def _weights(strata: Ints, n_bootstrap: int, random_state: int) -> Iterator[Floats]:
    """Yield how often each row is drawn, float64 of shape (draws, n_samples), a chunk of draws at a time."""
    generator = np.random.default_rng(random_state)
    groups = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    chunk = max(1, _CHUNK_CELLS // len(strata))
    for start in range(0, n_bootstrap, chunk):
        drawn = np.zeros((min(chunk, n_bootstrap - start), len(strata)))
        for rows in groups:
            shares = np.full(len(rows), 1 / len(rows))
            drawn[:, rows] = generator.multinomial(len(rows), shares, size=len(drawn))
        yield drawn
