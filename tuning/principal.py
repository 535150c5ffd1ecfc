"""Leading directions of each block of each fold: solved side by side, one core each."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from heads.columns import ColumnScale
from heads.projection import leading_directions, principal_directions
from tuning.column_moments import ColumnMoments

_Job = TypeVar("_Job")
_Found = TypeVar("_Found")


@dataclass(frozen=True, eq=False)
class Principal:
    """Leading directions of one block of one fold.

    Attributes
    ----------
    directions : ndarray of shape (block_width, n_directions), float64
        Largest variance first.
    variances : ndarray of shape (n_directions,), float64
        Of the training rows along each.
    """

    directions: NDArray[np.float64]
    variances: NDArray[np.float64]


def principal_of_moments(
    moments: Sequence[ColumnMoments], scales: Sequence[ColumnScale], slices: Sequence[slice], width: int
) -> list[list[Principal]]:
    """Find the directions of every fold and block from Gram matrices.

    Parameters
    ----------
    moments : sequence of ColumnMoments
        Of the training rows of each fold, with Gram matrices.
    scales : sequence of ColumnScale
        Of each fold.
    slices : sequence of slice
        Columns of each block.
    width : int
        Wanted directions per block; a block gives at most min(n_train, its width).

    Returns
    -------
    list of list of Principal
        Fold by fold, block by block.
    """
    jobs = [
        (block.gram, scale.inverse[columns], fold.n_rows, width)
        for fold, scale in zip(moments, scales, strict=True)
        for block, columns in zip(fold.blocks, slices, strict=True)
    ]
    solved = _side_by_side(lambda job: _of_gram(*job), jobs)
    per_fold = len(slices)
    return [solved[start : start + per_fold] for start in range(0, len(solved), per_fold)]


def principal_of_rows(
    rows: Callable[[int], NDArray[np.float32]], n_folds: int, slices: Sequence[slice], width: int
) -> list[list[Principal]]:
    """Find the directions of every fold and block from its standardised training rows.

    Parameters
    ----------
    rows : callable
        Takes the number of a fold, returns its rows, shape (n_train, n_columns); called from several threads.
    n_folds : int
    slices, width
        As for `principal_of_moments`, which needs one pass over all rows, but Gram matrices of all columns:
        here the smaller of that and the Gram matrix of the rows is made.

    Returns
    -------
    list of list of Principal
    """

    def of_fold(fold: int) -> list[Principal]:
        Z = rows(fold)
        found = [principal_directions(Z[:, columns], width) for columns in slices]
        return [Principal(directions, squares / len(Z)) for directions, squares in found]

    return _side_by_side(of_fold, range(n_folds))


def _of_gram(
    gram: NDArray[np.float64] | None, inverse: NDArray[np.float64], n_rows: int, width: int
) -> Principal:
    """Return the leading directions of one block of standardised training rows."""
    assert gram is not None  # moments come with them
    standardised = gram * inverse[:, None] * inverse
    directions, squares = leading_directions(standardised, min(width, n_rows, len(gram)))
    return Principal(directions, squares / n_rows)


def _side_by_side(work: Callable[[_Job], _Found], jobs: Sequence[_Job]) -> list[_Found]:
    """Do independent pieces of work on one core each."""
    n_workers = min(len(jobs), os.cpu_count() or 1)
    # The limit is that of the whole process, so it is set here, around all threads.
    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(n_workers) as workers:
        return list(workers.map(work, jobs))
