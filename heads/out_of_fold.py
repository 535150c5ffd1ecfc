"""Out-of-fold probabilities and class codes: what everything after training checks and counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heads.names import unknown_name

Metric = str | Callable[[NDArray[Any]], NDArray[np.float64]]
"""A name from `METRICS`, or a function of confusion counts (see `score_counts`)."""

METRICS = ("macro_f1", "weighted_f1", "accuracy")
"""Scores that are known by name."""

_SMALLEST = 1e-7  # about float32's precision; a class that a training fold lacked has probability 0
_ROW_SUM_TOLERANCE = 1e-2  # float16 storage is accepted


def check_probabilities(probabilities: ArrayLike, *, n_axes: int = 2) -> NDArray[np.float64]:
    """Return probabilities as float64 after checking them.

    Parameters
    ----------
    probabilities : array-like of shape (n_samples, n_classes) or (n_models, n_samples, n_classes)
    n_axes : {2, 3}
        Which of the two is expected.

    Returns
    -------
    ndarray, float64
        Each row scaled to sum to one, which stored float16 or float32 rows do only roughly.

    Raises
    ------
    ValueError
        If the shape is another, there are no rows or fewer than two classes, a value is not finite or
        negative, or a row is further than 0.01 from summing to one; the message names all faults.
    """
    table = np.asarray(probabilities, dtype=np.float64)
    expected = "(n_samples, n_classes)" if n_axes == 2 else "(n_models, n_samples, n_classes)"
    if table.ndim != n_axes or table.shape[-1] < 2 or not table.size:
        raise ValueError(
            f"The probabilities have shape {table.shape}, but {expected} is needed, with at least one row "
            "and two classes."
        )
    faults = []
    if not np.isfinite(table).all():
        faults.append(f"{np.sum(~np.isfinite(table))} value(s) are NaN or infinite")
    if (table < 0).any():
        faults.append(f"{np.sum(table < 0)} value(s) are negative")
    sums = table.sum(axis=-1)
    if not faults and (np.abs(sums - 1) > _ROW_SUM_TOLERANCE).any():
        worst = sums.flat[int(np.abs(sums - 1).argmax())]
        n_off = int(np.sum(np.abs(sums - 1) > _ROW_SUM_TOLERANCE))
        faults.append(f"{n_off} row(s) do not sum to 1 (one sums to {worst:.4g})")
    if faults:
        raise ValueError(f"The probabilities have {len(faults)} fault(s): {'; '.join(faults)}.")
    scaled: NDArray[np.float64] = table / sums[..., None]
    return scaled


def check_codes(y: ArrayLike, n_samples: int, n_classes: int) -> NDArray[np.intp]:
    """Return class codes after checking that there is one in 0..n_classes - 1 for every row.

    Raises
    ------
    ValueError
        If `y` has another length, is not of integers, or has a code that is no column.
    """
    codes = np.asarray(y)
    if codes.shape != (n_samples,) or codes.dtype.kind not in "iu":
        raise ValueError(
            f"y has shape {codes.shape} and dtype {codes.dtype}, but one integer class code for each of the "
            f"{n_samples} rows of probabilities is needed."
        )
    outside = np.unique(codes[(codes < 0) | (codes >= n_classes)])
    if len(outside):
        raise ValueError(
            f"y holds the class codes {outside[:5].tolist()}; allowed are 0..{n_classes - 1}, the columns of "
            "the probabilities. Leave unlabelled rows out."
        )
    return codes.astype(np.intp)


def log_probabilities(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return natural logarithms, of at least log(1e-7)."""
    logs: NDArray[np.float64] = np.log(np.maximum(probabilities, _SMALLEST))
    return logs


def most_probable(tables: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the position of the largest entry along the last axis; the lowest wins a tie.

    Several times as fast as ``argmax(axis=-1)`` for the few entries there are.
    """
    best = tables[..., 0].copy()
    codes = np.zeros(best.shape, dtype=np.intp)
    for code in range(1, tables.shape[-1]):
        column = tables[..., code]
        np.copyto(codes, code, where=column > best)
        np.maximum(best, column, out=best)
    return codes


def log_loss(probabilities: NDArray[np.float64], codes: NDArray[np.intp]) -> float:
    """Return the mean negative log-likelihood of the true classes, in nats; each at most -log(1e-7)."""
    return float(-log_probabilities(probabilities[np.arange(len(codes)), codes]).mean())


def confusion_counts(
    codes: NDArray[np.intp], predicted: NDArray[np.intp], n_classes: int
) -> NDArray[np.int64]:
    """Count (true class, predicted class) pairs.

    Parameters
    ----------
    codes : ndarray of shape (n_samples,), integer
    predicted : ndarray of shape (..., n_samples), integer
    n_classes : int

    Returns
    -------
    ndarray of shape (..., n_classes, n_classes), int64
    """
    leading = predicted.shape[:-1]
    n_leading = int(np.prod(leading))
    cells = codes * n_classes + predicted.reshape(n_leading, -1)
    cells += np.arange(n_leading)[:, None] * n_classes**2
    counts = np.bincount(cells.ravel(), minlength=n_leading * n_classes**2)
    return counts.astype(np.int64).reshape(*leading, n_classes, n_classes)


def score_counts(counts: NDArray[Any], metric: Metric) -> NDArray[np.float64]:
    """Score confusion counts.

    Parameters
    ----------
    counts : ndarray of shape (..., n_classes, n_classes)
        Axes: true class, predicted class.
    metric : str or callable
        A callable takes `counts` and returns scores of shape (...), larger is better. The F1 of a class that
        is neither present nor predicted counts 0.

    Returns
    -------
    ndarray of shape (...), float64

    Raises
    ------
    ValueError
        If no score has that name.
    """
    if callable(metric):
        return metric(counts)
    if metric not in METRICS:
        raise ValueError(f"Wrong metric: {unknown_name('metric', metric, METRICS)}.")
    hits = np.diagonal(counts, axis1=-2, axis2=-1).astype(np.float64)
    size, predicted = counts.sum(axis=-1), counts.sum(axis=-2)
    scores: NDArray[np.float64]
    if metric == "accuracy":
        scores = hits.sum(axis=-1) / size.sum(axis=-1)
        return scores
    f1 = 2 * hits / np.maximum(size + predicted, 1)
    scores = f1.mean(axis=-1) if metric == "macro_f1" else (f1 * size).sum(axis=-1) / size.sum(axis=-1)
    return scores
