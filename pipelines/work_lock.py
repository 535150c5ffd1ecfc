"""The lock of a work folder: the system lets go of it when the process ends, however it does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cache.locking import is_same_file

LOCK = "LOCK"


@contextmanager
def work_lock(folder: Path) -> Iterator[bool]:
    """Hold a work folder for this process.

    Parameters
    ----------
    folder : Path
        Made when needed.

    Yields
    ------
    bool
        False when another process holds it.

    Raises
    ------
    OSError
        If the folder cannot be made, or it or its lock file is a link.
    """
    import fcntl

    refuse_link(folder)
    lock = None
    while lock is None:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            # Never through a link: the folder may be a stranger's.
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except FileNotFoundError:
            continue  # who just finished removed the folder in between
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_free = True
        except BlockingIOError:
            is_free = False
        if is_free and not is_same_file(lock, folder / LOCK):
            os.close(lock)  # ... or removed the lock between our open and our lock
            lock = None
    try:
        yield is_free
    finally:
        os.close(lock)


def refuse_link(path: Path) -> None:
    """Refuse to write into a folder that is a link: who made it says where the files would go.

    Raises
    ------
    OSError
        If it is a link.
    """
    if path.is_symlink():
        raise OSError(f"'{path}' is a link, and nothing is written through links. Remove it.")
