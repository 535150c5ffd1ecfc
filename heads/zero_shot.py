"""Zero-shot classification: cosines of rows with embedded descriptions of the classes; nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heads.blocks import block_slices
from heads.class_weights import EFFECTIVE_BETA
from heads.columns import softmax
from heads.estimator import Head, TrainedState
from heads.parameter_rules import Rule, number

_SHORTEST = 1e-12  # a row of zeros has no direction


class ZeroShotHead(Head):
    """Class probabilities from cosines with class vectors, as CLIP does without training.

    ``softmax(scale * mean over blocks of cos(block, class vector))``.

    Parameters
    ----------
    scale : float, default 100
        Inverse temperature: ``exp(logit_scale)`` of the checkpoint that made the vectors. The most probable
        class does not depend on it.
    prompts : sequence of str, default ()
        The templates that the class vectors were made from, such as ``"a photo of {class}"``. Kept for the
        record: heads embed nothing.
    class_weight, class_boost, effective_beta, random_state
        Accepted so that all heads are made alike; nothing is weighed or drawn.
    blocks : mapping of str to int, or None
        Name and width of each block; each is as wide as a class vector.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    class_vectors_ : ndarray of shape (n_classes, d), float64
        Of length 1.
    n_features_in_ : int

    Notes
    -----
    ``fit`` takes the class vectors as a fit parameter, because a matrix is no setting: it belongs into the
    model's arrays and not into every table that lists parameters. Labels of rows only say which classes
    there are.

    References
    ----------
    A. Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021
    (section 3.1; several templates are averaged after each is brought to length 1).

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.array([[0.9, 0.1], [0.2, 0.8]], dtype=np.float32)
    >>> vectors = {"cat": [1.0, 0.0], "dog": [0.0, 1.0]}
    >>> head = ZeroShotHead().fit(rows, ["cat", "dog"], class_vectors=vectors)
    >>> head.predict([[3.0, 1.0]]).tolist()
    ['cat']
    """

    _rules: ClassVar[Mapping[str, Rule]] = {
        "scale": number(0, open_low=True),
        "effective_beta": number(0, 1),
    }

    def __init__(
        self,
        *,
        scale: float = 100.0,
        prompts: tuple[str, ...] | list[str] = (),
        class_weight: str | float | Mapping[object, float] | None = None,
        class_boost: Mapping[object, float] | None = None,
        effective_beta: float = EFFECTIVE_BETA,
        blocks: Mapping[str, int] | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.scale = scale
        self.prompts = prompts
        self.class_weight = class_weight
        self.class_boost = class_boost
        self.effective_beta = effective_beta
        self.blocks = blocks
        self.random_state = random_state

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        sample_origin: ArrayLike | None = None,
        class_vectors: Mapping[Any, ArrayLike] | None = None,
    ) -> Self:
        """Take over the class vectors; see ``Head.fit`` for the other arguments.

        Parameters
        ----------
        class_vectors : mapping of label to array-like of shape (d,)
            A vector for every label in `y`; others are left out. Any length.

        Raises
        ------
        ValueError
            As ``Head.fit``; or if a label has no vector, a vector is not finite or zero, or vectors and
            blocks have different widths.
        """
        self._given = class_vectors
        try:
            return super().fit(X, y, sample_weight, sample_origin=sample_origin)
        finally:
            del self._given

    @property
    def n_parameters(self) -> int:
        """Nothing is trained."""
        return 0

    def trained_state(self) -> TrainedState:
        """Return the class vectors."""
        return TrainedState({"class_vectors": self.class_vectors_})

    def _restore_state(self, state: TrainedState) -> None:
        self.class_vectors_ = state.arrays["class_vectors"]

    def _fit_rows(
        self,
        X: NDArray[Any],
        codes: NDArray[np.intp],  # noqa: ARG002 - nothing is learnt from rows
        weights: NDArray[np.float64],  # noqa: ARG002
        origins: NDArray[np.intp] | None,  # noqa: ARG002
        *,
        has_sample_weight: bool,  # noqa: ARG002
    ) -> None:
        labels = self.classes_.tolist()
        missing = [repr(label) for label in labels if label not in (self._given or {})]
        if self._given is None or missing:
            raise ValueError(
                f"ZeroShotHead has no class vector for {', '.join(missing)}. Pass class_vectors to fit: one "
                "vector per label, made from prompts by the network that made the rows."
            )
        vectors = np.stack([np.asarray(self._given[label], dtype=np.float64).ravel() for label in labels])
        widths = {name: s.stop - s.start for name, s in block_slices(self.blocks, X.shape[1]).items()}
        wrong = [f"{name!r}: {width}" for name, width in widths.items() if width != vectors.shape[1]]
        if wrong:
            raise ValueError(
                f"Class vectors have {vectors.shape[1]} entries, but block(s) {', '.join(wrong)} have "
                "another width. Use the blocks of the space in which the prompts were embedded."
            )
        lengths = np.linalg.norm(vectors, axis=1)
        if not (np.isfinite(lengths) & (lengths > _SHORTEST)).all():
            raise ValueError("A class vector is zero or not finite; embed the prompts again.")
        self.class_vectors_ = vectors / lengths[:, None]

    def _probabilities(self, X: NDArray[Any]) -> NDArray[np.float64]:
        slices = block_slices(self.blocks, X.shape[1]).values()
        cosines = np.zeros((len(X), len(self.classes_)))
        for columns in slices:
            part = X[:, columns].astype(np.float64)
            part /= np.maximum(np.linalg.norm(part, axis=1), _SHORTEST)[:, None]
            cosines += part @ self.class_vectors_.T / len(slices)
        return softmax(self.scale * cosines)
