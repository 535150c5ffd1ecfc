"""Assembly: vectors that come back in any batch become whole shards, written in row order.

A row of a shard gets its vector in one of four ways: an earlier store holds it (reused), an earlier row of
the same pass has the same input (repeated), the network computes it, or its input turned out bad and it has
none.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from cache import BadRowsError, PassFolder, ReuseIndex, ShardData, Status
from extract.counts import ModalityCount
from extract.forwards import Vectors
from extract.open_shards import PROBES, ModalityRows, OpenShard, Probe, RepeatedRows

_SHARDS_BEHIND = 2

#: Finished shards of a modality wait for others to be made safe together until they are so many seconds of
#: work. With the shard under way that is the most that a kill costs of it; what is shorter writes nothing but
#: its store, up to 64 MiB.
HOLD_SECONDS = 5.0


class Assembly:
    """The shards of one modality of one store, while their vectors come in.

    Parameters
    ----------
    folder : PassFolder
    rows : ModalityRows
    reuse : ReuseIndex or None
        Where vectors of equal inputs may already lie.
    writer : ThreadPoolExecutor
        With one thread: shards are written in order, behind the forward.

    Attributes
    ----------
    count : ModalityCount
    probes : list of Probe
        At most one of each origin; the drift guard takes them.
    lengths : ndarray of shape (n, 2), int32
        Tokens of each row's text as it is and as the network saw it; zeros for rows whose input was not
        computed here.
    """

    def __init__(
        self, folder: PassFolder, rows: ModalityRows, reuse: ReuseIndex | None, writer: ThreadPoolExecutor
    ) -> None:
        self.rows, self.folder = rows, folder
        self.count = ModalityCount(resumed=folder.resumed(rows.modality))
        self.missing = folder.missing(rows.modality)
        self.probes: list[Probe] = []
        self.lengths = np.zeros((len(rows.status), 2), dtype=np.int32)
        known = reuse is not None and all(map(reuse.holds, rows.fingerprints.values()))
        self._reuse, self._writer = reuse if known else None, writer
        self._specs = folder.plan.of_modality(rows.modality)
        self._open: deque[OpenShard] = deque()
        self._behind: deque[Future[None]] = deque()
        self._finished = self.count.resumed
        self._safe_until = time.perf_counter()
        self._repeats = RepeatedRows(rows.first)
        self._has_reuse_probe = False

    def begin(self) -> None:
        """Count the seconds of work from here: the network is loaded."""
        self._safe_until = time.perf_counter()

    @property
    def done_units(self) -> int:
        """Units whose vector, or lack of one, is known."""
        return self._finished * (1 + self.rows.views) + sum(shard.n_known for shard in self._open)

    def open_shard(self, start: int, stop: int) -> list[int]:
        """Begin a missing shard and return the units that the network must compute."""
        shard = OpenShard(self.rows, self._specs, start, stop)
        if self._reuse is not None:
            self.count.reused += shard.fill_reused(self._reuse)
            if shard.reused and not self._has_reuse_probe:
                self._has_reuse_probe = True
                self.probes.append(shard.probe())
        self._open.append(shard)
        return shard.to_compute()

    def offer_resumed_probe(self) -> None:
        """Put rows of a shard that an earlier process wrote up for the drift guard."""
        while self._behind:  # what the writer still holds in its hands can be neither listed nor read
            self._behind.popleft().result()
        done = sorted(self.folder.done(self.rows.modality))
        if not done or not self.missing:
            return
        start, stop = done[-1]
        data = self.folder.read(self.rows.modality, start, stop)
        rows = np.flatnonzero(data.valid)[:PROBES]
        if len(rows):
            vectors = {name: x[rows] for name, x in data.features.items()}
            self.probes.append(Probe("resumed", [int(row) + start for row in rows], vectors))

    def wants(self, units: Sequence[int]) -> np.ndarray:
        """Return which of `units` an open shard still waits for, shape (n_units,), bool."""
        n_rows = len(self.rows.status)
        wanted = np.zeros(len(units), dtype=bool)
        for shard in self._open:
            wanted |= [shard.awaits(unit % n_rows, unit // n_rows) for unit in units]
        return wanted

    def take(self, units: Sequence[int], status: np.ndarray, vectors: Vectors, lengths: np.ndarray) -> None:
        """Keep what a batch brought: vectors of the units that are ok, statuses of the others.

        Parameters
        ----------
        units : sequence of int
            All of them awaited.
        status : ndarray of shape (n_units,), uint8
        vectors : dict of str to ndarray of shape (n_ok, d), float32
            By readout, for the units that are ok, in order.
        lengths : ndarray of shape (n_units, 2), int32
            Tokens of each unit's text as it is, and as the network saw it.

        Raises
        ------
        BadRowsError
            If the vectors have another shape or type.
        """
        n_rows = len(self.rows.status)
        usable = status == Status.OK
        if usable.any():
            self._refuse_misshapen(vectors, int(usable.sum()))
        at = np.cumsum(usable) - 1  # position of each ok unit in `vectors`
        for i, (unit, code, ok) in enumerate(zip(units, status.tolist(), usable.tolist(), strict=True)):
            row, view = unit % n_rows, unit // n_rows
            shard = next(shard for shard in self._open if shard.start <= row < shard.stop)
            shard.put(row, view, code, {name: x[at[i]] for name, x in vectors.items()} if ok else {})
            self.count.computed += int(ok and not view)
            self.count.views += int(ok and view > 0)
            if not view:
                self.lengths[row] = lengths[i]
                self.count.truncated += int(lengths[i, 0] > lengths[i, 1])

    def _refuse_misshapen(self, vectors: Vectors, n_rows: int) -> None:
        """Refuse vectors of another shape or type before numpy stretches or rounds them to fit."""
        wanted = {spec.name.partition(".")[2]: (n_rows, spec.width) for spec in self._specs}
        faults = [
            f"'{name}' is missing" if name not in vectors else f"'{name}' was not asked for"
            for name in sorted(wanted.keys() ^ vectors.keys())
        ]
        faults += [
            f"'{name}' is {x.dtype} of shape {x.shape}, but float32 of {wanted[name]} is needed"
            for name, x in vectors.items()
            if name in wanted and (x.dtype != np.float32 or x.shape != wanted[name])
        ]
        if faults:
            raise BadRowsError(
                f"The network for {self.rows.modality} of '{self.folder.plan.backbone}' returned vectors "
                f"that are not those of its card: {'; '.join(faults)}. Nothing of this batch is stored."
            )

    def settle(self) -> None:
        """Hand every leading shard that is complete to the writer."""
        while self._open and self._open[0].is_complete:
            shard = self._open.popleft()
            self._fill_repeats(shard)
            self._repeats.keep(shard)
            self._finished += shard.stop - shard.start
            self.count.bad += int((shard.status != Status.OK).sum())
            self._behind.append(self._writer.submit(self._write, shard.start, shard.stop, shard.data()))
            while len(self._behind) > _SHARDS_BEHIND:
                self._behind.popleft().result()

    def finish(self) -> None:
        """Wait until every shard is written or held."""
        self.settle()
        while self._behind:
            self._behind.popleft().result()
        assert not self._open, "every unit of every shard has been computed"
        self.lengths = self.lengths[self.rows.first]

    def _write(self, start: int, stop: int, data: ShardData) -> None:
        began = time.perf_counter()
        if began - self._safe_until < HOLD_SECONDS:
            self.folder.hold(self.rows.modality, start, stop, data)
        else:
            self.folder.write(self.rows.modality, start, stop, data)
            self._safe_until = began
        self.count.clock.write += time.perf_counter() - began

    def _fill_repeats(self, shard: OpenShard) -> None:
        """Give rows that repeat an earlier row its vectors, or its status if it turned out bad."""
        for row in shard.repeats():
            first = int(self.rows.first[row])
            found = shard if first >= shard.start else self._repeats.get(first)
            if found is None:
                found = self._read_back(first)
            shard.copy(row, first, found)
            self.count.repeated += 1

    def _read_back(self, row: int) -> OpenShard:
        """Read the shard of `row`, which was finished earlier, and keep what it has for later repeats."""
        while self._behind:  # it may still be on its way to disk
            self._behind.popleft().result()
        start, stop = next(r for r in self.folder.done(self.rows.modality) if r[0] <= row < r[1])
        data = self.folder.read(self.rows.modality, start, stop)
        shard = OpenShard(self.rows, self._specs, start, stop)
        shard.status = data.status.copy()
        shard.features = dict(data.features)
        shard.views = dict(data.views or {})
        self._repeats.keep(shard)
        return shard
