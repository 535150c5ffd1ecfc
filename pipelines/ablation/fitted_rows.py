"""Fitted rows: what cross-validating a row of a table gave, and keeping it on disk."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache import write_file


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
        path = self._folder / f"{key}.row"
        if not path.is_file():
            return None
        digest, _, body = path.read_bytes().partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != digest:
            path.unlink()
            return None
        line, _, array = body.partition(b"\n")
        facts = json.loads(line)
        oof = np.load(io.BytesIO(array), allow_pickle=False)
        return Fitted(oof, facts["n_parameters"], facts["seconds"])

    def put(self, key: str, fitted: Fitted) -> None:
        """Store a row durably."""
        facts = {"n_parameters": fitted.n_parameters, "seconds": fitted.seconds}
        buffer = io.BytesIO()
        np.save(buffer, fitted.oof, allow_pickle=False)
        body = json.dumps(facts).encode("utf-8") + b"\n" + buffer.getvalue()
        digest = hashlib.sha256(body).hexdigest().encode()
        write_file(self._folder / f"{key}.row", digest + b"\n" + body)
