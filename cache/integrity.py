"""The hash of every data set: how it is taken, written down and compared.

HDF5's own fletcher32 lets 0x0000 -> 0xffff pass (0.0 -> NaN in float16) and cannot cover names or attributes,
so the store keeps a SHA-256 per data set, and one of that list in the root.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cache.audit import HDF5_ERRORS, AuditReport, plain_reason
from cache.errors import StoreCorruptError
from cache.fingerprint import canonical_json
from cache.schema import MAX_NAMED, Array

INTEGRITY = "/integrity"
_BLOCK_BYTES = 8 << 20


def entry(dtype: str, shape: tuple[int, ...], sha256: str) -> dict[str, Any]:
    """Return what ``/integrity`` says about one data set."""
    return {"dtype": dtype, "shape": list(shape), "sha256": sha256}


def array_entry(array: Array) -> dict[str, Any]:
    """Return the entry of an array in memory."""
    data = np.ascontiguousarray(array)
    return entry(data.dtype.name, data.shape, hashlib.sha256(data.reshape(-1).view("u1").data).hexdigest())


def encode(entries: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Return the content of ``/integrity``."""
    return canonical_json(entries)


def refuse_other_layout(entries: Mapping[str, Any], audit: AuditReport) -> None:
    """Refuse a file whose data sets are not exactly those listed, in type and shape.

    Raises
    ------
    StoreCorruptError
        Naming up to five data sets that differ.
    """
    seen = {name: kind for name, kind in audit.datasets.items() if name != INTEGRITY}
    listed = {name: _listed_kind(item) for name, item in entries.items()}
    other = sorted(name for name in seen.keys() | listed.keys() if seen.get(name) != listed.get(name))
    if other:
        raise StoreCorruptError(
            f"'{audit.path}' is damaged: what it holds differs from its own list in "
            + ", ".join(f"'{name}'" for name in other[:MAX_NAMED])
            + ". Extract again, or take the file from a backup."
        )


def _listed_kind(item: Any) -> tuple[str, tuple[int, ...]] | None:
    """Return (dtype, shape) of an entry; None for one that is not an entry."""
    try:
        return str(item["dtype"]), tuple(item["shape"])
    except (TypeError, KeyError):
        return None


def check_hash(file: Any, name: str, entries: Mapping[str, Any], path: Path) -> int:
    """Compare one data set with its entry; return its size in bytes.

    Raises
    ------
    StoreCorruptError
        If the hash differs or HDF5 cannot read the data.
    """
    digest, n_bytes = hashlib.sha256(), 0
    for block in read_blocks(file[name], path):
        digest.update(block.data)
        n_bytes += block.nbytes
    wanted = entries[name].get("sha256")
    if digest.hexdigest() != wanted:
        raise StoreCorruptError(
            f"'{path}' is damaged: the SHA-256 of '{name}' is {digest.hexdigest()[:16]}..., "
            f"but {str(wanted)[:16]}... was published. Extract again, or take the file from a backup."
        )
    return n_bytes


def read_blocks(dataset: Any, path: Path) -> Iterator[Array]:
    """Yield a data set in C order, in flat blocks of about 8 MiB."""
    if dataset.nbytes <= _BLOCK_BYTES:
        yield read_rows(dataset, (), 0, dataset.shape[0], path).reshape(-1).view("u1")
    elif dataset.ndim == 3:
        for index in range(dataset.shape[0]):
            yield from _row_blocks(dataset, (index,), path)
    else:
        yield from _row_blocks(dataset, (), path)


def _row_blocks(dataset: Any, lead: tuple[int, ...], path: Path) -> Iterator[Array]:
    shape = dataset.shape[len(lead) :]
    row_bytes = dataset.dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
    step = max(1, _BLOCK_BYTES // max(1, row_bytes))
    # Whole chunks: half a chunk read twice would double the disk traffic.
    chunk = dataset.chunks[len(lead)] if dataset.chunks else 1
    step = max(chunk, step // chunk * chunk)
    for start in range(0, shape[0], step):
        block = read_rows(dataset, lead, start, min(start + step, shape[0]), path)
        yield block.reshape(-1).view("u1")


def read_rows(dataset: Any, lead: tuple[int, ...], start: int, stop: int, path: Path) -> Array:
    """Read consecutive rows of a data set (of one view, if `lead` says so).

    Raises
    ------
    StoreCorruptError
        If HDF5 cannot read them.
    """
    try:
        block: Array = dataset[(*lead, slice(start, stop))]
    except HDF5_ERRORS as error:
        raise StoreCorruptError(f"'{path}' is damaged: {plain_reason(error, 1)}.") from error
    return block
