"""PCA per block, so that trees see few columns and every block keeps its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]


def block_directions(X: NDArray[Any], slices: Iterable[slice], n_directions: int) -> NDArray[np.float64]:
    """Return the leading principal directions of each block, as one block-diagonal matrix.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), float32
        Training rows with column means of zero.
    slices : iterable of slice
        Columns of each block.
    n_directions : int
        Wanted directions per block; a block gives at most min(n_samples, its width).

    Returns
    -------
    ndarray of shape (n_features, n_outputs), float64
        Outputs in block order, largest variance first. The entry of largest size in each direction is
        positive, so that the signs do not depend on the linear-algebra library.

    Notes
    -----
    Exact, from the smaller of the two Gram matrices: one wide product and one symmetric eigenproblem, which
    at these sizes takes as long as a randomised solver with enough passes, and has no seed.
    """
    parts = [_directions(X[:, columns], n_directions) for columns in slices]
    out = np.zeros((X.shape[1], sum(part.shape[1] for part in parts)))
    row = column = 0
    for part in parts:
        out[row : row + part.shape[0], column : column + part.shape[1]] = part
        row, column = row + part.shape[0], column + part.shape[1]
    return out


def _directions(X: NDArray[Any], n_directions: int) -> NDArray[np.float64]:
    """Return up to `n_directions` leading directions of one block, shape (width, directions)."""
    n, d = X.shape
    wanted = min(n_directions, n, d)
    wide = d > n
    gram = (X @ X.T if wide else X.T @ X).astype(np.float64)
    size = len(gram)
    with threadpool_limits(limits=1, user_api="blas"):  # more threads take longer at these sizes
        values, vectors = eigh(
            gram,
            subset_by_index=(size - wanted, size - 1),
            driver="evr",
            overwrite_a=True,
            check_finite=False,
        )
    # Directions at the level of rounding are noise; one is kept, so that there is always a column.
    kept = np.flatnonzero(values[::-1] > values[-1] * 1e-6)
    kept = kept if len(kept) else np.array([0])
    vectors = vectors[:, ::-1][:, kept]
    if wide:
        vectors = X.T.astype(np.float64) @ vectors
        vectors /= np.maximum(np.linalg.norm(vectors, axis=0), np.finfo(np.float64).tiny)
    largest = np.abs(vectors).argmax(axis=0)
    signs = np.where(vectors[largest, np.arange(vectors.shape[1])] < 0, -1.0, 1.0)
    directions: NDArray[np.float64] = vectors * signs
    return directions
