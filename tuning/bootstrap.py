"""Bootstrap draws of rows, or of groups of related rows, with replacement and within strata.

Related rows (duplicates, near duplicates, several posts of one author) tend to be right or wrong together.
Drawing them one by one would count them as independent evidence and make every interval too narrow, so a
group is drawn as a whole (the cluster bootstrap).

A row's stratum is its class. A group's stratum is the rarest class among its rows (the class that the fewest
groups hold; the lowest code of equals), because a draw should keep the rare rows as even as it can; a stratum
of one group joins the largest, since nothing could vary in it.

References
----------
Davison, Hinkley (1997). Bootstrap Methods and their Application, sections 3.2 and 3.8.
Field, Welsh (2007). Bootstrapping clustered data. Journal of the Royal Statistical Society B 69, 369-390.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tuning.folds import Fold, group_numbers
from tuning.scores import Ints


@dataclass(frozen=True)
class Units:
    """What is drawn as a whole, and within which strata.

    Attributes
    ----------
    of_row : ndarray of shape (n_samples,), int64
        Number of each row's unit, 0 .. n_units - 1.
    strata : list of ndarray, int64
        Unit numbers of each stratum; every unit is in one.
    """

    of_row: Ints
    strata: list[Ints]


def units_of(codes: Ints, groups: Ints | None) -> Units:
    """Return what is drawn from rows.

    Parameters
    ----------
    codes : ndarray of shape (n_samples,), int64
        Class codes.
    groups : ndarray of shape (n_samples,), int64, or None
        Related rows have equal numbers; None makes every row a unit.

    Returns
    -------
    Units
    """
    if groups is None:
        return Units(np.arange(len(codes)), [np.flatnonzero(codes == code) for code in np.unique(codes)])
    units: Ints = np.unique(groups, return_inverse=True)[1]
    stratum_of_unit = _rarest_class(codes, units)
    strata = [np.flatnonzero(stratum_of_unit == code) for code in np.unique(stratum_of_unit)]
    return Units(units, _without_singles(strata))


def _rarest_class(codes: Ints, units: Ints) -> Ints:
    """Of the classes in each unit the one that the fewest units hold, shape (n_units,), int64."""
    pairs = np.unique(np.stack([units, codes], axis=1), axis=0)  # each class of each unit once
    n_units_with = np.bincount(pairs[:, 1], minlength=1)
    by_unit_then_rarity = np.lexsort((pairs[:, 1], n_units_with[pairs[:, 1]], pairs[:, 0]))
    ordered = pairs[by_unit_then_rarity]
    first = np.unique(ordered[:, 0], return_index=True)[1]
    rarest: Ints = ordered[first, 1]
    return rarest


def _without_singles(strata: list[Ints]) -> list[Ints]:
    """Join every stratum of one unit to the largest stratum."""
    ranked = sorted(strata, key=len, reverse=True)
    singles = [part for part in ranked[1:] if len(part) == 1]
    return [np.sort(np.concatenate([ranked[0], *singles])), *(part for part in ranked[1:] if len(part) > 1)]


def checked_groups(groups: ArrayLike | None, n_samples: int, folds: Sequence[Fold] = ()) -> Ints | None:
    """Return the groups as numbers, or None when every row is alone.

    Parameters
    ----------
    groups : array-like of shape (n_samples,), or None
    n_samples : int
    folds : sequence of (train, valid)
        A group must be validated in one of them.

    Returns
    -------
    ndarray of shape (n_samples,), int64, or None

    Raises
    ------
    ValueError
        When there is not one group per row, or a group is validated in two folds.
    """
    if groups is None:
        return None
    numbers = group_numbers(groups, n_samples)
    if int(numbers.max(initial=-1)) + 1 == n_samples:
        return None
    fold_of_group = np.full(n_samples, -1)
    for fold, (_, valid) in enumerate(folds):
        there = fold_of_group[numbers[valid]]
        torn = np.flatnonzero(there >= 0)
        if torn.size:
            raise ValueError(
                f"The group of row {int(valid[torn[0]])} is validated in fold {there[torn[0]]} and in fold "
                f"{fold}, allowed is one fold: related rows on both sides are a leak. Make the folds with "
                "'make_folds(..., groups=groups)'."
            )
        fold_of_group[numbers[valid]] = fold
    return numbers


def redrawn_cells(
    cells: Ints,
    codes: Ints,
    groups: Ints | None,
    *,
    n_cells: int,
    n_bootstrap: int,
    generator: np.random.Generator,
) -> Ints:
    """Draw rows or groups, and count the cells that the drawn rows fall into.

    Parameters
    ----------
    cells : ndarray of shape (n_samples,), int64
        What is counted, for example class x prediction, 0 .. n_cells - 1.
    codes : ndarray of shape (n_samples,), int64
        Class codes.
    groups : ndarray of shape (n_samples,), int64, or None
    n_cells, n_bootstrap : int
    generator : numpy.random.Generator

    Returns
    -------
    ndarray of shape (n_bootstrap, n_cells), int64

    Notes
    -----
    Units that hold the same cells are alike, so drawing them is one multinomial draw over the kinds of unit:
    exact, and as cheap for a hundred thousand rows as for a hundred.
    """
    counts = np.zeros((n_bootstrap, n_cells), dtype=np.int64)
    if groups is None:
        for code in np.unique(codes):
            held, n_alike = np.unique(cells[codes == code], return_counts=True)
            total = int(n_alike.sum())
            counts[:, held] += generator.multinomial(total, n_alike / total, size=n_bootstrap)
        return counts
    if not len(codes):
        return counts
    units = units_of(codes, groups)
    held = np.zeros((int(units.of_row.max()) + 1, n_cells), dtype=np.int64)
    np.add.at(held, (units.of_row, cells), 1)
    for members in units.strata:
        kinds, n_alike = np.unique(held[members], axis=0, return_counts=True)
        counts += generator.multinomial(len(members), n_alike / len(members), size=n_bootstrap) @ kinds
    return counts


def draw_leaving_out(units: Units, codes: Ints, generator: np.random.Generator) -> Ints:
    """Draw one bootstrap sample that leaves out a row of every class.

    Parameters
    ----------
    units : Units
        Every class in two units or more.
    codes : ndarray of shape (n_samples,), int64
        Class codes.
    generator : numpy.random.Generator

    Returns
    -------
    ndarray of shape (n_samples,), int64
        How often each row was drawn. A stratum of which every unit was drawn is drawn again, and so is a draw
        that leaves out no row of a class, because the class's score outside would not exist.
    """
    present = np.bincount(codes) > 0
    counts = np.zeros(int(units.of_row.max()) + 1, dtype=np.int64)
    while True:
        for members in units.strata:
            size = len(members)
            drawn = np.bincount(generator.integers(0, size, size), minlength=size)
            while drawn.all():
                drawn = np.bincount(generator.integers(0, size, size), minlength=size)
            counts[members] = drawn
        rows: Ints = counts[units.of_row]
        left_out = np.bincount(codes[rows == 0], minlength=len(present)) > 0
        if np.array_equal(left_out, present):
            return rows
