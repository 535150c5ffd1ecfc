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


class ClassTotals(NamedTuple):
    """What every score follows from: numbers of rows per class, each ndarray of shape (..., k), float64."""

    correct: Floats
    support: Floats
    predicted: Floats


def class_totals(counts: ArrayLike) -> ClassTotals:
    """Add up confusion counts of shape (..., k, k) by class: right ones, true ones, predicted ones."""
    cells = np.asarray(counts, dtype=np.float64)
    return ClassTotals(np.diagonal(cells, axis1=-2, axis2=-1).copy(), cells.sum(axis=-1), cells.sum(axis=-2))


def _class_mean(values: Floats) -> Floats:
    mean: Floats = values.mean(axis=-1)
    return mean


def _f1(totals: ClassTotals) -> Floats:
    return _ratio(2 * totals.correct, totals.support + totals.predicted)


def _macro_f1(totals: ClassTotals) -> Floats:
    return _class_mean(_f1(totals))


def _weighted_f1(totals: ClassTotals) -> Floats:
    return _ratio((_f1(totals) * totals.support).sum(axis=-1), totals.support.sum(axis=-1))


def _accuracy(totals: ClassTotals) -> Floats:
    return _ratio(totals.correct.sum(axis=-1), totals.support.sum(axis=-1))


def _balanced_accuracy(totals: ClassTotals) -> Floats:
    present = (totals.support > 0).sum(axis=-1).astype(np.float64)
    return _ratio(_ratio(totals.correct, totals.support).sum(axis=-1), present)


def _macro_precision(totals: ClassTotals) -> Floats:
    return _class_mean(_ratio(totals.correct, totals.predicted))


def _macro_recall(totals: ClassTotals) -> Floats:
    return _class_mean(_ratio(totals.correct, totals.support))


#: Score name -> how it follows from the totals.
SCORE_OF_TOTALS: dict[str, Callable[[ClassTotals], Floats]] = {
    "macro_f1": _macro_f1,
    "weighted_f1": _weighted_f1,
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "macro_precision": _macro_precision,
    "macro_recall": _macro_recall,
}


def macro_f1(counts: ArrayLike) -> Floats:
    """Mean of the per-class F1 scores over all k classes; see the module for shapes."""
    return _macro_f1(class_totals(counts))


def weighted_f1(counts: ArrayLike) -> Floats:
    """Mean of the per-class F1 scores weighted by the number of true rows; see the module for shapes."""
    return _weighted_f1(class_totals(counts))


def accuracy(counts: ArrayLike) -> Floats:
    """Share of rows whose class is right; see the module for shapes."""
    return _accuracy(class_totals(counts))


def balanced_accuracy(counts: ArrayLike) -> Floats:
    """Mean recall over the classes that have true rows (`macro_recall` counts the others as 0)."""
    return _balanced_accuracy(class_totals(counts))


def macro_precision(counts: ArrayLike) -> Floats:
    """Mean precision over all k classes; see the module for shapes."""
    return _macro_precision(class_totals(counts))


def macro_recall(counts: ArrayLike) -> Floats:
    """Mean recall over all k classes; see the module for shapes."""
    return _macro_recall(class_totals(counts))


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
    return SCORE_OF_TOTALS[score_name(name)](class_totals(counts))


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
    totals = class_totals(counts)
    return {
        "precision": _ratio(totals.correct, totals.predicted),
        "recall": _ratio(totals.correct, totals.support),
        "f1": _f1(totals),
        "support": counts.sum(axis=-1),
    }


def majority_scores(y: ArrayLike, n_classes: int) -> dict[str, float]:
    """Every score of the prediction that is always the most frequent class: what knowing nothing gives.

    Parameters
    ----------
    y : array-like of shape (n_samples,), integer
        Class codes.
    n_classes : int

    Returns
    -------
    dict of str to float
        A key for each of ``SCORES``. The lowest code wins a tie.

    Raises
    ------
    ValueError
        When a code is not allowed or there are no rows.
    """
    codes = class_codes(y, n_classes)
    if not codes.size:
        raise ValueError("'y' has no rows, allowed is at least one. Pass the labels that were scored.")
    majority: NDArray[np.int64] = np.full_like(codes, np.bincount(codes).argmax())
    counts = confusion(codes, majority, n_classes)
    return {name: float(score(counts, name)) for name in SCORES}


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
