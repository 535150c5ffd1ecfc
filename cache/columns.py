"""Strings as two plain arrays: all UTF-8 bytes in a row, and where each string begins."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from cache.schema import Array


def pack(strings: Sequence[str]) -> tuple[Array, Array]:
    """Return (bytes, offsets): uint8 of shape (total,) and int64 of shape (n + 1,)."""
    encoded = [string.encode("utf-8") for string in strings]
    offsets = np.zeros(len(encoded) + 1, dtype="<i8")
    np.cumsum([len(item) for item in encoded], out=offsets[1:])
    return np.frombuffer(b"".join(encoded), dtype="u1"), offsets


def unpack(data: Array, offsets: Array) -> tuple[str, ...]:
    """Return the strings of `pack`.

    Raises
    ------
    ValueError
        If the offsets do not start at 0, fall, or do not end at the last byte; or a string is not UTF-8.
    """
    if offsets[0] != 0 or offsets[-1] != len(data) or (np.diff(offsets) < 0).any():
        raise ValueError(f"the offsets do not rise from 0 to {len(data)}")
    raw, ends = data.tobytes(), offsets.tolist()
    try:
        return tuple(raw[a:b].decode("utf-8") for a, b in pairwise(ends))
    except UnicodeDecodeError as error:
        raise ValueError(f"a string is not UTF-8 ({error.reason})") from error
