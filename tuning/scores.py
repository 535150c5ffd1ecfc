"""Scores over class codes 0..k-1, computed from confusion counts so that many predictions are scored at once.

Every score takes ``counts``, an array of shape (..., n_classes, n_classes) whose last two axes are (true
class, predicted class), and returns an array of shape (...): float64 in [0, 1], larger is better. A class
without rows or without predictions scores 0 where the ratio is 0/0, as scikit-learn does with
``zero_division=0`` and ``labels=range(n_classes)``.
"""

from collections.abc import Callable
from difflib import get_close_matches
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

_SLIGHTLY = 1e-4  # rows, for a derivative by their number
_VALUES_AT_ONCE = 2**18  # of cells times classes, while derivatives are taken: 2 MiB an array

SCORES = ("macro_f1", "weighted_f1", "accuracy", "balanced_accuracy", "macro_precision", "macro_recall")

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def class_codes(y: ArrayLike, n_classes: int, *, name: str = "y") -> Ints:
    """Return ``y`` as int64 after checking that every entry is a class code.

    Parameters
    ----------
    y : array-like of shape (..., n_samples), integer
    n_classes : int
        Allowed codes are 0 .. n_classes - 1.
    name : str
        What to call the array in the error.

    Returns
    -------
    ndarray of the shape of ``y``, int64

    Raises
    ------
    ValueError
        When ``y`` holds something other than integers, or a code outside 0 .. n_classes - 1.
    """
    codes = np.asarray(y)
    if codes.dtype.kind not in "iu":
        raise ValueError(
            f"'{name}' has dtype {codes.dtype}, allowed are integer class codes 0..{n_classes - 1}. "
            "Encode the labels first, for example with numpy.unique(labels, return_inverse=True)."
        )
    outside = np.unique(codes[(codes < 0) | (codes >= n_classes)])
    if outside.size:
        raise ValueError(
            f"'{name}' holds the class codes {outside[:5].tolist()}, allowed are 0..{n_classes - 1}. "
            "Drop unlabelled rows (code -1) before scoring, or correct 'n_classes'."
        )
    return codes.astype(np.int64, copy=False)


def confusion(y: ArrayLike, pred: ArrayLike, k: int) -> Ints:
    """Count (true class, predicted class) pairs for one or many predictions of the same rows.

    Parameters
    ----------
    y : array-like of shape (n_samples,), integer
        True class codes.
    pred : array-like of shape (..., n_samples), integer
        Predicted class codes; leading axes are kept.
    k : int
        Number of classes.

    Returns
    -------
    ndarray of shape (..., k, k), int64

    Raises
    ------
    ValueError
        When the row counts differ or a code is outside 0 .. k - 1.
    """
    true, predicted = class_codes(y, k), class_codes(pred, k, name="pred")
    if true.ndim != 1 or predicted.ndim == 0 or predicted.shape[-1] != true.shape[0]:
        raise ValueError(
            f"'pred' has shape {predicted.shape} and 'y' has shape {true.shape}; allowed are (..., "
            "n_samples) and (n_samples,) over the same rows. Select the same rows for both."
        )
    leading = predicted.shape[:-1]
    n_leading = int(np.prod(leading))
    cells = true * k + predicted.reshape(n_leading, true.shape[0])
    cells += np.arange(n_leading)[:, None] * (k * k)
    return np.bincount(cells.ravel(), minlength=n_leading * k * k).reshape(*leading, k, k)


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Divide, with 0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


class _Parts(NamedTuple):
    """What every score follows from: rows per class, each of shape (..., k)."""

    correct: Floats
    support: Floats
    predicted: Floats


def _parts(counts: ArrayLike) -> _Parts:
    cells = np.asarray(counts, dtype=np.float64)
    return _Parts(np.diagonal(cells, axis1=-2, axis2=-1).copy(), cells.sum(axis=-1), cells.sum(axis=-2))


def _class_mean(values: Floats) -> Floats:
    mean: Floats = values.mean(axis=-1)
    return mean


def _f1(parts: _Parts) -> Floats:
    return _ratio(2 * parts.correct, parts.support + parts.predicted)


def _macro_f1(parts: _Parts) -> Floats:
    return _class_mean(_f1(parts))


def _weighted_f1(parts: _Parts) -> Floats:
    return _ratio((_f1(parts) * parts.support).sum(axis=-1), parts.support.sum(axis=-1))


def _accuracy(parts: _Parts) -> Floats:
    return _ratio(parts.correct.sum(axis=-1), parts.support.sum(axis=-1))


def _balanced_accuracy(parts: _Parts) -> Floats:
    present = (parts.support > 0).sum(axis=-1).astype(np.float64)
    return _ratio(_ratio(parts.correct, parts.support).sum(axis=-1), present)


def _macro_precision(parts: _Parts) -> Floats:
    return _class_mean(_ratio(parts.correct, parts.predicted))


def _macro_recall(parts: _Parts) -> Floats:
    return _class_mean(_ratio(parts.correct, parts.support))


_OF_PARTS: dict[str, Callable[[_Parts], Floats]] = {
    "macro_f1": _macro_f1,
    "weighted_f1": _weighted_f1,
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "macro_precision": _macro_precision,
    "macro_recall": _macro_recall,
}


def macro_f1(counts: ArrayLike) -> Floats:
    """Mean of the per-class F1 scores over all k classes; see the module for shapes."""
    return _macro_f1(_parts(counts))


def weighted_f1(counts: ArrayLike) -> Floats:
    """Mean of the per-class F1 scores weighted by the number of true rows; see the module for shapes."""
    return _weighted_f1(_parts(counts))


def accuracy(counts: ArrayLike) -> Floats:
    """Share of rows whose class is right; see the module for shapes."""
    return _accuracy(_parts(counts))


def balanced_accuracy(counts: ArrayLike) -> Floats:
    """Mean recall over the classes that have true rows (`macro_recall` counts the others as 0)."""
    return _balanced_accuracy(_parts(counts))


def macro_precision(counts: ArrayLike) -> Floats:
    """Mean precision over all k classes; see the module for shapes."""
    return _macro_precision(_parts(counts))


def macro_recall(counts: ArrayLike) -> Floats:
    """Mean recall over all k classes; see the module for shapes."""
    return _macro_recall(_parts(counts))


def score_name(name: str) -> str:
    """Return the snake_case name of a score given in snake or kebab case.

    Raises
    ------
    ValueError
        When no score has that name; near matches are shown.

    Examples
    --------
    >>> score_name("macro-f1")
    'macro_f1'
    """
    wanted = name.strip().lower().replace("-", "_")
    if wanted in SCORES:
        return wanted
    near = get_close_matches(wanted, SCORES, n=5, cutoff=0.5)
    hint = f" Did you mean {' or '.join(repr(match) for match in near)}?" if near else ""
    raise ValueError(
        f"Unknown metric '{name}', allowed are {', '.join(SCORES)} (also with '-' for '_').{hint}"
    )


def score(counts: ArrayLike, name: str) -> Floats:
    """Compute the score called ``name`` (see `score_name`) from confusion counts.

    Parameters
    ----------
    counts : array-like of shape (..., n_classes, n_classes)
    name : str

    Returns
    -------
    ndarray of shape (...), float64

    Raises
    ------
    ValueError
        When no score has that name.
    """
    return _OF_PARTS[score_name(name)](_parts(counts))


def influences(y: ArrayLike, pred: ArrayLike, k: int, name: str) -> Floats:
    """Return how much each row moves a score: n times its derivative by the row's weight.

    Parameters
    ----------
    y, pred : array-like of shape (n_samples,), integer
        Class codes.
    k : int
        Number of classes.
    name : str
        One of `SCORES`.

    Returns
    -------
    ndarray of shape (n_samples,), float64
        With mean 0. The standard deviation of a difference of two predictions' influences, over the square
        root of n, is the standard error of the difference of their scores.

    Notes
    -----
    Time grows with the cells that hold a row times the classes, memory with the square of the classes.

    References
    ----------
    B. Efron, "The jackknife, the bootstrap and other resampling plans", SIAM 1982, chapter 6 (the
    infinitesimal jackknife).
    """
    truth, predicted = np.asarray(y), np.asarray(pred)
    counts = confusion(truth, predicted, k)
    slopes = np.zeros((k, k))
    occurring = np.argwhere(counts)  # rows of one cell move a score alike, and most cells hold none
    step = max(1, _VALUES_AT_ONCE // k)
    for start in range(0, len(occurring), step):
        cells = occurring[start : start + step].T
        slopes[cells[0], cells[1]] = _slopes(counts, cells[0], cells[1], score_name(name))
    moves: Floats = len(truth) * slopes[truth, predicted]
    centred: Floats = moves - moves.mean()
    return centred


def _slopes(counts: Ints, truth: Ints, predicted: Ints, name: str) -> Floats:
    """Return the derivatives of a score by the numbers of rows in some cells, shape (n_cells,)."""
    parts = _parts(counts)
    of_truth, of_predicted = (codes[:, None] == np.arange(len(counts)) for codes in (truth, predicted))
    added = (of_truth & of_predicted, of_truth, of_predicted)
    moved = _Parts(*(part + _SLIGHTLY * cells for part, cells in zip(parts, added, strict=True)))
    slopes: Floats = (_OF_PARTS[name](moved) - _OF_PARTS[name](parts)) / _SLIGHTLY
    return slopes


def per_class(y: ArrayLike, pred: ArrayLike, k: int) -> dict[str, NDArray[np.generic]]:
    """Precision, recall, F1 and support of every class.

    Parameters
    ----------
    y, pred : array-like of shape (n_samples,), integer
        True and predicted class codes.
    k : int
        Number of classes.

    Returns
    -------
    dict
        ``precision``, ``recall``, ``f1``: ndarray of shape (k,), float64; ``support``: ndarray of shape (k,),
        int64, the number of true rows.

    Raises
    ------
    ValueError
        As `confusion`.
    """
    counts = confusion(y, pred, k)
    parts = _parts(counts)
    return {
        "precision": _ratio(parts.correct, parts.predicted),
        "recall": _ratio(parts.correct, parts.support),
        "f1": _f1(parts),
        "support": counts.sum(axis=-1),
    }


def log_loss(y: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean negative log-likelihood of the true classes, in nats; smaller is better.

    Parameters
    ----------
    y : array-like of shape (n_samples,), integer
        True class codes.
    probabilities : array-like of shape (n_samples, n_classes), float
        One row per sample; probabilities are clipped to [eps, 1 - eps] of their dtype, because a class that a
        training fold lacked has probability 0.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        When the shapes disagree or a code is not a column of ``probabilities``.
    """
    table = np.asarray(probabilities)
    if table.ndim != 2 or table.shape[0] != len(np.asarray(y)):
        raise ValueError(
            f"'probabilities' has shape {table.shape} for {len(np.asarray(y))} labels, allowed is "
            "(n_samples, n_classes) over the rows of 'y'. Select the same rows for both."
        )
    codes = class_codes(y, table.shape[1])
    eps = np.finfo(table.dtype).eps
    chosen = np.clip(table[np.arange(len(codes)), codes], eps, 1 - eps)
    return float(-np.log(chosen.astype(np.float64)).mean())
