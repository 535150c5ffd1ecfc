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


class CosineHead(Head):
    """Base of heads on cosines: rows become directions whose products are mean cosines of blocks."""

    scale_: ColumnScale

    def _directions(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Standardise the columns and give every block the same length."""
        Z = self.scale_.apply(X.astype(np.float64))
        slices = block_slices(self.blocks, X.shape[1])
        for columns in slices.values():
            part = Z[:, columns]
            length = np.sqrt(np.einsum("ij,ij->i", part, part))
            shortest = SHORTEST * np.sqrt(part.shape[1])
            part /= (np.sqrt(len(slices)) * np.maximum(length, shortest))[:, None]
        return Z

    def _scale_arrays(self) -> dict[str, NDArray[Any]]:
        return {"mean": self.scale_.mean, "inverse": self.scale_.inverse}

    def _restore_scale(self, state: TrainedState) -> None:
        self.scale_ = ColumnScale(state.arrays["mean"], state.arrays["inverse"])
