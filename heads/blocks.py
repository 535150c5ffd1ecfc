"""Blocks of columns, and filling in the rows whose block is invalid."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from heads.large_rows import LargeRows, MappedRows, is_large, widened

_FAULTS_SHOWN = 5


def block_slices(blocks: Mapping[str, int] | None, n_features: int) -> dict[str, slice]:
    """Return the columns of each block.

    Parameters
    ----------
    blocks : mapping of str to int, or None
        Name and width of each block, in column order. None is one block named ``"all"``.
    n_features : int

    Returns
    -------
    dict of str to slice

    Raises
    ------
    ValueError
        If a width is not a whole number of at least 1, or the widths do not add up to `n_features`.
    """
    if blocks is None:
        return {"all": slice(0, n_features)}
    wrong = [
        f"{name!r}: {width!r}"
        for name, width in blocks.items()
        if not isinstance(width, Integral) or isinstance(width, bool) or width < 1
    ]
    if wrong or not blocks:
        found = ", ".join(wrong) if wrong else "no block at all"
        raise ValueError(f"blocks must map each name to a width of at least 1, but found {found}.")
    total = sum(blocks.values())
    if total != n_features:
        listed = ", ".join(f"{name!r}: {width}" for name, width in blocks.items())
        raise ValueError(
            f"The widths of blocks ({listed}) add up to {total}, but X has {n_features} columns. Pass the "
            "widths of the spaces that X was joined from, or blocks=None."
        )
    slices, start = {}, 0
    for name, width in blocks.items():
        slices[name] = slice(start, start + int(width))
        start += int(width)
    return slices


class BlockImputer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Fill in blocks that are invalid (all NaN) with the column means of the training rows.

    A text or an image that could not be embedded makes its whole block NaN. A block that is only partly NaN
    is a fault of the data and refused.

    Parameters
    ----------
    blocks : mapping of str to int, or None
        Name and width of each block, in column order; None is one block.

    Attributes
    ----------
    means_ : ndarray of shape (n_features,), float64
        Means over the training rows in which the block is valid. 0 for a dead block.
    dead_blocks_ : list of str
        Blocks that are invalid in every training row. They become zero in every row from then on, valid or
        not: nothing was learnt about them, so a value that turns up later must not move a prediction.
    n_features_in_ : int

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1, 2, 5], [3, 4, np.nan], [np.nan, np.nan, 7]], dtype=np.float32)
    >>> BlockImputer(blocks={"text": 2, "image": 1}).fit_transform(X)
    array([[1., 2., 5.],
           [3., 4., 6.],
           [2., 3., 7.]], dtype=float32)
    """

    def __init__(self, blocks: Mapping[str, int] | None = None) -> None:
        self.blocks = blocks

    # scikit-learn's signature: y is not looked at.
    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:  # noqa: ARG002
        """Measure the means of the training rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), float32
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If `blocks` do not add up to n_features, a block is partly NaN, or a value is infinite.
        """
        if is_large(X):
            return self._fit_large(X)
        X = self._checked(X, reset=True)
        slices = block_slices(self.blocks, self.n_features_in_)
        invalid = invalid_blocks(X, slices)
        self.means_ = np.zeros(self.n_features_in_)
        self.dead_blocks_ = []
        for name, columns in slices.items():
            valid = ~invalid[name]
            if not valid.any():
                self.dead_blocks_.append(name)
            elif valid.all():
                self.means_[columns] = X[:, columns].mean(axis=0, dtype=np.float64)
            else:
                self.means_[columns] = X[valid, columns].mean(axis=0, dtype=np.float64)
        return self

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Return rows of shape (n_samples, n_features) without NaN.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Not changed; the result shares its memory when nothing had to be filled in. For a matrix on disk
            that is too big for memory (``heads.large_rows.is_large``) the result is one as well, whose rows
            are filled in when they are read.

        Raises
        ------
        ValueError
            If a block is partly NaN, a value is infinite, or the number of columns differs from ``fit``.
        """
        check_is_fitted(self, "means_")
        if is_large(X):
            validate_data(self, X, skip_check_array=True, reset=False)
            return cast("NDArray[Any]", MappedRows(X, self._filled))  # it slices like one
        return self._filled(X, 0)

    def _filled(self, rows: ArrayLike, first_row: int) -> NDArray[Any]:
        """Fill in the invalid blocks of rows that are in memory."""
        X = self._checked(rows, reset=False)
        slices = block_slices(self.blocks, self.n_features_in_)
        invalid = invalid_blocks(X, slices, first_row=first_row)
        filled = X
        for name, columns in slices.items():
            missing = np.ones(len(X), dtype=bool) if name in self.dead_blocks_ else invalid[name]
            if missing.any():
                filled = X.copy() if filled is X else filled
                filled[missing, columns] = self.means_[columns]
        return filled

    def _fit_large(self, X: Any) -> Self:
        """Measure the means of a matrix on disk, chunk after chunk."""
        validate_data(self, X, skip_check_array=True)
        slices = block_slices(self.blocks, self.n_features_in_)
        totals, counts = np.zeros(self.n_features_in_), dict.fromkeys(slices, 0)
        for places, stored in LargeRows(X).chunks():
            rows = widened(stored).astype(np.float64)
            invalid = invalid_blocks(rows, slices, first_row=places.start)
            for name, columns in slices.items():
                valid = ~invalid[name]
                totals[columns] += rows[:, columns].sum(axis=0, where=valid[:, None])
                counts[name] += int(valid.sum())
        self.means_ = np.zeros(self.n_features_in_)
        for name, columns in slices.items():
            self.means_[columns] = totals[columns] / max(1, counts[name])
        self.dead_blocks_ = [name for name, count in counts.items() if count == 0]
        return self

    def _checked(self, X: ArrayLike, *, reset: bool) -> NDArray[Any]:
        """Convert to a float array; NaN and infinity are looked at block by block afterwards."""
        checked: NDArray[Any] = validate_data(
            self, X, dtype=[np.float32, np.float64], order="C", ensure_all_finite=False, reset=reset
        )
        return checked

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that NaN is expected here."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def invalid_blocks(
    X: NDArray[Any], slices: Mapping[str, slice], *, first_row: int = 0
) -> dict[str, NDArray[np.bool_]]:
    """Return, per block, which rows are all NaN; refuse anything else that is not finite.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), float32 or float64
    slices : mapping of str to slice
        Columns of each block, from `block_slices`.
    first_row : int
        What the first row is called in the message.

    Returns
    -------
    dict of str to ndarray of shape (n_samples,), bool

    Raises
    ------
    ValueError
        If a block is partly NaN or a value is infinite.
    """
    # A sum is finite only when every term is, so clean data costs one pass and no temporary of the size of X.
    with np.errstate(invalid="ignore", over="ignore"):
        suspect = np.flatnonzero(~np.isfinite(X.sum(axis=1)))
    invalid, faults = {}, []
    for name, columns in slices.items():
        part = X[suspect, columns]
        missing = np.isnan(part)
        whole = missing.all(axis=1)
        invalid[name] = np.zeros(len(X), dtype=bool)
        invalid[name][suspect[whole]] = True
        partly = missing.any(axis=1) & ~whole
        faults += [f"row {first_row + row}, block {name!r}: partly NaN" for row in suspect[partly].tolist()]
        infinite = np.isinf(part).any(axis=1)
        faults += [f"row {first_row + row}, block {name!r}: infinity" for row in suspect[infinite].tolist()]
    if faults:
        more = f", and {len(faults) - _FAULTS_SHOWN} more" if len(faults) > _FAULTS_SHOWN else ""
        raise ValueError(
            f"X has {len(faults)} block(s) that are neither valid nor wholly missing: "
            f"{'; '.join(faults[:_FAULTS_SHOWN])}{more}. An invalid block must be NaN in all its columns and "
            "no value may be infinite; extract these rows again."
        )
    return invalid
