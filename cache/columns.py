"""Strings as two plain arrays: all UTF-8 bytes in a row, and where each string begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from cache.schema import Array

#: Bytes of strings that are in memory at a time.
BLOCK_BYTES = 1 << 20


class PackedBytes:
    """The UTF-8 bytes of strings, made a block at a time: those of a million texts are never all in memory.

    Attributes
    ----------
    n_bytes : int
    """

    def __init__(self, strings: Sequence[str], n_bytes: int) -> None:
        self._strings, self.n_bytes = strings, n_bytes

    def __iter__(self) -> Iterator[Array]:
        """Yield blocks, uint8."""
        block = bytearray()
        for string in self._strings:
            block += string.encode("utf-8")
            if len(block) >= BLOCK_BYTES:
                yield np.frombuffer(block, dtype="u1")
                block = bytearray()
        if block:
            yield np.frombuffer(block, dtype="u1")


def pack(strings: Sequence[str]) -> tuple[PackedBytes, Array]:
    """Return the bytes, and the offsets: int64 of shape (n + 1,). The strings are gone through twice."""
    offsets = np.zeros(len(strings) + 1, dtype="<i8")
    lengths = (len(string.encode("utf-8")) for string in strings)
    np.cumsum(np.fromiter(lengths, dtype=np.int64, count=len(strings)), out=offsets[1:])
    return PackedBytes(strings, int(offsets[-1])), offsets


def refuse_offsets(offsets: Array, n_bytes: int) -> None:
    """Refuse offsets that `pack` does not make.

    Raises
    ------
    ValueError
        If they do not start at 0, fall, or do not end at the last byte.
    """
    if offsets[0] != 0 or offsets[-1] != n_bytes or (offsets[1:] < offsets[:-1]).any():
        raise ValueError(f"the offsets do not rise from 0 to {n_bytes}")


def block_ends(offsets: Array) -> list[int]:
    """Return numbers of strings, from 0 to all, between which lie blocks of whole strings.

    A block has about `BLOCK_BYTES`, or one string if that is longer.
    """
    ends = [0]
    while ends[-1] < len(offsets) - 1:
        fits = int(np.searchsorted(offsets, offsets[ends[-1]] + BLOCK_BYTES, side="right")) - 1
        ends.append(max(ends[-1] + 1, min(fits, ends[-1] + BLOCK_BYTES // 8)))
    return ends


def unpack(data: Array, offsets: Array) -> tuple[str, ...]:
    """Return the strings that lie in `data` from one of `offsets` to the next.

    Raises
    ------
    ValueError
        If a string is not UTF-8.
    """
    raw, ends = data.tobytes(), offsets.tolist()
    try:
        return tuple(raw[a:b].decode("utf-8") for a, b in pairwise(ends))
    except UnicodeDecodeError as error:
        raise ValueError(f"a string is not UTF-8 ({error.reason})") from error
