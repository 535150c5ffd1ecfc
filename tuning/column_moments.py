"""Means and Gram matrices of parts of the rows, and joining them without looking at any other row."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heads.blocks import invalid_blocks
from heads.columns import ColumnScale, share_variance


@dataclass(frozen=True, eq=False)
class BlockMoments:
    """Moments of the columns of one block over the rows in which it is valid.

    Attributes
    ----------
    count : int
        Rows in which the block is valid.
    mean : ndarray of shape (width,), float64
        0 where no row is valid.
    squares : ndarray of shape (width,), float64
        Sum of the squared distances from the mean.
    gram : ndarray of shape (width, width), float64, or None
        Sum of the products of the distances from the mean; None when it was not asked for.
    """

    count: int
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]
    gram: NDArray[np.float64] | None


@dataclass(frozen=True, eq=False)
class ColumnMoments:
    """Moments of a part of the rows.

    Attributes
    ----------
    n_rows : int
        Rows, valid or not.
    blocks : list of BlockMoments
        In block order.

    Notes
    -----
    A row whose block is invalid is imputed with the mean, so it adds nothing to any sum of squares: moments
    of the valid rows and the number of all rows say everything about the imputed rows.
    """

    n_rows: int
    blocks: list[BlockMoments]

    def scale(self, terms: Iterable[slice] = ()) -> ColumnScale:
        """Return mean and inverse spread of the imputed columns, as ``ColumnScale.of`` measures them.

        Parameters
        ----------
        terms : iterable of slice
            Columns of each block of weighted terms, which share one spread.
        """
        mean = np.concatenate([block.mean for block in self.blocks])
        squares = np.concatenate([block.squares for block in self.blocks])
        return ColumnScale.from_variance(mean, share_variance(squares / self.n_rows, terms))


def measure(
    chunks: Iterable[NDArray[np.float32]], slices: Mapping[str, slice], *, with_gram: bool
) -> ColumnMoments:
    """Measure the columns of some rows.

    Parameters
    ----------
    chunks : iterable of ndarray of shape (n_chunk, n_features), float32
        The rows in slices; at least one row in all. A block without a valid embedding is NaN.
    slices : mapping of str to slice
        Columns of each block.
    with_gram : bool
        Whether Gram matrices are summed too: 2 width^2 operations per row and block.

    Returns
    -------
    ColumnMoments

    Raises
    ------
    ValueError
        If there is no row, a block is partly NaN or a value is infinite.

    Notes
    -----
    Products are made in float32 around the mean of a chunk and summed over chunks in float64.
    """
    total: ColumnMoments | None = None
    for rows in chunks:
        part = _measure_chunk(rows, slices, with_gram=with_gram)
        total = part if total is None else join([total, part])
    if total is None:
        raise ValueError("There are no rows to measure; each fold needs at least one training row.")
    return total


def join(parts: Sequence[ColumnMoments]) -> ColumnMoments:
    """Return the moments of the rows of all parts together.

    Parameters
    ----------
    parts : sequence of ColumnMoments
        At least one, all with Gram matrices or all without.

    References
    ----------
    T. F. Chan, G. H. Golub and R. J. LeVeque, "Updating formulae and a pairwise algorithm for computing
    sample variances", COMPSTAT 1982.
    """
    n_blocks = len(parts[0].blocks)
    blocks = [_join_block([part.blocks[position] for part in parts]) for position in range(n_blocks)]
    return ColumnMoments(sum(part.n_rows for part in parts), blocks)


def _join_block(parts: Sequence[BlockMoments]) -> BlockMoments:
    count = sum(part.count for part in parts)
    mean = np.zeros_like(parts[0].mean)
    for part in parts:
        mean += part.mean * (part.count / max(count, 1))
    # Moving every part to the common mean: one product of rank len(parts).
    moved = np.array([(part.mean - mean) * np.sqrt(part.count) for part in parts])
    squares = np.einsum("ij,ij->j", moved, moved)
    for part in parts:
        squares += part.squares
    gram = None if parts[0].gram is None else moved.T @ moved
    for part in parts:
        if gram is not None and part.gram is not None:
            gram += part.gram
    return BlockMoments(count, mean, squares, gram)


def _measure_chunk(
    rows: NDArray[np.float32], slices: Mapping[str, slice], *, with_gram: bool
) -> ColumnMoments:
    invalid = invalid_blocks(rows, slices)
    blocks = [
        _measure_block(rows[:, columns], ~invalid[name], with_gram=with_gram)
        for name, columns in slices.items()
    ]
    return ColumnMoments(len(rows), blocks)


def _measure_block(X: NDArray[Any], valid: NDArray[np.bool_], *, with_gram: bool) -> BlockMoments:
    """Measure the rows of one block in which it is valid."""
    X = X if valid.all() else X[valid]
    count = len(X)
    mean = X.mean(axis=0, dtype=np.float64) if count else np.zeros(X.shape[1])
    centre = mean.astype(np.float32)
    distances = X - centre
    # What rounding the centre to float32 left over is taken out again.
    rest = (mean - centre) * np.sqrt(count)
    squares = np.einsum("ij,ij->j", distances, distances, dtype=np.float64) - rest**2
    gram = None
    if with_gram:
        gram = (distances.T @ distances).astype(np.float64) - np.outer(rest, rest)
    return BlockMoments(count, mean, np.maximum(squares, 0.0), gram)
