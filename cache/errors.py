"""Every way a store can refuse: one family, each member also the builtin that fits it."""

from __future__ import annotations

from pathlib import Path


class StoreError(Exception):
    """Base of all errors of the feature store.

    Parameters
    ----------
    message : str
        One or two plain sentences; ``str(error)`` returns them unchanged.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        # KeyError would show the repr, OSError adds an errno: a user reads the sentence and nothing else.
        return self.message


class StoreMissingError(StoreError, FileNotFoundError):
    """There is no file at the given path."""


class StoreCorruptError(StoreError, OSError):
    """The file is no store, is cut short, or its content differs from what was published."""


class UnsafeStoreError(StoreError, ValueError):
    """The file uses something a store never holds (links, external data, filters, ...)."""


class StoreVersionError(StoreError, ValueError):
    """The store has a format this version cannot read."""


class StoreBusyError(StoreError, OSError):
    """Another process is writing the same store."""


class StoreIncompleteError(StoreError, ValueError):
    """The pass that writes this store has not finished.

    Attributes
    ----------
    done, total : int
        Rows written so far and rows planned.
    """

    def __init__(self, message: str, *, done: int = 0, total: int = 0) -> None:
        super().__init__(message)
        self.done = done
        self.total = total


class FingerprintMismatch(StoreError, ValueError):
    """An unfinished pass was started with other settings."""


class AlignError(StoreError, ValueError):
    """Two stores do not describe the same data set."""


class SpaceError(StoreError, KeyError):
    """A space that the store does not have, or an ambiguous name."""


class BadRowsError(StoreError, ValueError):
    """Rows that may not enter a store (wrong shape or type, not finite, all zero)."""


class DiskFullError(StoreError, OSError):
    """The disk or the quota cannot hold the store.

    Attributes
    ----------
    path : pathlib.Path or None
        What was being written.
    need, free : int
        Bytes needed and bytes free when the error was found.
    """

    def __init__(self, message: str, *, path: Path | None = None, need: int = 0, free: int = 0) -> None:
        super().__init__(message)
        self.path = path
        self.need = need
        self.free = free
