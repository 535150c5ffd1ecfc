"""Raw inputs of a run's rows, found again: texts in its stores, pictures in the data set's folder.

What is read must be what was embedded: a picture is compared with the hash that the store keeps, and a few
rows are embedded again and compared with their stored vectors before anything is concluded from new ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cache import Status
from extract import Backbone, BadImageError, EditedInputs, Source, read_image_file
from extract.drift import TOLERANCE
from pipelines.errors import RunError, UsageError
from pipelines.named_stores import open_store
from pipelines.picture_files import data_folders, data_root, file_inside, searched
from pipelines.run_stores import find_store
from pipelines.stored_rows import stored_block

_PROBES = 16
_SHOWN = 5
_NO_HASH = bytes(32)

Space = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class TowerRows:
    """What one tower of a run reads: its spaces, and the rows' inputs.

    Attributes
    ----------
    backbone, precision, modality : str
    spaces : tuple of mapping
        Entries of ``spaces`` in ``config.json``: the readouts of this tower that the run uses.
    sources : tuple of Source
        Texts, hashes and statuses of the rows, in the order asked for.
    paths : tuple of Path or None
        Picture files.
    stored : dict of str to ndarray of shape (n_rows, width), float32
        Block -> stored vectors; NaN where there is none.
    """

    backbone: str
    precision: str
    modality: str
    spaces: tuple[Space, ...]
    sources: tuple[Source, ...]
    paths: tuple[Path | None, ...]
    stored: Mapping[str, np.ndarray]

    @property
    def readouts(self) -> tuple[str, ...]:
        """Readouts of the spaces, in their order."""
        return tuple(space["space"].partition(".")[2] for space in self.spaces)

    def by_block(self, vectors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Turn readout -> vectors into block -> vectors."""
        return {
            space["block"]: vectors[readout]
            for space, readout in zip(self.spaces, self.readouts, strict=True)
        }


def modality_of_space(space: Space) -> str:
    """Return ``"text"``, ``"image"`` or ``"joint"``."""
    return str(space["space"]).partition(".")[0]


def group_by_tower(spaces: Sequence[Space]) -> list[tuple[Space, ...]]:
    """Put the spaces together that one tower makes from one store, in the order of the run.

    Raises
    ------
    UsageError
        If a space was imported, so that embedonce cannot embed for it.
    """
    imported = [space["space"] for space in spaces if not space["clean"] or not space["precision"]]
    if imported:
        raise UsageError(
            f"Space(s) {', '.join(map(repr, imported))} of the run were imported or counted, so embedonce "
            "cannot embed changed inputs for them. Make a run on stores of extract-features alone."
        )
    grouped: dict[tuple[str, str], list[Space]] = {}
    for space in spaces:
        grouped.setdefault((str(space["path"]), modality_of_space(space)), []).append(space)
    return [tuple(members) for members in grouped.values()]


def read_tower_rows(
    spaces: Sequence[Space], ids: Sequence[str], *, run: Path, data: Path | None
) -> list[TowerRows]:
    """Read the inputs of some rows of a run, for every tower.

    Parameters
    ----------
    spaces : sequence of mapping
        As in ``config.json``.
    ids : sequence of str
    run : Path
        The run folder.
    data : Path or None
        The data set's folder or manifest; None looks around the stores and the run.

    Raises
    ------
    RunError
        If a store or the pictures are not there, or have changed.
    UsageError
        If a space was imported.
    """
    return [
        _read_rows(members, find_store(members[0], run), ids, run, data) for members in group_by_tower(spaces)
    ]


def _read_rows(
    spaces: tuple[Space, ...], store_path: Path, ids: Sequence[str], run: Path, data: Path | None
) -> TowerRows:
    modality = modality_of_space(spaces[0])
    with open_store(store_path) as store:
        row_of = {guid: row for row, guid in enumerate(store.ids)}
        absent = [guid for guid in ids if guid not in row_of]
        if absent:
            raise RunError(
                f"Store '{store_path}' lacks row '{absent[0]}', so the run was made without it. Name a row "
                "that every store of the run holds."
            )
        rows = np.array([row_of[guid] for guid in ids], dtype=np.int64)
        status = np.asarray(store.status)[rows, store.modalities.index(modality)]
        texts = [""] * len(rows) if store.texts is None else [store.texts[row] for row in rows]
        names = [""] * len(rows) if store.image_paths is None else [store.image_paths[row] for row in rows]
        hashes = [_NO_HASH] * len(rows)
        if store.image_sha256 is not None:
            hashes = [store.image_sha256[row].tobytes() for row in rows]
        stored = {space["block"]: stored_block(store, space["space"], rows).vectors() for space in spaces}
    paths: list[Path | None] = [None] * len(rows)
    if modality != "text":
        usable = status == Status.OK
        wanted = [name if ok else "" for name, ok in zip(names, usable, strict=True)]
        paths, hashes = _find_pictures(wanted, hashes, store_path, run, data)
    sources = tuple(
        Source(text, "", Status(code), _NO_HASH, Status(code), digest, 0, 0)
        for text, code, digest in zip(texts, status.tolist(), hashes, strict=True)
    )
    first = spaces[0]
    return TowerRows(first["backbone"], first["precision"], modality, spaces, sources, tuple(paths), stored)


def _find_pictures(
    names: Sequence[str], hashes: Sequence[bytes], store_path: Path, run: Path, data: Path | None
) -> tuple[list[Path | None], list[bytes]]:
    """Return the file and the hash of each picture; every one that is missing or changed is named."""
    root = data_root(names, data_folders(data, [store_path], run))
    if root is None and any(names):
        raise RunError(
            f"The pictures that store '{store_path}' names were not found in {searched(data)}. Name the data "
            "set's folder with --data."
        )
    paths = [file_inside(root, name) if root is not None and name else None for name in names]
    digests = [_digest(path) if path is not None else _NO_HASH for path in paths]
    faults = [
        f"'{name}' {'is missing' if path is None else 'has changed since it was embedded'}"
        for name, path, old, now in zip(names, paths, hashes, digests, strict=True)
        if name and (path is None or (any(old) and now != old))
    ]
    if faults:
        more = ", ..." if len(faults) > _SHOWN else ""
        raise RunError(
            f"{len(faults):,} picture(s) of '{root}' are not what the store was made from: "
            f"{', '.join(faults[:_SHOWN])}{more}. Put them back, or extract and tune again."
        )
    return list(paths), digests


def _digest(path: Path) -> bytes:
    try:
        return hashlib.sha256(read_image_file(path)).digest()
    except BadImageError:
        return _NO_HASH


def open_edited(rows: TowerRows, backbone: Backbone, *, device: str) -> EditedInputs:
    """Load the tower that embeds these rows under edits."""
    return EditedInputs(
        rows.sources,
        rows.paths,
        backbone,
        rows.modality,
        rows.readouts,
        device=device,
        precision=rows.precision,
    )


def check_unchanged_vectors(
    embed: Callable[[np.ndarray], Mapping[str, np.ndarray]], rows: TowerRows, ids: Sequence[str]
) -> None:
    """Embed a few rows as they are and compare them with what the store holds.

    Parameters
    ----------
    embed : callable
        Row numbers -> block -> vectors of all rows, NaN where none were asked for.
    rows : TowerRows
    ids : sequence of str

    Raises
    ------
    RunError
        If a vector differs by more than the tolerance of its precision.
    """
    allowed = TOLERANCE[rows.precision]
    blocks = list(rows.stored)
    usable = np.flatnonzero(np.isfinite(rows.stored[blocks[0]]).all(axis=1))
    if not len(usable):
        return
    some = usable[np.unique(np.linspace(0, len(usable) - 1, _PROBES).round().astype(int))]
    for block, now in embed(some).items():
        stored = rows.stored[block][some].astype(np.float64)
        gaps = np.linalg.norm(now[some] - stored, axis=1) / np.linalg.norm(stored, axis=1)
        gaps[np.isnan(gaps)] = np.inf
        worst = int(gaps.argmax())
        if gaps[worst] > allowed:
            raise RunError(
                f"Backbone '{rows.backbone}' does not make '{block}' of row '{ids[some[worst]]}' as it is "
                f"stored: relative difference {gaps[worst]:.2g}, allowed is {allowed:g}. Its weights, the "
                "preprocessing or a library differ from when the store was made, so new vectors cannot be "
                f"compared with it. Pass the right weights with --weights {rows.backbone}=DIR, or extract "
                "again."
            )
