"""Vectors that were embedded anew, kept until a command is done: an interrupted one goes on from them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from cache import canonical_json, sha256_hex, write_file
from pipelines.run_inputs import TowerRows

Vectors = dict[str, np.ndarray]


class VectorMemory:
    """Keeps vectors by what they were made from.

    Parameters
    ----------
    folder : Path
        Made when needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def recall(self, tower: TowerRows, ids: Sequence[str], facts: Mapping[str, Any]) -> Vectors | None:
        """Return block -> vectors made from the same rows, inputs and facts; None if none are whole."""
        path = self._path(tower, ids, facts)
        if not path.is_file():
            return None
        try:
            # A zip file: every array has a checksum.
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
                return {block: arrays[str(i)] for i, block in enumerate(tower.stored)}
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            path.unlink()
            return None

    def keep(
        self, tower: TowerRows, ids: Sequence[str], facts: Mapping[str, Any], made: Mapping[str, np.ndarray]
    ) -> None:
        """Write vectors down, whole or not at all."""
        self._folder.mkdir(exist_ok=True)
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **{str(i): made[block] for i, block in enumerate(tower.stored)})
        write_file(self._path(tower, ids, facts), buffer.getvalue())

    def _path(self, tower: TowerRows, ids: Sequence[str], facts: Mapping[str, Any]) -> Path:
        everything = {
            **facts,
            "spaces": [[space["space_fingerprint"], space["store_fingerprint"]] for space in tower.spaces],
            "ids": list(ids),
            "texts": [source.text for source in tower.sources],
            "images": [source.image_sha256.hex() for source in tower.sources],
        }
        return self._folder / f"{sha256_hex(canonical_json(everything))}.npz"
