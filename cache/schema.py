"""The rows of a store: their columns, statuses and splits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

MODALITIES = ("text", "image", "joint")
MAX_ID_BYTES = 1024
MAX_NAMED = 5
#: Ids that are looked at together.
_RUN = 4096
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")

Array = NDArray[Any]


class Status(IntEnum):
    """What happened to one input of one row."""

    OK = 0
    TEXT_EMPTY = 1
    IMAGE_MISSING = 2
    IMAGE_CORRUPT = 3
    IMAGE_TOO_LARGE = 4
    IMAGE_FORMAT = 5
    OOM = 6
    TEXT_MISSING = 7
    TEXT_ENCODING = 8
    ABSENT = 9
    """The data set has no such modality."""

    @property
    def label(self) -> str:
        """Name for tables and reports, such as ``"text_empty"``."""
        return self.name.lower()


class Split(IntEnum):
    """Which part of the data set a row was given to by its author."""

    NONE = 0
    TRAIN = 1
    VAL = 2
    TEST = 3


@dataclass(frozen=True, eq=False)
class RowTable:
    """Everything a store keeps about its rows, apart from the features.

    Validated on creation.

    Attributes
    ----------
    ids : sequence of str
        Unique; each 1 to 1024 bytes of UTF-8 without control characters.
    label : ndarray of shape (n,), int32
        Code into the store's class names; -1 = none.
    split : ndarray of shape (n,), uint8
        Codes of `Split`.
    group : ndarray of shape (n,), int32
        Rows of one group must never straddle folds; -1 = the row stands alone.
    source_sha256 : ndarray of shape (n, 32), uint8
        Hash of the row's raw input bytes; all zero = unknown.
    status : ndarray of shape (n, n_modalities), uint8
        Codes of `Status`.
    text : sequence of str or None
        Cleaned texts.
    encoding : ndarray of shape (n,), uint8, or None
        Index into ``meta["encodings"]``; given exactly when `text` is.
    image_path : sequence of str or None
        Where each image lay, relative to the data set.
    image_width, image_height : ndarray of shape (n,), int32, or None
        Pixels, 0 = unknown; given exactly when `image_path` is.
    image_sha256 : ndarray of shape (n, 32), uint8, or None
        Hash of each image file's bytes; all zero = unknown. Needed for reuse.

    Raises
    ------
    ValueError
        If lengths, types, codes, ids or texts break a rule above; the message names every fault.
    """

    ids: Sequence[str]
    label: Array
    split: Array
    group: Array
    source_sha256: Array
    status: Array
    text: Sequence[str] | None = None
    encoding: Array | None = None
    image_path: Sequence[str] | None = None
    image_width: Array | None = None
    image_height: Array | None = None
    image_sha256: Array | None = None

    def __post_init__(self) -> None:
        faults = [*_column_faults(self), *_optional_faults(self), *_id_faults(self.ids)]
        for name, strings in (("text", self.text), ("image_path", self.image_path)):
            faults += _string_faults(name, strings, len(self.ids))
        if faults:
            raise ValueError("The table of rows cannot be stored: " + "; ".join(faults) + ".")

    def __len__(self) -> int:
        return len(self.ids)


def _column_faults(table: RowTable) -> list[str]:
    n = len(table.ids)
    n_modalities = table.status.shape[-1] if getattr(table.status, "ndim", 0) == 2 else 0
    columns: list[tuple[str, Array | None, str, tuple[int, ...], int, int]] = [
        ("label", table.label, "int32", (n,), -1, 2**31 - 1),
        ("split", table.split, "uint8", (n,), 0, max(Split)),
        ("group", table.group, "int32", (n,), -1, 2**31 - 1),
        ("source_sha256", table.source_sha256, "uint8", (n, 32), 0, 255),
        ("status", table.status, "uint8", (n, n_modalities), 0, max(Status)),
        ("encoding", table.encoding, "uint8", (n,), 0, 255),
        ("image_width", table.image_width, "int32", (n,), 0, 2**31 - 1),
        ("image_height", table.image_height, "int32", (n,), 0, 2**31 - 1),
        ("image_sha256", table.image_sha256, "uint8", (n, 32), 0, 255),
    ]
    faults = []
    for name, array, dtype, shape, low, high in columns:
        if array is not None:
            faults += column_faults(name, array, dtype, shape, (low, high))
    if n == 0:
        faults.append("it has no rows")
    if n_modalities == 0:
        faults.append("'status' needs one column per modality")
    return faults


def column_faults(
    name: str, array: object, dtype: str, shape: tuple[int, ...], limits: tuple[int, int]
) -> list[str]:
    """Return what is wrong with one column: not an array, other type, other shape, values out of range."""
    if not isinstance(array, np.ndarray):
        return [f"'{name}' is {type(array).__name__}, not a numpy array of {dtype}"]
    if array.dtype != np.dtype(dtype) or array.shape != shape:
        return [
            f"'{name}' has type {array.dtype} and shape {array.shape}, but {dtype} and {shape} are needed"
        ]
    low, high = limits
    if array.size and (array.min() < low or array.max() > high):
        row = int(np.argwhere((array < low) | (array > high))[0][0])
        return [f"'{name}' holds {array[row].tolist()} in row {row}; allowed are {low} to {high}"]
    return []


def _optional_faults(table: RowTable) -> list[str]:
    faults = []
    if (table.text is None) != (table.encoding is None):
        faults.append("'text' and 'encoding' must be given together")
    sizes = (table.image_width, table.image_height)
    if any((size is None) != (table.image_path is None) for size in sizes):
        faults.append("'image_path', 'image_width' and 'image_height' must be given together")
    if table.image_sha256 is not None and table.image_path is None:
        faults.append("'image_sha256' needs 'image_path'")
    return faults


def _id_faults(ids: Sequence[str]) -> list[str]:
    bad = [f"{i!r:.60} ({id_fault(i)})" for i in bad_ids(ids)]
    faults = [f"ids {', '.join(bad[:MAX_NAMED])}{_more(bad)} are not allowed"] if bad else []
    if not are_unique(ids):
        seen: set[str] = set()
        twice = [repr(i) for i in ids if i in seen or seen.add(i)]  # type: ignore[func-returns-value]
        faults.append(f"ids {', '.join(twice[:MAX_NAMED])}{_more(twice)} occur more than once")
    return faults


def id_fault(sample_id: object) -> str | None:
    """Return why `sample_id` cannot be an id, or None if it can.

    An id is opaque data and never becomes a file or HDF5 name, so ``../../x`` is fine.
    """
    if not isinstance(sample_id, str):
        return f"is {type(sample_id).__name__}, not a string"
    try:
        size = len(sample_id.encode("utf-8"))
    except UnicodeEncodeError:
        return "is not valid Unicode"
    if not 1 <= size <= MAX_ID_BYTES:
        return f"has {size} bytes, allowed are 1 to {MAX_ID_BYTES}"
    return "holds a control character" if _CONTROL.search(sample_id) else None


def are_unique(ids: Sequence[str]) -> bool:
    """Whether no id occurs twice; a set of a million ids would take two hundred megabytes."""
    return have_no_repeat(id_hashes(ids)) or len(set(ids)) == len(ids)


def id_hashes(ids: Sequence[str]) -> Array:
    """Return Python's own hash of each id, int64: ids that are equal have equal ones."""
    return np.fromiter(map(hash, ids), dtype=np.int64, count=len(ids))


def have_no_repeat(hashes: Array) -> bool:
    """Whether all `hashes` differ."""
    ordered = np.sort(hashes)
    return not bool((ordered[1:] == ordered[:-1]).any())


def bad_ids(ids: Sequence[str]) -> list[str]:
    """Return those for which `id_fault` has a reason; good ids are looked at many at a time."""
    return [bad for start in range(0, len(ids), _RUN) for bad in _bad_of(list(ids[start : start + _RUN]))]


def _bad_of(ids: Sequence[str]) -> list[str]:
    try:
        joined = "".join(ids)
        joined.encode("utf-8")
        # A character has at most four bytes.
        if all(ids) and max(map(len, ids), default=0) <= MAX_ID_BYTES // 4 and not _CONTROL.search(joined):
            return []
    except (TypeError, UnicodeEncodeError):
        pass  # one of them is no string, or no valid Unicode
    return [sample_id for sample_id in ids if id_fault(sample_id) is not None]


def _string_faults(name: str, strings: Sequence[str] | None, n: int) -> list[str]:
    if strings is None:
        return []
    if len(strings) != n:
        return [f"'{name}' has {len(strings)} entries for {n} rows"]
    bad = [str(row) for row, value in enumerate(strings) if not is_encodable(value)]
    return (
        [f"'{name}' is no valid Unicode string in rows {', '.join(bad[:MAX_NAMED])}{_more(bad)}"]
        if bad
        else []
    )


def is_encodable(value: object) -> bool:
    """Whether `value` is a string that UTF-8 can hold: no lone surrogates."""
    try:
        return isinstance(value, str) and value.encode("utf-8") is not None
    except UnicodeEncodeError:
        return False


def _more(items: Sequence[object]) -> str:
    return f" and {len(items) - MAX_NAMED} more" if len(items) > MAX_NAMED else ""
