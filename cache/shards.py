"""One shard: consecutive rows of one modality, checked, and its bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from cache.audit import MAX_BYTES, audit_open_file
from cache.errors import BadRowsError, StoreCorruptError
from cache.plan import SpaceSpec
from cache.schema import MAX_NAMED, Array, Status


@dataclass(frozen=True, eq=False)
class ShardData:
    """Rows of one modality, for all its spaces.

    Attributes
    ----------
    features : mapping of str to ndarray of shape (m, d), float32 or float16
        One matrix per space of the modality.
    valid : ndarray of shape (m,), uint8
        1 where the row has a vector; other rows are stored as zeros.
    status : ndarray of shape (m,), uint8
        Codes of `Status`.
    views : mapping of str to ndarray of shape (v, m, d), or None
        For each space whose `SpaceSpec.views` is not 0.
    """

    features: Mapping[str, Array]
    valid: Array
    status: Array
    views: Mapping[str, Array] | None = None


def checked(data: ShardData, specs: tuple[SpaceSpec, ...], start: int, stop: int) -> ShardData:
    """Return `data` as it will be stored: little-endian, invalid rows zero.

    Raises
    ------
    BadRowsError
        If a space is missing or unknown, a shape, type or code is wrong, or a valid row holds NaN, an
        infinity or only zeros; the message names the spaces and rows, all faults together.
    """
    m = stop - start
    views = data.views or {}
    faults = _name_faults("spaces", data.features, {s.name for s in specs})
    faults += _name_faults("views", views, {s.name for s in specs if s.views})
    for name, column, top in (("valid", data.valid, 1), ("status", data.status, max(Status))):
        faults += _code_faults(name, column, m, top)
    if faults:
        raise _bad(start, stop, faults)
    valid = data.valid.astype(bool)
    features: dict[str, Array] = {}
    stacks: dict[str, Array] = {}
    for spec in specs:
        faults += _matrix_faults(spec.name, data.features[spec.name], spec, (m, spec.width))
        if spec.views:
            faults += _matrix_faults(
                f"views of {spec.name}", views[spec.name], spec, (spec.views, m, spec.width)
            )
        if faults:
            continue
        features[spec.name] = _zeroed(data.features[spec.name], valid)
        faults += _row_faults(spec.name, features[spec.name], valid, start)
        if spec.views:
            stacks[spec.name] = _zeroed(views[spec.name], valid)
            for view, rows in enumerate(stacks[spec.name]):
                faults += _row_faults(f"view {view} of {spec.name}", rows, valid, start)
    if faults:
        raise _bad(start, stop, faults)
    # Copies: rows may be held for a while, and callers reuse their buffers.
    return ShardData(features, data.valid.copy(), data.status.copy(), stacks or None)


def _bad(start: int, stop: int, faults: list[str]) -> BadRowsError:
    return BadRowsError(f"Rows {start} to {stop - 1} cannot be stored: " + "; ".join(faults) + ".")


def _name_faults(what: str, given: Mapping[str, Array], wanted: set[str]) -> list[str]:
    if set(given) == wanted:
        return []
    return [f"{what} {sorted(given)} are given, but the plan has {sorted(wanted)}"]


def _code_faults(name: str, column: Array, m: int, top: int) -> list[str]:
    if column.dtype != np.uint8 or column.shape != (m,):
        return [f"'{name}' is {column.dtype} of shape {column.shape}, but uint8 of ({m},) is needed"]
    return [f"'{name}' holds {column.max()}, allowed are 0 to {top}"] if m and column.max() > top else []


def _matrix_faults(name: str, matrix: Array, spec: SpaceSpec, shape: tuple[int, ...]) -> list[str]:
    if matrix.dtype != np.dtype(spec.dtype) or matrix.shape != shape:
        return [f"'{name}' is {matrix.dtype} of shape {matrix.shape}, but {spec.dtype} of {shape} is needed"]
    return []


def _zeroed(matrix: Array, valid: Array) -> Array:
    """Return a little-endian matrix in which invalid rows are zero, also where they held NaN."""
    return np.where(valid[:, None], matrix, matrix.dtype.type(0)).astype(matrix.dtype.newbyteorder("<"))


def _row_faults(name: str, matrix: Array, valid: Array, start: int) -> list[str]:
    faults = []
    infinite = ~np.isfinite(matrix).all(axis=1)
    empty = valid & ~matrix.any(axis=1)
    for rows, why in ((infinite, "not finite"), (empty, "all zero")):
        numbers = (np.flatnonzero(rows) + start).tolist()
        if numbers:
            more = f" and {len(numbers) - MAX_NAMED} more" if len(numbers) > MAX_NAMED else ""
            faults.append(f"'{name}' is {why} in rows {', '.join(map(str, numbers[:MAX_NAMED]))}{more}")
    return faults


def encode(data: ShardData) -> bytes:
    """Return a shard as the bytes of an HDF5 file; equal rows give equal bytes."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, column in (("valid", data.valid), ("status", data.status)):
            file.create_dataset(name, data=column, track_times=False)
        for space, matrix in data.features.items():
            file.create_dataset(f"{space}/x", data=matrix, track_times=False)
        for space, stack in (data.views or {}).items():
            file.create_dataset(f"{space}/views", data=stack, track_times=False)
    return buffer.getvalue()


def decode(content: bytes, specs: tuple[SpaceSpec, ...], path: Path) -> ShardData:
    """Return the rows in the bytes of a shard.

    Raises
    ------
    UnsafeStoreError
        If the file holds what a shard never holds.
    StoreCorruptError
        If it cannot be read or lacks a data set.
    """
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            audit_open_file(file, path, size=len(content), max_bytes=MAX_BYTES)
            return ShardData(
                features={spec.name: file[f"{spec.name}/x"][()] for spec in specs},
                valid=file["valid"][()],
                status=file["status"][()],
                views={spec.name: file[f"{spec.name}/views"][()] for spec in specs if spec.views} or None,
            )
    except (OSError, KeyError) as error:
        raise StoreCorruptError(
            f"The shard '{path}' cannot be read: {error}. Delete it and start again."
        ) from error
