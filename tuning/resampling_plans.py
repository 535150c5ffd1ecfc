"""Resampled training rows that trials share, so that each neighbour search is made once."""

import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

import heads
from tuning.fold_rows import FoldRows

_KEPT_BYTES = 256 * 2**20  # of rows with synthetic ones, least recently used first to go

Rows = tuple[NDArray[np.float32], NDArray[np.int64]]

Resampled = Callable[[FoldRows, str, int], Rows]
"""Takes the rows of a fold, a name of ``heads.RESAMPLERS`` other than "none" and a seed; returns the rows to
train on and their codes: `ResamplingPlans.apply` is one."""


def growth(resampler: str, codes: NDArray[np.int64]) -> float | None:
    """Return how many times as many rows there are after resampling.

    Parameters
    ----------
    resampler : str
        One of ``heads.RESAMPLERS``.
    codes : ndarray of shape (n_rows,), integer

    Returns
    -------
    float or None
        At least 1, also where rows are left out. None where that depends on the rows and not on their classes
        alone ("smote-enn").

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    from heads.resampling import resampled_size

    sizes = np.unique(codes, return_counts=True)[1]
    made = resampled_size(resampler, sizes)
    return None if made is None else max(1.0, made / len(codes))


class ResamplingPlans:
    """What ``heads.make_resampler`` makes of the training rows of a fold, kept for the next trial.

    Notes
    -----
    Samplers that pick rows by class are kept as row numbers, which hold for any number of columns. Those that
    make rows search neighbours in the columns they are given, so they are kept per reduction.
    """

    def __init__(self) -> None:
        self._picked: dict[tuple[int, str, int], NDArray[np.int64]] = {}
        self._made: OrderedDict[tuple[int, str, int, int | None, bool, bool], Rows] = OrderedDict()
        self._lock = threading.Lock()

    def apply(self, rows: FoldRows, resampler: str, seed: int) -> Rows:
        """Resample the training rows of a fold.

        Parameters
        ----------
        rows : FoldRows
            From the one ``Reductions`` that these plans are used with.
        resampler : str
            One of ``heads.RESAMPLERS``.
        seed : int

        Returns
        -------
        (X, codes) : ndarrays of shape (n_resampled, n_columns), float32, and (n_resampled,), int64
            As ``heads.make_resampler(resampler, random_state=seed).fit_resample`` returns them. `X` is
            read-only.

        Raises
        ------
        ValueError
            If the name is unknown, or a class has a single row and the resampler makes rows between two.
        """
        from heads.resampling import picks_rows

        if picks_rows(resampler):
            picked = self._pick(rows, resampler, seed)
            X = rows.train[picked]
            X.flags.writeable = False
            return X, rows.train_codes[picked]
        sampler = heads.make_resampler(resampler, random_state=seed)
        if sampler is None:
            return rows.train, rows.train_codes
        key = (rows.fold, resampler, seed, rows.pca, rows.whiten, rows.screened)
        with self._lock:
            found = self._made.pop(key, None)
            if found is None:
                X, codes = sampler.fit_resample(rows.train, rows.train_codes)[:2]
                X.flags.writeable = False
                found = (X, codes)
            self._made[key] = found
            while sum(X.nbytes for X, _ in self._made.values()) > _KEPT_BYTES:
                self._made.popitem(last=False)
        return found

    def _pick(self, rows: FoldRows, resampler: str, seed: int) -> NDArray[np.int64]:
        """Return the numbers of the rows that a sampler picks."""
        key = (rows.fold, resampler, seed)
        with self._lock:
            if key not in self._picked:
                sampler = heads.make_resampler(resampler, random_state=seed)
                assert sampler is not None
                # It looks at labels only; one column spares it copying all of them.
                sampler.fit_resample(rows.train[:, :1], rows.train_codes)
                self._picked[key] = sampler.sample_indices_.astype(np.int64)
            return self._picked[key]
