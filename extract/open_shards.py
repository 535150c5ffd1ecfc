"""Open shards: consecutive rows while their vectors come in, and finished rows that later rows repeat."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cache import ReuseIndex, ShardData, SpaceSpec, Status
from extract.forwards import Vectors

#: Rows that are looked up in earlier stores at a time: a lookup reads the vectors that it finds.
_RUN = 4096
#: Stored rows that the drift guard embeds again.
PROBES = 4
#: Vectors of rows that later rows repeat are kept up to this many bytes; older ones are read from their
#: shard.
_KEPT_BYTES = 64 * 2**20


@dataclass(frozen=True)
class ModalityRows:
    """The rows of one modality: which are usable, and which repeat an earlier one.

    Attributes
    ----------
    modality : str
    status : ndarray of shape (n,), uint8
        As known from reading the sources.
    hashes_of : callable
        Takes row numbers, ndarray of int, and returns what identifies their inputs: uint8 of shape (k, 32).
    first : ndarray of shape (n,), int64
        First usable row with the same input; the row itself if it is the first.
    fingerprints : dict of str to str
        Space name -> space fingerprint, for reuse.
    views : int
        Augmented views per row.
    """

    modality: str
    status: np.ndarray
    hashes_of: Callable[[np.ndarray], np.ndarray]
    first: np.ndarray
    fingerprints: dict[str, str]
    views: int = 0

    def unknown_to(self, reuse: ReuseIndex) -> np.ndarray:
        """Return the rows that no earlier store and no earlier row has vectors of, shape (k,), int64."""
        unique = np.flatnonzero((self.status == Status.OK) & (self.first == np.arange(len(self.first))))
        if not all(map(reuse.holds, self.fingerprints.values())):
            return unique
        known = np.ones(len(unique), dtype=bool)
        for start in range(0, len(unique), _RUN):
            hashes = self.hashes_of(unique[start : start + _RUN])
            for fingerprint in self.fingerprints.values():
                known[start : start + _RUN] &= reuse.lookup(fingerprint, hashes)[0]
        return unique[~known]


def first_occurrences(hashes: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """Return, for each row, the first usable row with the same hash (itself for unusable rows)."""
    first = np.arange(len(hashes))
    rows = np.flatnonzero(usable)
    # Half of a SHA-256 tells inputs apart, and as two numbers it sorts with a third of the memory.
    low, high = (np.ascontiguousarray(hashes[:, part : part + 8]).view("<u8").ravel() for part in (0, 8))
    order = rows[np.lexsort((low[rows], high[rows]))]  # stable: equal hashes stay in row order
    is_new = np.ones(len(order), dtype=bool)
    is_new[1:] = (low[order[1:]] != low[order[:-1]]) | (high[order[1:]] != high[order[:-1]])
    first[order] = order[np.maximum.accumulate(np.where(is_new, np.arange(len(order)), 0))]
    return first


@dataclass(frozen=True)
class Probe:
    """Rows whose vectors were stored by an earlier process, to be embedded again by the drift guard.

    Attributes
    ----------
    origin : str
        ``"resumed"`` or ``"reused"``.
    rows : list of int
    vectors : dict of str to ndarray of shape (n_rows, d)
        Space name -> stored vectors.
    """

    origin: str
    rows: list[int]
    vectors: dict[str, np.ndarray]


@dataclass(frozen=True)
class FinishedRow:
    """One finished row: its status and vectors."""

    status: int
    features: dict[str, np.ndarray]
    views: dict[str, np.ndarray]

    @property
    def n_bytes(self) -> int:
        """Bytes of the vectors."""
        return sum(x.nbytes for x in (*self.features.values(), *self.views.values()))

    def row(self, _: int) -> FinishedRow:
        """Return itself, as a shard returns one of its rows."""
        return self


class RepeatedRows:
    """Rows that later rows repeat, kept in memory within a limit; `first` as in `ModalityRows`."""

    def __init__(self, first: np.ndarray) -> None:
        repeated = np.flatnonzero(first != np.arange(len(first)))
        self._uses = dict(zip(*np.unique(first[repeated], return_counts=True), strict=True))
        self._kept: OrderedDict[int, FinishedRow] = OrderedDict()
        self._bytes = 0

    def keep(self, shard: OpenShard) -> None:
        """Keep the rows of a finished shard that later rows repeat."""
        for row in range(shard.start, shard.stop):
            if self._uses.get(row) and row not in self._kept:
                self._kept[row] = shard.row(row)
                self._bytes += self._kept[row].n_bytes
        while self._bytes > _KEPT_BYTES and self._kept:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.n_bytes

    def get(self, row: int) -> FinishedRow | None:
        """Return a row for one of its repeats, if it is still kept; the last repeat lets it go."""
        self._uses[row] -= 1
        if self._uses[row] or row not in self._kept:
            return self._kept.get(row)
        self._bytes -= self._kept[row].n_bytes
        return self._kept.pop(row)


class OpenShard:
    """The rows [start, stop) of one modality while they are being filled.

    Parameters
    ----------
    rows : ModalityRows
    specs : sequence of SpaceSpec
        The spaces of the modality.
    start, stop : int

    Attributes
    ----------
    status : ndarray of shape (n,), uint8
    features : dict of str to ndarray of shape (n, d)
    views : dict of str to ndarray of shape (n_views, n, d)
    reused : list of int
        Positions whose clean vector an earlier store had.
    """

    def __init__(self, rows: ModalityRows, specs: Sequence[SpaceSpec], start: int, stop: int) -> None:
        self.start, self.stop = start, stop
        self.status = rows.status[start:stop].copy()
        n = stop - start
        self.features = {spec.name: np.zeros((n, spec.width), dtype=spec.dtype) for spec in specs}
        self.views = {
            spec.name: np.zeros((spec.views, n, spec.width), dtype=spec.dtype) for spec in specs if spec.views
        }
        self.reused: list[int] = []
        self._rows = rows
        self._is_first = rows.first[start:stop] == np.arange(start, stop)
        # Which (view, row) the network owes; view 0 is the clean one.
        self._owed = np.zeros((1 + rows.views, n), dtype=bool)
        self._owed[:, (self.status == Status.OK) & self._is_first] = True
        self._n_owed = int(self._owed.sum())

    @property
    def is_complete(self) -> bool:
        """Whether the network owes nothing any more."""
        return self._n_owed == 0

    @property
    def n_known(self) -> int:
        """Units (rows times renderings) that the network does not owe."""
        return self._owed.size - self._n_owed

    def fill_reused(self, reuse: ReuseIndex) -> int:
        """Fill clean vectors that an earlier store holds, of repeats too; returns how many rows."""
        positions = np.flatnonzero(self.status == Status.OK)
        if not len(positions):
            return 0
        hashes = self._rows.hashes_of(positions + self.start)
        results = {name: reuse.lookup(fp, hashes) for name, fp in self._rows.fingerprints.items()}
        found = np.logical_and.reduce([hit for hit, _ in results.values()])
        for name, (hit, vectors) in results.items():
            if found.any():
                self.features[name][positions[found]] = np.asarray(vectors)[found[hit]]
        self.reused = positions[found].tolist()
        self._n_owed -= int(self._owed[0, self.reused].sum())
        self._owed[0, self.reused] = False
        return len(self.reused)

    def probe(self) -> Probe:
        """Return a few reused rows."""
        picked = self.reused[:PROBES]
        return Probe(
            "reused",
            [row + self.start for row in picked],
            {name: x[picked] for name, x in self.features.items()},
        )

    def to_compute(self) -> list[int]:
        """Return the units owed, clean ones first."""
        views, rows = np.nonzero(self._owed)
        return [int(unit) for unit in rows + self.start + views * len(self._rows.status)]

    def awaits(self, row: int, view: int) -> bool:
        """Whether the network owes this unit."""
        return self.start <= row < self.stop and bool(self._owed[view, row - self.start])

    def put(self, row: int, view: int, status: int, vectors: Vectors) -> None:
        """Keep the vectors of one unit by readout, or the status that says why there are none."""
        i = row - self.start
        self._owed[view, i] = False
        self._n_owed -= 1
        if status != Status.OK:
            self.status[i] = status
        for readout, x in vectors.items():
            name = f"{self._rows.modality}.{readout}"
            if view:
                self.views[name][view - 1, i] = x
            else:
                self.features[name][i] = x

    def repeats(self) -> list[int]:
        """Return rows whose vectors are those of an earlier row, in order."""
        taken = np.zeros(len(self.status), dtype=bool)
        if not self.views:
            taken[self.reused] = True
        return [
            int(i) + self.start for i in np.flatnonzero((self.status == Status.OK) & ~self._is_first & ~taken)
        ]

    def row(self, row: int) -> FinishedRow:
        """Return a copy of one finished row."""
        i = row - self.start
        return FinishedRow(
            int(self.status[i]),
            {name: x[i].copy() for name, x in self.features.items()},
            {name: x[:, i].copy() for name, x in self.views.items()},
        )

    def copy(self, row: int, first: int, origin: OpenShard | FinishedRow) -> None:
        """Give `row` what row `first` has."""
        source, i = origin.row(first), row - self.start
        self.status[i] = source.status
        for name, x in source.features.items():
            self.features[name][i] = x
        for name, x in source.views.items():
            self.views[name][:, i] = x

    def data(self) -> ShardData:
        """Return the filled rows; unusable ones are zeros and marked invalid."""
        valid = (self.status == Status.OK).astype(np.uint8)
        return ShardData(
            features=self.features, valid=valid, status=self.status.astype(np.uint8), views=self.views or None
        )
