"""Decisions: which class to name when the most probable one is not the best answer.

Macro-F1 rewards naming a rare class earlier than its probability asks for. What is fitted here is fitted on
out-of-fold rows; codes are columns of the probabilities.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heads.names import DECISIONS, unknown_name
from heads.out_of_fold import (
    Metric,
    check_codes,
    check_probabilities,
    confusion_counts,
    log_probabilities,
    score_counts,
)
from heads.parameter_rules import check_parameters, number, whole

_DECIMALS = 9  # of a log weight
_MOST_PASSES = 20  # over all classes; each pass but the last improves the score


@dataclass(frozen=True)
class DecisionWeights:
    """``argmax(weights * p)``.

    Attributes
    ----------
    weights : ndarray of shape (n_classes,), float64
        Positive, with geometric mean 1. Equal weights are the most probable class.
    """

    weights: NDArray[np.float64]

    def apply(self, probabilities: ArrayLike) -> NDArray[np.intp]:
        """Return class codes of shape (n_samples,); the lowest code wins a tie."""
        codes: NDArray[np.intp] = (check_probabilities(probabilities) * self.weights).argmax(axis=1)
        return codes


@dataclass(frozen=True)
class LowConfidenceRule:
    """The most probable class, unless it is unsure and the named class is likely enough.

    Attributes
    ----------
    code : int
        Class that is named when ``max(p) < confidence_below`` and ``p[code] > probability_above``.
    confidence_below, probability_above : float in [0, 1]
        0.8 and 0.4, for the class "neutral", in the course report the rule comes from.
    """

    code: int
    confidence_below: float = 0.8
    probability_above: float = 0.4

    def apply(self, probabilities: ArrayLike) -> NDArray[np.intp]:
        """Return class codes of shape (n_samples,); refuse a `code` that is no column."""
        table = check_probabilities(probabilities)
        if not 0 <= self.code < table.shape[1]:
            raise ValueError(f"code={self.code} is no class; allowed are 0..{table.shape[1] - 1}.")
        unsure = (table.max(axis=1) < self.confidence_below) & (table[:, self.code] > self.probability_above)
        codes: NDArray[np.intp] = np.where(unsure, self.code, table.argmax(axis=1))
        return codes


def fit_decision_weights(
    probabilities: ArrayLike,
    y: ArrayLike,
    *,
    metric: Metric = "macro_f1",
    plateau: float = 0.002,
    largest: float = 20.0,
) -> DecisionWeights:
    """Find the class weights whose decisions score best, one class after another until nothing improves.

    Parameters
    ----------
    probabilities : array-like of shape (n_samples, n_classes)
        Out-of-fold probabilities.
    y : array-like of shape (n_samples,), integer
        Class codes.
    metric : str or callable, default "macro_f1"
        See `heads.out_of_fold.score_counts`.
    plateau : float, default 0.002
        The score is a staircase in each weight, and its highest step is luck. The weight chosen is the middle
        (of logarithms) of the stretch around that step on which the score is at most this much lower.
    largest : float, default 20
        Each weight lies in [1 / largest, largest] before they are scaled to geometric mean 1.

    Returns
    -------
    DecisionWeights
        Equal weights unless others score better on these rows.

    Raises
    ------
    ValueError
        If the arrays are faulty, or an argument is out of range.

    Notes
    -----
    Every step of the staircase is scored, not a grid of it: the margins of the rows are sorted and confusion
    counts updated row by row, O(n_samples * log(n_samples)) per class and pass. Going class by class can
    end in a local maximum.

    References
    ----------
    The decision rule: scikit-learn issue 16525. The plateau rule: ``inference_tuning.py`` of TabPFN, for
    thresholds of one class against the rest.

    Examples
    --------
    >>> p = [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]]
    >>> fit_decision_weights(p, [0, 0, 1, 1]).apply(p).tolist()
    [0, 0, 1, 1]
    """
    check_parameters(
        "fit_decision_weights",
        {"plateau": plateau, "largest": largest},
        {"plateau": number(0), "largest": number(1, open_low=True)},
    )
    table = check_probabilities(probabilities)
    codes = check_codes(y, *table.shape)
    logs = log_probabilities(table)
    n_classes = table.shape[1]
    log_weights = np.zeros(n_classes)
    best = float(score_counts(confusion_counts(codes, table.argmax(axis=1), n_classes), metric))
    for _ in range(_MOST_PASSES):
        before = best
        for code in range(n_classes):
            found, score = _best_log_weight(
                logs + log_weights, logs[:, code], codes, code, metric, plateau, float(np.log(largest))
            )
            if score > best:
                log_weights[code], best = found, score
        if best == before:
            break
    return DecisionWeights(np.exp(log_weights - log_weights.mean()))


def _best_log_weight(
    weighted: NDArray[np.float64],
    own: NDArray[np.float64],
    codes: NDArray[np.intp],
    code: int,
    metric: Metric,
    plateau: float,
    bound: float,
) -> tuple[float, float]:
    """Return the log weight in [-bound, bound] of one class by the plateau rule, and its score."""
    others = weighted.copy()
    others[:, code] = -np.inf
    # A row goes to the class when the log weight is above. Rounded, so that equal ones stay equal.
    thresholds = (others.max(axis=1) - own).round(_DECIMALS)
    steps, scores = _staircase(codes, others.argmax(axis=1), thresholds, code, weighted.shape[1], metric)
    ends = np.clip(np.concatenate([[-np.inf], steps, [np.inf]]), -bound, bound)
    low, high = ends[:-1], ends[1:]
    scores = np.where(high > low, scores, -np.inf)
    start, stop = _plateau(scores, low, high, plateau)
    middle = (low[start] + high[stop]) / 2
    step = int(np.searchsorted(steps, middle, side="left"))
    if min(middle - low[step], high[step] - middle) < 10.0**-_DECIMALS / 4:
        middle = (low[step] + high[step]) / 2  # on the edge of a step rounding would decide
    return float(middle), float(scores[step])


def _staircase(
    codes: NDArray[np.intp],
    otherwise: NDArray[np.intp],
    thresholds: NDArray[np.float64],
    code: int,
    n_classes: int,
    metric: Metric,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Score every decision that the log weight of one class can lead to.

    Returns
    -------
    (steps, scores) : ndarray of shape (n_steps,), ascending, and of shape (n_steps + 1,)
        ``scores[i]`` holds between ``steps[i - 1]`` and ``steps[i]``.
    """
    order = np.argsort(thresholds, kind="stable")
    rows, cells = np.arange(len(codes)), n_classes**2
    moves = np.zeros((len(codes), cells))
    moves[rows, codes[order] * n_classes + code] += 1
    moves[rows, codes[order] * n_classes + otherwise[order]] -= 1
    first = confusion_counts(codes, otherwise, n_classes).reshape(1, cells)
    counts = np.concatenate([first, first + np.cumsum(moves, axis=0)])
    steps, first_row = np.unique(thresholds[order], return_index=True)
    after = np.append(first_row, len(codes))  # counts before the first row of each step, then after all
    return steps, score_counts(counts[after].reshape(-1, n_classes, n_classes), metric)


def _plateau(
    scores: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64], tolerance: float
) -> tuple[int, int]:
    """Return first and last step of the widest stretch that holds a best step and is nearly as good."""
    good = scores >= scores.max() - tolerance
    edges = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]]).astype(np.int8)))
    best: tuple[float, int, int] | None = None
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        width = float(high[end - 1] - low[start])
        if scores[start:end].max() == scores.max() and (best is None or width > best[0]):
            best = width, start, end - 1
    assert best is not None  # the best step is good
    return best[1], best[2]


def decision_fit(
    name: str,
    *,
    metric: Metric = "macro_f1",
    code: int | None = None,
    confidence_below: float = 0.8,
    probability_above: float = 0.4,
) -> Callable[[NDArray[np.float64], NDArray[np.intp]], DecisionWeights | LowConfidenceRule]:
    """Return the fit function of a decision by its name, for `heads.with_and_without`.

    Parameters
    ----------
    name : {"argmax", "weights", "low-confidence"}
    metric : str or callable
        For ``"weights"``.
    code : int
        For ``"low-confidence"``, which learns nothing: the class it prefers.
    confidence_below, probability_above : float in [0, 1]
        For ``"low-confidence"``.

    Returns
    -------
    callable
        Takes probabilities and class codes; returns a decision with ``apply``.

    Raises
    ------
    ValueError
        If the name is unknown or an argument out of range, `code` being needed for ``"low-confidence"``.
    """
    if name not in DECISIONS:
        raise ValueError(f"Wrong decision: {unknown_name('decision', name, DECISIONS)}.")
    if name == "weights":
        return lambda probabilities, y: fit_decision_weights(probabilities, y, metric=metric)
    if name == "argmax":
        return lambda probabilities, _: DecisionWeights(np.ones(probabilities.shape[1]))
    values = {"code": code, "confidence_below": confidence_below, "probability_above": probability_above}
    fraction = number(0, 1, open_high=False)
    rules = {"code": whole(0), "confidence_below": fraction, "probability_above": fraction}
    check_parameters("decision_fit('low-confidence')", values, rules)
    assert code is not None  # checked above
    rule = LowConfidenceRule(code, confidence_below, probability_above)
    return lambda _probabilities, _y: rule
