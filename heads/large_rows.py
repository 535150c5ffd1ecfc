"""Rows that are too many for memory, read from an array-like chunk after chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

LARGE_BYTES = 1 << 30
"""An array-like whose rows take more than this as float32 is read by chunks, not as a whole."""

_CHUNK_BYTES = 4 << 20
_FAULTS_SHOWN = 5

_T = TypeVar("_T")


def is_large(X: Any) -> bool:
    """Tell whether `X` is a matrix on disk (an HDF5 dataset, a store's space, a memmap) too big to be read.

    An ndarray never is, whatever its size: it is in memory already.
    """
    if isinstance(X, np.ndarray) and not isinstance(X, np.memmap):
        return False
    shape: tuple[int, ...] = getattr(X, "shape", ())
    dtype = getattr(X, "dtype", None)
    if len(shape) != 2 or not isinstance(dtype, np.dtype) or dtype.kind != "f":
        return False
    return hasattr(X, "__getitem__") and int(shape[0]) * int(shape[1]) * 4 > LARGE_BYTES


class LargeRows:
    """Some rows of a matrix on disk.

    Parameters
    ----------
    X : array-like of shape (n, n_features), float16, float32 or float64
        Slices by rows.
    numbers : ndarray of shape (n_rows,), integer, or None
        Which rows, ascending; None is all.
    chunk_bytes : int or None
        Largest read, None is 4 MiB; whole HDF5 chunks where `X` tells their size.

    Attributes
    ----------
    shape : tuple of (int, int)
    numbers : ndarray of shape (n_rows,), integer
        Which rows of `X`.
    stored_dtype : numpy.dtype
    dtype : numpy.dtype
        float64 if the rows are stored so, else float32: what they are worked with.
    n_chunks : int
        Reads that cover all rows.
    """

    def __init__(
        self, X: Any, numbers: NDArray[np.intp] | None = None, *, chunk_bytes: int | None = None
    ) -> None:
        self._source = X
        self.numbers = np.arange(X.shape[0]) if numbers is None else numbers
        self._chunk_bytes = _CHUNK_BYTES if chunk_bytes is None else chunk_bytes
        self.shape = (len(self.numbers), int(X.shape[1]))
        self.stored_dtype: np.dtype[Any] = X.dtype
        self.dtype = np.dtype(np.float64 if X.dtype == np.float64 else np.float32)
        step = max(1, self._chunk_bytes // (self.shape[1] * X.dtype.itemsize))
        stored = getattr(X, "chunks", None)
        if isinstance(stored, tuple):
            step = max(stored[0], step // stored[0] * stored[0])
        ends = np.arange(step, X.shape[0] + step, step)
        bounds = np.unique(np.searchsorted(self.numbers, [0, *ends]))
        self._bounds = bounds
        self.n_chunks = len(bounds) - 1

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    def select(self, places: NDArray[np.intp]) -> LargeRows:
        """Return some of these rows, by ascending place among them; nothing is read or copied."""
        return LargeRows(self._source, self.numbers[places], chunk_bytes=self._chunk_bytes)

    def places(self, chunk: int) -> slice:
        """Return which of the rows a chunk holds."""
        return slice(int(self._bounds[chunk]), int(self._bounds[chunk + 1]))

    def read(self, chunk: int) -> NDArray[Any]:
        """Read one chunk, in the dtype it is stored in."""
        wanted = self.numbers[self.places(chunk)]
        first, last = int(wanted[0]), int(wanted[-1]) + 1
        block: NDArray[Any] = np.asarray(self._source[first:last])
        return block if len(block) == len(wanted) else block[wanted - first]

    def chunks(self) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Read everything in order, the next chunk in a thread while one is worked on.

        Yields
        ------
        (places, rows) : slice, ndarray of shape (n_read, n_features)
        """
        parts = read_ahead(partial(self.read, chunk) for chunk in range(self.n_chunks))
        for chunk, rows in enumerate(parts):
            yield self.places(chunk), rows


class MappedRows:
    """A matrix on disk whose rows pass through a function whenever they are read.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
    function : callable (rows, first_row) -> rows
        From some rows to as many of them; `first_row` is the number of the first.

    Attributes
    ----------
    shape : tuple of (int, int)
    dtype : numpy.dtype
        float64 if the rows are stored so, else float32.
    chunks : tuple of int, or None
        HDF5 chunks of `X`.
    """

    ndim = 2

    def __init__(self, X: Any, function: Callable[[NDArray[Any], int], NDArray[Any]]) -> None:
        self._source = X
        self._function = function
        self.shape = (int(X.shape[0]), int(X.shape[1]))
        self.dtype = np.dtype(np.float64 if X.dtype == np.float64 else np.float32)
        self.chunks = getattr(X, "chunks", None)

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Read some rows."""
        first, _, _ = rows.indices(len(self))
        found = self._function(widened(np.asarray(self._source[rows])), first)
        return found.astype(self.dtype, copy=False)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read everything, chunk after chunk: for what cannot work on a part of the rows."""
        if copy is False:
            raise ValueError("Rows on disk cannot become an array without a copy; leave out copy=False.")
        whole = np.empty(self.shape, dtype=self.dtype if dtype is None else dtype)
        for places, rows in LargeRows(self).chunks():
            whole[places] = rows
        return whole


def widened(rows: NDArray[Any]) -> NDArray[Any]:
    """Return float16 as float32, and other rows as they are.

    By torch, which has the processor's instruction for it: 0.1 instead of numpy's 1.7 ns a value, in a pass
    whose other work takes 1.3.
    """
    if rows.dtype != np.float16:
        return rows
    import torch

    wide: NDArray[Any] = torch.from_numpy(rows).to(torch.float32).numpy()
    return wide


def rows_not_finite(rows: NDArray[Any]) -> list[int]:
    """Return the numbers of the rows that hold NaN or infinity.

    Parameters
    ----------
    rows : ndarray of shape (n, n_features), float32 or float64
    """
    # A sum is finite only when every term is, so clean rows cost one pass and no copy.
    with np.errstate(invalid="ignore", over="ignore"):
        suspect = np.flatnonzero(~np.isfinite(rows.sum(axis=1)))
    found: list[int] = suspect[~np.isfinite(rows[suspect]).all(axis=1)].tolist()
    return found


def refuse_rows(faulty: list[int]) -> None:
    """Refuse rows that are not finite.

    Raises
    ------
    ValueError
        If there are any; the first five are named.
    """
    if faulty:
        shown = ", ".join(str(row) for row in faulty[:_FAULTS_SHOWN])
        more = f" and {len(faulty) - _FAULTS_SHOWN} more" if len(faulty) > _FAULTS_SHOWN else ""
        raise ValueError(
            f"Input X contains NaN or infinity in {len(faulty)} row(s): {shown}{more}. Values must be "
            "finite: fill in missing blocks with heads.BlockImputer, or extract these rows again."
        )


def read_ahead(reads: Iterable[Callable[[], _T]]) -> Iterator[_T]:
    """Call one function after the other in a thread, each while the result before it is worked on."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead") as reader:
        waiting: Future[_T] | None = None
        for read in reads:
            coming = reader.submit(read)
            if waiting is not None:
                yield waiting.result()
            waiting = coming
        if waiting is not None:
            yield waiting.result()
