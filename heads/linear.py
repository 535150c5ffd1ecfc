"""Logistic regression on standardised columns."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from heads.class_weights import EFFECTIVE_BETA
from heads.columns import ColumnScale, LinearMap, softmax
from heads.estimator import Head, TrainedState
from heads.large_columns import measured_scale, standardised
from heads.large_rows import LargeRows
from heads.parameter_rules import Rule, number, whole
from heads.softmax_regression import SoftmaxFit, fit_softmax, fit_softmax_parts

_MOST_FACTORISED = 2048  # rows or columns, whichever are fewer; the preconditioner costs their cube


class LogisticHead(Head):
    """Multinomial logistic regression with an L2 penalty, or an elastic net.

    Parameters
    ----------
    C : float, default 0.01
        Inverse strength of the penalty, as in scikit-learn (against the sum of the losses, on standardised
        columns). Embeddings have hundreds of correlated columns, so useful values lie well below
        scikit-learn's default of 1.
    l1_ratio : float in [0, 1], default 0
        Share of the L1 penalty: ``(1 - l1_ratio) / 2 * ||W||^2 + l1_ratio * ||W||_1``, as in scikit-learn.
        With 0 (L2 alone) no coefficient is zero; with 1 (L1 alone) most are.
    class_weight : None, "balanced", "effective", float in [0, 1] or mapping, default "balanced"
        A number is a power of the balanced weights; see ``heads.class_weights.row_weights``.
    class_boost : mapping of label to factor, or None
        Multiplied on top of the class weights, such as ``{"neutral": 1.5}``.
    effective_beta : float in [0, 1), default 0.999
        For ``class_weight="effective"``.
    max_iter : int, default 300
    tol : float, default 1e-4
        Largest entry of the gradient of the weighted mean loss at which training stops. With an `l1_ratio`
        scikit-learn's rule for SAGA: the largest change of a coefficient in a pass, relative to the largest
        coefficient.
    blocks : mapping of str to int, or None
        Name and width of each block; only checked here, because columns are standardised one by one.
    random_state : int, RandomState or None
        Order of the rows in SAGA (with an `l1_ratio`); otherwise the solution does not depend on it.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    coef_ : ndarray of shape (n_classes, n_features), float64
        For rows as they come: standardising is folded in. One row per class, for two classes as well.
    intercept_ : ndarray of shape (n_classes,), float64
    n_iter_ : int
    n_features_in_ : int

    Notes
    -----
    Three solvers, one minimum. Dense columns in the hundreds have the preconditioned L-BFGS of
    ``heads.softmax_regression``; where rows and columns both go into the thousands (term counts), its
    factorisation would cost more than it saves, and scikit-learn's L-BFGS is used; an L1 penalty needs
    scikit-learn's SAGA.

    References
    ----------
    A. Defazio et al., "SAGA: A Fast Incremental Gradient Method With Support for Non-Strongly Convex
    Composite Objectives", NeurIPS 2014. H. Zou, T. Hastie, "Regularization and variable selection via the
    elastic net", J. R. Statist. Soc. B 67 (2005).

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0], [1.0], [4.0], [5.0]], dtype=np.float32)
    >>> LogisticHead(C=1.0).fit(X, ["low", "low", "high", "high"]).predict([[0.5], [4.5]]).tolist()
    ['low', 'high']
    """

    _rules: ClassVar[Mapping[str, Rule]] = {
        "C": number(0, open_low=True),
        "l1_ratio": number(0, 1, open_high=False),
        "max_iter": whole(1),
        "tol": number(0, open_low=True),
        "effective_beta": number(0, 1),
    }

    def __init__(
        self,
        C: float = 0.01,
        *,
        l1_ratio: float = 0.0,
        class_weight: str | float | Mapping[object, float] | None = "balanced",
        class_boost: Mapping[object, float] | None = None,
        effective_beta: float = EFFECTIVE_BETA,
        max_iter: int = 300,
        tol: float = 1e-4,
        blocks: Mapping[str, int] | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.C = C
        self.l1_ratio = l1_ratio
        self.class_weight = class_weight
        self.class_boost = class_boost
        self.effective_beta = effective_beta
        self.max_iter = max_iter
        self.tol = tol
        self.blocks = blocks
        self.random_state = random_state

    @property
    def n_parameters(self) -> int:
        """Coefficients and intercepts."""
        return int(self.coef_.size + self.intercept_.size)

    def trained_state(self) -> TrainedState:
        """Return coefficients and intercepts."""
        return TrainedState({"coef": self.coef_, "intercept": self.intercept_})

    def _restore_state(self, state: TrainedState) -> None:
        self.coef_ = state.arrays["coef"]
        self.intercept_ = state.arrays["intercept"]

    def _fit_rows(
        self,
        X: NDArray[Any],
        codes: NDArray[np.intp],
        weights: NDArray[np.float64],
        origins: NDArray[np.intp] | None,  # noqa: ARG002 - no row is held back here
        *,
        has_sample_weight: bool,  # noqa: ARG002 - weights hold everything needed here
    ) -> None:
        scale = ColumnScale.of(X, weights, self.blocks)
        # BLAS threads cost more than they gain on the solver's many small products: with two threads on two
        # cores the same fit took 1.1 to 2.3 times as long.
        with threadpool_limits(limits=1, user_api="blas"):
            fitted = self._solved(scale.apply(X), codes, self._weigh(codes, weights))
        self._keep(scale, fitted)

    def fits_by_chunks(self, n_features: int) -> bool:
        """Tell whether rows on disk can be trained on: with an L2 penalty, up to 2,048 columns."""
        return self.l1_ratio == 0 and n_features <= _MOST_FACTORISED

    def _fit_large(self, rows: LargeRows, codes: NDArray[np.intp], weights: NDArray[np.float64]) -> None:
        scale = measured_scale(rows, weights)
        with threadpool_limits(limits=1, user_api="blas"):
            fitted = fit_softmax_parts(
                lambda: standardised(rows, scale),
                codes,
                n_features=rows.shape[1],
                dtype=rows.dtype,
                weights=self._weigh(codes, weights),
                n_classes=len(self.classes_),
                C=self.C,
                max_iter=self.max_iter,
                tol=self.tol,
            )
        self._keep(scale, fitted)

    def _keep(self, scale: ColumnScale, fitted: SoftmaxFit) -> None:
        """Fold standardising into the coefficients."""
        folded = scale.fold(fitted.matrix, fitted.bias)
        self.coef_ = np.ascontiguousarray(folded.matrix.T)
        self.intercept_ = folded.bias
        self.n_iter_ = fitted.n_iter

    def _probabilities(self, X: NDArray[Any]) -> NDArray[np.float64]:
        return softmax(LinearMap(self.coef_.T, self.intercept_).apply(X))

    def _solved(self, X: NDArray[Any], codes: NDArray[np.intp], weights: NDArray[np.float64]) -> SoftmaxFit:
        """Find the coefficients for standardised rows."""
        if self.l1_ratio > 0 or min(X.shape) > _MOST_FACTORISED:
            return self._solved_by_scikit_learn(X, codes, weights)
        return fit_softmax(
            X,
            codes,
            weights=weights,
            n_classes=len(self.classes_),
            C=self.C,
            max_iter=self.max_iter,
            tol=self.tol,
        )

    def _solved_by_scikit_learn(
        self, X: NDArray[Any], codes: NDArray[np.intp], weights: NDArray[np.float64]
    ) -> SoftmaxFit:
        from sklearn.linear_model import LogisticRegression

        C, l1_ratio, two = self.C, self.l1_ratio, len(self.classes_) == 2
        if two:
            # One row of coefficients, w, stands for our two, w / 2 and -w / 2: the same sum of sizes, half
            # the sum of squares.
            C, l1_ratio = 2 * C / (1 + l1_ratio), 2 * l1_ratio / (1 + l1_ratio)
        solver: dict[str, object] = {"solver": "lbfgs"}
        if l1_ratio > 0:
            solver = {"solver": "saga", "l1_ratio": l1_ratio, "random_state": self._seed()}
            if inspect.signature(LogisticRegression).parameters["penalty"].default != "deprecated":
                solver["penalty"] = "elasticnet"  # scikit-learn before 1.8 has to be told
        model = LogisticRegression(C=C, max_iter=self.max_iter, tol=self.tol, **solver)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            model.fit(X, codes, sample_weight=weights)
        if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
            warnings.warn(
                f"LogisticHead stopped at max_iter={self.max_iter} passes over the rows before it reached "
                f"tol={self.tol:g}. The solution may be off; use a smaller C, a larger tol or a larger "
                "max_iter.",
                ConvergenceWarning,
                stacklevel=5,
            )
        matrix, bias = model.coef_.T, model.intercept_
        if two:
            matrix, bias = np.hstack([-matrix, matrix]) / 2, np.concatenate([-bias, bias]) / 2
        if l1_ratio > 0:
            # SAGA watches coefficients alone: where all of them are zero it stops before it has an intercept.
            bias = _best_bias((X @ matrix).astype(np.float64), bias.astype(np.float64), codes, weights)
        return SoftmaxFit(matrix, bias, int(model.n_iter_.max()))


def _best_bias(
    logits: NDArray[np.float64],
    start: NDArray[np.float64],
    codes: NDArray[np.intp],
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the intercepts of least loss for logits without them; they sum to zero."""
    share = weights / weights.sum()
    wanted = np.bincount(codes, weights=share, minlength=logits.shape[1])

    def objective(bias: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        shifted = logits + bias
        total = logsumexp(shifted, axis=1, keepdims=True)
        gradient = share @ np.exp(shifted - total) - wanted
        return float(share @ (total[:, 0] - shifted[np.arange(len(codes)), codes])), gradient

    options = {"gtol": 1e-10, "ftol": 1e-16, "maxiter": 1000}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options).x
    centred: NDArray[np.float64] = found - found.mean()
    return centred
