"""The lock of a study's journal file: the system's, inside which Optuna's own is taken."""

import errno
import os

from optuna.storages.journal import JournalFileSymlinkLock

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


class JournalLock(JournalFileSymlinkLock):
    """Lets one process write a journal at a time.

    Optuna's lock is a symbolic link that outlives a killed process; after 30 s whoever waits removes it. Two
    that wait remove each other's, and then fail with "did not possess lock". Here they wait for the system's
    lock first, which ends with its process, so at most one removes what a dead one left. Optuna's is taken
    too, for programs that know no other.

    Parameters
    ----------
    filepath : str
        The journal; ``filepath + ".flock"`` is the file that is locked.
    grace_period : int
        Seconds after which a link that is left is removed.
    """

    def __init__(self, filepath: str, grace_period: int = 30) -> None:
        super().__init__(filepath, grace_period)
        self._locked_file = f"{filepath}.flock"
        self._held = -1

    def acquire(self) -> bool:
        """Wait for both locks."""
        import fcntl

        held = self._open()
        try:
            try:
                fcntl.flock(held, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in _NO_LOCKS:  # a file system without locks has Optuna's alone
                    raise
            super().acquire()  # which calls `release` to remove a link that is left: `_held` is not set yet
        except BaseException:
            os.close(held)
            raise
        self._held = held
        return True

    def _open(self) -> int:
        """Open the file that is locked, made now if nobody has; another user's may be for reading only."""
        flags = os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(self._locked_file, os.O_RDWR | os.O_CREAT | flags, 0o666)
        except PermissionError:  # made by another user, whose umask forbids writing; it can be locked as well
            return os.open(self._locked_file, os.O_RDONLY | flags)

    def release(self) -> None:
        """Let go of both."""
        held, self._held = self._held, -1
        try:
            super().release()
        finally:
            if held >= 0:
                os.close(held)
