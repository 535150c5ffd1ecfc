"""Values of a JSON file or a table that may be damaged, taken for what they should be or refused."""

from __future__ import annotations

import math
from typing import Any


def as_object(value: Any) -> dict[str, Any]:
    """Return an object. Raises TypeError if it is none."""
    if not isinstance(value, dict):
        raise TypeError(f"{value!r:.60} is no object")
    return value


def as_list(value: Any) -> list[Any]:
    """Return a list with at least one entry. Raises TypeError if it is none."""
    if not isinstance(value, list) or not value:
        raise TypeError(f"{value!r:.60} is no list with entries")
    return value


def as_text(value: Any) -> str:
    """Return a text. Raises TypeError if it is none."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.60} is no text")
    return value


def as_number(value: Any) -> float:
    """Return a number, which may be NaN. Raises TypeError if it is none, OverflowError if it is too large."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{value!r:.60} is no number")
    return float(value)


def as_finite(value: Any) -> float:
    """Return a finite number. Raises TypeError, OverflowError or ValueError if it is none."""
    number = as_number(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is not finite")
    return number


def finite_cell(cell: str) -> float:
    """Return the finite number that a cell of a table says. Raises TypeError or ValueError if it is none."""
    return as_finite(float(cell))
