"""Blocks side by side as one matrix whose rows are read when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from cache import FeatureSpace, FeatureStore


class Block(Protocol):
    """Columns of a matrix: which samples have values, and how to read those of some samples."""

    @property
    def width(self) -> int:
        """Number of columns."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what `read` returns."""

    @property
    def valid(self) -> np.ndarray:
        """Which samples have values: ndarray of shape (n_samples,), bool."""

    def read(self, places: slice) -> np.ndarray:
        """Return the values of consecutive samples, NaN where there are none."""


@dataclass(frozen=True, eq=False)
class StoredBlock:
    """One space of an open store.

    Attributes
    ----------
    path : str
        Of the store.
    space : FeatureSpace
    rows : ndarray of shape (n_samples,), integer
        Where the samples lie in the store.
    valid : ndarray of shape (n_samples,), bool
        Which samples have a vector.
    """

    path: str
    space: FeatureSpace
    rows: np.ndarray
    valid: np.ndarray

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.space.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """float16 or float32, as stored."""
        return self.space.dtype

    def read(self, places: slice | np.ndarray) -> np.ndarray:
        """Return the vectors of some samples, NaN where there is none."""
        rows = self.rows[places]
        if not len(rows):
            return np.empty((0, self.width), dtype=self.dtype)
        # The ends alone do not tell: rows in another order may begin and end where a range does.
        is_range = bool((np.diff(rows) == 1).all())
        values = self.space[int(rows[0]) : int(rows[-1]) + 1] if is_range else self.space[rows]
        values[~self.valid[places]] = np.nan
        return values

    def vectors(self) -> np.ndarray:
        """Return all samples: ndarray of shape (n_samples, width), float32; NaN where there is none."""
        return self.read(slice(None)).astype(np.float32, copy=False)


def stored_block(store: FeatureStore, space: str, rows: np.ndarray) -> StoredBlock:
    """Return one space of an open store as a block of some of its rows, which stay on disk.

    Parameters
    ----------
    store : FeatureStore
    space : str
        As for `FeatureStore.select`.
    rows : ndarray of shape (n_samples,), integer

    Raises
    ------
    SpaceError
        If the store has no such space.
    """
    selected = store.select(space)
    return StoredBlock(str(store.path), selected, rows, selected.valid[rows])


class StoredRows:
    """Blocks side by side: rows are read when they are asked for.

    Parameters
    ----------
    blocks : sequence of Block
        At least one, all of the same samples. Stores that they read must stay open.

    Attributes
    ----------
    blocks : tuple of Block
    shape : tuple of (int, int)
    dtype : numpy.dtype
        float16 if all blocks are so, else float32.
    """

    ndim = 2

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks = tuple(blocks)
        self.shape = (len(blocks[0].valid), sum(block.width for block in blocks))
        self.dtype = np.result_type(*(block.dtype for block in blocks))

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
        parts = [block.read(slice(start, max(start, stop))) for block in self.blocks]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def put_in_order(self) -> None:
        """Do what the first reading of some samples needs, where a store holds them in another order.

        That may take minutes, and Ctrl-C does not reach the threads that read ahead: so it is done here.
        """
        self[:1]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        """Read everything."""
        if copy is False:
            raise ValueError("A matrix on disk cannot become an array without a copy; leave out copy=False.")
        found = np.empty(self.shape, dtype=self.dtype if dtype is None else dtype)
        start = 0
        for block in self.blocks:
            found[:, start : start + block.width] = block.read(slice(None))
            start += block.width
        return found
