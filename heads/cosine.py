"""What heads on cosines share: standardised rows whose blocks have one length."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from heads.blocks import block_slices
from heads.columns import ColumnScale
from heads.estimator import Head, TrainedState

# Standardised rows are about sqrt(width) long. One that is shorter than this share of it is a row of column
# means (an invalid block that was filled in): it stays short, instead of being a direction made of rounding.
SHORTEST = 1e-3

_ROWS_AT_ONCE = 1024  # standardised in float64 at a time: else three matrices of them are held


class CosineHead(Head):
    """Base of heads on cosines: rows become directions whose products are mean cosines of blocks."""

    scale_: ColumnScale

    def _directions(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Standardise the columns and give every block the same length."""
        Z = np.empty(X.shape)
        slices = block_slices(self.blocks, X.shape[1])
        for start in range(0, len(X), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            Z[rows] = self.scale_.apply(X[rows].astype(np.float64))
            for columns in slices.values():
                part = Z[rows, columns]
                length = np.sqrt(np.einsum("ij,ij->i", part, part))
                shortest = SHORTEST * np.sqrt(part.shape[1])
                part /= (np.sqrt(len(slices)) * np.maximum(length, shortest))[:, None]
        return Z

    def _scale_arrays(self) -> dict[str, NDArray[Any]]:
        return {"mean": self.scale_.mean, "inverse": self.scale_.inverse}

    def _restore_scale(self, state: TrainedState) -> None:
        self.scale_ = ColumnScale(state.arrays["mean"], state.arrays["inverse"])
