"""Saying honestly what a step after training is worth: fitted on some folds, scored on another.

Everything that happens after training (calibration, decisions, ensembles) is a fit function: it takes
probabilities and class codes, and returns an object whose ``apply`` turns probabilities into better ones, or
into class codes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heads.calibration import expected_calibration_error
from heads.ensembles import fit_best_single
from heads.out_of_fold import (
    METRICS,
    check_codes,
    check_probabilities,
    confusion_counts,
    log_loss,
    score_counts,
)


class AfterStep(Protocol):
    """What a fit function returns."""

    def apply(self, probabilities: ArrayLike) -> NDArray[Any]:
        """Return probabilities of shape (n_samples, n_classes), or codes of shape (n_samples,)."""


Fit = Callable[[NDArray[np.float64], NDArray[np.intp]], AfterStep]
"""Takes probabilities and class codes of the rows to fit on."""


def nested_apply(fit: Fit, probabilities: ArrayLike, y: ArrayLike, fold_of_row: ArrayLike) -> NDArray[Any]:
    """Fit on the rows of all folds but one and apply to that one, for every fold.

    Parameters
    ----------
    fit : callable
        See `Fit`.
    probabilities : array-like of shape (n_samples, n_classes) or (n_models, n_samples, n_classes)
        Out-of-fold: each row comes from a model that did not train on it.
    y : array-like of shape (n_samples,), integer
    fold_of_row : array-like of shape (n_samples,), integer
        In which fold each row was held out; related rows share a fold.

    Returns
    -------
    ndarray of shape (n_samples, n_classes), float64, or (n_samples,), integer
        What ``apply`` gave for each row, fitted without that row's fold.

    Raises
    ------
    ValueError
        If an array does not fit the others, there are fewer than two folds, or `fit` refuses its rows.

    Notes
    -----
    The probabilities of the other folds came from models that had this fold among their training rows. The
    few numbers fitted here cannot carry single rows over, but shares of classes would show; so folds should
    be stratified.
    """
    n_axes = 3 if np.ndim(probabilities) == 3 else 2
    table = check_probabilities(probabilities, n_axes=n_axes)
    codes = check_codes(y, table.shape[-2], table.shape[-1])
    folds = _check_folds(fold_of_row, len(codes))
    results: NDArray[Any] | None = None
    for fold in np.unique(folds):
        inside = folds == fold
        fitted = fit(table[..., ~inside, :], codes[~inside])
        applied = fitted.apply(table[..., inside, :])
        if results is None:
            results = np.empty((len(codes), *applied.shape[1:]), dtype=applied.dtype)
        results[inside] = applied
    assert results is not None  # there are two folds
    return results


def _check_folds(fold_of_row: ArrayLike, n_samples: int) -> NDArray[Any]:
    folds = np.asarray(fold_of_row)
    if folds.shape != (n_samples,) or folds.dtype.kind not in "iu":
        raise ValueError(
            f"fold_of_row has shape {folds.shape} and dtype {folds.dtype}, but one integer fold number for "
            f"each of the {n_samples} rows is needed."
        )
    if len(np.unique(folds)) < 2:
        raise ValueError("fold_of_row names one fold only; nested evaluation needs two or more.")
    return folds


def step_scores(result: NDArray[Any], y: ArrayLike, n_classes: int) -> dict[str, float]:
    """Score what ``apply`` returned.

    Parameters
    ----------
    result : ndarray of shape (n_samples, n_classes), float, or (n_samples,), integer
    y : array-like of shape (n_samples,), integer
    n_classes : int

    Returns
    -------
    dict
        ``macro_f1``, ``weighted_f1`` and ``accuracy`` of all rows pooled; of probabilities also ``log_loss``
        (nats) and ``ece`` (see `heads.calibration.expected_calibration_error`), for which smaller is better.
    """
    codes = check_codes(y, len(result), n_classes)
    predicted = result if result.ndim == 1 else result.argmax(axis=1)
    counts = confusion_counts(codes, predicted, n_classes)
    scores = {name: float(score_counts(counts, name)) for name in METRICS}
    if result.ndim == 2:
        scores["log_loss"] = log_loss(result, codes)
        scores["ece"] = expected_calibration_error(result, codes)
    return scores


def with_and_without(
    fit: Fit, probabilities: ArrayLike, y: ArrayLike, fold_of_row: ArrayLike
) -> dict[str, dict[str, float]]:
    """Say honestly what a step after training is worth.

    Parameters
    ----------
    fit, probabilities, y, fold_of_row
        As in `nested_apply`, which they go to.

    Returns
    -------
    dict
        ``without`` and ``with``, each as from `step_scores`. For several models ``without`` is the one model
        that has the best macro-F1 on the other folds, chosen anew for every fold, because choosing looks at
        labels too.
    """
    n_classes = np.shape(probabilities)[-1]
    after = nested_apply(fit, probabilities, y, fold_of_row)
    if np.ndim(probabilities) == 3:
        before = nested_apply(fit_best_single, probabilities, y, fold_of_row)
    else:
        before = check_probabilities(probabilities)
    return {"without": step_scores(before, y, n_classes), "with": step_scores(after, y, n_classes)}
