"""Logistic regression on standardised columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from heads.class_weights import EFFECTIVE_BETA
from heads.columns import ColumnScale, LinearMap, softmax
from heads.estimator import Head, TrainedState
from heads.parameter_rules import Rule, number, whole
from heads.softmax_regression import fit_softmax


class LogisticHead(Head):
    """Multinomial logistic regression with an L2 penalty.

    Parameters
    ----------
    C : float, default 0.01
        Inverse strength of the penalty, as in scikit-learn (against the sum of the losses, on standardised
        columns). Embeddings have hundreds of correlated columns, so useful values lie well below
        scikit-learn's default of 1.
    class_weight : None, "balanced", "effective", float in [0, 1] or mapping, default "balanced"
        A number is a power of the balanced weights; see ``heads.class_weights.row_weights``.
    class_boost : mapping of label to factor, or None
        Multiplied on top of the class weights, such as ``{"neutral": 1.5}``.
    effective_beta : float in [0, 1), default 0.999
        For ``class_weight="effective"``.
    max_iter : int, default 300
    tol : float, default 1e-4
        Largest entry of the gradient of the weighted mean loss at which training stops.
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
    n_iter_ : int
    n_features_in_ : int

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0], [1.0], [4.0], [5.0]], dtype=np.float32)
    >>> LogisticHead(C=1.0).fit(X, ["low", "low", "high", "high"]).predict([[0.5], [4.5]]).tolist()
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
        C: float = 0.01,
        *,
        class_weight: str | float | Mapping[object, float] | None = "balanced",
        class_boost: Mapping[object, float] | None = None,
        effective_beta: float = EFFECTIVE_BETA,
        max_iter: int = 300,
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
        scale = ColumnScale.of(X, weights)
        # BLAS threads cost more than they gain on the solver's many small products: with two threads on two
        # cores the same fit took 1.1 to 2.3 times as long.
        with threadpool_limits(limits=1, user_api="blas"):
            fitted = fit_softmax(
                scale.apply(X),
                codes,
                weights=self._weigh(codes, weights),
                n_classes=len(self.classes_),
                C=self.C,
                max_iter=self.max_iter,
                tol=self.tol,
            )
        folded = scale.fold(fitted.matrix, fitted.bias)
        self.coef_ = np.ascontiguousarray(folded.matrix.T)
        self.intercept_ = folded.bias
        self.n_iter_ = fitted.n_iter

    def _probabilities(self, X: NDArray[Any]) -> NDArray[np.float64]:
        return softmax(LinearMap(self.coef_.T, self.intercept_).apply(X))
