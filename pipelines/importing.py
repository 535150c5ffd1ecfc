"""``embedonce import``: a store from arrays made elsewhere (ids, labels, one matrix per modality)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile

import numpy as np

from cache import (
    Plan,
    RowTable,
    ShardData,
    SpaceSpec,
    Split,
    Status,
    StoreError,
    canonical_json,
    sha256_hex,
    write_store,
)
from extract import (
    DataError,
    library_versions,
    load_frame,
    rename_columns,
    repair_id,
    repair_label,
    repair_split,
)
from pipelines.console import duration, say, tell
from pipelines.errors import UsageError
from pipelines.named_stores import open_store

_SPLIT_CODES = {"": Split.NONE, "train": Split.TRAIN, "val": Split.VAL, "test": Split.TEST}
#: What numpy raises besides for a header of .npy that it cannot parse.
_HEADER_ERRORS = (SyntaxError, TokenError, RecursionError)
_ARRAY_SUFFIXES = (".npy", ".npz", ".csv", ".parquet")


@dataclass(frozen=True)
class ImportSettings:
    """Settings of ``embedonce import``, as on the command line."""

    table: Path
    out: Path
    text: Path | None = None
    image: Path | None = None
    joint: Path | None = None
    columns: Mapping[str, str] | None = None

    @property
    def arrays(self) -> dict[str, Path]:
        """Modality -> file of its matrix."""
        given = {"text": self.text, "image": self.image, "joint": self.joint}
        return {modality: path for modality, path in given.items() if path is not None}


def import_arrays(settings: ImportSettings) -> Path:
    """Write a store from a table of ids and labels and one array per modality, rows in the same order.

    A row of NaN means "no embedding" and is stored as invalid.

    Raises
    ------
    UsageError
        If no array is given.
    DataError
        If table or arrays have faults, or their lengths differ.
    """
    if not settings.arrays:
        raise UsageError(
            "Give at least one array: --text, --image or --joint FILE (.npy, .npz, .csv or .parquet)."
        )
    frame = rename_columns(load_frame(settings.table), settings.columns or {}, settings.table)
    class_names, columns = _row_columns(frame, settings.table)
    n_rows = len(columns["ids"])
    matrices = {modality: _load_array(path) for modality, path in settings.arrays.items()}
    for modality, matrix in matrices.items():
        if len(matrix) != n_rows:
            raise DataError(
                f"Array '{settings.arrays[modality]}' has {len(matrix):,} rows, but table "
                f"'{settings.table}' has {n_rows:,}. Rows must be the same, in the same order, and "
                "a CSV of numbers needs a header line."
            )
    data = {modality: _shard(modality, matrix) for modality, matrix in matrices.items()}
    for modality, shard in data.items():
        if n_missing := int((shard.valid == 0).sum()):
            tell(
                f"note: {n_missing:,} of {n_rows:,} rows have no {modality}: its numbers are NaN or all zero"
            )
    status = np.stack([shard.status for shard in data.values()], axis=1)
    plan, meta = _plan(matrices, class_names, n_rows, columns)
    if _is_there(settings.out, plan.fingerprint):
        tell(f"Nothing to do: '{settings.out}' was made from this table and these arrays.")
        return settings.out
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    return write_store(settings.out, plan, table=RowTable(**columns, status=status), data=data, meta=meta)


def _is_there(path: Path, fingerprint: str) -> bool:
    """Whether the store exists already; any other file at its place is left alone."""
    if not os.path.lexists(path):
        return False
    if path.is_file() and path.stat().st_size:
        try:
            with open_store(path) as store:
                if store.fingerprint == fingerprint:
                    return True
        except StoreError:
            pass  # whatever it is, it is not ours to write over
    raise UsageError(
        f"'{path}' exists and is not the store of this table and these arrays. Choose another --out, or move "
        "it away."
    )


def _row_columns(frame: Any, path: Path) -> tuple[list[str], dict[str, Any]]:
    """Return the class names and the columns of a `RowTable` (but for the statuses)."""
    records = frame.to_dict("records")
    if not records:
        raise DataError(f"Table '{path}' has no rows.")
    ids = tuple(repair_id(record["id"]) for record in records)
    repeated = sorted({guid for guid in ids if ids.count(guid) > 1}) if len(set(ids)) < len(ids) else []
    if repeated:
        raise DataError(
            f"Table '{path}' lists {len(repeated)} id(s) more than once: "
            f"{', '.join(map(repr, repeated[:5]))}. Every id may have one row."
        )
    labels = [repair_label(record.get("label")) for record in records]
    splits = [repair_split(record.get("split", "")) for record in records]
    class_names = sorted({label for label in labels if label is not None})
    codes = {name: code for code, name in enumerate(class_names)}
    groups: dict[str, int] = {}
    names = [record.get("group", "").strip() for record in records]
    columns: dict[str, Any] = {
        "ids": ids,
        "label": np.array([-1 if label is None else codes[label] for label in labels], dtype=np.int32),
        "split": np.array([_SPLIT_CODES[split] for split in splits], dtype=np.uint8),
        "group": np.array(
            [groups.setdefault(name, len(groups)) if name else -1 for name in names], dtype=np.int32
        ),
        "source_sha256": np.zeros((len(ids), 32), dtype=np.uint8),  # the inputs are not known here
    }
    if "text" in frame.columns:
        columns["text"] = tuple(record["text"] for record in records)
        columns["encoding"] = np.zeros(len(ids), dtype=np.uint8)
    return class_names, columns


def _load_array(path: Path) -> np.ndarray:
    """Return float32 of shape (n, d) from a .npy, .npz (one array), .csv or .parquet (numbers only) file."""
    if path.suffix.lower() not in _ARRAY_SUFFIXES:
        raise DataError(
            f"Array '{path}' has the ending {path.suffix!r}; allowed are {', '.join(_ARRAY_SUFFIXES)}."
        )
    if not path.is_file():
        raise FileNotFoundError(f"Array '{path}' does not exist or is not a file.")
    try:
        array = np.asarray(_read_array(path))
        if array.dtype.kind not in "biuf":
            raise ValueError(f"its entries are of type {array.dtype}")
        matrix = array.astype(np.float64)
    except (ValueError, OSError, EOFError, KeyError, BadZipFile, *_HEADER_ERRORS) as error:
        raise DataError(f"Array '{path}' cannot be read as a matrix of numbers: {error}") from error
    if matrix.ndim != 2 or not matrix.shape[1]:
        raise DataError(f"Array '{path}' has the shape {matrix.shape}; it must be (rows, width).")
    partly = np.isnan(matrix).any(axis=1) & ~np.isnan(matrix).all(axis=1)
    bad = np.flatnonzero(partly | np.isinf(matrix).any(axis=1))
    if len(bad):
        raise DataError(
            f"Array '{path}' has {len(bad):,} row(s) with infinite or partly missing numbers, the first is "
            f"row {bad[0]}. A row without an embedding must be NaN throughout."
        )
    with np.errstate(over="ignore"):
        narrow = matrix.astype(np.float32)
    if np.isinf(narrow).any():
        raise DataError(f"Array '{path}' holds numbers beyond the range of float32 (3.4e38).")
    return narrow


def _read_array(path: Path) -> Any:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return np.load(path, allow_pickle=False)
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            if len(arrays.files) != 1:
                raise ValueError(f"it holds the arrays {', '.join(arrays.files)}; exactly one is expected")
            return arrays[arrays.files[0]]
    frame = load_frame(path)
    return frame.to_numpy(dtype=str).astype(np.float64)


def _shard(modality: str, matrix: np.ndarray) -> ShardData:
    missing = np.isnan(matrix).any(axis=1) | ~matrix.any(axis=1)
    lost = Status.TEXT_MISSING if modality == "text" else Status.IMAGE_MISSING
    status = np.where(missing, lost, Status.OK).astype(np.uint8)
    x = np.where(missing[:, None], np.float32(0), matrix)
    return ShardData(features={f"{modality}.pooled": x}, valid=(~missing).astype(np.uint8), status=status)


def _plan(
    matrices: dict[str, np.ndarray], class_names: list[str], n_rows: int, columns: dict[str, Any]
) -> tuple[Plan, dict[str, Any]]:
    digests = {
        modality: hashlib.sha256(matrix.tobytes()).hexdigest() for modality, matrix in matrices.items()
    }
    rows = sha256_hex(
        canonical_json([list(columns["ids"]), columns["label"].tolist(), columns["split"].tolist()])
    )
    identity: dict[str, Any] = {
        "backbone": "imported",
        "arrays_sha256": digests,
        "class_names": class_names,
        "rows": rows,
    }
    spaces = tuple(
        # Imported vectors have no recipe that could be repeated: the fingerprint is their content.
        SpaceSpec(f"{modality}.pooled", matrix.shape[1], "float32", digests[modality])
        for modality, matrix in matrices.items()
    )
    plan = Plan("imported", n_rows, max(1, min(n_rows, 4096)), spaces, tuple(matrices), identity)
    meta = {
        "class_names": class_names,
        "encodings": ["utf-8"],
        "card": {"name": "imported", "modalities": list(matrices)},
        "weights": {"sha256": None, "revision": None, "source": "imported arrays"},
        "preprocessing": {},
        "precision": "",
        "clean": {"recipe": "", "version": 0},
        "versions": library_versions(),
        "times": {},
    }
    return plan, meta


def print_import(path: Path, *, seconds: float, as_json: bool) -> None:
    """Print where the store is and what to do next."""
    if as_json:
        say(json.dumps({"path": str(path)}))
        return
    name = quote(str(path))
    tell(f"done in {duration(seconds)}. Next: embedonce inspect {name}, or tune --features {name}")
    say(str(path))
