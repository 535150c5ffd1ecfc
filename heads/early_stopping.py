"""The split of training rows that early stopping looks at, and what it measures there."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_FEWEST_ROWS = 2  # of each class among the held-out rows; below that the loss of a class is one row's luck


def inner_split(
    codes: NDArray[np.intp], fraction: float, random: np.random.RandomState
) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
    """Hold out a stratified share of the training rows.

    Parameters
    ----------
    codes : ndarray of shape (n_samples,), integer
        Class of each training row; every class from 0 to the largest has a row.
    fraction : float in (0, 1)
        Share of each class that is held out (rounded).
    random : numpy.random.RandomState

    Returns
    -------
    (kept, held_out) : two sorted ndarrays of row numbers, or None
        None when a class would give fewer than 2 rows to the held-out part, or keep none.
    """
    held_out = []
    for code in range(int(codes.max()) + 1):
        rows = np.flatnonzero(codes == code)
        n_held_out = round(fraction * len(rows))
        if n_held_out < _FEWEST_ROWS or n_held_out >= len(rows):
            return None
        held_out.append(random.permutation(rows)[:n_held_out])
    is_held_out = np.zeros(len(codes), dtype=bool)
    is_held_out[np.concatenate(held_out)] = True
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


def matched_weights(
    train_codes: NDArray[np.intp],
    train_weights: NDArray[np.float64],
    held_out_codes: NDArray[np.intp],
    held_out_weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Weigh held-out rows so that each class has the share of the loss that it has in training.

    Class weights and resampling both change those shares; without this the stopping rule would look at
    another problem than the one being solved.

    Returns
    -------
    ndarray of shape (n_held_out,), float64
        Mean 1.
    """
    n_classes = int(held_out_codes.max()) + 1
    wanted = np.bincount(train_codes, weights=train_weights, minlength=n_classes)
    found = np.bincount(held_out_codes, weights=held_out_weights, minlength=n_classes)
    weights: NDArray[np.float64] = held_out_weights * (wanted / found)[held_out_codes]
    weights /= weights.mean()
    return weights


def stop_scores(codes: NDArray[Any], predicted: NDArray[Any], n_classes: int) -> dict[str, float]:
    """Return the scores of ``heads.names.STOP_METRICS`` that are not losses.

    Parameters
    ----------
    codes, predicted : ndarray of shape (n_samples,), integer in [0, n_classes)
    n_classes : int

    Returns
    -------
    dict
        ``macro_f1``, ``weighted_f1`` (weights are the class sizes) and ``accuracy``. The F1 of a class
        that is neither present nor predicted counts 0.
    """
    confusion = np.bincount(codes * n_classes + predicted, minlength=n_classes**2)
    confusion = confusion.reshape(n_classes, n_classes)
    hits, size = np.diag(confusion), confusion.sum(axis=1)
    f1 = 2 * hits / np.maximum(confusion.sum(axis=0) + size, 1)
    return {
        "macro_f1": float(f1.mean()),
        "weighted_f1": float(f1 @ size / size.sum()),
        "accuracy": float(hits.sum() / size.sum()),
    }
