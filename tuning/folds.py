"""Which rows are trained on and which are held out: groups of related rows, and folds that keep them."""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Rows = NDArray[np.int64]
Fold = tuple[Rows, Rows]
"""Rows to train on, and rows held out."""


def make_folds(
    y: ArrayLike, *, n_folds: int = 5, groups: ArrayLike | None = None, random_state: int = 0
) -> list[Fold]:
    """Split the rows into stratified folds that keep every group on one side.

    Parameters
    ----------
    y : array-like of shape (n_samples,), integer
        Class codes.
    n_folds : int
        At least 2.
    groups : array-like of shape (n_samples,) or None
        Rows with equal numbers are related (duplicates, near-duplicates, views of one sample; see
        `connected_groups`) and stay together. None, or all different, is a plain stratified split.
    random_state : int
        Seed of the shuffle.

    Returns
    -------
    list of (train, valid)
        Ascending row numbers, int64. The ``valid`` parts hold every row exactly once.

    Raises
    ------
    ValueError
        When ``n_folds`` is below 2, the lengths differ, a class has fewer rows (or groups) than there are
        folds, or the groups are so uneven that a fold would hold no rows.

    Notes
    -----
    With groups the strata are only as even as the groups allow.
    """
    codes = np.asarray(y)
    _check_request(codes, n_folds)
    if groups is None:
        units, unit_name = np.arange(len(codes)), "rows"
    else:
        units, unit_name = group_numbers(groups, len(codes)), "groups"
    has_groups = units.max() + 1 < len(codes)
    _check_class_sizes(codes, units, n_folds=n_folds, unit_name=unit_name if has_groups else "rows")
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    splitter = (StratifiedGroupKFold if has_groups else StratifiedKFold)(
        n_splits=n_folds, shuffle=True, random_state=random_state
    )
    column = np.zeros((len(codes), 1))
    kept_together = units if has_groups else None
    folds = [
        (train.astype(np.int64), valid.astype(np.int64))
        for train, valid in splitter.split(column, codes, kept_together)
    ]
    _check_not_empty(folds, n_folds=n_folds, n_groups=int(units.max()) + 1)
    return folds


def _check_request(codes: NDArray[np.generic], n_folds: int) -> None:
    if n_folds < 2:
        raise ValueError(f"'n_folds' is {n_folds}, allowed is 2 or more. Pass a larger number of folds.")
    if codes.ndim != 1 or codes.dtype.kind not in "iu" or not codes.size:
        raise ValueError(
            f"'y' has shape {codes.shape} and dtype {codes.dtype}, allowed is one integer class code per row "
            "and at least one row. Encode the labels first and drop rows without one."
        )


def group_numbers(groups: ArrayLike, n_samples: int) -> Rows:
    """Renumber arbitrary group values 0..m-1.

    Parameters
    ----------
    groups : array-like of shape (n_samples,)
    n_samples : int

    Returns
    -------
    ndarray of shape (n_samples,), int64

    Raises
    ------
    ValueError
        When there is not one group per row.
    """
    values = np.asarray(groups)
    if values.shape != (n_samples,):
        raise ValueError(
            f"'groups' has shape {values.shape}, allowed is ({n_samples},): one group per row of 'y'. "
            "Select the same rows for both."
        )
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _check_class_sizes(codes: NDArray[np.generic], units: Rows, *, n_folds: int, unit_name: str) -> None:
    """Every class needs a unit in every fold; all classes that fall short are named together."""
    sizes = {int(code): len(np.unique(units[codes == code])) for code in np.unique(codes)}
    small = [f"class {code} has {size} {unit_name}" for code, size in sizes.items() if size < n_folds]
    if not small:
        return
    allowed = min(sizes.values())
    remedy = (
        f"Pass n_folds={allowed}, or add {unit_name} of that class."
        if allowed >= 2
        else f"Add {unit_name} of that class, merge it with another class, or leave it out."
    )
    raise ValueError(
        f"{'; '.join(small[:5])}, but n_folds={n_folds} needs at least {n_folds} {unit_name} of every class. "
        f"{remedy}"
    )


def _check_not_empty(folds: list[Fold], *, n_folds: int, n_groups: int) -> None:
    empty = [number for number, (train, valid) in enumerate(folds) if not len(train) or not len(valid)]
    if empty:
        raise ValueError(
            f"The {n_groups} groups are too uneven for n_folds={n_folds}: fold {empty[0]} would hold no rows "
            "to train on or to validate. Pass fewer folds, or split the largest group if its rows are not "
            "really related."
        )


def check_partition(folds: Sequence[Fold], n_samples: int) -> None:
    """Refuse folds in which a row is validated other than once, or is trained on and validated in one fold.

    Parameters
    ----------
    folds : sequence of (train, valid)
        Row numbers.
    n_samples : int

    Raises
    ------
    ValueError
        Naming the first row that is wrong.
    """
    times = np.zeros(n_samples, dtype=np.int64)
    for number, (train, valid) in enumerate(folds):
        rows = np.concatenate([train, valid])
        if rows.size and (rows.min() < 0 or rows.max() >= n_samples):
            raise ValueError(
                f"Fold {number} names row {rows.max() if rows.max() >= n_samples else rows.min()}, allowed "
                f"are 0..{n_samples - 1}. Make the folds from the same rows."
            )
        leaked = np.intersect1d(train, valid)
        if leaked.size:
            raise ValueError(
                f"Row {leaked[0]} is both trained on and validated in fold {number}, which is a leak. "
                "Make the folds with 'make_folds'."
            )
        times += np.bincount(valid, minlength=n_samples)
    wrong = np.flatnonzero(times != 1)
    if wrong.size:
        raise ValueError(
            f"Row {wrong[0]} is validated {times[wrong[0]]} times over the folds, allowed is exactly once "
            f"({wrong.size} such rows). Make the folds with 'make_folds'."
        )


def connected_groups(*keys: Sequence[Hashable | None], n: int) -> NDArray[np.int32]:
    """Give rows that share any key, directly or through other rows, one group number.

    Parameters
    ----------
    *keys : sequences of n hashable values or None
        For example the text hash, the image hash and the near-duplicate cluster of every row. Values are
        compared within one sequence only; None and NaN never group.
    n : int
        Number of rows.

    Returns
    -------
    ndarray of shape (n,), int32
        Group numbers by first appearance: row 0 has 0, and a new number is one above the largest so far.

    Raises
    ------
    ValueError
        When a sequence does not have ``n`` values.

    Examples
    --------
    >>> connected_groups(["a", "b", "a", "c"], [None, 7, None, 7], n=4).tolist()
    [0, 1, 0, 1]
    """
    wrong = [f"key {number} has {len(key)}" for number, key in enumerate(keys) if len(key) != n]
    if wrong:
        raise ValueError(
            f"{'; '.join(wrong[:5])} values, allowed is one per row: {n}. Pass one value or None per row."
        )
    parent = list(range(n))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]  # path halving keeps the trees flat
            row = parent[row]
        return row

    for key in keys:
        first_row: dict[Hashable, int] = {}
        for row, value in enumerate(key):
            if value is not None and value == value:  # a NaN (a table's missing value) differs from itself
                low, high = sorted((root(first_row.setdefault(value, row)), root(row)))
                parent[high] = low
    # The smallest row of a group is its root, so roots appear in the order in which groups do.
    roots = np.array([root(row) for row in range(n)], dtype=np.int64)
    return np.unique(roots, return_inverse=True)[1].astype(np.int32)
