"""Errors of the command line."""

from __future__ import annotations

from pathlib import Path


class UsageError(ValueError):
    """The command line asks for something that does not exist or does not fit together: exit code 2."""


class RunError(ValueError):
    """A run folder is missing, incomplete, or does not fit what is asked of it."""


def unwritable(path: Path) -> str:
    """Return why a file cannot be written at `path`, or "" if nothing is seen to be in the way."""
    if path.is_dir() or not path.absolute().parent.is_dir():
        return f"'{path}' cannot be written: it is a folder, or its folder does not exist"
    return ""
