"""Standardising columns with training statistics, and folding that into a linear map."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from heads.term_weights import term_slices

_Float = TypeVar("_Float", np.float32, np.float64)

_ROWS_AT_ONCE = 1024  # keeps the float64 copy of a slice small (12 MB at 1,536 columns)

# A column whose spread is at the level of float32 rounding holds no information: dividing by it would blow
# noise up.
_RELATIVE_SPREAD = 4 * float(np.finfo(np.float32).eps)
_SMALLEST_SPREAD = 1e-30

_TERM_COLUMNS = 512  # a vocabulary, however large, counts as much as an embedding of this width


@dataclass(frozen=True)
class ColumnScale:
    """Mean and inverse spread of each column of the training rows.

    Attributes
    ----------
    mean : ndarray of shape (n_features,), float64
    inverse : ndarray of shape (n_features,), float64
        One over the (population) standard deviation. It is 0 for a column that is constant in the training
        rows, up to float32 rounding: such a column is 0 after scaling whatever it holds later, because no
        head can have learnt what its values mean.
    columns : ndarray of shape (n_left,), int64, or None
        Which columns are left, ascending; `mean` and `inverse` are those of them. None is all columns.
    """

    mean: NDArray[np.float64]
    inverse: NDArray[np.float64]
    columns: NDArray[np.int64] | None = None

    @classmethod
    def of(
        cls, X: NDArray[Any], weights: NDArray[np.float64], blocks: Mapping[str, int] | None = None
    ) -> ColumnScale:
        """Measure the columns of training rows.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features), float32 or float64
        weights : ndarray of shape (n_samples,), float64
            How often each row counts; the total is positive.
        blocks : mapping of str to int, or None
            Name and width of each block. The columns of a block of weighted terms share one spread, with
            which the block has the variance of 512 columns: a spread of its own would make a term of
            two texts as loud as one of two thousand.
        """
        share = weights / weights.sum()
        mean = np.zeros(X.shape[1])
        for rows in _slices(len(X)):
            mean += share[rows] @ X[rows].astype(np.float64)
        variance = np.zeros(X.shape[1])
        for rows in _slices(len(X)):
            variance += share[rows] @ (X[rows] - mean) ** 2
        return cls.from_variance(mean, share_variance(variance, term_slices(blocks, X.shape[1]).values()))

    @classmethod
    def from_variance(cls, mean: NDArray[np.float64], variance: NDArray[np.float64]) -> ColumnScale:
        """Make a scale from statistics that were measured elsewhere.

        Parameters
        ----------
        mean, variance : ndarray of shape (n_features,), float64
            Of the training rows; the variance is that of the population.
        """
        spread = np.sqrt(variance)
        constant = spread <= np.maximum(_RELATIVE_SPREAD * np.abs(mean), _SMALLEST_SPREAD)
        inverse = np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, spread))
        return cls(mean, inverse)

    def of_blocks(self, slices: Iterable[slice]) -> ColumnScale:
        """Return the scale after which only the columns of some blocks are left.

        Parameters
        ----------
        slices : iterable of slice
            In column order, of a scale of all columns.
        """
        columns = np.concatenate([np.arange(block.start, block.stop) for block in slices])
        return ColumnScale(self.mean[columns], self.inverse[columns], columns)

    def apply(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return standardised rows of shape (n_samples, n_left), in the dtype of `X`."""
        if self.columns is not None:
            X = X[:, self.columns]
        scaled: NDArray[Any] = X - self.mean.astype(X.dtype)
        scaled *= self.inverse.astype(X.dtype)  # in place: a copy would be another matrix
        return scaled

    def fold(self, matrix: NDArray[Any], bias: NDArray[Any]) -> LinearMap:
        """Return the map from raw rows that equals standardising, then ``@ matrix + bias``; for all columns.

        Parameters
        ----------
        matrix : ndarray of shape (n_features, n_outputs)
        bias : ndarray of shape (n_outputs,)
        """
        folded = self.inverse[:, None] * matrix.astype(np.float64)
        return LinearMap(folded, bias.astype(np.float64) - self.mean @ folded)


@dataclass(frozen=True)
class LinearMap:
    """``X @ matrix + bias`` in float64, so that a row's result does not depend on the rows beside it.

    Attributes
    ----------
    matrix : ndarray of shape (n_features, n_outputs), float64
    bias : ndarray of shape (n_outputs,), float64
    """

    matrix: NDArray[np.float64]
    bias: NDArray[np.float64]

    def apply(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Map rows of shape (n_samples, n_features) to float64 rows of shape (n_samples, n_outputs)."""
        out = np.empty((len(X), len(self.bias)))
        for rows in _slices(len(X)):
            np.matmul(X[rows].astype(np.float64), self.matrix, out=out[rows])
        out += self.bias
        return out


def share_variance(variance: NDArray[np.float64], terms: Iterable[slice]) -> NDArray[np.float64]:
    """Give the columns of a block of weighted terms one variance: that of the block, over 512 columns.

    Parameters
    ----------
    variance : ndarray of shape (n_features,), float64
        Of each column in the training rows.
    terms : iterable of slice
        Columns of each block of terms. One without variance keeps none.

    Returns
    -------
    ndarray of shape (n_features,), float64
    """
    shared = variance.copy()
    for columns in terms:
        own = variance[columns]
        shared[columns] = np.where(own > 0, own.sum() / _TERM_COLUMNS, 0.0)
    return shared


def softmax(logits: NDArray[_Float]) -> NDArray[_Float]:
    """Turn logits of shape (n_samples, n_classes) into probabilities that sum to one per row."""
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[_Float] = exp / exp.sum(axis=1, keepdims=True)
    return probabilities


def _slices(n_rows: int) -> list[slice]:
    """Cut rows into slices of a fixed size."""
    return [slice(start, min(start + _ROWS_AT_ONCE, n_rows)) for start in range(0, n_rows, _ROWS_AT_ONCE)]
