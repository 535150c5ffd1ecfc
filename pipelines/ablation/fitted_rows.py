"""Fitted rows: what cross-validating a row of a table gave, and keeping it on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.hashed_files import read_hashed, write_hashed


@dataclass(frozen=True, eq=False)
class Fitted:
    """A row that has been cross-validated.

    Attributes
    ----------
    oof : ndarray of shape (n_training, n_classes), float32
        Out-of-fold probabilities.
    n_parameters : int
        Numbers that were trained, on average over the folds.
    seconds : float
        Time of all fits and predictions, as if one after the other.
    """

    oof: np.ndarray
    n_parameters: int
    seconds: float

    @property
    def predictions(self) -> np.ndarray:
        """Most probable class code of every row; the lowest wins a tie."""
        codes: np.ndarray = self.oof.argmax(axis=1)
        return codes


class RowMemory:
    """Finished rows on disk, one file each, so that an interrupted table goes on.

    Parameters
    ----------
    folder : Path
        Exists.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> Fitted | None:
        """Return a stored row, or None. A file that was cut short or changed does not count."""
        stored = read_hashed(self._folder / f"{key}.row")
        if stored is None:
            return None
        facts, oof = stored
        return Fitted(oof, facts["n_parameters"], facts["seconds"])

    def put(self, key: str, fitted: Fitted) -> None:
        """Store a row durably."""
        facts = {"n_parameters": fitted.n_parameters, "seconds": fitted.seconds}
        write_hashed(self._folder / f"{key}.row", facts, fitted.oof)
