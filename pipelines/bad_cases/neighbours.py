"""Nearest neighbours of rows, by the mean cosine of a run's blocks."""

from __future__ import annotations

import numpy as np

from heads import make_pipeline
from pipelines.matrices import Matrix

N_NEIGHBOURS = 5
_AT_ONCE = 512


class Neighbours:
    """Labelled rows of a matrix that can be asked which of them are near which.

    Parameters
    ----------
    matrix : Matrix
    rows : ndarray of shape (n_rows,), integer
        Rows of the matrix; positions below count among them.

    Notes
    -----
    As the head ``knn`` measures it: columns are standardised, every block counts the same, and a missing
    embedding is near nothing.
    """

    def __init__(self, matrix: Matrix, rows: np.ndarray) -> None:
        pipeline = make_pipeline("knn", blocks=matrix.blocks, resampler="none", random_state=0)
        pipeline.fit(matrix.X[rows], matrix.labels[rows])
        self._directions = pipeline.named_steps["head"].directions_

    def nearest(self, positions: np.ndarray, k: int = N_NEIGHBOURS) -> tuple[np.ndarray, np.ndarray]:
        """Return the k nearest other rows of each row, nearest first, and their cosines.

        Parameters
        ----------
        positions : ndarray of shape (n_asked,), integer
        k : int

        Returns
        -------
        (near, cosines) : ndarrays of shape (n_asked, min(k, n_rows - 1)), int64 and float32
        """
        n = len(self._directions)
        k = min(k, n - 1)
        near = np.empty((len(positions), k), dtype=np.int64)
        cosines = np.empty((len(positions), k), dtype=np.float32)
        for start in range(0, len(positions), _AT_ONCE):
            asked = positions[start : start + _AT_ONCE]
            similar = self._directions[asked] @ self._directions.T
            similar[np.arange(len(asked)), asked] = -np.inf  # a row is not its own neighbour
            best = np.argpartition(-similar, k - 1, axis=1)[:, :k] if k < n else np.argsort(-similar, axis=1)
            values = np.take_along_axis(similar, best, axis=1)
            order = np.argsort(-values, axis=1, kind="stable")
            near[start : start + len(asked)] = np.take_along_axis(best, order, axis=1)
            cosines[start : start + len(asked)] = np.take_along_axis(values, order, axis=1)
        return near, cosines
