"""A model that was read from disk: what it answers, and what can be seen of how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heads.blocks import BlockImputer
from heads.estimator import Head
from heads.term_weights import TermWeights

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LoadedModel:
    """A model that was read from disk, ready to predict.

    Attributes
    ----------
    head : str
        One of ``heads.HEADS``.
    classes : tuple of str
        Name of each column of ``predict_proba``.
    blocks : dict of str to int, or None
        Name and width of each block that X must have, in column order.
    n_features : int
        Columns that X must have.
    parameters : dict of str to object
        Constructor arguments of the head.
    extra : dict of str to object
        What was given to ``save_model`` as `extra`.
    """

    head: str
    classes: tuple[str, ...]
    blocks: dict[str, int] | None
    n_features: int
    parameters: dict[str, object]
    extra: dict[str, object]
    _imputer: BlockImputer = field(repr=False)
    _estimator: Head = field(repr=False)
    _terms: TermWeights | None = field(default=None, repr=False)

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Estimate class probabilities, bit-equal to those of the pipeline that was saved.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), float32
            A row whose block is invalid has NaN in that whole block.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), float64

        Raises
        ------
        ValueError
            If `X` has another number of columns, a block is partly NaN, or a value is infinite.
        """
        return self._estimator.predict_proba(self.filled(X))

    def layer_outputs(self, X: ArrayLike) -> dict[str, NDArray[np.float64]]:
        """Return what the layers of an MLP make of rows, see ``MLPHead.layer_outputs``; nothing of others.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), float32
            As for ``predict_proba``.

        Returns
        -------
        dict of str to ndarray of shape (n_samples, width), float64
        """
        outputs = getattr(self._estimator, "layer_outputs", None)
        return {} if outputs is None else dict(outputs(self.filled(X)))

    def sample_fusion_weights(self, X: ArrayLike, *, detail: bool = False) -> NDArray[np.float64]:
        """Return how much each block counts in each row, see ``MLPHead.sample_fusion_weights``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), float32
            As for ``predict_proba``.
        detail : bool

        Returns
        -------
        ndarray of shape (n_samples, n_blocks), float64

        Raises
        ------
        ValueError
            If the head or its fusion does not weigh blocks.
        """
        weigh = getattr(self._estimator, "sample_fusion_weights", None)
        if weigh is None:
            raise ValueError(f"Head '{self.head}' does not weigh blocks; only the mlp does.")
        weights: NDArray[np.float64] = weigh(self.filled(X), detail=detail)
        return weights

    def differentiable(self) -> Callable[[Tensor], Tensor]:
        """Return ``predict_proba`` as a function of tensors, through which gradients flow.

        Returns
        -------
        callable
            Rows of shape (n, n_features), float64, from ``filled``, to probabilities of shape (n, n_classes).

        Raises
        ------
        ValueError
            If the head has no gradient (trees, neighbours); see ``heads.differentiable``.
        """
        from heads.differentiable import differentiable

        return differentiable(self._estimator)

    def filled(self, X: ArrayLike) -> NDArray[Any]:
        """Return rows as the head sees them: terms weighed, invalid blocks filled in."""
        return self._imputer.transform(X if self._terms is None else self._terms.transform(X))

    @property
    def n_parameters(self) -> int:
        """How many numbers the head has."""
        return self._estimator.n_parameters
