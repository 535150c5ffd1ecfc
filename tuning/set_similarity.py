"""Pairs of similar sets, such as the words of two texts, without comparing all with all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tuning.near_duplicates import Pairs, sorted_pairs

_PAIRS_AT_ONCE = 2_000_000


def similar_sets(sets: Sequence[frozenset[str]], least: float, *, fewest: int = 1) -> Pairs:
    """Find pairs of sets whose Jaccard index reaches a bound, exactly.

    Parameters
    ----------
    sets : sequence of frozenset of str
    least : float
        In (0, 1].
    fewest : int
        The larger set of a pair has at least this many members, and at least 1.

    Returns
    -------
    ndarray of shape (n_pairs, 2), int64
        The smaller row first, sorted. Of rows with one set, each is paired with the first of them only; where
        the set is too small for that, with what the first is paired with.

    References
    ----------
    Prefix filter: Bayardo, Ma and Srikant, "Scaling up all pairs similarity search", WWW 2007. Two sets
    that are so much alike share one of their rarest ``n - ceil(least * n) + 1`` members.
    """
    first: dict[frozenset[str], int] = {}
    for row, members in enumerate(sets):
        if members:
            first.setdefault(members, row)
    equal = []
    too_small: dict[int, list[int]] = {}  # first row of a set -> the other rows with it
    for row, members in enumerate(sets):
        if members and first[members] != row:
            if len(members) >= fewest:
                equal.append((first[members], row))
            else:
                too_small.setdefault(first[members], []).append(row)
    found = [np.array(equal, dtype=np.int64).reshape(-1, 2)]
    row_of = np.fromiter(first.values(), dtype=np.int64, count=len(first))
    for rows, others in _similar_distinct_sets(list(first), least, fewest):
        pairs = np.sort(np.stack([row_of[rows], row_of[others]], axis=1), axis=1)
        found += [pairs, _pairs_of_copies(pairs, too_small)]
    return sorted_pairs(found)


def _pairs_of_copies(pairs: Pairs, copies: Mapping[int, Sequence[int]]) -> Pairs:
    """Return the pairs of rows whose set is that of a row in `pairs`; at most one of a pair has copies."""
    held = pairs[np.isin(pairs, list(copies)).any(axis=1)]
    more = [
        sorted((copy, other))
        for pair in held.tolist()
        for one, other in (pair, pair[::-1])
        for copy in copies.get(one, ())
    ]
    return np.array(more, dtype=np.int64).reshape(-1, 2)


def _similar_distinct_sets(
    sets: Sequence[frozenset[str]], least: float, fewest: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    from scipy.sparse import csr_array

    if not sets:
        return
    counts = Counter(member for members in sets for member in members)
    by_rarity = sorted(counts, key=lambda member: (counts[member], member))
    rank = {member: place for place, member in enumerate(by_rarity)}
    ranked = [sorted(rank[member] for member in members) for members in sets]
    sizes = np.array([len(members) for members in ranked], dtype=np.int64)
    prefixes = [members[: len(members) - int(np.ceil(least * len(members) - 1e-9)) + 1] for members in ranked]

    def incidence(rows: Sequence[Sequence[int]]) -> csr_array:
        starts = np.cumsum([0, *map(len, rows)])
        columns = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows])
        return csr_array((np.ones(len(columns), dtype=np.int32), columns, starts), (len(rows), len(rank)))

    whole, rare = incidence(ranked), incidence(prefixes)
    # Candidates of a row are at most the sets that hold one of its rare members: blocks are cut by that sum.
    costs = np.cumsum(rare @ rare.sum(axis=0))
    start = 0
    while start < len(sets):
        spent = costs[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(costs, spent + _PAIRS_AT_ONCE, side="right")))
        shared = (rare[start:stop] @ rare.T).tocoo()
        rows, others = shared.coords[0].astype(np.int64) + start, shared.coords[1].astype(np.int64)
        small, large = np.minimum(sizes[rows], sizes[others]), np.maximum(sizes[rows], sizes[others])
        possible = (rows < others) & (large >= fewest) & (small >= least * large)
        rows, others = rows[possible], others[possible]
        start = stop
        if len(rows):
            common = whole[rows].multiply(whole[others]).sum(axis=1)
            alike = common >= least * (sizes[rows] + sizes[others] - common) - 1e-9
            yield rows[alike], others[alike]
