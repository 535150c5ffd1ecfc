"""Nearest neighbours by cosine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from heads.class_weights import EFFECTIVE_BETA
from heads.columns import ColumnScale
from heads.cosine import CosineHead
from heads.estimator import TrainedState
from heads.parameter_rules import Rule, number, whole

_PLACES = 9  # similarities are compared to so many decimal places, so that equal rows are equally near
_SIMILARITIES_AT_ONCE = 1 << 24  # float64 numbers: 128 MB
_ROWS_AT_ONCE = 4096


class NeighboursHead(CosineHead):
    """k nearest neighbours by cosine, with weighted votes.

    Parameters
    ----------
    n_neighbors : int, default 20
        How many training rows vote; all of them when there are fewer.
    temperature : float or None, default 0.07
        A neighbour votes with ``exp(cosine / temperature)``; None gives every neighbour the same vote.
    smoothing : float, default 1.0
        Votes that the classes get in proportion to their weights, against `n_neighbors` votes of the
        neighbours. It keeps probabilities away from 0; 0 is the plain method.
    class_weight : None, "balanced", "effective", float in [0, 1] or mapping, default "balanced"
        A number is a power of the balanced weights; see ``heads.class_weights.row_weights``. Multiplies
        the vote of a row.
    class_boost : mapping of label to factor, or None
        Multiplied on top of the class weights, such as ``{"neutral": 1.5}``.
    effective_beta : float in [0, 1), default 0.999
        For ``class_weight="effective"``.
    blocks : mapping of str to int, or None
        Name and width of each block. The similarity is the mean of the cosines of the blocks.
    random_state : int, RandomState or None
        Accepted so that all heads are made alike; nothing is drawn.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    directions_ : ndarray of shape (n_samples, n_features), float32
        The training rows, standardised, each block of the same length.
    codes_ : ndarray of shape (n_samples,), int64
        Position of the label of each training row in ``classes_``.
    votes_ : ndarray of shape (n_samples,), float64
        Weight of each training row, 1 on average.
    n_features_in_ : int

    Notes
    -----
    The model is the training rows, so a saved model holds an embedding of every one of them: do not pass it
    on when the data must not be passed on. Predicting costs ``n_samples * n_features`` operations a row.
    Rows as near as the last neighbour share its place, so the order of the rows does not matter.

    References
    ----------
    Z. Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", CVPR 2018, for
    the weights and the temperature; M. Caron et al., "Emerging Properties in Self-Supervised Vision
    Transformers" (DINO), ICCV 2021, for 20 neighbours.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0, 1.0], [0.0, 2.0], [4.0, 1.0], [5.0, 2.0]], dtype=np.float32)
    >>> head = NeighboursHead(n_neighbors=2).fit(X, ["low", "low", "high", "high"])
    >>> head.predict([[0.0, 1.5], [4.5, 1.5]]).tolist()
    ['low', 'high']
    """

    _rules: ClassVar[Mapping[str, Rule]] = {
        "n_neighbors": whole(1),
        "temperature": number(0, open_low=True, or_none=True),
        "smoothing": number(0),
        "effective_beta": number(0, 1),
    }

    def __init__(
        self,
        n_neighbors: int = 20,
        temperature: float | None = 0.07,
        *,
        smoothing: float = 1.0,
        class_weight: str | float | Mapping[object, float] | None = "balanced",
        class_boost: Mapping[object, float] | None = None,
        effective_beta: float = EFFECTIVE_BETA,
        blocks: Mapping[str, int] | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.temperature = temperature
        self.smoothing = smoothing
        self.class_weight = class_weight
        self.class_boost = class_boost
        self.effective_beta = effective_beta
        self.blocks = blocks
        self.random_state = random_state

    @property
    def n_parameters(self) -> int:
        """Entries of the training rows, which are the model."""
        return int(self.directions_.size)

    def trained_state(self) -> TrainedState:
        """Return the column scale and the training rows with their classes and votes."""
        own = {"directions": self.directions_, "codes": self.codes_, "votes": self.votes_}
        return TrainedState(self._scale_arrays() | own)

    def _restore_state(self, state: TrainedState) -> None:
        self._restore_scale(state)
        self.directions_ = state.arrays["directions"]
        self.codes_ = state.arrays["codes"]
        self.votes_ = state.arrays["votes"]

    def _fit_rows(
        self,
        X: NDArray[Any],
        codes: NDArray[np.intp],
        weights: NDArray[np.float64],
        origins: NDArray[np.intp] | None,  # noqa: ARG002 - views vote like any row
        *,
        has_sample_weight: bool,  # noqa: ARG002 - weights hold everything needed here
    ) -> None:
        row_weights = self._weigh(codes, weights)
        self.votes_ = row_weights / row_weights.mean()
        self.codes_ = codes.astype(np.int64)
        self.scale_ = ColumnScale.of(X, weights, self.blocks)
        self.directions_ = self._directions(X).astype(np.float32)

    def _probabilities(self, X: NDArray[Any]) -> NDArray[np.float64]:
        n_classes = len(self.classes_)
        ballots = np.zeros((len(self.codes_), n_classes))
        ballots[np.arange(len(self.codes_)), self.codes_] = self.votes_
        # Neighbours of weight 0 have no vote; the shares then decide, however small they are.
        prior = max(self.smoothing, np.finfo(np.float64).tiny * 1e8) * ballots.mean(axis=0)
        out = np.empty((len(X), n_classes))
        step = max(1, min(_ROWS_AT_ONCE, _SIMILARITIES_AT_ONCE // len(self.codes_)))
        for start in range(0, len(X), step):
            rows = slice(start, start + step)
            out[rows] = self._shares(self._similarities(X[rows])) @ ballots + prior
        probabilities: NDArray[np.float64] = out / out.sum(axis=1, keepdims=True)
        return probabilities

    def _similarities(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Return the cosine of each row to each training row."""
        Z = self._directions(X)
        out = np.empty((len(X), len(self.directions_)))
        for start in range(0, len(self.directions_), _ROWS_AT_ONCE):
            known = slice(start, start + _ROWS_AT_ONCE)
            out[:, known] = Z @ self.directions_[known].astype(np.float64).T
        return np.round(out, _PLACES, out=out)

    def _shares(self, similarities: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share `n_neighbors` votes among the nearest training rows of each row."""
        n = similarities.shape[1]
        k = min(self.n_neighbors, n)
        last = np.partition(similarities, n - k, axis=1)[:, n - k, None]
        nearer = similarities > last
        level = similarities == last
        places_left = k - nearer.sum(axis=1, keepdims=True)
        shares: NDArray[np.float64] = nearer + level * (places_left / level.sum(axis=1, keepdims=True))
        if self.temperature is not None:
            nearest = similarities.max(axis=1, keepdims=True)
            shares *= np.exp((similarities - nearest) / self.temperature)
        shares *= self.n_neighbors / shares.sum(axis=1, keepdims=True)
        return shares
