"""What all heads share: checking input, encoding labels, weighing rows, and the model-file face."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_consistent_length, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    validate_data,
)

from heads.blocks import block_slices
from heads.class_weights import row_weights
from heads.faults import Faults
from heads.large_rows import LargeRows, is_large, refuse_rows, rows_not_finite, widened
from heads.parameter_rules import Rule, check_parameters
from heads.term_weights import term_slices
from heads.view_rows import check_origin


@dataclass(frozen=True)
class TrainedState:
    """Everything a fitted head needs to predict, apart from its constructor arguments.

    Attributes
    ----------
    arrays : mapping of str to ndarray
        Numbers, stored in a safetensors file.
    text : str or None
        A model in text form (LightGBM), stored beside it.
    """

    arrays: Mapping[str, NDArray[Any]]
    text: str | None = field(default=None, repr=False)


class Head(ClassifierMixin, BaseEstimator, metaclass=ABCMeta):  # type: ignore[misc]
    """Base of the heads: public methods check and convert, the private ones of a subclass compute.

    A subclass has a constructor that only stores its arguments, the class variable ``_rules``, and the
    abstract members. Subclasses have at least the arguments ``blocks``, ``class_weight``, ``class_boost``,
    ``effective_beta`` and ``random_state``.
    """

    _rules: ClassVar[Mapping[str, Rule]]

    blocks: Mapping[str, int] | None
    class_weight: str | float | Mapping[object, float] | None
    class_boost: Mapping[object, float] | None
    effective_beta: float
    random_state: int | np.random.RandomState | None
    n_features_in_: int

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        sample_origin: ArrayLike | None = None,
    ) -> Self:
        """Train on rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), float32
            Training rows; anything that ``numpy.asarray`` takes, such as an HDF5 dataset. float64 is used as
            it is. Logistic regression (L2) and MLP (without resampling, PCA and views) read a matrix on disk
            that would take more than 1 GiB as float32 by chunks, other heads as a whole.
        y : array-like of shape (n_samples,)
            Labels.
        sample_weight : array-like of shape (n_samples,), optional
            Not negative. Rows of weight 0 are left out entirely, with their views.
        sample_origin : array-like of shape (n_samples,), integer, optional
            For each row the number of the row it is an augmented view of; its own number for a row that is no
            view. A head that holds rows back (early stopping) holds back clean rows only, and does not learn
            from their views. See ``heads.fit_with_views``.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a constructor argument is out of range, `X` holds NaN or infinity, `blocks` do not add up to
            n_features, there are fewer than two classes, all rows of a class have weight 0, class weights
            name an unknown class, or `sample_origin` names no clean row of the same label. One message
            names all of these.
        """
        faults = Faults(f"{type(self).__name__} cannot be trained")
        faults.note(check_parameters, type(self).__name__, self.get_params(deep=False), self._rules)
        arguments_are_right = not faults
        if is_large(X) and arguments_are_right:
            validate_data(self, X, skip_check_array=True)  # only notes the number of columns
            counted = term_slices(self.blocks, self.n_features_in_)
            if sample_origin is None and not counted and self.fits_by_chunks(self.n_features_in_):
                return self._fit_by_chunks(X, y, sample_weight)
        found = faults.note(_rows_and_labels, self, X, y)
        if found is None:
            faults.raise_any()  # without rows nothing else can be looked at
        rows, labels = cast("tuple[NDArray[Any], NDArray[Any]]", found)
        faults.note(refuse_rows, rows_not_finite(rows))
        codes, weights = self._check_labels(
            labels, sample_weight, faults, arguments_are_right=arguments_are_right
        )
        origins = faults.note(check_origin, sample_origin, codes)
        faults.raise_any()
        used = weights > 0 if origins is None else (weights > 0) & (weights[origins] > 0)
        if not used.all():
            rows, codes, weights = rows[used], codes[used], weights[used]
            origins = None if origins is None else (np.cumsum(used) - 1)[origins[used]]
        self._fit_rows(rows, codes, weights, origins, has_sample_weight=sample_weight is not None)
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Estimate class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            A matrix on disk that is too big for memory (see ``fit``) is read by chunks.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), float64
            Columns in the order of ``classes_``; each row sums to one and depends on its own features only.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ValueError
            If `X` has another number of columns than in ``fit``, or holds NaN or infinity.
        """
        check_is_fitted(self, "classes_")
        if is_large(X):
            parts = LargeRows(X).chunks()
            return np.concatenate([self._checked_probabilities(widened(p), at.start) for at, p in parts])
        return self._checked_probabilities(X, 0)

    def _checked_probabilities(self, X: ArrayLike, first_row: int) -> NDArray[np.float64]:
        """Compute probabilities of rows in memory; `first_row` is what the first is called in messages."""
        rows = validate_data(
            self, X, dtype=[np.float32, np.float64], order="C", ensure_all_finite=False, reset=False
        )
        refuse_rows([first_row + row for row in rows_not_finite(rows)])
        return self._probabilities(rows)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the most probable label of each row, an ndarray of shape (n_samples,)."""
        probabilities = self.predict_proba(X)
        labels: NDArray[Any] = self.classes_[probabilities.argmax(axis=1)]
        return labels

    @property
    @abstractmethod
    def n_parameters(self) -> int:
        """How many numbers were trained (for tables)."""

    @abstractmethod
    def trained_state(self) -> TrainedState:
        """Return what ``restore`` needs to make an equal head."""

    @abstractmethod
    def _restore_state(self, state: TrainedState) -> None:
        """Set the fitted attributes of a subclass."""

    @abstractmethod
    def _fit_rows(
        self,
        X: NDArray[Any],
        codes: NDArray[np.intp],
        weights: NDArray[np.float64],
        origins: NDArray[np.intp] | None,
        *,
        has_sample_weight: bool,
    ) -> None:
        """Train on checked rows; `codes` are positions in ``classes_``, `weights` are positive.

        `origins` are row numbers as in ``sample_origin``, or None when no row is a view.
        """

    def fits_by_chunks(self, n_features: int) -> bool:  # noqa: ARG002 - a subclass with `_fit_large` asks
        """Tell whether these arguments allow training on rows that stay on disk.

        Parameters
        ----------
        n_features : int
        """
        return False

    def _fit_large(self, rows: LargeRows, codes: NDArray[np.intp], weights: NDArray[np.float64]) -> None:
        """Train as `_fit_rows` does, on rows that stay on disk."""
        raise NotImplementedError

    def _check_training(self, labels: NDArray[Any], *, has_sample_weight: bool) -> None:
        """Refuse arguments that do not go together, or not with these labels."""

    def _fit_by_chunks(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None) -> Self:
        """Check what can be checked without the rows, and train; `_fit_large` looks at the values."""
        labels = column_or_1d(y, warn=True)
        check_consistent_length(X, labels)
        check_classification_targets(labels)
        faults = Faults(f"{type(self).__name__} cannot be trained")
        codes, weights = self._check_labels(labels, sample_weight, faults, arguments_are_right=True)
        faults.raise_any()
        used = np.flatnonzero(weights > 0)
        self._fit_large(LargeRows(X, used), codes[used], weights[used])
        return self

    def _check_labels(
        self,
        labels: NDArray[Any],
        sample_weight: ArrayLike | None,
        faults: Faults,
        *,
        arguments_are_right: bool,
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Set ``classes_``; return codes and weights; note what is wrong with all but the rows."""
        faults.note(block_slices, self.blocks, self.n_features_in_)
        checked = faults.note(
            _check_sample_weight, sample_weight, labels, dtype=np.float64, ensure_non_negative=True
        )
        self.classes_, codes = np.unique(labels, return_inverse=True)
        weights = np.ones(len(labels)) if checked is None else checked
        if faults.note(self._check_classes, codes, weights) and arguments_are_right:
            faults.note(self._weigh, codes, weights)
        if arguments_are_right:
            used = labels[weights > 0]
            faults.note(self._check_training, used, has_sample_weight=sample_weight is not None)
        return codes, weights

    @abstractmethod
    def _probabilities(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Compute probabilities of checked rows."""

    def restore(self, state: TrainedState, *, classes: NDArray[Any], n_features: int) -> Self:
        """Make this head predict like the fitted one that `state` came from.

        Parameters
        ----------
        state : TrainedState
            From ``trained_state`` of a head with the same constructor arguments.
        classes : ndarray of shape (n_classes,)
        n_features : int

        Returns
        -------
        self
        """
        self.classes_ = classes
        self.n_features_in_ = n_features
        self._restore_state(state)
        return self

    def _weigh(self, codes: NDArray[np.intp], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Multiply sample weights by class weights."""
        return row_weights(
            codes,
            self.classes_.tolist(),
            class_weight=self.class_weight,
            sample_weight=weights,
            class_boost=self.class_boost,
            effective_beta=self.effective_beta,
        )

    def _seed(self) -> int:
        """Turn ``random_state`` into one number that seeds everything in this fit."""
        return self._seeds(1)[0]

    def _seeds(self, n: int) -> list[int]:
        """Turn ``random_state`` into `n` numbers: those that `n` fits in turn would draw from it."""
        random = check_random_state(self.random_state)
        return [int(random.randint(np.iinfo(np.int32).max)) for _ in range(n)]

    def _check_classes(self, codes: NDArray[np.intp], weights: NDArray[np.float64]) -> bool:
        """Refuse labels that leave nothing to learn; return True otherwise."""
        if len(self.classes_) < 2:
            raise ValueError(
                f"{type(self).__name__} needs at least two classes, but found 1 class: every training row is "
                f"{self.classes_.tolist()[0]!r}. Check the labels and the fold."
            )
        mass = np.bincount(codes, weights=weights, minlength=len(self.classes_))
        empty = [repr(label) for label in self.classes_[mass <= 0].tolist()]
        if empty:
            raise ValueError(
                f"sample_weight is 0 for every row of class {', '.join(empty)}. Give each class a row with a "
                "positive weight, or leave the class out."
            )
        return True


def _rows_and_labels(head: Head, X: ArrayLike, y: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Convert rows and labels; values that are not finite are looked for afterwards, to name their rows."""
    rows, labels = validate_data(
        head, X, y, dtype=[np.float32, np.float64], order="C", ensure_all_finite=False
    )
    check_classification_targets(labels)
    return rows, labels
