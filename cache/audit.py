"""Look at an HDF5 file without believing it: structure first, not one byte of data before all of it passed.

h5py follows external links, external storage and virtual data sets into other files without a word, and
declares sizes that are not there. A store holds none of that: only groups and plain, unfiltered, fully
stored arrays of five number types, each reachable by exactly one hard link. Keras read any local file through
HDF5 external storage (CVE-2026-1669); the lesson is one audit that every reader goes through.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5t

from cache.errors import StoreCorruptError, StoreError, StoreMissingError, UnsafeStoreError
from cache.workfolder import refuse_unfinished

MAX_BYTES = 64 << 30
MAX_OBJECTS = 1000
MAX_DEPTH = 4
MAX_NAME_BYTES = 256
MAX_ATTRIBUTE_BYTES = 64 << 10
MAX_ATTRIBUTES = 64

# What h5py and HDF5 raise on a damaged file, measured by flipping bits and cutting files.
HDF5_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError)

_DTYPES = {
    "uint8": h5t.STD_U8LE,
    "int32": h5t.STD_I32LE,
    "int64": h5t.STD_I64LE,
    "float16": h5t.IEEE_F16LE,
    "float32": h5t.IEEE_F32LE,
}


@dataclass(frozen=True)
class AuditReport:
    """What the audit saw.

    Attributes
    ----------
    path : pathlib.Path
    file_bytes : int
        Size of the file.
    data_bytes : int
        Size of all data sets together.
    datasets : dict of str to (str, tuple of int)
        Type and shape of every data set, by full name.
    """

    path: Path
    file_bytes: int
    data_bytes: int
    datasets: dict[str, tuple[str, tuple[int, ...]]]


def audit_file(path: str | Path, *, max_bytes: int = MAX_BYTES) -> AuditReport:
    """Audit the file at `path` and close it again.

    A symbolic link is followed when it ends at a regular file: people keep big features on another disk.

    Parameters
    ----------
    path : str or pathlib.Path
    max_bytes : int
        Largest file and largest declared data, in bytes.

    Returns
    -------
    AuditReport

    Raises
    ------
    StoreMissingError
        If nothing is there.
    StoreIncompleteError
        If only an unfinished pass is there, or `path` is its work folder.
    UnsafeStoreError
        If it is no regular file, is larger than `max_bytes`, or holds what a store never holds.
    StoreCorruptError
        If HDF5 cannot read it (empty, not HDF5, cut short, damaged).
    """
    with open_audited(path, max_bytes=max_bytes) as (_, report):
        return report


@contextmanager
def open_audited(path: str | Path, *, max_bytes: int = MAX_BYTES) -> Iterator[tuple[Any, AuditReport]]:
    """Open, audit and yield (h5py.File, AuditReport); closed at the end. Raises as `audit_file`."""
    file, report = open_for_reading(path, max_bytes=max_bytes)
    try:
        yield file, report
    finally:
        file.close()


def open_for_reading(path: str | Path, *, max_bytes: int = MAX_BYTES) -> tuple[Any, AuditReport]:
    """Open and audit; the caller closes the h5py.File. Raises as `audit_file`."""
    path = Path(path)
    size = _regular_file_size(path, max_bytes)
    try:
        # A published file never changes, so a reader needs no lock; locks fail on read-only disks.
        file = h5py.File(path, "r", locking=False)
    except HDF5_ERRORS as error:
        raise StoreCorruptError(f"'{path}' is not a readable store: {plain_reason(error, size)}.") from error
    try:
        report = audit_open_file(file, path, size=size, max_bytes=max_bytes)
        _refuse_tail(path, size)
        return file, report
    except BaseException:
        file.close()
        raise


#: Where each version of HDF5's superblock says where the file ends (file format specification, II.A).
_END_AT = {0: 40, 1: 44, 2: 28, 3: 28}


def _refuse_tail(path: Path, size: int) -> None:
    """Refuse bytes behind the end that the file gives itself: no hash covers them."""
    with path.open("rb") as file:
        start = file.read(64)
    at = _END_AT[start[8]]  # HDF5 has read it: a superblock of another version does not open
    end = int.from_bytes(start[at : at + 8], "little")
    if end != size:
        raise StoreCorruptError(
            f"'{path}' is damaged: it ends at {end:,} bytes, but the file has {size:,}. Copy it again."
        )


def _regular_file_size(path: Path, max_bytes: int) -> int:
    refuse_unfinished(path)
    real = Path(os.path.realpath(path))
    try:
        info = real.lstat()
    except FileNotFoundError as error:
        raise StoreMissingError(f"There is no store at '{path}'.") from error
    except OSError as error:
        raise StoreCorruptError(f"'{path}' cannot be opened: {error.strerror}.") from error
    if stat.S_ISDIR(info.st_mode):
        inside = sorted(item.name for item in real.glob("*.h5"))[:5]
        hint = f"; did you mean one of the files in it: {', '.join(inside)}?" if inside else "."
        raise UnsafeStoreError(f"'{path}' is a folder, but a store is one HDF5 file{hint}")
    if not stat.S_ISREG(info.st_mode):
        raise UnsafeStoreError(f"'{path}' is not a regular file, so it is not opened.")
    if info.st_size > max_bytes:
        raise UnsafeStoreError(f"'{path}' has {info.st_size:,} bytes; at most {max_bytes:,} are read.")
    return info.st_size


def plain_reason(error: Exception, size: int) -> str:
    """Return HDF5's reason in plain words, with its own message behind."""
    text = str(error)
    if size == 0:
        return "the file is empty"
    if "file signature not found" in text:
        return "it is not an HDF5 file"
    if "truncated file" in text:
        return f"the file is cut short ({text.split('truncated file:')[-1].strip(' )')})"
    return f"HDF5 says {text!r:.300}"


def audit_open_file(file: Any, path: Path, *, size: int, max_bytes: int) -> AuditReport:
    """Audit an open file of `size` bytes, with any h5py driver. Raises as `audit_file`."""
    walk = _Walk(path, min(size, max_bytes))
    try:
        if file.userblock_size:
            raise walk.refuse("", f"stands behind {file.userblock_size:,} bytes of something else")
        walk.attributes(file.id)
        walk.group(h5g.open(file.id, b"/"), "", 0)
    except StoreError:
        raise
    except HDF5_ERRORS as error:
        raise StoreCorruptError(f"'{path}' is damaged: {plain_reason(error, size)}.") from error
    return AuditReport(path, size, walk.data_bytes, walk.datasets)


class _Walk:
    """One pass over all objects through the low-level interface, which follows nothing by itself."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.data_bytes = 0
        self.datasets: dict[str, tuple[str, tuple[int, ...]]] = {}
        self._seen: set[tuple[int, int]] = set()

    def refuse(self, name: str, why: str) -> UnsafeStoreError:
        return UnsafeStoreError(
            f"'{self.path}' is refused: '{name or '/'}' {why}, and a store never does that."
        )

    def attributes(self, file_id: Any) -> None:
        """Audit the root's attributes; no others are ever read."""
        if h5a.get_num_attrs(file_id) > MAX_ATTRIBUTES:
            raise self.refuse("", f"has more than {MAX_ATTRIBUTES} attributes")
        for index in range(h5a.get_num_attrs(file_id)):
            attribute = h5a.open(file_id, index=index)
            kind = attribute.get_type()
            size = kind.get_size()
            plain = kind.get_class() == h5t.INTEGER or (
                kind.get_class() == h5t.STRING and not kind.is_variable_str()
            )
            if not plain or attribute.shape != () or size > MAX_ATTRIBUTE_BYTES:
                raise self.refuse(
                    _shown(attribute.name), "is an attribute that is not one number or short string"
                )

    def group(self, group: Any, name: str, depth: int) -> None:
        self._once(group, name)
        if depth > MAX_DEPTH:
            raise self.refuse(name, f"lies more than {MAX_DEPTH} groups deep")
        if len(group) > MAX_OBJECTS:
            raise self.refuse(name, f"has more than {MAX_OBJECTS} members")
        for key in list(group):
            child = f"{name}/{_shown(key)}"
            if len(key) > MAX_NAME_BYTES:
                raise self.refuse(child[:80], f"has a name of {len(key)} bytes")
            if group.links.get_info(key).type != h5l.TYPE_HARD:
                raise self.refuse(child, "is a soft or external link")
            self._member(group, key, child, depth)

    def _member(self, group: Any, key: bytes, name: str, depth: int) -> None:
        kind = h5o.get_info(group, key).type
        if kind == h5o.TYPE_GROUP:
            self.group(h5g.open(group, key), name, depth + 1)
        elif kind == h5o.TYPE_DATASET:
            self.dataset(h5d.open(group, key), name)
        else:
            raise self.refuse(name, "is neither a group nor a data set")

    def _once(self, obj: Any, name: str) -> None:
        info = h5o.get_info(obj)
        place = (int(info.fileno), int(info.addr))
        if place in self._seen:
            raise self.refuse(name, "is reached by two links")
        self._seen.add(place)
        if len(self._seen) > MAX_OBJECTS:
            raise self.refuse(name, f"is one of more than {MAX_OBJECTS} objects")

    def dataset(self, dataset: Any, name: str) -> None:
        # Where the data lies comes first: everything after that may touch it.
        created = dataset.get_create_plist()
        if created.get_external_count() > 0:
            raise self.refuse(name, "keeps its data in another file")
        if created.get_layout() not in (h5d.CONTIGUOUS, h5d.CHUNKED, h5d.COMPACT):
            raise self.refuse(name, "is a virtual data set")
        if created.get_nfilters() > 0:
            raise self.refuse(name, "is compressed or filtered")
        self._once(dataset, name)
        kind = dataset.get_type()
        dtype = next((known for known, wanted in _DTYPES.items() if kind.equal(wanted)), None)
        if dtype is None:
            raise self.refuse(name, f"has a type other than {', '.join(_DTYPES)}")
        self._size(dataset, name, dtype)

    def _size(self, dataset: Any, name: str, dtype: str) -> None:
        if not dataset.shape:
            raise self.refuse(name, "holds a single value or none, not rows")
        # Plain Python integers: a hostile shape must not wrap around in int64.
        shape = tuple(int(length) for length in dataset.shape)
        declared = np.dtype(dtype).itemsize
        for length in shape:
            declared *= length
        self.data_bytes += declared
        if self.data_bytes > self.max_bytes:
            raise self.refuse(name, f"declares {declared:,} bytes, more than the file has")
        if declared > dataset.get_storage_size():
            raise self.refuse(name, f"declares {declared:,} bytes and stores {dataset.get_storage_size():,}")
        self.datasets[name] = (dtype, shape)


def _shown(name: bytes | str) -> str:
    return name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
