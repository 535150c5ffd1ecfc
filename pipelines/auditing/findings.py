"""Findings: what was seen, how bad it is, how sure we are, which rows, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tuning import holm

SEVERITIES = ("high", "medium", "low")
"""``high``: a score would be wrong; ``medium``: it may be; ``low``: worth knowing."""

ALPHA = 0.05
"""Tests count when their p-value, by Holm over all tests of the audit, is at most this."""

_SHOWN = 5


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes
    ----------
    check : str
        E.g. ``"near duplicates across splits"``.
    severity : {"high", "medium", "low"}
    count : int
        Rows concerned.
    detail : str
        What exactly, with the interval where it is an estimate.
    examples : tuple of str
        First ids; ids of one group are joined by " = ".
    advice : str
    p : float or None
        By Holm over all tests of the audit; None where nothing was tested.
    """

    check: str
    severity: str
    count: int
    detail: str
    examples: tuple[str, ...]
    advice: str
    p: float | None = None


@dataclass(frozen=True)
class Tested:
    """The outcome of one test: its p-value, and the finding it is if the p-value stays small.

    Attributes
    ----------
    check : str
    p : float
        Of this test alone, but for all that was looked at inside it.
    detail : str
    finding : Finding or None
        None when the effect is too weak, or too usual, to be a fault, whatever the p-value.
    """

    check: str
    p: float
    detail: str
    finding: Finding | None = None


def significant(tests: Sequence[Tested]) -> tuple[list[Finding], list[Tested]]:
    """Adjust the p-values by Holm's method and return the findings, and all tests with adjusted values."""
    adjusted = holm([test.p for test in tests]).tolist() if tests else []
    settled = [replace(test, p=p) for test, p in zip(tests, adjusted, strict=True)]
    return [
        replace(test.finding, p=test.p) for test in settled if test.finding is not None and test.p <= ALPHA
    ], settled


def first_ids(ids: Sequence[str]) -> tuple[str, ...]:
    """Return the first few ids."""
    return tuple(ids[:_SHOWN])
