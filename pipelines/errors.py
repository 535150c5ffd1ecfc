"""Errors of the command line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UsageError(ValueError):
    """The command line asks for something that does not exist or does not fit together: exit code 2."""


class RunError(ValueError):
    """A run folder is missing, incomplete, or does not fit what is asked of it."""


@contextmanager
def users_words(*kinds: type[Exception]) -> Iterator[None]:
    """Say as a `UsageError` what a floor below finds wrong with a word of the user; its text is kept.

    Parameters
    ----------
    kinds : type of Exception
        Errors that such a word leads to; none is `ValueError`. Subclasses of them pass: they tell of files,
        as `DataError` does.

    Raises
    ------
    UsageError
        If an error of one of these very types was raised.
    """
    words = kinds or (ValueError,)
    try:
        yield
    except words as error:
        if type(error) not in words:
            raise
        raise UsageError(str(error)) from error


def unwritable(path: Path) -> str:
    """Return why a file cannot be written at `path`, or "" if nothing is seen to be in the way."""
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir():
        return f"'{path}' cannot be written: it is a folder, or its folder does not exist"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"'{path}' cannot be written: nothing may be written in the folder '{folder}'"
    return ""
