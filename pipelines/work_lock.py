"""The lock of a work folder: the system lets go of it when the process ends, however it does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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

    if folder.is_symlink():
        raise OSError(f"'{folder}' is a link, and nothing is written through links. Remove it.")
    folder.mkdir(parents=True, exist_ok=True)
    # Never through a link: the folder may be a stranger's.
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_free = True
        except BlockingIOError:
            is_free = False
        yield is_free
    finally:
        os.close(lock)
