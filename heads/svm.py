"""Linear support-vector machine, with probabilities from scores of held-out folds."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from heads.class_weights import EFFECTIVE_BETA
from heads.columns import ColumnScale, LinearMap
from heads.parameter_rules import Rule, number, whole
from heads.score_scaling import ScaledLinearHead, fit_score_factor

_INNER_FOLDS = 3


class LinearSVMHead(ScaledLinearHead):
    """Linear SVM (squared hinge loss, one class against the rest) with calibrated probabilities.

    Parameters
    ----------
    C : float, default 0.001
        Inverse strength of the L2 penalty, as in scikit-learn's LinearSVC (against the sum of the losses, on
        standardised columns). The intercept is not penalised.
    class_weight : None, "balanced", "effective", float in [0, 1] or mapping, default "balanced"
        A number is a power of the balanced weights; see ``heads.class_weights.row_weights``.
    class_boost : mapping of label to factor, or None
        Multiplied on top of the class weights, such as ``{"neutral": 1.5}``.
    effective_beta : float in [0, 1), default 0.999
        For ``class_weight="effective"``.
    max_iter : int, default 1000
    tol : float, default 1e-4
        Largest entry of the gradient of the weighted mean loss at which training stops.
    blocks : mapping of str to int, or None
        Name and width of each block; only checked here, because columns are standardised one by one.
    random_state : int, RandomState or None
        Draws the inner folds of the calibration; the coefficients do not depend on it.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    coef_ : ndarray of shape (n_classes, n_features), float64
        For rows as they come: standardising is folded in. One row per class, for two classes as well.
    intercept_ : ndarray of shape (n_classes,), float64
    factor_ : float
        Probabilities are ``softmax(factor_ * (X @ coef_.T + intercept_))``; the predicted class is that of
        the SVM.
    n_iter_ : int
    n_features_in_ : int

    Notes
    -----
    The factor is fitted on the scores of three inner folds of the training rows, each by an SVM that was
    trained on the other two; views are put where their row is, and only clean rows are looked at. So a fit
    costs about three. The passes over the data grow with C: 21 at 1e-5, 61 at 1e-3 and 400 at 0.1 on 4,000
    rows of 1,536 correlated columns. A resampling step in front of this head puts copies of a row into
    several inner folds: the probabilities are then too sure, but the predicted class is the same.

    References
    ----------
    J. Platt, "Probabilistic Outputs for Support Vector Machines", Advances in Large Margin Classifiers
    (1999), for calibrating on held-out scores; R.-E. Fan et al., "LIBLINEAR", JMLR 9 (2008), for the loss.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0], [1.0], [4.0], [5.0]], dtype=np.float32)
    >>> LinearSVMHead(C=1.0).fit(X, ["low", "low", "high", "high"]).predict([[0.5], [4.5]]).tolist()
    ['low', 'high']
    """

    _rules: ClassVar[Mapping[str, Rule]] = {
        "C": number(0, open_low=True),
        "max_iter": whole(1),
        "tol": number(0, open_low=True),
        "effective_beta": number(0, 1),
    }

    def __init__(
        self,
        C: float = 0.001,
        *,
        class_weight: str | float | Mapping[object, float] | None = "balanced",
        class_boost: Mapping[object, float] | None = None,
        effective_beta: float = EFFECTIVE_BETA,
        max_iter: int = 1000,
        tol: float = 1e-4,
        blocks: Mapping[str, int] | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.C = C
        self.class_weight = class_weight
        self.class_boost = class_boost
        self.effective_beta = effective_beta
        self.max_iter = max_iter
        self.tol = tol
        self.blocks = blocks
        self.random_state = random_state

    def _fit_rows(
        self,
        X: NDArray[Any],
        codes: NDArray[np.intp],
        weights: NDArray[np.float64],
        origins: NDArray[np.intp] | None,
        *,
        has_sample_weight: bool,  # noqa: ARG002 - weights hold everything needed here
    ) -> None:
        counted = self._weigh(codes, weights)
        # One BLAS thread, as in LogisticHead: the solver makes many small products.
        with threadpool_limits(limits=1, user_api="blas"):
            fitted, self.n_iter_ = self._solved(X, codes, weights, counted)
            scores = self._held_out_scores(X, codes, weights, counted, origins)
        self.coef_ = np.ascontiguousarray(fitted.matrix.T)
        self.intercept_ = fitted.bias
        seen = ~np.isnan(scores[:, 0]) & (counted > 0)
        self.factor_ = fit_score_factor(scores[seen], codes[seen], counted[seen]) if seen.any() else 1.0

    def _solved(
        self,
        X: NDArray[Any],
        codes: NDArray[np.intp],
        weights: NDArray[np.float64],
        counted: NDArray[np.float64],
    ) -> tuple[LinearMap, int]:
        """Train on rows; return the map from raw rows to scores, and the iterations it took."""
        scale = ColumnScale.of(X, weights, self.blocks)
        objective = _SquaredHinge(scale.apply(X), codes, counted, n_classes=len(self.classes_), C=self.C)
        matrix, bias, n_iter = _minimise(objective, max_iter=self.max_iter, tol=self.tol)
        return scale.fold(matrix, bias), n_iter

    def _held_out_scores(
        self,
        X: NDArray[Any],
        codes: NDArray[np.intp],
        weights: NDArray[np.float64],
        counted: NDArray[np.float64],
        origins: NDArray[np.intp] | None,
    ) -> NDArray[np.float64]:
        """Score each clean row by an SVM that saw neither it nor its views; NaN where there is none."""
        of_row = np.arange(len(X)) if origins is None else origins
        clean = of_row == np.arange(len(X))
        folds = np.empty(len(X), dtype=np.intp)
        folds[clean] = _inner_folds(codes[clean], np.random.RandomState(self._seed()))
        folds = folds[of_row]
        scores = np.full((len(X), len(self.classes_)), np.nan)
        for fold in range(_INNER_FOLDS):
            kept, asked = folds != fold, clean & (folds == fold)
            # With a class of one row, the fold that holds it is scored by an SVM of the other classes.
            if asked.any() and counted[kept].any():
                trained, _ = self._solved(X[kept], codes[kept], weights[kept], counted[kept])
                scores[asked] = trained.apply(X[asked])
        return scores


def _inner_folds(codes: NDArray[np.intp], random: np.random.RandomState) -> NDArray[np.intp]:
    """Return a fold for each row: every class is dealt out in turn, so that folds differ by a row at most."""
    order = np.concatenate([random.permutation(np.flatnonzero(codes == code)) for code in np.unique(codes)])
    folds = np.empty(len(codes), dtype=np.intp)
    folds[order] = np.arange(len(codes)) % _INNER_FOLDS
    return folds


class _SquaredHinge:
    """Weighted mean loss plus penalty, and the gradient, of all classes against the rest at once."""

    def __init__(
        self,
        X: NDArray[Any],
        codes: NDArray[np.intp],
        weights: NDArray[np.float64],
        *,
        n_classes: int,
        C: float,
    ) -> None:
        self.X = X
        self.shape = (X.shape[1] + 1, n_classes)
        self.share = (weights / weights.sum()).astype(X.dtype)[:, None]
        self.penalty = 1.0 / (C * float(weights.sum()))
        self.signs = np.where(codes[:, None] == np.arange(n_classes), 1, -1).astype(X.dtype)
        self.steepest = np.inf

    def __call__(self, flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Return the loss and its gradient."""
        table = flat.reshape(self.shape)
        matrix, bias = table[:-1].astype(self.X.dtype), table[-1].astype(self.X.dtype)
        slack = np.maximum(1 - self.signs * (self.X @ matrix + bias), 0)
        pull = self.share * slack
        loss = float(np.sum(pull * slack, dtype=np.float64))
        loss += 0.5 * self.penalty * float(np.sum(table[:-1] ** 2))
        pull *= -2 * self.signs
        gradient = np.empty(self.shape)
        # (K, n) @ (n, d) is the faster order for a row-major X.
        gradient[:-1] = (pull.T @ self.X).T + self.penalty * table[:-1]
        gradient[-1] = pull.sum(axis=0)
        self.steepest = float(np.abs(gradient).max())
        return loss, gradient.ravel()


def _minimise(
    objective: _SquaredHinge, *, max_iter: int, tol: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Return (matrix, bias, iterations) at the minimum."""
    result = minimize(
        objective,
        np.zeros(objective.shape[0] * objective.shape[1]),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": max_iter, "maxfun": 20 * max_iter, "gtol": tol, "ftol": 1e-12, "maxls": 50},
    )
    if result.nit >= max_iter and objective.steepest > tol:
        warnings.warn(
            f"LinearSVMHead stopped at max_iter={max_iter} iterations with a gradient of "
            f"{objective.steepest:.1e}, above tol={tol:g}. The solution may be off; use a smaller C, a "
            "larger tol or a larger max_iter.",
            ConvergenceWarning,
            stacklevel=5,
        )
    table = result.x.reshape(objective.shape)
    return table[:-1], table[-1], max(int(result.nit), 1)
