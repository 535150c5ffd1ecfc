"""Nearest class mean by cosine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from heads.class_weights import EFFECTIVE_BETA
from heads.columns import ColumnScale, softmax
from heads.cosine import SHORTEST, CosineHead
from heads.estimator import TrainedState
from heads.parameter_rules import Rule, number
from heads.score_scaling import fit_score_factor

_ROWS_AT_ONCE = 4096


class CentroidHead(CosineHead):
    """Nearest class mean by cosine, with class priors.

    A row belongs to the class that maximises ``a * cos(row, class mean) + log(prior)``. Nothing is trained
    but the means and the factor a.

    Parameters
    ----------
    class_weight : None, "balanced", "effective", float in [0, 1] or mapping, default "balanced"
        A number is a power of the balanced weights; see ``heads.class_weights.row_weights``. The prior of a
        class is its share of the weights: ``"balanced"`` is the plain nearest mean, None uses
        the shares of the training rows.
    class_boost : mapping of label to factor, or None
        Multiplied on top of the class weights, such as ``{"neutral": 1.5}``.
    effective_beta : float in [0, 1), default 0.999
        For ``class_weight="effective"``.
    blocks : mapping of str to int, or None
        Name and width of each block. Blocks count alike whatever their widths.
    random_state : int, RandomState or None
        Accepted so that all heads are made alike; nothing is drawn.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    centroids_ : ndarray of shape (n_classes, n_features), float64
        Directions of the class means, of length 1, for standardised rows.
    factor_ : float
        The factor a, with which leave-one-out cosines of the training rows fit their labels best.
    log_priors_ : ndarray of shape (n_classes,), float64
    n_features_in_ : int

    Notes
    -----
    Leaving a row out of its class mean has a closed form, so the factor costs no second fit. Copies that a
    resampling step in front of this head made of a row, and its views, stay in the mean: the probabilities
    are then too sure, though with equal priors the predicted classes do not depend on the factor.

    References
    ----------
    J. Snell et al., "Prototypical Networks for Few-shot Learning", NeurIPS 2017.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0, 1.0], [0.0, 2.0], [4.0, 1.0], [5.0, 2.0]], dtype=np.float32)
    >>> CentroidHead().fit(X, ["low", "low", "high", "high"]).predict([[0.5, 1.5], [4.5, 1.5]]).tolist()
    ['low', 'high']
    """

    _rules: ClassVar[Mapping[str, Rule]] = {"effective_beta": number(0, 1)}

    def __init__(
        self,
        *,
        class_weight: str | float | Mapping[object, float] | None = "balanced",
        class_boost: Mapping[object, float] | None = None,
        effective_beta: float = EFFECTIVE_BETA,
        blocks: Mapping[str, int] | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.class_weight = class_weight
        self.class_boost = class_boost
        self.effective_beta = effective_beta
        self.blocks = blocks
        self.random_state = random_state

    @property
    def n_parameters(self) -> int:
        """Entries of the class means, the priors and the factor."""
        return int(self.centroids_.size + self.log_priors_.size + 1)

    def trained_state(self) -> TrainedState:
        """Return the column scale, the class means, the priors and the factor."""
        own = {
            "centroids": self.centroids_,
            "log_priors": self.log_priors_,
            "factor": np.array([self.factor_]),
        }
        return TrainedState(self._scale_arrays() | own)

    def _restore_state(self, state: TrainedState) -> None:
        self._restore_scale(state)
        self.centroids_ = state.arrays["centroids"]
        self.log_priors_ = state.arrays["log_priors"]
        self.factor_ = float(state.arrays["factor"][0])

    def _fit_rows(
        self,
        X: NDArray[Any],
        codes: NDArray[np.intp],
        weights: NDArray[np.float64],
        origins: NDArray[np.intp] | None,  # noqa: ARG002 - views belong to the class mean like any row
        *,
        has_sample_weight: bool,  # noqa: ARG002 - weights hold everything needed here
    ) -> None:
        row_weights = self._weigh(codes, weights)
        mass = np.bincount(codes, weights=row_weights, minlength=len(self.classes_))
        self.log_priors_ = np.log(np.maximum(mass / mass.sum(), np.finfo(np.float64).tiny))
        self.scale_ = ColumnScale.of(X, weights, self.blocks)
        Z = self._directions(X)
        sums = np.zeros((len(self.classes_), X.shape[1]))
        for code in range(len(self.classes_)):
            own = codes == code
            sums[code] = weights[own] @ Z[own]
        self.centroids_ = sums / np.maximum(np.linalg.norm(sums, axis=1), SHORTEST**2)[:, None]
        scores = _without_own_row(Z, codes, weights, sums, Z @ self.centroids_.T)
        self.factor_ = fit_score_factor(scores, codes, row_weights, self.log_priors_)

    def _probabilities(self, X: NDArray[Any]) -> NDArray[np.float64]:
        out = np.empty((len(X), len(self.classes_)))
        for start in range(0, len(X), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            out[rows] = self._directions(X[rows]) @ self.centroids_.T
        return softmax(self.factor_ * out + self.log_priors_)


def _without_own_row(
    Z: NDArray[np.float64],
    codes: NDArray[np.intp],
    weights: NDArray[np.float64],
    sums: NDArray[np.float64],
    cosines: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Replace each row's cosine to its own class mean by that to the mean of the other rows of the class.

    A row of weight 3 stands for three equal rows, of which one is left out.
    """
    left_out = np.minimum(weights, 1.0)
    square = np.einsum("ij,ij->i", Z, Z)
    dot = np.empty(len(Z))
    for start in range(0, len(Z), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        np.einsum("ij,ij->i", Z[rows], sums[codes[rows]], out=dot[rows])
    norms = np.einsum("ij,ij->i", sums, sums)[codes]
    rest = np.maximum(norms - 2 * left_out * dot + left_out**2 * square, 0.0)
    scores = cosines.copy()
    scores[np.arange(len(Z)), codes] = (dot - left_out * square) / np.maximum(np.sqrt(rest), SHORTEST**2)
    return scores
