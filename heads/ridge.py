"""Ridge regression onto class indicators, with probabilities from leave-one-out scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from heads.class_weights import EFFECTIVE_BETA
from heads.columns import ColumnScale
from heads.parameter_rules import Rule, number
from heads.score_scaling import ScaledLinearHead, fit_score_factor

_ROWS_AT_ONCE = 4096
_SMALLEST_REST = 1e-10  # of one row's own share in its prediction: it never reaches 1 with a penalty


class RidgeHead(ScaledLinearHead):
    """Ridge classifier: least squares onto -1 and 1 with an L2 penalty, in closed form.

    Parameters
    ----------
    alpha : float, default 300.0
        Strength of the penalty, as in scikit-learn (against the sum of the squared errors, on standardised
        columns).
    class_weight : None, "balanced", "effective", float in [0, 1] or mapping, default "balanced"
        A number is a power of the balanced weights; see ``heads.class_weights.row_weights``.
    class_boost : mapping of label to factor, or None
        Multiplied on top of the class weights, such as ``{"neutral": 1.5}``.
    effective_beta : float in [0, 1), default 0.999
        For ``class_weight="effective"``.
    blocks : mapping of str to int, or None
        Name and width of each block; only checked here, because columns are standardised one by one.
    random_state : int, RandomState or None
        Accepted so that all heads are made alike; the solution does not depend on it.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    coef_ : ndarray of shape (n_classes, n_features), float64
        For rows as they come: standardising is folded in. One row per class, for two classes as well.
    intercept_ : ndarray of shape (n_classes,), float64
    factor_ : float
        Probabilities are ``softmax(factor_ * (X @ coef_.T + intercept_))``. Fitted on leave-one-out scores of
        the training rows; the predicted class is that of the plain ridge classifier.
    n_features_in_ : int

    Notes
    -----
    One factorisation gives the coefficients and, in closed form, the score of each row by the model that was
    trained without it. It is of the Gram matrix of the columns, which is summed over slices of the rows, or
    of that of the rows where they are fewer. Copies that a resampling step in front of this head made of a
    row, and its views, stay in when it is left out: the probabilities are then too sure, but the predicted
    class is the same.

    References
    ----------
    R. Rifkin and R. Lippert, "Notes on Regularized Least Squares", MIT-CSAIL-TR-2007-025 (leave-one-out).

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0], [1.0], [4.0], [5.0]], dtype=np.float32)
    >>> RidgeHead(alpha=1.0).fit(X, ["low", "low", "high", "high"]).predict([[0.5], [4.5]]).tolist()
    ['low', 'high']
    """

    _rules: ClassVar[Mapping[str, Rule]] = {
        "alpha": number(0, open_low=True),
        "effective_beta": number(0, 1),
    }

    def __init__(
        self,
        alpha: float = 300.0,
        *,
        class_weight: str | float | Mapping[object, float] | None = "balanced",
        class_boost: Mapping[object, float] | None = None,
        effective_beta: float = EFFECTIVE_BETA,
        blocks: Mapping[str, int] | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.alpha = alpha
        self.class_weight = class_weight
        self.class_boost = class_boost
        self.effective_beta = effective_beta
        self.blocks = blocks
        self.random_state = random_state

    def _fit_rows(
        self,
        X: NDArray[Any],
        codes: NDArray[np.intp],
        weights: NDArray[np.float64],
        origins: NDArray[np.intp] | None,  # noqa: ARG002 - no row is held back here
        *,
        has_sample_weight: bool,  # noqa: ARG002 - weights hold everything needed here
    ) -> None:
        row_weights = self._weigh(codes, weights)
        targets = np.where(codes[:, None] == np.arange(len(self.classes_)), 1.0, -1.0)
        # Centred by the weights of the regression, so that the intercept is the weighted mean of the targets.
        spread = ColumnScale.of(X, weights, self.blocks)
        scale = ColumnScale(ColumnScale.of(X, row_weights).mean, spread.inverse)
        centre = row_weights @ targets / row_weights.sum()
        matrix, own = _solve(X, targets - centre, row_weights, scale, self.alpha)
        folded = scale.fold(matrix, centre)
        self.coef_ = np.ascontiguousarray(folded.matrix.T)
        self.intercept_ = folded.bias
        # A row of weight 3 stands for three equal rows, of which one is left out.
        own = (own + row_weights / row_weights.sum()) * np.minimum(1.0, 1.0 / weights)
        fitted = folded.apply(X)
        left_out = targets - (targets - fitted) / np.maximum(1.0 - own, _SMALLEST_REST)[:, None]
        self.factor_ = fit_score_factor(left_out, codes, row_weights)


def _solve(
    X: NDArray[Any],
    targets: NDArray[np.float64],
    weights: NDArray[np.float64],
    scale: ColumnScale,
    alpha: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the coefficients for standardised rows, and the share of each row in its own prediction."""
    roots = np.sqrt(weights)
    if len(X) < X.shape[1]:
        Z = scale.apply(X.astype(np.float64)) * roots[:, None]
        inverse = cho_solve(
            cho_factor(Z @ Z.T + alpha * np.eye(len(Z)), lower=True), np.eye(len(Z)), check_finite=False
        )
        return Z.T @ (inverse @ (targets * roots[:, None])), 1.0 - alpha * np.diag(inverse)
    gram = alpha * np.eye(X.shape[1])
    moments = np.zeros((X.shape[1], targets.shape[1]))
    for rows in _slices(len(X)):
        Z = scale.apply(X[rows].astype(np.float64)) * roots[rows, None]
        gram += Z.T @ Z
        moments += Z.T @ (targets[rows] * roots[rows, None])
    factor = cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
    own = np.empty(len(X))
    for rows in _slices(len(X)):
        Z = scale.apply(X[rows].astype(np.float64)) * roots[rows, None]
        half = solve_triangular(factor[0], Z.T, lower=True, overwrite_b=True, check_finite=False)
        own[rows] = np.einsum("ij,ij->j", half, half)
    return cho_solve(factor, moments, check_finite=False), own


def _slices(n_rows: int) -> Iterator[slice]:
    """Cut rows into slices of a fixed size."""
    return (slice(start, start + _ROWS_AT_ONCE) for start in range(0, n_rows, _ROWS_AT_ONCE))
