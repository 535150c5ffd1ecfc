"""Spaces of open stores side by side as one matrix whose rows stay on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from cache import FeatureSpace


@dataclass(frozen=True, eq=False)
class StoredBlock:
    """One block of a matrix on disk.

    Attributes
    ----------
    path : str
        Of the store.
    space : FeatureSpace
        Of an open store.
    rows : ndarray of shape (n_samples,), integer
        Where the samples lie in the store.
    valid : ndarray of shape (n_samples,), bool
        Which samples have a vector.
    """

    path: str
    space: FeatureSpace
    rows: np.ndarray
    valid: np.ndarray

    def read(self, places: slice) -> np.ndarray:
        """Return the vectors of some samples, NaN where there is none."""
        rows = self.rows[places]
        if not len(rows):
            return np.empty((0, self.space.shape[1]), dtype=self.space.dtype)
        # The ends alone do not tell: rows in another order may begin and end where a range does.
        is_range = bool((np.diff(rows) == 1).all())
        values = self.space[int(rows[0]) : int(rows[-1]) + 1] if is_range else self.space[rows]
        values[~self.valid[places]] = np.nan
        return values


class StoredRows:
    """Blocks side by side: rows are read when they are asked for.

    Parameters
    ----------
    blocks : sequence of StoredBlock
        Their stores must stay open.

    Attributes
    ----------
    shape : tuple of (int, int)
    dtype : numpy.dtype
        float16 if all blocks are stored so, else float32.
    is_ordered : bool
        Whether every store holds the samples in this order. Where one does not, a read of consecutive samples
        is as many reads as samples.
    """

    ndim = 2

    def __init__(self, blocks: Sequence[StoredBlock]) -> None:
        self._blocks = tuple(blocks)
        self.is_ordered = all((np.diff(block.rows) > 0).all() for block in blocks)
        width = sum(block.space.shape[1] for block in blocks)
        self.shape = (len(blocks[0].rows), width)
        self.dtype = np.result_type(*(block.space.dtype for block in blocks))

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.shape[0]

    def __getitem__(self, samples: slice) -> np.ndarray:
        """Read consecutive samples; a missing block is NaN."""
        start, stop, step = samples.indices(len(self))
        if step != 1:
            raise IndexError(
                f"Rows of a matrix on disk are read one after the other, not in steps of {step}."
            )
        parts = [block.read(slice(start, max(start, stop))) for block in self._blocks]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        """Read everything."""
        if copy is False:
            raise ValueError("A matrix on disk cannot become an array without a copy; leave out copy=False.")
        found = np.empty(self.shape, dtype=self.dtype if dtype is None else dtype)
        start = 0
        for block in self._blocks:
            found[:, start : start + block.space.shape[1]] = block.read(slice(None))
            start += block.space.shape[1]
        return found
