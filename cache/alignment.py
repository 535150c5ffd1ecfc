"""Join stores of one data set by id, and refuse those that only look like it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache.errors import AlignError
from cache.schema import Array, Split
from cache.store import FeatureStore


@dataclass(frozen=True, eq=False)
class Aligned:
    """Rows that every store has, in the first store's order.

    Attributes
    ----------
    stores : tuple of FeatureStore
        Must stay open for `take`.
    ids : tuple of str
    labels : ndarray of shape (n,), int32
        Codes into `class_names`; -1 = none.
    class_names : tuple of str
        The first store's names, then names only later stores have.
    splits : ndarray of shape (n,), uint8
        Codes of `Split`.
    groups : ndarray of shape (n,), int32
        Rows that share a group in any store share one here, so that a duplicate text or image is enough
        to keep two rows in one fold. Numbered from 0 in row order; a row that stands alone has its own.
    rows : tuple of ndarray of shape (n,), int64
        For each store, where the joined rows lie in it.
    dropped : dict of pathlib.Path to int
        For each store, how many of its rows are not in all others.
    """

    stores: tuple[FeatureStore, ...]
    ids: tuple[str, ...]
    labels: Array
    class_names: tuple[str, ...]
    splits: Array
    groups: Array
    rows: tuple[Array, ...]
    dropped: dict[Path, int]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, store_index: int, space_name: str) -> tuple[Array, Array]:
        """Read the joined rows of one space.

        Parameters
        ----------
        store_index : int
            Position in `stores`.
        space_name : str
            As for `FeatureStore.select`.

        Returns
        -------
        (ndarray of shape (n, d), ndarray of shape (n,), bool)
            Vectors in the order of `ids`, and which of them are valid.

        Raises
        ------
        SpaceError
            If the store has no such space.
        """
        space = self.stores[store_index].select(space_name)
        rows = self.rows[store_index]
        return space[rows], space.valid[rows]


def align(stores: Sequence[FeatureStore]) -> Aligned:
    """Join stores by id.

    Parameters
    ----------
    stores : sequence of FeatureStore
        At least one, open. Label codes may differ between stores; label names decide.

    Returns
    -------
    Aligned

    Raises
    ------
    AlignError
        If there is no store or no common id, or if one id has another label, split or source hash in two
        stores (an all-zero hash is unknown and fits any); the message names the first such row.
    """
    if not stores:
        raise AlignError("There is no store to align; give at least one.")
    places = [{sample_id: row for row, sample_id in enumerate(store.ids)} for store in stores]
    ids = tuple(i for i in stores[0].ids if all(i in place for place in places[1:]))
    if not ids:
        raise AlignError(
            "No id is in all of " + ", ".join(f"'{store.path}'" for store in stores) + ". First ids are "
            f"{', '.join(f'{store.ids[0]!r:.60}' for store in stores)}; is it the same data set?"
        )
    rows = tuple(np.array([place[i] for i in ids], dtype=np.int64) for place in places)
    class_names = tuple(dict.fromkeys(name for store in stores for name in store.class_names))
    labels = [_recoded(store, class_names)[index] for store, index in zip(stores, rows, strict=True)]
    for other in range(1, len(stores)):
        _refuse_other_data(stores, rows, labels, class_names, ids, other)
    return Aligned(
        stores=tuple(stores),
        ids=ids,
        labels=labels[0],
        class_names=class_names,
        splits=stores[0].splits[rows[0]],
        groups=_joint_groups([store.groups[index] for store, index in zip(stores, rows, strict=True)]),
        rows=rows,
        dropped={store.path: store.n_rows - len(ids) for store in stores},
    )


def _recoded(store: FeatureStore, class_names: tuple[str, ...]) -> Array:
    """Return a store's labels as codes into `class_names`."""
    codes = np.array([class_names.index(name) for name in store.class_names] + [-1], dtype=np.int32)
    return codes[store.labels]  # -1 picks the last entry, which is -1


def _refuse_other_data(
    stores: Sequence[FeatureStore],
    rows: Sequence[Array],
    labels: Sequence[Array],
    class_names: tuple[str, ...],
    ids: tuple[str, ...],
    other: int,
) -> None:
    splits = [stores[i].splits[rows[i]] for i in (0, other)]
    hashes = [stores[i].source_sha256[rows[i]] for i in (0, other)]
    known = hashes[0].any(axis=1) & hashes[1].any(axis=1)
    wrong = {
        "label": labels[0] != labels[other],
        "split": splits[0] != splits[1],
        "source hash": known & (hashes[0] != hashes[1]).any(axis=1),
    }
    bad = np.logical_or.reduce(list(wrong.values()))
    if not bad.any():
        return
    row = int(np.argmax(bad))
    field = next(name for name, rows_wrong in wrong.items() if rows_wrong[row])
    shown = {
        "label": [_label_name(class_names, int(labels[i][row])) for i in (0, other)],
        "split": [f"'{Split(int(column[row])).name.lower()}'" for column in splits],
        "source hash": [f"{column[row].tobytes().hex()[:16]}..." for column in hashes],
    }[field]
    raise AlignError(
        f"Id {ids[row]!r} has {field} {shown[0]} in '{stores[0].path}', but {shown[1]} in "
        f"'{stores[other].path}' ({int(bad.sum()):,} of {len(ids):,} common rows differ). Stores can be "
        "joined only if they were made from the same data set; extract the older one again."
    )


def _label_name(class_names: tuple[str, ...], code: int) -> str:
    return "none" if code < 0 else f"'{class_names[code]}'"


def _joint_groups(columns: Sequence[Array]) -> Array:
    """Return the connected components of "same group in some store", numbered in row order."""
    parent = list(range(len(columns[0])))
    for column in columns:
        first: dict[int, int] = {}
        for row, group in enumerate(column.tolist()):
            if group >= 0:
                a, b = _root(parent, first.setdefault(group, row)), _root(parent, row)
                parent[max(a, b)] = min(a, b)
    roots = np.array([_root(parent, row) for row in range(len(parent))], dtype=np.int64)
    # A root is the first row of its component, so ranks of roots are in row order.
    return np.unique(roots, return_inverse=True)[1].astype(np.int32)


def _root(parent: list[int], row: int) -> int:
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = parent[row]
    return row
