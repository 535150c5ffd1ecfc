"""Stages: decode ahead in threads, forward, write behind in a thread, with a clock for each.

One modality at a time (only its tower is in memory), one shard after another. The stages are bounded: a few
batches are decoded ahead, and at most two shards wait to be written, so memory does not grow with the data.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from cache import PassFolder, ReuseIndex, ShardData, Status
from extract.forwards import BackoffForward, Vectors

_BATCHES_AHEAD = 3
_SHARDS_BEHIND = 2


@dataclass
class StageClock:
    """Seconds that the forward stage worked or waited, and that writing took."""

    forward: float = 0.0
    waiting: float = 0.0
    write: float = 0.0

    @property
    def limiting(self) -> str:
        """The stage that sets the pace."""
        return "reading" if self.waiting > self.forward else "forward"


@dataclass
class ModalityCount:
    """What happened to the rows of one modality."""

    resumed: int = 0
    computed: int = 0
    reused: int = 0
    repeated: int = 0
    bad: int = 0
    truncated: int = 0
    smallest_batch: int | None = None
    clock: StageClock = field(default_factory=StageClock)


class Inputs(Protocol):
    """One modality's inputs, as the stages need them."""

    def prepare(self, rows: Sequence[int]) -> tuple[list[Any], np.ndarray]:
        """Read and decode `rows`: the usable inputs and a status code per row (uint8)."""

    def cut(self, rows: Sequence[int]) -> list[list[int]]:
        """Cut `rows` into batches, longest first where that helps."""

    def is_truncated(self, item: Any) -> bool:
        """Whether the network sees less than the whole input."""

    def forward(self, items: Sequence[Any]) -> Vectors:
        """Embed a batch."""


@dataclass(frozen=True)
class ModalityRows:
    """The rows of one modality: which are usable, and which repeat an earlier one.

    Attributes
    ----------
    modality : str
    status : ndarray of shape (n,), uint8
        As known from reading the sources.
    hashes : ndarray of shape (n, 32), uint8
        What identifies each input.
    first : ndarray of shape (n,), int64
        First usable row with the same input; the row itself if it is the first.
    fingerprints : dict of str to str
        Space name -> space fingerprint, for reuse.
    """

    modality: str
    status: np.ndarray
    hashes: np.ndarray
    first: np.ndarray
    fingerprints: dict[str, str]


def first_occurrences(hashes: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """Return, for each row, the first usable row with the same hash (itself for unusable rows)."""
    first = np.arange(len(hashes))
    seen: dict[bytes, int] = {}
    for row in np.flatnonzero(usable):
        first[row] = seen.setdefault(hashes[row].tobytes(), int(row))
    return first


def run_modality(
    folder: PassFolder,
    rows: ModalityRows,
    inputs: Inputs,
    *,
    reuse: ReuseIndex | None,
    on_progress: Callable[[ModalityCount], None],
) -> ModalityCount:
    """Compute and write every missing shard of one modality.

    Parameters
    ----------
    folder : PassFolder
        The open work folder.
    rows : ModalityRows
    inputs : Inputs
    reuse : ReuseIndex or None
        Where vectors of equal inputs may already lie.
    on_progress : callable
        Called after every batch.
    """
    count = ModalityCount(resumed=folder.resumed(rows.modality))
    forward = BackoffForward(inputs.forward)
    workers = max(1, (os.cpu_count() or 2) - 1)
    with ThreadPoolExecutor(workers) as decoders, ThreadPoolExecutor(1) as writer:
        behind: deque[Future[None]] = deque()
        try:
            for start, stop in folder.missing(rows.modality):
                shard = _Shard(folder, rows, start, stop)
                shard.fill_known(reuse, behind, count)
                for batch, (items, status), waited in _decoded(decoders, inputs, shard.to_compute()):
                    count.clock.waiting += waited
                    count.truncated += sum(inputs.is_truncated(item) for item in items)
                    shard.take(batch, items, status, forward, count)
                    on_progress(count)
                shard.copy_repeats(count)
                behind.append(
                    writer.submit(_timed_write, folder, rows.modality, start, stop, shard.data(), count.clock)
                )
                on_progress(count)
                while len(behind) > _SHARDS_BEHIND:
                    behind.popleft().result()
            while behind:
                behind.popleft().result()
        except BaseException:
            decoders.shutdown(wait=False, cancel_futures=True)
            raise
    count.smallest_batch = forward.largest
    return count


def _timed_write(
    folder: PassFolder, modality: str, start: int, stop: int, data: ShardData, clock: StageClock
) -> None:
    began = time.perf_counter()
    folder.write(modality, start, stop, data)
    clock.write += time.perf_counter() - began


def _decoded(
    pool: ThreadPoolExecutor, inputs: Inputs, rows: Sequence[int]
) -> Iterator[tuple[list[int], tuple[list[Any], np.ndarray], float]]:
    """Yield (rows, prepared inputs, seconds waited) batch by batch, decoding a few batches ahead."""
    ahead: deque[tuple[list[int], Future[tuple[list[Any], np.ndarray]]]] = deque()
    waiting = deque(inputs.cut(rows))
    while waiting or ahead:
        while waiting and len(ahead) < _BATCHES_AHEAD:
            batch = waiting.popleft()
            ahead.append((batch, pool.submit(inputs.prepare, batch)))
        batch, future = ahead.popleft()
        began = time.perf_counter()
        prepared = future.result()
        yield batch, prepared, time.perf_counter() - began


class _Shard:
    """The rows [start, stop) while they are being filled."""

    def __init__(self, folder: PassFolder, rows: ModalityRows, start: int, stop: int) -> None:
        self._folder, self._rows, self._start, self._stop = folder, rows, start, stop
        self._status = rows.status[start:stop].copy()
        self._first = rows.first[start:stop]
        self._known = np.zeros(stop - start, dtype=bool)
        self._vectors: dict[str, np.ndarray] = {}

    def fill_known(self, reuse: ReuseIndex | None, behind: deque[Future[None]], count: ModalityCount) -> None:
        """Fill rows whose vectors exist: in an earlier store, or in an earlier shard of this pass."""
        usable = self._status == Status.OK
        if reuse is not None and usable.any():
            self._fill_reused(reuse, usable, count)
        earlier = usable & ~self._known & (self._first < self._start)
        if earlier.any():
            while behind:  # the shard that is looked up may still be on its way to disk
                behind.popleft().result()
            self._fill_from_shards(np.flatnonzero(earlier), count)

    def _fill_reused(self, reuse: ReuseIndex, usable: np.ndarray, count: ModalityCount) -> None:
        positions = np.flatnonzero(usable)
        hashes = self._rows.hashes[self._start : self._stop][positions]
        results = {name: reuse.lookup(fp, hashes) for name, fp in self._rows.fingerprints.items()}
        found = np.logical_and.reduce([hit for hit, _ in results.values()])
        if not found.any():
            return
        for name, (hit, vectors) in results.items():
            self._put(name, positions[found], np.asarray(vectors)[found[hit]])
        self._known[positions[found]] = True
        count.reused += int(found.sum())

    def _fill_from_shards(self, positions: np.ndarray, count: ModalityCount) -> None:
        sources = self._first[positions]
        for start, stop in sorted(self._folder.done(self._rows.modality)):
            here = (sources >= start) & (sources < stop)
            if not here.any():
                continue
            shard = self._folder.read(self._rows.modality, start, stop)
            picked = sources[here] - start
            self._status[positions[here]] = shard.status[picked]
            for name, x in shard.features.items():
                self._put(name, positions[here], x[picked])
        self._known[positions] = True
        count.repeated += len(positions)

    def to_compute(self) -> list[int]:
        """Rows that must go through the network: usable, unknown and the first of their kind."""
        here = np.arange(self._start, self._stop)
        wanted = (self._status == Status.OK) & ~self._known & (self._first == here)
        return [int(row) for row in here[wanted]]

    def take(
        self,
        batch: Sequence[int],
        items: list[Any],
        status: np.ndarray,
        forward: BackoffForward,
        count: ModalityCount,
    ) -> None:
        """Embed a prepared batch and keep its vectors and statuses."""
        positions = np.asarray(batch) - self._start
        self._status[positions] = status
        usable = positions[status == Status.OK]
        began = time.perf_counter()
        vectors, fits = forward(items) if items else ({}, np.zeros(0, dtype=bool))
        count.clock.forward += time.perf_counter() - began
        for name, x in vectors.items():
            self._put(f"{self._rows.modality}.{name}", usable[fits], x)
        self._status[usable[~fits]] = Status.OOM
        self._known[positions] = True
        count.computed += int(fits.sum())

    def copy_repeats(self, count: ModalityCount) -> None:
        """Give rows that repeat a row of this shard its vector, or its status if it turned out bad."""
        repeats = np.flatnonzero((self._status == Status.OK) & ~self._known)
        origin = self._first[repeats] - self._start
        self._status[repeats] = self._status[origin]
        for x in self._vectors.values():
            x[repeats] = x[origin]
        self._known[repeats] = True
        count.repeated += len(repeats)
        count.bad += int((self._status != Status.OK).sum())

    def data(self) -> ShardData:
        """Return the filled rows; unusable ones are zeros and marked invalid."""
        valid = (self._status == Status.OK).astype(np.uint8)
        n_rows = self._stop - self._start
        features = {
            spec.name: self._vectors.get(spec.name, np.zeros((n_rows, spec.width), dtype=spec.dtype))
            for spec in self._folder.plan.spaces
            if spec.name.startswith(f"{self._rows.modality}.")
        }
        return ShardData(features=features, valid=valid, status=self._status.astype(np.uint8))

    def _put(self, name: str, positions: np.ndarray, x: np.ndarray) -> None:
        if name not in self._vectors:
            self._vectors[name] = np.zeros((self._stop - self._start, x.shape[1]), dtype=np.float32)
        self._vectors[name][positions] = x
