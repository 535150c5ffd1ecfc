"""The score of the best of many configurations, corrected for having been chosen.

The best of many cross-validated scores is optimistic: part of what made it the best is luck with these rows.
Bootstrap bias corrected cross-validation (BBC-CV) repeats the choice on the rows drawn into a bootstrap
sample and scores the choice on the rows left out, from stored out-of-fold predictions and without fitting
anything.

References
----------
Tsamardinos, Greasidou, Borboudakis (2018). Bootstrapping the out-of-sample predictions for efficient and
accurate cross-validation. Machine Learning 107, 1895-1922.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tuning.scores import SCORES, Floats, Ints, class_codes, score, score_name
from tuning.uncertainty import Difference, Estimate, check_bootstrap, percentile_interval

# Numbers in one chunk of draws: 4 Mi, which is 16 MiB in float32 and a few times that while scoring.
_CHUNK_CELLS = 2**22


def bbc_cv(
    predictions: ArrayLike,
    y: ArrayLike,
    *,
    n_classes: int,
    metric: str = "macro-f1",
    n_bootstrap: int = 1000,
    random_state: int = 0,
) -> dict[str, Estimate]:
    """Estimate every score of the configuration that a search would choose, free of the luck of being chosen.

    Parameters
    ----------
    predictions : array-like of shape (n_trials, n_samples), integer
        Out-of-fold class codes of every trial the choice was made from.
    y : array-like of shape (n_samples,), integer
        True class codes.
    n_classes : int
    metric : str
        The score by which the best trial is chosen.
    n_bootstrap : int
        Number of draws.
    random_state : int

    Returns
    -------
    dict of str to Estimate
        A key for each of ``SCORES``: mean and percentile interval, over the draws, of the chosen trial's
        score on the rows that were not drawn.

    Raises
    ------
    ValueError
        When the shapes disagree, there is no trial, a code or the metric is not allowed, or a class has one
        row.

    Notes
    -----
    Rows are drawn with replacement within each class; a class in which every row happened to be drawn is
    drawn again, because its score outside would not exist. The choice is by the score of all drawn rows
    pooled, where a search takes the mean over folds; the first of equal trials is chosen. About 37 % of the
    rows are left out of a draw, so the interval is wider than that of all rows. Draw number i depends on
    ``random_state`` and i alone.

    The cost is one matrix product per class, (draws, rows) @ (rows, trials x classes); memory stays below a
    few hundred MB whatever the number of draws.
    """
    codes = class_codes(y, n_classes)
    table = _checked_predictions(predictions, n_samples=len(codes), n_classes=n_classes)
    draws = _choices(
        table, codes, n_classes=n_classes, metric=metric, n_bootstrap=n_bootstrap, random_state=random_state
    )
    counts = np.concatenate(
        [_left_out_confusions(drawn, table[chosen], codes, n_classes) for drawn, chosen in draws]
    )
    return {key: _estimate(score(counts, key)) for key in SCORES}


def bbc_difference(
    predictions: ArrayLike,
    y: ArrayLike,
    reference: int,
    *,
    n_classes: int,
    metric: str = "macro-f1",
    n_bootstrap: int = 1000,
    random_state: int = 0,
) -> Difference:
    """Estimate how much better the configuration that a search would choose is than one named beforehand.

    The plain difference between a winner and the default flatters the winner: it was chosen on these rows,
    the default was not.

    Parameters
    ----------
    predictions : array-like of shape (n_trials, n_samples), integer
        Out-of-fold class codes of every trial the choice was made from.
    y : array-like of shape (n_samples,), integer
        True class codes.
    reference : int
        Index of the trial to compare with, from 0; it can be chosen too, and then the difference is 0.
    n_classes : int
    metric : str
        The score by which the best trial is chosen, and of which this is a difference.
    n_bootstrap : int
        Number of draws.
    random_state : int

    Returns
    -------
    Difference
        Mean, percentile interval and p-value, over the draws, of the chosen trial's score minus the
        reference's on the rows that were not drawn. ``p_value`` is twice the smaller share of draws on either
        side of 0, counting one more draw than were made on each side.

    Raises
    ------
    ValueError
        When `bbc_cv` refuses the arguments, or ``reference`` is not the index of a trial.

    Notes
    -----
    The draws and the choices are those of `bbc_cv` with the same arguments. The rows left out of a draw are
    about 37 % of all, so the interval is wider than one of all rows: it errs towards "inside the noise".
    """
    codes = class_codes(y, n_classes)
    table = _checked_predictions(predictions, n_samples=len(codes), n_classes=n_classes)
    if not 0 <= reference < len(table):
        raise ValueError(
            f"'reference' is {reference}, allowed is 0 to {len(table) - 1}: the index of a trial. Pass the "
            "position of the default configuration among the trials."
        )
    name = score_name(metric)
    draws = _choices(
        table, codes, n_classes=n_classes, metric=metric, n_bootstrap=n_bootstrap, random_state=random_state
    )
    differences = []
    for drawn, chosen in draws:
        winner = _left_out_confusions(drawn, table[chosen], codes, n_classes)
        other = _left_out_confusions(drawn, table[[reference]], codes, n_classes)
        differences.append(score(winner, name) - score(other, name))
    values = np.concatenate(differences)
    smaller_side = min(int((values <= 0).sum()), int((values >= 0).sum()))
    return Difference(
        difference=float(values.mean()),
        ci95=percentile_interval(values),
        p_value=min(1.0, 2 * (smaller_side + 1) / (n_bootstrap + 1)),
    )


def _choices(
    table: Ints, codes: Ints, *, n_classes: int, metric: str, n_bootstrap: int, random_state: int
) -> Iterator[tuple[Ints, Ints]]:
    """Yield draw counts (draws, n_samples) and the trial that each draw would choose (draws,)."""
    check_bootstrap(n_bootstrap)
    name = score_name(metric)
    rows_of_class = _rows_of_class(codes)
    cells_per_draw = len(codes) + len(table) * n_classes**2
    chunk = max(1, _CHUNK_CELLS // cells_per_draw)
    for drawn in _draws(
        rows_of_class, len(codes), n_bootstrap=n_bootstrap, chunk=chunk, random_state=random_state
    ):
        inside = _drawn_confusions(drawn, table, rows_of_class, n_classes)
        yield drawn, score(inside, name).argmax(axis=1)


def _estimate(values: Floats) -> Estimate:
    return Estimate(mean=float(values.mean()), ci95=percentile_interval(values))


def _checked_predictions(predictions: ArrayLike, *, n_samples: int, n_classes: int) -> Ints:
    table = np.asarray(predictions)
    if table.ndim != 2 or table.shape[0] < 1 or table.shape[1] != n_samples:
        raise ValueError(
            f"'predictions' has shape {table.shape}, allowed is (n_trials, {n_samples}) with at least one "
            "trial: a class code for every row of 'y'. Stack the out-of-fold predictions of the trials."
        )
    return class_codes(table, n_classes, name="predictions")


def _rows_of_class(codes: Ints) -> dict[int, Ints]:
    """Row numbers of every class that has rows."""
    rows_of_class = {int(code): np.flatnonzero(codes == code) for code in np.unique(codes)}
    single = [code for code, rows in rows_of_class.items() if len(rows) < 2]
    if single or not rows_of_class:
        raise ValueError(
            f"Classes with one row: {single[:5]} (of {len(codes)} rows), allowed are 2 or more rows of each "
            "class, some to choose on and some to score on. Merge or leave out rare classes."
        )
    return rows_of_class


def _draw(rows_of_class: dict[int, Ints], n_samples: int, generator: np.random.Generator) -> Ints:
    """How often one stratified bootstrap sample draws each row, shape (n_samples,), int64."""
    counts = np.zeros(n_samples, dtype=np.int64)
    for rows in rows_of_class.values():
        size = len(rows)
        drawn = np.bincount(generator.integers(0, size, size), minlength=size)
        while drawn.all():
            drawn = np.bincount(generator.integers(0, size, size), minlength=size)
        counts[rows] = drawn
    return counts


def _draws(
    rows_of_class: dict[int, Ints], n_samples: int, *, n_bootstrap: int, chunk: int, random_state: int
) -> Iterator[Ints]:
    """Yield draw counts of shape (draws, n_samples); every draw has a seed of its own, chunked or not."""
    seeds = np.random.SeedSequence(random_state).spawn(n_bootstrap)
    for start in range(0, n_bootstrap, chunk):
        generators = [np.random.default_rng(seed) for seed in seeds[start : start + chunk]]
        yield np.stack([_draw(rows_of_class, n_samples, generator) for generator in generators])


def _drawn_confusions(
    drawn: Ints, predictions: Ints, rows_of_class: dict[int, Ints], n_classes: int
) -> NDArray[np.float32]:
    """Confusion counts of all trials on drawn rows, shape (draws, n_trials, k, k); exact below 2**24."""
    n_trials = len(predictions)
    cells = np.zeros((len(drawn), n_trials, n_classes, n_classes), dtype=np.float32)
    for code, rows in rows_of_class.items():
        one_hot = predictions[:, rows].T[:, :, None] == np.arange(n_classes)  # (rows, n_trials, k)
        flat = one_hot.reshape(len(rows), n_trials * n_classes).astype(np.float32)
        product = drawn[:, rows].astype(np.float32) @ flat
        cells[:, :, code, :] = product.reshape(len(drawn), n_trials, n_classes)
    return cells


def _left_out_confusions(drawn: Ints, chosen: Ints, codes: Ints, n_classes: int) -> Ints:
    """Confusion counts, shape (draws, k, k), of predictions (draws, n_samples) on the rows not drawn."""
    size = n_classes * n_classes
    cells = codes * n_classes + chosen + np.arange(len(drawn))[:, None] * size
    counts = np.bincount(cells[drawn == 0], minlength=len(drawn) * size)
    return counts.reshape(len(drawn), n_classes, n_classes)
