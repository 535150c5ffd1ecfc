"""From scores of classes to probabilities: one factor, fitted on scores of rows that were left out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from heads.columns import LinearMap, softmax
from heads.estimator import Head, TrainedState

# A factor multiplies scores whose typical spread within a row is 1 to a logit spread in this range: below it
# the scores say nothing, above it every probability is 0 or 1 to four places.
_LOGIT_SPREAD = (1e-3, 30.0)


def fit_score_factor(
    scores: NDArray[np.float64],
    codes: NDArray[np.intp],
    weights: NDArray[np.float64],
    offsets: NDArray[np.float64] | None = None,
) -> float:
    """Find the factor a with which ``softmax(a * scores + offsets)`` fits the labels best.

    Parameters
    ----------
    scores : ndarray of shape (n_samples, n_classes), float64
        Scores of rows by a model that was not trained on them; larger is likelier.
    codes : ndarray of shape (n_samples,), integer in [0, n_classes)
    weights : ndarray of shape (n_samples,), float64
        Not negative; the total is positive.
    offsets : ndarray of shape (n_classes,), float64, or None
        Log-priors that are added after scaling; finite.

    Returns
    -------
    float
        Positive and finite. One factor cannot change which class has the largest score.

    Notes
    -----
    The weighted log-loss is convex in the factor. When the scores separate the classes without error it has
    no minimum, and the factor ends at a bound that depends on the spread of the scores.

    References
    ----------
    C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017 (temperature scaling).
    """
    centred = scores - scores.mean(axis=1, keepdims=True)
    share = weights / weights.sum()
    spread = float(np.sqrt(share @ np.mean(centred**2, axis=1)))
    if not spread > 0:  # every class has the same score in every row
        return 1.0
    added = np.zeros(scores.shape[1]) if offsets is None else offsets
    rows = np.arange(len(scores))

    def loss(log_factor: float) -> float:
        logits = np.exp(log_factor) * centred + added
        return float(share @ (logsumexp(logits, axis=1) - logits[rows, codes]))

    low, high = (float(np.log(bound / spread)) for bound in _LOGIT_SPREAD)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-5})
    return float(np.exp(found.x))


class ScaledLinearHead(Head):
    """A head whose probabilities are ``softmax(factor_ * (X @ coef_.T + intercept_))``.

    Attributes
    ----------
    coef_ : ndarray of shape (n_classes, n_features), float64
    intercept_ : ndarray of shape (n_classes,), float64
    factor_ : float
        See `fit_score_factor`.
    """

    coef_: NDArray[np.float64]
    intercept_: NDArray[np.float64]
    factor_: float

    @property
    def n_parameters(self) -> int:
        """Coefficients, intercepts and the factor."""
        return int(self.coef_.size + self.intercept_.size + 1)

    def trained_state(self) -> TrainedState:
        """Return coefficients, intercepts and the factor."""
        return TrainedState(
            {"coef": self.coef_, "intercept": self.intercept_, "factor": np.array([self.factor_])}
        )

    def _restore_state(self, state: TrainedState) -> None:
        self.coef_ = state.arrays["coef"]
        self.intercept_ = state.arrays["intercept"]
        self.factor_ = float(state.arrays["factor"][0])

    def _probabilities(self, X: NDArray[Any]) -> NDArray[np.float64]:
        return softmax(self.factor_ * LinearMap(self.coef_.T, self.intercept_).apply(X))
