"""How much better one configuration is than several together, such as the seeds of one disturbance."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tuning.bootstrap import Units, checked_groups, units_of
from tuning.folds import Fold, check_partition
from tuning.scores import Floats, Ints, class_codes, score, score_name
from tuning.uncertainty import Difference, check_bootstrap, difference_of

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
        When there are no others, shapes disagree, a code or the metric is not allowed, a row is not validated
        exactly once, or a group lies in two folds.

    Notes
    -----
    It covers the luck of the rows that were scored, not of the seeds: look at the spread of the others too.
    """
    check_bootstrap(n_bootstrap)
    name = score_name(metric)
    codes = class_codes(y, n_classes)
    check_partition(folds, len(codes))
    if not others:
        raise ValueError("'others' is empty, allowed is one prediction or more. Pass what to compare with.")
    models = [class_codes(model, n_classes, name="predictions") for model in (predictions, *others)]
    if any(model.shape != codes.shape for model in models):
        shapes = [model.shape for model in models]
        raise ValueError(f"Predictions have shapes {shapes}, allowed is {codes.shape}. Select the same rows.")
    parts = [valid for _, valid in folds]
    cells = [[_one_hot(codes[rows], model[rows], n_classes) for rows in parts] for model in models]

    def differences(weights: Sequence[Floats]) -> Floats:
        scores = [_mean_scores(weights, by_part, n_classes, name) for by_part in cells]
        result: Floats = scores[0] - np.mean(scores[1:], axis=0)
        return result

    observed = float(differences([np.ones((1, len(rows))) for rows in parts])[0])
    groups = checked_groups(groups, len(codes), folds)
    units = [units_of(codes[rows], None if groups is None else groups[rows]) for rows in parts]
    draws = [differences(weights) for weights in _weights(units, n_bootstrap, random_state)]
    return difference_of(observed, np.concatenate(draws))


def _one_hot(codes: Ints, model: Ints, n_classes: int) -> NDArray[np.float64]:
    """Which (true, predicted) cell each row falls into, shape (n_rows, cells)."""
    cell = codes * n_classes + model
    hot: NDArray[np.float64] = np.equal(cell[:, None], np.arange(n_classes**2)).astype(np.float64)
    return hot


def _mean_scores(
    weights: Sequence[Floats], cells: Sequence[NDArray[np.float64]], n_classes: int, metric: str
) -> Floats:
    """Score each draw: the mean over parts of the rows, shape (draws,)."""
    counts = [drawn @ cell for drawn, cell in zip(weights, cells, strict=True)]
    shape = (len(weights), -1, n_classes, n_classes)
    scores: Floats = score(np.stack(counts).reshape(shape), metric).mean(axis=0)
    return scores


def _weights(by_part: Sequence[Units], n_bootstrap: int, random_state: int) -> Iterator[list[Floats]]:
    """Yield how often each row of each part is drawn, (draws, n_rows), a chunk of draws at a time."""
    generator = np.random.default_rng(random_state)
    chunk = max(1, _CHUNK_CELLS // sum(len(units.of_row) for units in by_part))
    for start in range(0, n_bootstrap, chunk):
        n_draws = min(chunk, n_bootstrap - start)
        yield [_drawn(units, generator, n_draws) for units in by_part]


def _drawn(units: Units, generator: np.random.Generator, n_draws: int) -> Floats:
    drawn = np.zeros((n_draws, int(units.of_row.max()) + 1))
    for members in units.strata:
        shares = np.full(len(members), 1 / len(members))
        drawn[:, members] = generator.multinomial(len(members), shares, size=n_draws)
    rows: Floats = drawn[:, units.of_row]
    return rows
