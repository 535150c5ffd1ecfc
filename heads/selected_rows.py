"""Some rows of a matrix, by number: a copy of rows in memory, a view of rows on disk."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from heads.large_rows import is_large

_READ_BYTES = 4 << 20  # of the rows between the first and the last of one read, wanted or not


class SelectedRows:
    """Some rows of a matrix on disk, which stay there until they are asked for.

    Parameters
    ----------
    X : array-like of shape (n, n_features), float
        Slices by rows.
    numbers : ndarray of shape (n_rows,), integer
        Which rows, strictly ascending.

    Attributes
    ----------
    shape : tuple of (int, int)
    dtype : numpy.dtype
        As stored.

    Raises
    ------
    ValueError
        If the numbers are not ascending, or not of rows of `X`.
    """

    ndim = 2

    def __init__(self, X: Any, numbers: NDArray[np.intp]) -> None:
        wrong = len(numbers) and (
            numbers[0] < 0 or numbers[-1] >= X.shape[0] or (np.diff(numbers) <= 0).any()
        )
        if wrong:
            raise ValueError(
                f"Rows of a matrix on disk must be picked once each and in ascending order, from 0 to "
                f"{X.shape[0] - 1}; got others. Sort them, and the labels with them."
            )
        self._source, self._numbers = (X, numbers)
        if isinstance(X, SelectedRows):
            self._source, self._numbers = X._source, X._numbers[numbers]
        self.shape = (len(numbers), int(X.shape[1]))
        self.dtype: np.dtype[Any] = X.dtype
        self._step = max(1, _READ_BYTES // max(1, self.shape[1] * self.dtype.itemsize))

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Read some rows; TypeError for anything but an ascending slice."""
        if not isinstance(rows, slice) or (rows.step or 1) < 1:
            raise TypeError(f"{rows!r:.60} is no ascending slice; choose rows by number with select_rows.")
        wanted = self._numbers[rows]
        found = np.empty((len(wanted), self.shape[1]), dtype=self.dtype)
        cuts = np.flatnonzero(np.diff(wanted // self._step)) + 1
        for part in np.split(np.arange(len(wanted)), cuts):
            if len(part):
                numbers = wanted[part]
                first, last = int(numbers[0]), int(numbers[-1]) + 1
                found[part] = np.asarray(self._source[first:last])[numbers - first]
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read everything."""
        if copy is False:
            raise ValueError("Rows on disk cannot become an array without a copy; leave out copy=False.")
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)


def select_rows(X: Any, rows: NDArray[np.intp]) -> NDArray[Any]:
    """Return some rows of a matrix.

    Parameters
    ----------
    X : array-like of shape (n, n_features)
        Slices by row numbers.
    rows : ndarray of shape (n_rows,), integer
        Ascending where `X` is too big for memory.

    Returns
    -------
    ndarray of shape (n_rows, n_features)
        A copy; for a matrix on disk that is too big for memory (``heads.large_rows.is_large``) a
        `SelectedRows`, which slices like one and from which nothing is read yet.

    Raises
    ------
    ValueError
        If rows on disk are not asked for in ascending order.
    """
    if isinstance(X, SelectedRows) or is_large(X):
        return cast("NDArray[Any]", SelectedRows(X, rows))
    return np.asarray(X[rows])
