"""The columns of an opened store, each checked against what its codes may be."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, pairwise
from typing import Any

import numpy as np

from cache.columns import block_ends, refuse_offsets, unpack
from cache.header import Header, damaged
from cache.integrity import read_rows
from cache.schema import Array, Split, Status, are_unique, bad_ids, have_no_repeat, id_fault, id_hashes


def read_array(file: Any, header: Header, name: str) -> Array:
    """Read a whole data set."""
    dataset = file[name]
    return read_rows(dataset, (), 0, dataset.shape[0], header.path)


def read_codes(file: Any, header: Header, name: str, *, low: int, high: int) -> Array:
    """Read a column of codes and refuse one outside `low` to `high`."""
    codes = read_array(file, header, name)
    if codes.size and (int(codes.min()) < low or int(codes.max()) > high):
        raise damaged(
            header.path, f"'{name}' holds codes {codes.min()} to {codes.max()}, allowed are {low} to {high}"
        )
    return codes


def read_strings(file: Any, header: Header, stem: str) -> tuple[str, ...]:
    """Read the strings stored as ``<stem>bytes`` and ``<stem>off``."""
    return tuple(chain.from_iterable(read_string_blocks(file, header, stem)))


def read_string_blocks(file: Any, header: Header, stem: str) -> Iterator[tuple[str, ...]]:
    """Yield the strings stored as ``<stem>bytes`` and ``<stem>off``, some megabytes at a time."""
    content, offsets = file[f"{stem}bytes"], read_array(file, header, f"{stem}off")
    try:
        refuse_offsets(offsets, content.shape[0])
        for first, last in pairwise(block_ends(offsets)):
            start, stop = offsets[first], offsets[last]
            yield unpack(read_rows(content, (), start, stop, header.path), offsets[first : last + 1] - start)
    except ValueError as error:
        raise damaged(header.path, f"'{stem}bytes' cannot be read: {error}") from error


def read_ids(file: Any, header: Header) -> tuple[str, ...]:
    """Read the ids; refuse doubles and ids that may not be stored."""
    ids = read_strings(file, header, "/rows/id_")
    _refuse_bad_ids(ids, header)
    if not are_unique(ids):
        raise damaged(header.path, "an id occurs more than once")
    return ids


def check_ids(file: Any, header: Header) -> None:
    """Refuse what `read_ids` refuses, without all ids in memory."""
    hashes = []
    for ids in read_string_blocks(file, header, "/rows/id_"):
        _refuse_bad_ids(ids, header)
        hashes.append(id_hashes(ids))
    if not have_no_repeat(np.concatenate(hashes)):
        read_ids(file, header)  # two ids may have one hash


def _refuse_bad_ids(ids: tuple[str, ...], header: Header) -> None:
    if bad := bad_ids(ids):
        raise damaged(header.path, f"the id {bad[0]!r:.60} {id_fault(bad[0])}")


def read_labels(file: Any, header: Header) -> Array:
    """Read the label codes, -1 to the last class."""
    return read_codes(file, header, "/rows/label", low=-1, high=len(header.class_names) - 1)


def read_splits(file: Any, header: Header) -> Array:
    """Read the codes of `Split`."""
    return read_codes(file, header, "/rows/split", low=0, high=max(Split))


def read_groups(file: Any, header: Header) -> Array:
    """Read the group codes, -1 for rows that stand alone."""
    return read_codes(file, header, "/rows/group", low=-1, high=2**31 - 1)


def read_status(file: Any, header: Header) -> Array:
    """Read the codes of `Status`, one column per modality."""
    return read_codes(file, header, "/rows/status", low=0, high=max(Status))


def read_encodings(file: Any, header: Header) -> tuple[str, ...]:
    """Read the name of each row's text encoding."""
    codes = read_codes(file, header, "/text/encoding", low=0, high=len(header.encodings) - 1)
    return tuple(header.encodings[code] for code in codes.tolist())


def read_valid(file: Any, header: Header, space: str) -> Array:
    """Read which rows of a space hold a vector, as bool."""
    return read_codes(file, header, f"/features/{space}/valid", low=0, high=1).astype(bool)


def check_content(file: Any, header: Header) -> None:
    """Read every column once and refuse any that breaks the format.

    Raises
    ------
    StoreCorruptError
        Naming the column and what it holds.
    """
    check_ids(file, header)
    for read in (read_labels, read_splits, read_groups, read_status):
        read(file, header)
    if "/text/bytes" in header.entries:
        _check_strings(file, header, "/text/")
        read_encodings(file, header)
    if "/image/path_bytes" in header.entries:
        _check_strings(file, header, "/image/path_")
        for side in ("width", "height"):
            read_codes(file, header, f"/image/{side}", low=0, high=2**31 - 1)
    for space in header.spaces:
        read_valid(file, header, space.name)


def _check_strings(file: Any, header: Header, stem: str) -> None:
    for _ in read_string_blocks(file, header, stem):
        pass
