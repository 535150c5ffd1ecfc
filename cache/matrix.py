"""Array-likes over the features of an open store: rows in any order, read when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from cache.content import read_valid
from cache.header import Header
from cache.integrity import read_rows
from cache.plan import SpaceSpec
from cache.schema import Array

# One read covers at most this much; rows picked at random from a block cost one contiguous read and a copy.
_BLOCK_BYTES = 4 << 20


class RowMatrix:
    """An (n, d) matrix on disk.

    Attributes
    ----------
    shape : tuple of (int, int)
    dtype : numpy.dtype
        float32 or float16, as stored.
    """

    def __init__(self, dataset: Any, header: Header, lead: tuple[int, ...] = ()) -> None:
        self._dataset = dataset
        self._header = header
        self._lead = lead
        self.shape: tuple[int, int] = tuple(dataset.shape[len(lead) :])
        self.dtype: np.dtype[Any] = dataset.dtype

    ndim = 2

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice | Sequence[int] | Array) -> Array:
        """Return rows in the order asked for; duplicates and negative numbers as in numpy.

        Parameters
        ----------
        rows : int, slice, or array-like of int or bool

        Returns
        -------
        ndarray of shape (k, d), or (d,) for one int

        Raises
        ------
        IndexError
            If a row is outside the matrix, or a mask has another length than the matrix.
        TypeError
            If `rows` is anything else; columns are picked from the result.
        """
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step == 1:
                return self._block(start, max(start, stop))
            return self._gather(np.arange(start, stop, step))
        index = self._row_numbers(rows)
        if index.ndim == 0:
            row = int(index)
            vector: Array = self._block(row, row + 1)[0]
            return vector
        return self._gather(index)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        """Read everything; `copy=False` is impossible because the matrix lies on disk."""
        if copy is False:
            raise ValueError("A matrix on disk cannot become an array without a copy; leave out copy=False.")
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)

    def _block(self, start: int, stop: int) -> Array:
        return read_rows(self._dataset, self._lead, start, stop, self._header.path)

    def _row_numbers(self, rows: object) -> Array:
        if isinstance(rows, tuple):
            raise TypeError(f"Rows are picked by one int, slice or list, not by {rows!r:.60}.")
        index = np.asarray(rows)
        if index.dtype == bool:
            if index.shape != (len(self),):
                raise IndexError(f"The mask has shape {index.shape}, but the matrix has {len(self)} rows.")
            return np.flatnonzero(index)
        if index.size == 0 and index.ndim == 1:
            return index.astype(np.int64)
        if index.dtype.kind not in "iu" or index.ndim > 1:
            raise TypeError(
                f"Rows are picked by integers in one dimension, not by {index.dtype} of {index.shape}."
            )
        index = index.astype(np.int64)
        outside = np.atleast_1d(index)[np.atleast_1d((index < -len(self)) | (index >= len(self)))]
        if outside.size:
            raise IndexError(f"Row {outside[0]} is outside the matrix, which has {len(self)} rows.")
        return np.where(index < 0, index + len(self), index)

    def _gather(self, index: Array) -> Array:
        """Read the touched part of each block of rows once, and put the rows where they were asked for."""
        out = np.empty((len(index), self.shape[1]), dtype=self.dtype)
        row_bytes = max(1, self.shape[1] * self.dtype.itemsize)
        step = max(1, _BLOCK_BYTES // row_bytes)
        order = np.argsort(index, kind="stable")
        ordered = index[order]
        cuts = np.flatnonzero(np.diff(ordered // step)) + 1
        for part in np.split(order, cuts):
            if part.size:
                first, last = int(index[part[0]]), int(index[part[-1]])
                out[part] = self._block(first, last + 1)[index[part] - first]
        return out


class ViewStack:
    """The (v, n, d) views of a space; ``stack[i]`` is a `RowMatrix`, ``np.asarray(stack)`` reads all.

    Attributes
    ----------
    shape : tuple of (int, int, int)
    dtype : numpy.dtype
    """

    def __init__(self, dataset: Any, header: Header) -> None:
        self._dataset = dataset
        self._header = header
        self.shape: tuple[int, int, int] = tuple(dataset.shape)
        self.dtype: np.dtype[Any] = dataset.dtype

    ndim = 3

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, view: int) -> RowMatrix:
        """Return one view; IndexError if there are not so many."""
        if not -len(self) <= view < len(self):
            raise IndexError(f"View {view} is asked for, but there are {len(self)}.")
        return RowMatrix(self._dataset, self._header, lead=(view % len(self),))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        """Read everything; `copy=False` is impossible because the views lie on disk."""
        if copy is False:
            raise ValueError("Views on disk cannot become an array without a copy; leave out copy=False.")
        out = np.empty(self.shape, dtype=self.dtype if dtype is None else dtype)
        for view in range(len(self)):
            out[view] = self[view][:]
        return out


class FeatureSpace(RowMatrix):
    """One space of an open store: its (n, d) matrix and which rows of it hold a vector.

    Attributes
    ----------
    name : str
        ``"<modality>.<readout>"``.
    fingerprint : str
        Hash of everything that decides these vectors given the input.
    """

    def __init__(self, file: Any, header: Header, spec: SpaceSpec) -> None:
        super().__init__(file[f"/features/{spec.name}/x"], header)
        self._file = file
        self._spec = spec
        self.name = spec.name
        self.fingerprint = spec.fingerprint

    @property
    def valid(self) -> Array:
        """ndarray of shape (n,), bool: False where the input was missing or broken; such a row is zeros."""
        return read_valid(self._file, self._header, self.name)

    @property
    def views(self) -> ViewStack | None:
        """Extra renderings of the inputs, shape (v, n, d); None if the store has none."""
        if not self._spec.views:
            return None
        return ViewStack(self._file[f"/features/{self.name}/views"], self._header)
