"""Files that are either whole and on the disk, or not there: exclusive temp name, fsync, rename, fsync.

HDF5 never syncs by itself and cannot report a full disk (it may crash): every byte goes through `write_all`.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cache.errors import DiskFullError

TMP_SUFFIX = ".tmp"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_MAX_WRITE = 1 << 30


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of `data` at the descriptor's position, however many short writes that takes."""
    view = memoryview(data).cast("B")
    while view:
        written = os.write(fd, view[:_MAX_WRITE])
        if written == 0:
            raise OSError(errno.EIO, "the system wrote 0 bytes")
        view = view[written:]


def open_new(folder: Path) -> tuple[int, Path]:
    """Create a file with a fresh temporary name in `folder`; return its descriptor and path."""
    path = folder / f"{uuid.uuid4().hex}{TMP_SUFFIX}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666), path


def write_file(path: Path, data: bytes | memoryview, *, sync: bool = True, sync_name: bool = True) -> None:
    """Put `data` at `path` so that a crash at any moment leaves the old state or the new one.

    The temporary file of a crash stays in the same folder with the suffix ``.tmp``; the next pass removes it.

    Parameters
    ----------
    path : pathlib.Path
    data : bytes or memoryview
    sync : bool
        With False, a power cut soon after may leave a file of zeros, or cut short; a kill never does.
    sync_name : bool
        With False, the name survives a power cut only after `sync_folder`, one call for many files.

    Raises
    ------
    DiskFullError
        If the disk or the quota is full; the temporary file is removed.
    OSError
        If the system refuses otherwise.
    """
    with full_disk_named(path, len(data)):
        fd, tmp = open_new(path.parent)
        try:
            try:
                write_all(fd, data)
                if sync:
                    os.fsync(fd)
            finally:
                os.close(fd)
            tmp.replace(path)
        except BaseException:  # Ctrl-C too: outside a work folder no next pass would remove the file
            with suppress(OSError):  # the first error is the one to tell
                tmp.unlink(missing_ok=True)
            raise
        if sync and sync_name:
            sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and removals in `folder` survive a power cut."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def full_disk_named(path: Path, need: int) -> Iterator[None]:
    """Turn "no space", "over quota" and "file too large" into a `DiskFullError`; give others a path."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise disk_full(path, need) from error
        if error.errno == errno.EFBIG:
            raise _too_large(path, need) from error
        if error.errno is not None and error.filename is None:  # of a call that knows no path: write, fsync
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _too_large(path: Path, need: int) -> DiskFullError:
    return DiskFullError(
        f"The system lets no file grow as large as '{path}' must be ({need:,} bytes): a limit of the shell "
        "(ulimit -f) or of the file system. Raise it, or write to another disk; what is finished is kept.",
        path=path,
        need=need,
    )


def disk_full(path: Path, need: int) -> DiskFullError:
    """Return the error for a disk that cannot take `need` more bytes at `path`."""
    free = shutil.disk_usage(path.parent).free
    return DiskFullError(
        f"The disk (or quota) of '{path.parent}' is full: '{path.name}' needs {need:,} bytes, "
        f"{free:,} are free. Free some space and start again; what is finished is kept.",
        path=path,
        need=need,
        free=free,
    )
