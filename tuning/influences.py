"""How much each row moves a score, and the test of two scores of the same rows that follows from it."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tuning.scores import (
    SCORE_OF_TOTALS,
    ClassTotals,
    Floats,
    Ints,
    class_totals,
    confusion,
    score,
    score_name,
)

_SLIGHTLY = 1e-4  # rows, for a derivative by their number
_VALUES_AT_ONCE = 2**18  # of cells times classes, while derivatives are taken: 2 MiB an array
_Z = 1.645  # one-sided 5 %: worse than another by more than that is not luck


@dataclass(frozen=True)
class MeasuredScore:
    """A score of predictions, and the influence of each row on it.

    Attributes
    ----------
    score : float
    influences : ndarray of shape (n_samples,), float64
        From `influences`.
    """

    score: float
    influences: Floats

    @classmethod
    def of(cls, y: ArrayLike, pred: ArrayLike, k: int, name: str) -> "MeasuredScore":
        """Measure predictions; arguments as for `influences`."""
        return cls(float(score(confusion(y, pred, k), name)), influences(y, pred, k, name))

    def is_clearly_below(self, other: "MeasuredScore") -> bool:
        """Test, on the same rows, whether the score is lower by more than luck explains."""
        spread = float((other.influences - self.influences).std(ddof=1))
        error = spread / math.sqrt(len(self.influences))
        return spread > 0 and other.score - self.score > _Z * error


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
    totals = class_totals(counts)
    of_truth, of_predicted = (codes[:, None] == np.arange(len(counts)) for codes in (truth, predicted))
    added = (of_truth & of_predicted, of_truth, of_predicted)
    moved = ClassTotals(*(part + _SLIGHTLY * cells for part, cells in zip(totals, added, strict=True)))
    slopes: Floats = (SCORE_OF_TOTALS[name](moved) - SCORE_OF_TOTALS[name](totals)) / _SLIGHTLY
    return slopes
