"""Near duplicates among vectors: pairs, found block by block, and groups of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Pairs = NDArray[np.int64]
Vectors = NDArray[np.float32]

#: Least cosine of two near duplicates, after the mean vector is taken off.
LEAST_COSINE = 0.95
#: Two near duplicates lie within this share of the usual distance to a fifth nearest neighbour.
MOST_OF_USUAL_DISTANCE = 0.33
#: In few dimensions less, so that about this share of unrelated rows comes so close by chance.
_BY_CHANCE = 1e-4

_BLOCK_BYTES = 64 * 2**20  # of one block of similarities
_MANY_ROWS = 8192  # from which rows are compared in fewer dimensions first
_KEPT_DIMENSIONS = 128
_ROWS_FOR_DISTANCE = 2048
_ROUNDING = 1e-6  # of a product of unit rows in float32, by whichever way it is summed
_NEIGHBOUR = 5  # so that a row may have a few near duplicates without becoming the measure of distance


def groups_of_pairs(pairs: Pairs, n: int) -> list[int | None]:
    """Turn pairs of rows into a key for `connected_groups`.

    Parameters
    ----------
    pairs : ndarray of shape (n_pairs, 2), int64
    n : int
        Number of rows.

    Returns
    -------
    list of n int or None
        Rows linked by pairs, directly or through others, have one number; rows without a pair have None.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    codes = connected_components(links, directed=False)[1]
    paired = np.zeros(n, dtype=bool)
    paired[pairs.ravel()] = True
    return [code if has else None for code, has in zip(codes.tolist(), paired.tolist(), strict=True)]


def near_pairs(
    X: Vectors,
    *,
    least_cosine: float = LEAST_COSINE,
    most_of_usual_distance: float = MOST_OF_USUAL_DISTANCE,
) -> Pairs:
    """Find rows that are nearly the same vector.

    Parameters
    ----------
    X : ndarray of shape (n_samples, d), float32
        A row with a NaN has no vector.
    least_cosine : float
        Of the two vectors less the mean of all.
    most_of_usual_distance : float
        Their distance is at most this share of the median distance of a row to its fifth nearest neighbour
        (of up to 2,048 rows spread over all), and in few dimensions at most ``1e-4 ** (1 / d)`` of it.
        A tight cluster, such as a class that the backbone knows well, has large cosines; its rows are
        still as far apart as neighbours usually are.

    Returns
    -------
    ndarray of shape (n_pairs, 2), int64
        The smaller row first, sorted.

    Notes
    -----
    Memory is bounded by blocks of 64 MB, whatever the number of rows. Above 8,192 rows the cosines are
    bounded in 128 principal directions first (a bound, so no pair is lost).
    """
    Z = centred(X)
    U = unit_rows(Z)
    farthest = min(most_of_usual_distance, _BY_CHANCE ** (1 / max(1, X.shape[1]))) * _usual_distance(Z)
    found = []
    for rows, others, _ in similar_rows(U, least_cosine):
        close = np.linalg.norm(Z[rows] - Z[others], axis=1) <= farthest
        found.append(np.stack([rows[close], others[close]], axis=1))
    return sorted_pairs(found)


def centred(X: Vectors) -> Vectors:
    """Take the mean of the rows that have a vector off all of them; rows without one become 0."""
    valid = np.isfinite(X).all(axis=1)
    Z = np.zeros_like(X, dtype=np.float32)
    if valid.any():
        Z[valid] = X[valid] - X[valid].mean(axis=0, dtype=np.float64).astype(np.float32)
    return Z


def unit_rows(X: Vectors) -> Vectors:
    """Scale every row to length 1; a row of (almost) zeros becomes 0, and is like no other."""
    lengths = np.linalg.norm(X, axis=1, keepdims=True)
    least = 1e-6 * max(float(lengths.max(initial=0.0)), 1e-30)
    return np.where(lengths > least, X / np.maximum(lengths, least), np.float32(0)).astype(np.float32)


def similar_rows(U: Vectors, least: float) -> Iterator[tuple[NDArray[np.int64], ...]]:
    """Yield all pairs of unit rows whose product reaches a bound.

    Parameters
    ----------
    U : ndarray of shape (n_samples, d), float32
        Rows of length 1, or 0 for a row that has no vector.
    least : float
        Above 0.

    Yields
    ------
    (rows, others, products)
        Row numbers with rows < others, int64, and their products, float32; in bounded portions.
    """
    bound = _upper_bounds(U) if len(U) > _MANY_ROWS and U.shape[1] > 2 * _KEPT_DIMENSIONS else U
    step = max(1, _BLOCK_BYTES // (4 * max(1, len(U))))
    for start in range(0, len(U), step):
        products = bound[start : start + step] @ bound[start:].T
        rows, others = np.nonzero(products >= least - _ROUNDING)
        ahead = others > rows
        rows, others = rows[ahead] + start, others[ahead] + start
        for some in range(0, len(rows), _portion := max(1, _BLOCK_BYTES // (8 * U.shape[1]))):
            i, j = rows[some : some + _portion], others[some : some + _portion]
            exact = np.einsum("ij,ij->i", U[i], U[j])
            kept = exact >= least
            yield i[kept], j[kept], exact[kept]


def rows_with_likeness(U: Vectors, least: float) -> NDArray[np.bool_]:
    """Return which unit rows may have another whose product with them reaches `least`.

    Parameters
    ----------
    U : ndarray of shape (n_samples, d), float32
    least : float

    Returns
    -------
    ndarray of shape (n_samples,), bool
        Every row that has one, and a few that have none: within rounding, and more above 8,192 rows.
    """
    bound = _upper_bounds(U) if len(U) > _MANY_ROWS and U.shape[1] > 2 * _KEPT_DIMENSIONS else U
    found = np.zeros(len(U), dtype=bool)
    step = max(1, _BLOCK_BYTES // (4 * max(1, len(U))))
    for start in range(0, len(U), step):
        products = bound[start : start + step] @ bound[start:].T
        own = np.arange(len(products))
        products[own, own] = -1.0
        found[start : start + len(products)] |= products.max(axis=1) >= least - _ROUNDING
        found[start:] |= products.max(axis=0) >= least - _ROUNDING
    return found


def _upper_bounds(U: Vectors) -> Vectors:
    """Return narrower rows whose products are never below those of `U`: Cauchy-Schwarz on what is cut off."""
    rng = np.random.default_rng(0)
    # Halko, Martinsson and Tropp (2011), algorithm 4.1 with one power step: directions that hold most of U.
    start = U @ rng.standard_normal((U.shape[1], _KEPT_DIMENSIONS), dtype=np.float32)
    basis = np.linalg.qr(U.T @ start)[0]
    kept = U @ basis
    rest = np.sqrt(np.maximum((U * U).sum(axis=1) - (kept * kept).sum(axis=1), 0.0))
    return np.concatenate([kept, rest[:, None]], axis=1).astype(np.float32)


def _usual_distance(Z: Vectors) -> float:
    """Median distance from a row to its fifth nearest that is not equal, over rows spread evenly."""
    rows = np.flatnonzero(Z.any(axis=1))
    if len(rows) < 2:
        return 0.0
    some = rows[np.unique(np.linspace(0, len(rows) - 1, _ROWS_FOR_DISTANCE).round().astype(np.int64))]
    S = Z[some].astype(np.float64)
    squares = (S * S).sum(axis=1)
    distances = squares[:, None] + squares[None, :] - 2 * S @ S.T
    distances[distances <= 1e-9 * squares.mean()] = np.inf  # itself, and copies of it
    place = min(_NEIGHBOUR, len(S) - 1) - 1
    fifth = np.partition(distances, place, axis=1)[:, place]
    return float(np.sqrt(np.median(fifth[np.isfinite(fifth)]))) if np.isfinite(fifth).any() else 0.0


def sorted_pairs(found: Sequence[Pairs]) -> Pairs:
    """Return portions of pairs as one array of shape (n_pairs, 2), in order."""
    pairs = np.concatenate([np.empty((0, 2), dtype=np.int64), *found])
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
