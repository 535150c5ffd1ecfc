"""Calibration: making probabilities mean what they say, and measuring how far they do.

Fitted on out-of-fold rows. Codes are columns: class c of `y` is column c of the probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

from heads.columns import softmax
from heads.out_of_fold import check_codes, check_probabilities, log_probabilities
from heads.parameter_rules import check_parameters, number, whole

_HOTTEST = 100.0  # perfectly separated rows have their best temperature at 0, useless ones at infinity


@dataclass(frozen=True)
class TemperatureScaling:
    """``softmax(log(p) / temperature)``: confidence changes, the most probable class does not.

    Attributes
    ----------
    temperature : float
        Above 1 for overconfident probabilities.
    """

    temperature: float

    def apply(self, probabilities: ArrayLike) -> NDArray[np.float64]:
        """Return calibrated probabilities of shape (n_samples, n_classes), float64."""
        return softmax(log_probabilities(check_probabilities(probabilities)) / self.temperature)


@dataclass(frozen=True)
class VectorScaling:
    """``softmax(scale * log(p) + shift)``, with a factor and an offset per class.

    Attributes
    ----------
    scale, shift : ndarray of shape (n_classes,), float64
    """

    scale: NDArray[np.float64]
    shift: NDArray[np.float64]

    def apply(self, probabilities: ArrayLike) -> NDArray[np.float64]:
        """Return calibrated probabilities of shape (n_samples, n_classes), float64."""
        return softmax(log_probabilities(check_probabilities(probabilities)) * self.scale + self.shift)


def fit_temperature(probabilities: ArrayLike, y: ArrayLike) -> TemperatureScaling:
    """Find the temperature of least log loss, by L-BFGS.

    Parameters
    ----------
    probabilities : array-like of shape (n_samples, n_classes)
        Out-of-fold probabilities.
    y : array-like of shape (n_samples,), integer
        Class codes.

    Returns
    -------
    TemperatureScaling
        Its temperature lies in [0.01, 100].

    Raises
    ------
    ValueError
        If the arrays are faulty (see `heads.out_of_fold.check_probabilities`).

    References
    ----------
    C. Guo et al., "On calibration of modern neural networks", ICML 2017.

    Examples
    --------
    >>> boastful = [[0.99, 0.01], [0.99, 0.01], [0.99, 0.01], [0.99, 0.01]]
    >>> fitted = fit_temperature(boastful, [0, 0, 0, 1])
    >>> fitted.apply([[0.99, 0.01]]).round(3).tolist()
    [[0.75, 0.25]]
    """
    table = check_probabilities(probabilities)
    codes = check_codes(y, *table.shape)
    logs = log_probabilities(table)
    rows = np.arange(len(codes))

    def objective(log_inverse: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Log loss and slope as a function of -log(temperature), in which it has one minimum."""
        inverse = float(np.exp(log_inverse[0]))
        calibrated = softmax(inverse * logs)
        loss = float(-np.log(np.maximum(calibrated[rows, codes], np.finfo(np.float64).tiny)).mean())
        slope = float(((calibrated * logs).sum(axis=1) - logs[rows, codes]).mean())
        return loss, np.array([inverse * slope])

    bound = float(np.log(_HOTTEST))
    options = {"ftol": 1e-14, "gtol": 1e-9}
    found = minimize(
        objective, np.zeros(1), jac=True, method="L-BFGS-B", bounds=[(-bound, bound)], options=options
    )
    return TemperatureScaling(float(np.exp(-found.x[0])))


def fit_vector_scaling(probabilities: ArrayLike, y: ArrayLike, *, penalty: float = 1.0) -> VectorScaling:
    """Find the factors and offsets of least log loss, by L-BFGS.

    Parameters
    ----------
    probabilities : array-like of shape (n_samples, n_classes)
        Out-of-fold probabilities.
    y : array-like of shape (n_samples,), integer
        Class codes.
    penalty : float, default 1
        ``penalty / 2 * (||scale - 1||^2 + ||shift||^2)`` is added to the sum of the losses: with few rows the
        probabilities stay nearly as they are, and a class without rows gets no infinite offset. 0 is the
        published method.

    Returns
    -------
    VectorScaling

    Raises
    ------
    ValueError
        If the arrays are faulty or `penalty` is negative.

    References
    ----------
    C. Guo et al., "On calibration of modern neural networks", ICML 2017 (without the penalty).
    """
    check_parameters("fit_vector_scaling", {"penalty": penalty}, {"penalty": number(0)})
    table = check_probabilities(probabilities)
    codes = check_codes(y, *table.shape)
    logs = log_probabilities(table)
    n_samples, n_classes = table.shape
    rows = np.arange(n_samples)
    neutral = np.concatenate([np.ones(n_classes), np.zeros(n_classes)])

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = logs * flat[:n_classes] + flat[n_classes:]
        logits -= logits.max(axis=1, keepdims=True)
        residual = np.exp(logits)
        total = residual.sum(axis=1)
        loss = float((np.log(total) - logits[rows, codes]).sum())
        residual /= total[:, None]
        residual[rows, codes] -= 1
        gradient = np.concatenate([(residual * logs).sum(axis=0), residual.sum(axis=0)])
        away = flat - neutral
        loss += penalty / 2 * float(away @ away)
        return loss / n_samples, (gradient + penalty * away) / n_samples

    options = {"ftol": 1e-14, "gtol": 1e-8, "maxiter": 1000}
    found = minimize(objective, neutral, jac=True, method="L-BFGS-B", options=options)
    return VectorScaling(found.x[:n_classes], found.x[n_classes:])


@dataclass(frozen=True)
class ReliabilityBins:
    """Confidence against accuracy, in bins of equal width.

    Attributes
    ----------
    edges : ndarray of shape (n_bins + 1,), float64
        Bin b holds confidences in (edges[b], edges[b + 1]]; the first one also 0.
    count : ndarray of shape (n_bins,), int64
        Rows in each bin.
    confidence, accuracy : ndarray of shape (n_bins,), float64
        Means over the rows of each bin; NaN for an empty one.
    """

    edges: NDArray[np.float64]
    count: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def reliability_bins(probabilities: ArrayLike, y: ArrayLike, *, n_bins: int = 15) -> ReliabilityBins:
    """Sort rows into bins by the probability of their most probable class.

    Parameters
    ----------
    probabilities : array-like of shape (n_samples, n_classes)
    y : array-like of shape (n_samples,), integer
        Class codes.
    n_bins : int, default 15

    Returns
    -------
    ReliabilityBins

    Raises
    ------
    ValueError
        If the arrays are faulty or `n_bins` is below 1.

    References
    ----------
    C. Guo et al., "On calibration of modern neural networks", ICML 2017 (reliability diagram, 15 bins).
    """
    check_parameters("reliability_bins", {"n_bins": n_bins}, {"n_bins": whole(1)})
    table = check_probabilities(probabilities)
    hit = table.argmax(axis=1) == check_codes(y, *table.shape)
    confidence = table.max(axis=1)
    edges = np.linspace(0, 1, n_bins + 1)
    bins = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, n_bins - 1)
    count = np.bincount(bins, minlength=n_bins)
    size = np.where(count, count, np.nan)
    return ReliabilityBins(
        edges=edges,
        count=count.astype(np.int64),
        confidence=np.bincount(bins, weights=confidence, minlength=n_bins) / size,
        accuracy=np.bincount(bins, weights=hit.astype(np.float64), minlength=n_bins) / size,
    )


def expected_calibration_error(probabilities: ArrayLike, y: ArrayLike, *, n_bins: int = 15) -> float:
    """Return the mean distance of confidence and accuracy over bins, weighted by their rows; 0 is perfect.

    Parameters
    ----------
    probabilities, y, n_bins
        As in `reliability_bins`.

    Returns
    -------
    float in [0, 1]
        Larger than 0 by chance for few rows per bin, however good the probabilities are.

    Raises
    ------
    ValueError
        As `reliability_bins`.

    References
    ----------
    M. P. Naeini, G. F. Cooper, M. Hauskrecht, "Obtaining well calibrated probabilities using Bayesian
    binning", AAAI 2015.
    """
    bins = reliability_bins(probabilities, y, n_bins=n_bins)
    filled = bins.count > 0
    gap = np.abs(bins.confidence[filled] - bins.accuracy[filled])
    return float(gap @ bins.count[filled] / bins.count.sum())
