"""Grids: every combination of a space of choices, and a cover of the logistic regression's space."""

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from tuning.balance import BALANCE, NONE, treatment
from tuning.dimensions import Choice, Dimension, Float
from tuning.head_spaces import HeadSpace, default_values
from tuning.spaces import Space, build_spaces
from tuning.trials import Configuration

_MOST_COUNTED = 100_000
_LAID_OUT = {"C", BALANCE}


def grid_configurations(space: Space, *, limit: int) -> list[Configuration]:
    """Return every combination of a space's choices.

    Parameters
    ----------
    space : Space
        From `build_spaces`; every dimension a choice (or fixed).
    limit : int
        The most combinations that are allowed.

    Returns
    -------
    list of Configuration
        Head after head; within a head the last dimension varies fastest, those with a condition after the
        others. A dimension that does not matter beside the values of the others is not varied.

    Raises
    ------
    ValueError
        When a dimension is a range (all of them are named), or there are more combinations than ``limit``.
    """
    ranges = [
        f"{head}.{name}"
        for head, one in space.heads.items()
        for name, dimension in one.dimensions.items()
        if not isinstance(dimension, Choice)
    ]
    if ranges:
        raise ValueError(
            f"A grid is made of choices, but there are ranges: {', '.join(ranges)}. Give each a list of "
            "values in --space FILE, or leave it out with 'only = true' in its section, and name in --heads "
            "only heads of that file."
        )
    n = sum(1 for one in space.heads.values() for _ in islice(_combinations(one), _MOST_COUNTED + 1))
    if n > limit:
        count = f"more than {_MOST_COUNTED:,}" if n > _MOST_COUNTED else f"{n:,}"
        raise ValueError(
            f"The grid has {count} combinations, and --trials allows {limit:,}. Give shorter lists, or pass "
            "--trials with that count to evaluate all of them."
        )
    return [one.configuration(values) for one in space.heads.values() for values in _combinations(one)]


def _combinations(space: HeadSpace) -> Iterator[dict[str, Any]]:
    """Yield the values of every combination of one head, without repeats."""
    order = space.order

    def choose(values: dict[str, Any], position: int) -> Iterator[dict[str, Any]]:
        if position == len(order):
            yield values
            return
        name = order[position]
        dimension = space.dimensions[name]
        choices = dimension.values if isinstance(dimension, Choice) and space.is_asked(name, values) else None
        for value in choices or (space.fixed[name],):
            yield from choose({**values, name: value}, position + 1)

    return choose(dict(space.fixed), 0)


def logistic_grid(n: int, space: Space | None = None) -> list[Configuration]:
    """Lay configurations of logistic regression out over its penalty and the weights of the classes.

    Parameters
    ----------
    n : int
        How many, at most.
    space : Space or None
        From `build_spaces`, with ``logreg``; None is its own space.

    Returns
    -------
    list of Configuration
        All different. First the one a search starts with (the default configuration, unless the space says
        otherwise), then a cover of C, coarse first, each value with every weighting of the space: any
        beginning of the list is a cover too. Fewer than ``n`` when the space has fewer. Nothing but C and
        weightings is laid out: other parameters and resamplers are no part of one closed path, see
        `is_on_a_path`.

    Raises
    ------
    ValueError
        When ``n`` is below 1, or the space does not hold ``logreg``.
    """
    if n < 1:
        raise ValueError(f"'n' is {n}, allowed is 1 or more. Ask for at least one configuration.")
    one = (space or build_spaces(["logreg"])).heads.get("logreg")
    if one is None:
        raise ValueError("The space does not hold 'logreg'. Build it with that head.")
    first = one.starting_configuration()
    words = [word for word in _choices(one, BALANCE) if treatment(word)[0] == "none"]
    n_values = math.ceil(n / max(len(words), 1))
    # An odd number has a middle, which in the usual range is the C of the default configuration.
    strengths = _strengths(one.dimensions.get("C"), first.parameters["C"], n_values=n_values | 1)
    settled = {**one.fixed, **{k: v for k, v in first.parameters.items() if k in one.fixed}}
    laid_out = [one.configuration({**settled, "C": C, BALANCE: word}) for C in strengths for word in words]
    return list({configuration.key: configuration for configuration in [first, *laid_out]}.values())[:n]


def is_on_a_path(space: HeadSpace) -> bool:
    """Tell whether `logistic_grid` leaves out nothing of a space of the logistic regression.

    Parameters
    ----------
    space : HeadSpace
        Of ``logreg``.

    Returns
    -------
    bool
        False when something besides C and class weights is asked, or fixed unlike the head's default, such as
        a share of the L1 penalty or a resampler: that makes other minima, or other training rows.
    """
    usual = default_values("logreg")
    weighed = all(treatment(word)[0] == NONE for word in _choices(space, BALANCE))
    kept = all(name in _LAID_OUT or space.fixed[name] == usual[name] for name in usual)
    return weighed and kept and set(space.dimensions) <= _LAID_OUT


def _choices(space: HeadSpace, name: str) -> Sequence[Any]:
    dimension = space.dimensions.get(name)
    return dimension.values if isinstance(dimension, Choice) else (space.fixed[name],)


def _strengths(dimension: Dimension | None, first: float, *, n_values: int) -> list[float]:
    """Return values of C, coarse first, rounded so that powers of ten are exact; `first` when C is fixed."""
    if dimension is None:
        return [first]
    if isinstance(dimension, Choice):
        return list(dimension.values)
    scale = np.geomspace if isinstance(dimension, Float) and dimension.log else np.linspace
    values = [float(f"{value:.6g}") for value in scale(dimension.low, dimension.high, n_values)]
    return [values[position] for position in _coarse_first(len(values))]


def _coarse_first(n: int) -> list[int]:
    """Order 0 .. n - 1, the middle first: each far from those before it, and the ends late."""
    order: list[int] = []
    while len(order) < n:
        taken = (-1, n, *order)
        left = [i for i in range(n) if i not in order]
        order.append(max(left, key=lambda i: (min(abs(i - j) for j in taken), -abs(2 * i - n + 1))))
    return order
