"""Vectors that were embedded anew, kept until a command is done: an interrupted one goes on from them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile

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
    n_views : int or None
        Vectors of so many views are kept, float32 of shape (n_views, n_rows, width); None is of one, of
        shape (n_rows, width).
    """

    def __init__(self, folder: Path, *, n_views: int | None = None) -> None:
        self._folder = folder
        self._views = () if n_views is None else (n_views,)

    def recall(self, tower: TowerRows, ids: Sequence[str], facts: Mapping[str, Any]) -> Vectors | None:
        """Return block -> vectors made from the same rows, inputs and facts; None if none are whole.

        The file may be damaged, or come with a stranger's run. What is not laid out exactly as `keep` does
        it is removed; no more bytes are ever unpacked than these vectors have.
        """
        path = self._path(tower, ids, facts)
        if not path.is_file():
            return None
        try:
            with ZipFile(path) as archive:
                return {
                    block: _read_array(archive, f"{i}.npy", (*self._views, *stored.shape))
                    for i, (block, stored) in enumerate(tower.stored.items())
                }
        except (OSError, ValueError, KeyError, EOFError, RuntimeError, BadZipFile):
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


def _read_array(archive: ZipFile, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return an array of float32 whose checksum is right; its header is compared, never parsed."""
    header = io.BytesIO()
    layout = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, layout)
    n_bytes = 4 * int(np.prod(shape))
    entry = archive.getinfo(name)
    if entry.compress_type != ZIP_STORED or entry.file_size != len(header.getvalue()) + n_bytes:
        raise ValueError(f"'{name}' has {entry.file_size} bytes, not those of float32 of shape {shape}")
    content = archive.read(entry)
    if not content.startswith(header.getvalue()):
        raise ValueError(f"'{name}' is not float32 of shape {shape}")
    return np.frombuffer(content, dtype="<f4", offset=len(header.getvalue())).reshape(shape)
