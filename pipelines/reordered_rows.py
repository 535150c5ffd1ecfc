"""Rows of a store that holds the samples in another order, put in order once, outside memory."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import IO

import numpy as np

from extract import roomy_folder
from pipelines.console import Progress, size
from pipelines.errors import RunError
from pipelines.stored_rows import Block, StoredBlock

_READ_BYTES = 4 << 20


def in_sample_order(block: StoredBlock, stay_open: ExitStack) -> Block:
    """Return a block whose samples can be read one after the other.

    Parameters
    ----------
    block : StoredBlock
    stay_open : ExitStack
        Closes what is opened for it.

    Returns
    -------
    Block
        `block` itself, or a `ReorderedBlock` where the store holds the samples in another order.
    """
    if (np.diff(block.rows) > 0).all():
        return block
    reordered = ReorderedBlock(block)
    stay_open.callback(reordered.close)
    return reordered


class ReorderedBlock:
    """A block whose store holds the samples in another order.

    When some of the samples are asked for the first time, the store is read once from front to back, and
    every row is written to its sample's place in a temporary file, which has no name and so is gone when the
    process ends, however it does. All samples at once are read from the store itself.

    Parameters
    ----------
    block : StoredBlock
        Its store must stay open.

    Attributes
    ----------
    width : int
    dtype : numpy.dtype
    valid : ndarray of shape (n_samples,), bool

    Notes
    -----
    Without the file, a read of consecutive samples would be as many reads as samples, or one of the whole
    store. A million rows of 768 float16 took 4 s of processor time; memory-mapped pages took 3 s, but
    count as memory of the process.
    """

    def __init__(self, block: StoredBlock) -> None:
        self._block = block
        self.width, self.dtype, self.valid = block.width, block.dtype, block.valid
        self._row_bytes = self.width * self.dtype.itemsize
        self._file: IO[bytes] | None = None
        self._only_one = Lock()  # rows are read ahead in a thread

    def read(self, places: slice) -> np.ndarray:
        """Return the vectors of some samples, NaN where there is none.

        Raises
        ------
        RunError
            If the temporary file finds no room.
        """
        start, stop, _ = places.indices(len(self.valid))
        if stop - start == len(self.valid):
            return self._block.read(places)
        with self._only_one:
            if self._file is None:
                self._file = self._in_order()
        values = np.empty((max(0, stop - start), self.width), dtype=self.dtype)
        _read_at(self._file.fileno(), _bytes_of(values), start * self._row_bytes)
        return values

    def close(self) -> None:
        """Remove the temporary file."""
        if self._file is not None:
            self._file.close()

    def _in_order(self) -> IO[bytes]:
        """Write the rows to a temporary file in the order of the samples."""
        n_bytes = len(self.valid) * self._row_bytes
        folder = roomy_folder()
        self._refuse_no_room(n_bytes, folder, shutil.disk_usage(folder).free)
        file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - `close` closes it
        try:
            self._fill(file.fileno(), f"{size(n_bytes)} in {folder}")
        except OSError as error:
            file.close()
            self._refuse_no_room(n_bytes, folder, shutil.disk_usage(folder).free)
            raise RunError(f"The rows cannot be put in order in '{folder}': {error}.") from error
        except BaseException:
            file.close()
            raise
        return file

    def _fill(self, file: int, note: str) -> None:
        """Read the store from front to back, and write every row to its place."""
        in_file_order = np.argsort(self._block.rows, kind="stable")
        step = max(1, _READ_BYTES // self._row_bytes)
        progress = Progress(f"putting the rows of '{self._block.path}' in order", "rows")
        for start in range(0, len(in_file_order), step):
            places = in_file_order[start : start + step]
            _put_rows(file, self._block.read(places), places)
            progress.update(start + len(places), len(in_file_order), note)
        progress.close()

    def _refuse_no_room(self, n_bytes: int, folder: Path, free: int) -> None:
        if free < n_bytes:
            raise RunError(
                f"Store '{self._block.path}' holds the samples in another order than the first store. Its "
                f"rows are put in order in a temporary file of {size(n_bytes)}, but '{folder}' has "
                f"{size(free)} free. Name a folder with more room in TMPDIR, or make the stores from one "
                "list of samples."
            )


def _put_rows(file: int, values: np.ndarray, places: np.ndarray) -> None:
    """Write rows to their places in a file, neighbours together."""
    order = np.argsort(places)
    places, row_bytes = places[order], values.shape[1] * values.itemsize
    data = _bytes_of(values[order])
    cuts = [0, *(np.flatnonzero(np.diff(places) != 1) + 1).tolist(), len(places)]
    for first, last in pairwise(cuts):
        _write_at(file, data[first * row_bytes : last * row_bytes], int(places[first]) * row_bytes)


def _bytes_of(values: np.ndarray) -> memoryview:
    return values.reshape(-1).view(np.uint8).data


def _write_at(file: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(file, data, offset)
        data, offset = data[written:], offset + written


def _read_at(file: int, data: memoryview, offset: int) -> None:
    while data:
        n_read = os.preadv(file, [data], offset)
        if not n_read:
            raise OSError("a temporary file of rows ends too early")
        data, offset = data[n_read:], offset + n_read
