"""Likely label errors: confident learning on out-of-fold probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heads.out_of_fold import check_codes, check_probabilities


@dataclass(frozen=True, eq=False)
class LabelErrors:
    """What confident learning says of every label.

    Attributes
    ----------
    score : ndarray of shape (n_samples,), float64
        How little the probabilities support the label, from 0 (surely right) to 1 (surely wrong): half of one
        minus the normalised margin, the label's probability less the largest other one.
    suspected : ndarray of shape (n_samples,), bool
        Rows whose label is probably wrong.
    joint : ndarray of shape (n_classes, n_classes), float64
        Estimated share of the rows with a given label (first axis) whose true class is the second axis.
    """

    score: NDArray[np.float64]
    suspected: NDArray[np.bool_]
    joint: NDArray[np.float64]


def find_label_errors(probabilities: ArrayLike, y: ArrayLike) -> LabelErrors:
    """Estimate how many labels of each class are wrong, and name the rows.

    Parameters
    ----------
    probabilities : array-like of shape (n_samples, n_classes)
        Out of fold: no row was scored by a model that was trained on it.
    y : array-like of shape (n_samples,), integer
        Class codes of the labels as given.

    Returns
    -------
    LabelErrors

    Raises
    ------
    ValueError
        If the probabilities are none, or a code is no class.

    Notes
    -----
    A row counts as confidently of class j when its probability of j reaches the mean of that probability over
    the rows labelled j; of several such classes the most probable one counts. The counts, scaled to the size
    of each labelled class, estimate the joint distribution of given and true labels. As many rows as it
    expects of each pair are suspected, those with the largest margin first ("prune by noise rate"); a row
    whose label is also its most probable class is not. Probabilities that are too sure or too doubtful make
    the numbers wrong more than the order: look through the rows from the top.

    References
    ----------
    C. G. Northcutt, L. Jiang and I. L. Chuang, "Confident Learning: Estimating Uncertainty in Dataset
    Labels", JAIR 70 (2021), sections 3.1 and 3.2.
    """
    table = check_probabilities(probabilities)
    codes = check_codes(y, *table.shape)
    rows = np.arange(len(codes))
    given = table[rows, codes]
    rivals = table.copy()
    rivals[rows, codes] = -np.inf
    margin = given - rivals.max(axis=1)
    joint = _joint(table, codes)
    suspected = np.zeros(len(codes), dtype=bool)
    n_expected = np.floor(joint * len(codes) + 0.5).astype(np.int64)
    for label, other in np.argwhere(n_expected > 0):
        if label != other:
            mine = np.flatnonzero(codes == label)
            surest = np.argsort(table[mine, label] - table[mine, other], kind="stable")
            suspected[mine[surest[: n_expected[label, other]]]] = True
    # A label that the model would give too is not suspected, however many the joint expects.
    return LabelErrors((1.0 - margin) / 2.0, suspected & (margin < 0), joint)


def confident_counts(table: NDArray[np.float64], codes: NDArray[np.intp]) -> NDArray[np.int64]:
    """Count rows by given label and by the class they confidently belong to.

    Parameters
    ----------
    table : ndarray of shape (n_samples, n_classes), float64
        Probabilities.
    codes : ndarray of shape (n_samples,), integer

    Returns
    -------
    ndarray of shape (n_classes, n_classes), int64
        The confident joint of the paper, before it is calibrated. A row that reaches no threshold is not
        counted.
    """
    n_classes = table.shape[1]
    # A class without a label of its own has no threshold that a row could reach.
    thresholds = np.array(
        [table[codes == c, c].mean() if (codes == c).any() else np.inf for c in range(n_classes)]
    )
    sure = table >= thresholds - 1e-12  # rows that are all equal must reach their own mean
    candidates = np.where(sure, table, -np.inf)
    counted = sure.any(axis=1)
    counts = np.zeros((n_classes, n_classes), dtype=np.int64)
    np.add.at(counts, (codes[counted], candidates[counted].argmax(axis=1)), 1)
    return counts


def _joint(table: NDArray[np.float64], codes: NDArray[np.intp]) -> NDArray[np.float64]:
    """Scale the counts of each labelled class to its size; a class without a sure row keeps its labels."""
    counts = confident_counts(table, codes).astype(np.float64)
    sizes = np.bincount(codes, minlength=len(counts))
    for label in np.flatnonzero(counts.sum(axis=1) == 0):
        counts[label, label] = 1.0
    scaled: NDArray[np.float64] = counts / counts.sum(axis=1, keepdims=True) * sizes[:, None] / len(codes)
    return scaled
