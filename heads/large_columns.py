"""Standardising rows that stay on disk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heads.columns import ColumnScale
from heads.large_rows import LargeRows, refuse_rows, rows_not_finite, widened

_ROWS_AT_ONCE = 1024  # that are converted and standardised: 3 MB at 768 columns


def standardised(rows: LargeRows, scale: ColumnScale) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Read everything in order and standardise it, 1,024 rows at most at a time.

    Yields
    ------
    (places, rows) : slice, ndarray of shape (n, n_features), of the dtype that `rows` names
        The array is used again for the next rows.
    """
    buffer = np.empty((_ROWS_AT_ONCE, rows.shape[1]), dtype=rows.dtype)
    mean, inverse = scale.mean.astype(rows.dtype), scale.inverse.astype(rows.dtype)
    for places, stored in rows.chunks():
        for start in range(0, len(stored), _ROWS_AT_ONCE):
            raw = widened(stored[start : start + _ROWS_AT_ONCE])
            part = buffer[: len(raw)]
            np.copyto(part, raw)
            part -= mean
            part *= inverse
            yield slice(places.start + start, places.start + start + len(raw)), part


def measured_scale(rows: LargeRows, weights: NDArray[np.float64]) -> ColumnScale:
    """Measure the columns in one pass, and look for values that are not finite in the same pass.

    Parameters
    ----------
    rows : LargeRows
    weights : ndarray of shape (n_rows,), float64
        How often each row counts; rows of weight 0 are only looked at.

    Raises
    ------
    ValueError
        If a value of any row is NaN or infinite.

    References
    ----------
    T. F. Chan, G. H. Golub, R. J. LeVeque, "Algorithms for computing the sample variance", The American
    Statistician 37 (1983): how mean and sum of squares of two parts are joined without cancellation.
    """
    mass, mean, squares = 0.0, np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
    faulty: list[int] = []
    for places, stored in rows.chunks():
        for start in range(0, len(stored), _ROWS_AT_ONCE):
            part = widened(stored[start : start + _ROWS_AT_ONCE]).astype(np.float64)
            first = places.start + start
            faulty += [int(rows.numbers[first + row]) for row in rows_not_finite(part)]
            own = weights[first : first + len(part)]
            added = float(own.sum())
            if faulty or added == 0:
                continue
            own_mean = own @ part / added
            shift = own_mean - mean
            mass += added
            mean += shift * (added / mass)
            part -= own_mean
            np.square(part, out=part)
            squares += own @ part + shift**2 * (added * (mass - added) / mass)
    refuse_rows(faulty)
    return ColumnScale.from_variance(mean, squares / mass)
