"""The rows of one fold as a head sees them."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class FoldRows:
    """The rows of one fold as a head sees them.

    Attributes
    ----------
    fold : int
    pca : int or None
        Directions per block that were asked for.
    whiten : bool
    screened : bool
        Whether blocks that say nothing were looked for and found; their columns are left out.
    train : ndarray of shape (n_train, n_columns), float32, C-contiguous
        Training rows in fold order, then every view of them, view after view.
    train_codes : ndarray of shape (n_train,), int64
    origins : ndarray of shape (n_train,), int64, or None
        For each row the row that it is a view of, as ``sample_origin`` in ``heads.fit_with_views``; None when
        there are no views.
    valid : ndarray of shape (n_valid, n_columns), float32, C-contiguous
        Validation rows, without views.
    block_widths : tuple of int
        Columns of each block, in order; 0 for a block that is left out.

    Notes
    -----
    The arrays are shared by all who ask: they are read-only.
    """

    fold: int
    pca: int | None
    whiten: bool
    screened: bool
    train: NDArray[np.float32]
    train_codes: NDArray[np.int64]
    origins: NDArray[np.int64] | None
    valid: NDArray[np.float32]
    block_widths: tuple[int, ...]

    def without(self, silent: NDArray[np.bool_]) -> "FoldRows":
        """Return the rows without the columns of some blocks.

        Parameters
        ----------
        silent : ndarray of shape (n_blocks,), bool

        Returns
        -------
        FoldRows
        """
        left = np.where(silent, 0, self.block_widths)
        columns = np.flatnonzero(np.repeat(~silent, self.block_widths))
        train, valid = self.train[:, columns], self.valid[:, columns]
        train.flags.writeable = valid.flags.writeable = False
        return replace(self, screened=True, train=train, valid=valid, block_widths=tuple(left.tolist()))
