"""Let HDF5 write into a descriptor without ever telling it about an error.

HDF5 has no way back from a failed write: on a full disk it raised without an errno, failed again in close()
and crashed at exit. So the sink keeps the first error, swallows what HDF5 still writes, and raises later.
"""

from __future__ import annotations

import io
import os
from typing import Any

from cache.durable import write_all


class DescriptorSink(io.RawIOBase):
    """A file object over a descriptor for ``h5py.File(sink, "w")``.

    Attributes
    ----------
    error : OSError or None
        First error of the system; call `check` often, so that little work follows it.
    """

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self.error: OSError | None = None

    def check(self) -> None:
        """Raise the first error, if there was one."""
        if self.error is not None:
            raise self.error

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position."""
        return os.lseek(self._fd, offset, whence)

    def readinto(self, buffer: Any, /) -> int:
        """Read bytes; HDF5 reads back little of what it wrote."""
        data = os.read(self._fd, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def write(self, data: Any, /) -> int:
        """Write all of `data`, or keep the error and pretend."""
        if self.error is None:
            try:
                write_all(self._fd, data)
            except OSError as error:
                self.error = error
        return len(data)

    def truncate(self, size: int | None = None, /) -> int:
        """Set the file's size, or keep the error and pretend."""
        if size is None:
            size = os.lseek(self._fd, 0, os.SEEK_CUR)
        if self.error is None:
            try:
                os.ftruncate(self._fd, size)
            except OSError as error:
                self.error = error
        return size
