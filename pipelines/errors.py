"""Errors of the command line."""

from __future__ import annotations


class UsageError(ValueError):
    """The command line asks for something that does not exist or does not fit together: exit code 2."""


class RunError(ValueError):
    """A run folder is missing, incomplete, or does not fit what is asked of it."""
