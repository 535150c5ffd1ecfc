"""PCA per block, so that heads see few columns and every block keeps its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag, eigh
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from heads.columns import ColumnScale, LinearMap

_ROUNDING = 1e-6  # of the largest square: directions below it are noise


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
    joined: NDArray[np.float64] = block_diag(
        *(principal_directions(X[:, columns], n_directions)[0] for columns in slices)
    )
    return joined


def reduced_map(
    scale: ColumnScale,
    X: NDArray[Any],
    slices: Iterable[slice],
    pca: int,
    *,
    whiten: bool = False,
) -> tuple[LinearMap, tuple[int, ...]]:
    """Return the map from rows as they come to the principal columns of each block, evened out.

    Parameters
    ----------
    scale : ColumnScale
        Of the training rows.
    X : ndarray of shape (n_samples, n_features), float32 or float64
        Training rows, before standardising.
    slices : iterable of slice
        Columns of each block that is wanted; others play no part.
    pca : int
        Wanted directions per block, as for `block_directions`.
    whiten : bool
        Whether every column gets a variance of 1 in the training rows. Otherwise each block is divided by one
        factor, the root of the mean variance of its columns, so that their ratios stay what they are.

    Returns
    -------
    LinearMap
        To columns in block order, largest variance first.
    tuple of int
        Columns of each block after the map: a block of low rank has fewer than `pca`.
    """
    Z = scale.apply(X)
    parts = []
    for columns in slices:
        directions, squares = principal_directions(Z[:, columns], pca)
        part = np.zeros((Z.shape[1], directions.shape[1]))
        part[columns] = directions / column_spreads(squares / len(Z), whiten=whiten)
        parts.append(part)
    matrix = np.concatenate(parts, axis=1)
    return scale.fold(matrix, np.zeros(matrix.shape[1])), tuple(part.shape[1] for part in parts)


def column_spreads(variances: NDArray[np.float64], *, whiten: bool) -> NDArray[np.float64]:
    """Return what the principal columns of one block are divided by.

    Parameters
    ----------
    variances : ndarray of shape (n_directions,), float64
        Of the columns in the training rows; not negative.
    whiten : bool
        As for `reduced_map`.

    Returns
    -------
    ndarray of shape (n_directions,), float64
        1 for a block without any variance.
    """
    squares = variances if whiten else np.full_like(variances, variances.mean())
    return np.sqrt(np.where(squares > 0, squares, 1.0))


def leading_directions(
    gram: NDArray[np.float64], n_directions: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the leading eigenvectors of a Gram matrix and their eigenvalues, largest first.

    Parameters
    ----------
    gram : ndarray of shape (size, size), float64
        Symmetric; overwritten.
    n_directions : int
        Between 1 and size. Directions at the level of rounding are left out, but one is always kept.

    Returns
    -------
    (directions, squares) : ndarrays of shape (size, kept) and (kept,), float64
        The entry of largest size in each direction is positive; no square is negative.
    """
    size = len(gram)
    with threadpool_limits(limits=1, user_api="blas"):  # more threads take longer at these sizes
        values, vectors = eigh(
            gram,
            subset_by_index=(size - n_directions, size - 1),
            driver="evr",
            overwrite_a=True,
            check_finite=False,
        )
    kept = np.flatnonzero(values[::-1] > values[-1] * _ROUNDING)
    kept = kept if len(kept) else np.array([0])
    return _with_signs(vectors[:, ::-1][:, kept]), np.maximum(values[::-1][kept], 0.0)


def principal_directions(
    X: NDArray[Any], n_directions: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the leading principal directions of one block, and the sum of squares along each.

    Parameters
    ----------
    X : ndarray of shape (n_samples, width), float32 or float64
        Training rows of the block, with column means of zero.
    n_directions : int
        Wanted directions; at most min(n_samples, width) are given.

    Returns
    -------
    (directions, squares) : ndarrays of shape (width, kept) and (kept,), float64
        As from `leading_directions`.
    """
    n, d = X.shape
    wide = d > n
    gram = (X @ X.T if wide else X.T @ X).astype(np.float64)
    vectors, squares = leading_directions(gram, min(n_directions, n, d))
    if wide:
        vectors = X.T.astype(np.float64) @ vectors
        vectors /= np.maximum(np.linalg.norm(vectors, axis=0), np.finfo(np.float64).tiny)
        vectors = _with_signs(vectors)
    return vectors, squares


def _with_signs(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Make the entry of largest size in each column positive."""
    largest = np.abs(vectors).argmax(axis=0)
    signs = np.where(vectors[largest, np.arange(vectors.shape[1])] < 0, -1.0, 1.0)
    signed: NDArray[np.float64] = vectors * signs
    return signed
