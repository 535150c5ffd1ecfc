"""One writer per store: a flock, which dies with its process, so a killed pass never blocks the next one."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cache.durable import write_all
from cache.errors import StoreBusyError
from cache.workfolder import WorkFolder

MAX_SIGNATURE_BYTES = 16 << 10


class WriterLock:
    """The lock of one work folder, which is created with it.

    Parameters
    ----------
    folder : WorkFolder
    command : sequence of str
        The words that start this pass, noted with the current folder for whoever wants to go on with it.

    Attributes
    ----------
    foreign_host : str or None
        The host of the last writer, if it was another machine.

    Raises
    ------
    StoreBusyError
        If another process (or another `WriterLock` of this one) holds it.
    """

    def __init__(self, folder: WorkFolder, command: Sequence[str] = ()) -> None:
        self._fd = _acquire(folder)
        last_host = _holder(self._fd).get("host")
        here = socket.gethostname()
        self.foreign_host: str | None = last_host if last_host not in (None, here) else None
        try:
            os.ftruncate(self._fd, 0)
            os.lseek(self._fd, 0, os.SEEK_SET)
            write_all(self._fd, _signature(folder, here, command))
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let the next writer in."""
        os.close(self._fd)


def _signature(folder: WorkFolder, host: str, command: Sequence[str]) -> bytes:
    """Return what a writer signs with; a command too long to be read back is left out."""
    signed = {"pid": os.getpid(), "host": host}
    if not command:
        return json.dumps(signed).encode()
    place = {"work": str(folder.root.absolute()), "folder": str(Path.cwd())}
    full = json.dumps({**signed, **place, "command": list(command)}).encode()
    return full if len(full) <= MAX_SIGNATURE_BYTES else json.dumps(signed).encode()


def _acquire(folder: WorkFolder) -> int:
    while True:
        folder.root.mkdir(exist_ok=True)
        try:
            fd = os.open(folder.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            if folder.root.is_dir():
                raise
            continue  # a pass that just finished removed the folder in between
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _holder(fd)
            os.close(fd)
            raise StoreBusyError(
                f"'{folder.target}' is being written by process {holder.get('pid', 'unknown')} on host "
                f"'{holder.get('host', 'unknown')}'. Wait until it has finished, or write to another file."
            ) from error
        if is_same_file(fd, folder.lock):
            return fd
        os.close(fd)  # that pass removed the lock file between our open and our lock


def _holder(fd: int) -> dict[str, Any]:
    """Return who signed the lock file; empty if nobody did, or a kill cut the signature short."""
    try:
        signed = json.loads(os.pread(fd, MAX_SIGNATURE_BYTES, 0))
    except (ValueError, RecursionError):
        return {}
    return signed if isinstance(signed, dict) else {}


def is_same_file(fd: int, path: Path) -> bool:
    """Tell whether an open file is still the one at a path, and was not removed or replaced since.

    Parameters
    ----------
    fd : int
        Descriptor of the open file.
    path : Path
        A link is followed.
    """
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False
