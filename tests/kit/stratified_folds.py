"""Plain stratified folds, as splits and as one fold number per row."""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import StratifiedKFold


def splits(y: np.ndarray, n_folds: int = 5) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (train, valid) row numbers of every fold."""
    return list(StratifiedKFold(n_folds, shuffle=True, random_state=0).split(y, y))


def fold_of_row(y: np.ndarray, n_folds: int = 5) -> np.ndarray:
    """Return the fold in which `splits` validates each row."""
    folds = np.empty(len(y), dtype=np.int64)
    for fold, (_, valid) in enumerate(splits(y, n_folds)):
        folds[valid] = fold
    return folds
