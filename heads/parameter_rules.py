"""Rules for constructor arguments, checked together in ``fit``.

scikit-learn asks that constructors store arguments untouched, so a wrong one is found in ``fit``. All wrong
arguments are then named in one message.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real

from heads.names import known_names

Rule = Callable[[object], str | None]
"""Takes a value; returns None when it is fine, else what is allowed instead."""


def whole(low: int, high: int | None = None, *, or_none: bool = False) -> Rule:
    """Allow whole numbers of at least `low` and at most `high` (and None, when asked)."""
    allowed = _range(low, high) + (" or None" if or_none else "")

    def rule(value: object) -> str | None:
        if value is None and or_none:
            return None
        is_whole = isinstance(value, Integral) and not isinstance(value, bool)
        fits = is_whole and int(value) >= low and (high is None or int(value) <= high)  # type: ignore[call-overload]
        return None if fits else allowed

    return rule


def wholes(low: int, high: int | None = None) -> Rule:
    """Allow a whole number of at least `low` and at most `high`, or a list of one or more of them."""
    one = whole(low, high)
    allowed = f"{_range(low, high)}, or a list of such numbers"

    def rule(value: object) -> str | None:
        if isinstance(value, list | tuple):
            return None if value and not any(one(entry) for entry in value) else allowed
        return None if one(value) is None else allowed

    return rule


def _range(low: int, high: int | None) -> str:
    return f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}"


def flag() -> Rule:
    """Allow True and False."""
    return lambda value: None if isinstance(value, bool) else "True or False"


def number(
    low: float,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = True,
    or_none: bool = False,
) -> Rule:
    """Allow finite real numbers between `low` and `high`; each end is part of the range unless it is open."""
    left, right = ("(" if open_low else "["), (")" if open_high else "]")
    allowed = f"a number in {left}{low:g}, {high:g}{right}" + (" or None" if or_none else "")

    def rule(value: object) -> str | None:
        if value is None and or_none:
            return None
        if not isinstance(value, Real) or isinstance(value, bool):
            return allowed
        x = float(value)
        above = x > low if open_low else x >= low
        below = x < high if open_high else x <= high
        return None if above and below else allowed

    return rule


def one_of(names: Sequence[str]) -> Rule:
    """Allow one of the given names."""

    def rule(value: object) -> str | None:
        return None if isinstance(value, str) and value in names else known_names(value, names)

    return rule


def check_parameters(owner: str, values: Mapping[str, object], rules: Mapping[str, Rule]) -> None:
    """Check every argument that has a rule.

    Raises
    ------
    ValueError
        If any value breaks its rule; the message names all of them.
    """
    faults = []
    for name, rule in rules.items():
        allowed = rule(values[name])
        if allowed is not None:
            faults.append(f"{name}={values[name]!r} (allowed: {allowed})")
    if faults:
        raise ValueError(f"{owner} got {len(faults)} wrong parameter(s): {'; '.join(faults)}.")
