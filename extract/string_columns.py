"""String columns: the strings of a million rows on disk, and in memory eight bytes for each.

Texts and ids are needed a few at a time, in any order. Held as Python strings they take half a kilobyte a
row; here they lie one after the other in a file without a name, which goes with the process.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise, repeat
from pathlib import Path
from typing import IO, overload

import numpy as np

#: What is kept in memory before it is written, and what is read at once when a column is gone through.
_BLOCK_BYTES = 1 << 20
_BLOCK_ROWS = 4096


class StringColumn(Sequence[str]):
    """Strings that are there to be read, from several threads too; `StringColumnBuilder` makes one.

    A slice without a step is a column over the same bytes. Lone surrogates, which JSON may hold, come back as
    they were.
    """

    def __init__(self, offsets: np.ndarray, spool: _Spool) -> None:
        self._offsets, self._spool = offsets, spool

    @classmethod
    def of(cls, strings: Iterable[str]) -> StringColumn:
        """Return a column of `strings`."""
        builder = StringColumnBuilder()
        for string in strings:
            builder.append(string)
        return builder.column()

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, row: int) -> str: ...

    @overload
    def __getitem__(self, row: slice) -> StringColumn: ...

    def __getitem__(self, row: int | slice) -> str | StringColumn:
        if isinstance(row, slice):
            start, stop, step = row.indices(len(self))
            if step != 1:
                return StringColumn.of(self[i] for i in range(start, stop, step))
            return StringColumn(self._offsets[start : max(start, stop) + 1], self._spool)
        at = range(len(self))[row]
        start, stop = self._offsets[at : at + 2].tolist()
        return self._spool.read(start, stop).decode("utf-8", "surrogatepass")

    def pick(self, rows: Sequence[int]) -> list[str]:
        """Return the strings of `rows`, in their order; rows that lie close together are read at once."""
        first, last = min(rows, default=0), max(rows, default=-1)
        ends = self._offsets[first : last + 2].tolist() if last - first < _BLOCK_ROWS else []
        if not ends or ends[-1] - ends[0] > _BLOCK_BYTES:
            return [self[row] for row in rows]
        begin = ends[0]
        data = self._spool.read(begin, ends[-1])
        bounds = ((ends[row - first] - begin, ends[row - first + 1] - begin) for row in rows)
        return [data[start:stop].decode("utf-8", "surrogatepass") for start, stop in bounds]

    def __iter__(self) -> Iterator[str]:
        if self._offsets[-1] == self._offsets[0]:
            yield from repeat("", len(self))
            return
        row = 0
        while row < len(self):
            limit = int(self._offsets[row]) + _BLOCK_BYTES
            last = int(np.searchsorted(self._offsets[row : row + _BLOCK_ROWS + 1], limit, side="right"))
            ends = self._offsets[row : row + max(2, last)].tolist()
            data = self._spool.read(ends[0], ends[-1])
            begin = ends[0]
            for start, stop in pairwise(ends):
                yield data[start - begin : stop - begin].decode("utf-8", "surrogatepass")
            row += len(ends) - 1

    def __repr__(self) -> str:
        return f"StringColumn of {len(self):,} strings"

    def __reduce__(self) -> tuple[object, ...]:
        """Travel to another process with the bytes."""
        start, stop = int(self._offsets[0]), int(self._offsets[-1])
        return _received, (self._offsets - start, self._spool.read(start, stop))


class StringColumnBuilder:
    """Takes strings one by one."""

    def __init__(self) -> None:
        self._offsets = array("q")
        self._n_blank = 1  # leading offsets that are all zero: a column of nothing takes no memory
        self._spool = _Spool()

    def append(self, string: str) -> None:
        """Add one string."""
        if string:
            if not self._offsets:
                self._offsets.frombytes(bytes(8 * self._n_blank))
            self._spool.append(string.encode("utf-8", "surrogatepass"))
        elif not self._offsets:
            self._n_blank += 1
            return
        self._offsets.append(self._spool.size)

    def column(self) -> StringColumn:
        """Return what was added; nothing may be added after that."""
        if not self._offsets:
            return StringColumn(np.broadcast_to(np.int64(0), self._n_blank), self._spool)
        return StringColumn(np.frombuffer(self._offsets, dtype=np.int64), self._spool)


def _received(offsets: np.ndarray, content: bytes) -> StringColumn:
    spool = _Spool()
    spool.append(content)
    return StringColumn(offsets, spool)


class _Spool:
    """Bytes that are appended and then read: the last block in memory, those before it in a nameless file."""

    def __init__(self) -> None:
        self.size = 0
        self._tail = bytearray()
        self._n_written = 0
        self._file: IO[bytes] | None = None

    def append(self, data: bytes) -> None:
        self._tail += data
        self.size += len(data)
        if len(self._tail) >= _BLOCK_BYTES:
            self._write()

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes [start, stop); safe to call from several threads."""
        if start >= self._n_written:
            return bytes(self._tail[start - self._n_written : stop - self._n_written])
        if stop > self._n_written:
            return self.read(start, self._n_written) + bytes(self._tail[: stop - self._n_written])
        assert self._file is not None, "what is not in memory was written"
        fd = self._file.fileno()
        data = os.pread(fd, stop - start, start)
        while len(data) < stop - start:  # the system reads at most two gigabytes at once
            more = os.pread(fd, stop - start - len(data), start + len(data))
            if not more:
                raise OSError("The file of texts that were set aside has been cut short by another program.")
            data += more
        return data

    def _write(self) -> None:
        folder = roomy_folder()
        try:
            if self._file is None:  # without a name it goes with the process, however that ends
                self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
                weakref.finalize(self, self._file.close)
            rest = memoryview(self._tail)
            while rest:
                written = os.pwrite(self._file.fileno(), rest, self._n_written)
                self._n_written += written
                rest = rest[written:]
        except OSError as error:
            raise OSError(
                error.errno,
                f"{error.strerror}: the data set's texts are set aside in a file while they are needed. Make "
                "room there, or name another folder with the environment variable TMPDIR",
                str(folder),
            ) from error
        self._tail = bytearray()


def roomy_folder() -> Path:
    """Return where large temporary files go: a folder that is there and that the user named, or ``/var/tmp``.

    ``/tmp`` is often memory, which is what such files are to spare. The variables that name a folder are
    those of `tempfile`: TMPDIR, TEMP and TMP.
    """
    named = [os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")]
    is_named = any(name and Path(name).is_dir() for name in named)
    if not is_named and os.access("/var/tmp", os.W_OK | os.X_OK):
        return Path("/var/tmp")
    return Path(tempfile.gettempdir())
