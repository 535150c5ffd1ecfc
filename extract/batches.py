"""Batches: which inputs go through the network together, across the borders of shards.

A shard is finished before the next one is begun in earnest, so that a crash costs little. Its last batches
are filled up with inputs of the shards after it: on a CPU, where every forward has a fixed shape, a
half-empty batch costs as much as a full one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

#: Padded tokens per text batch, and rows per image or pair batch, on a GPU when no batch size is known.
TOKEN_BUDGET = 32768
IMAGE_ROWS = 64
PAIR_ROWS = 8
MAX_TEXT_ROWS = 1024
#: Most inputs and shards that are looked at ahead of the shard in hand.
AHEAD_UNITS = 4096
AHEAD_SHARDS = 16


class BatchPlanner:
    """Cut a stream of shards into batches of one bucket, longest first, filled from the shards ahead.

    Parameters
    ----------
    shards : iterable of list of int
        The units (inputs) of each shard that must be computed, in shard order; drawn as late as possible.
    bucket_of : callable
        Takes units, returns one bucket (an int, such as a padded length) per unit.
    capacity : callable
        Takes a bucket, returns how many of its units make a full batch, at least 1.
    ahead_units, ahead_shards : int
        Stop drawing shards when so many units wait, or so many shards are open.

    Notes
    -----
    Iterating yields every unit exactly once. While a shard has units left, each batch begins with one of its
    units, from its largest bucket: running out of memory shows early. Which batch a unit falls into depends
    on the stream alone.
    """

    def __init__(
        self,
        shards: Iterable[list[int]],
        bucket_of: Callable[[list[int]], list[int]],
        capacity: Callable[[int], int],
        *,
        ahead_units: int = AHEAD_UNITS,
        ahead_shards: int = AHEAD_SHARDS,
    ) -> None:
        self._shards = iter(shards)
        self._bucket_of, self._capacity = bucket_of, capacity
        self._ahead_units, self._ahead_shards = ahead_units, ahead_shards
        self._waiting: dict[int, deque[tuple[int, int]]] = {}  # bucket -> (shard, unit), in shard order
        self._left: deque[list[int]] = deque()  # [shard, units left] of every open shard
        self._drawn = 0
        self._is_exhausted = False

    def __iter__(self) -> Iterator[list[int]]:
        while self._draw():
            shard = self._left[0][0]
            bucket = max(b for b, queue in self._waiting.items() if queue and queue[0][0] == shard)
            queue = self._waiting[bucket]
            picked = [queue.popleft() for _ in range(min(self._capacity(bucket), len(queue)))]
            for entry in self._left:
                entry[1] -= sum(shard == entry[0] for shard, _ in picked)
            yield [unit for _, unit in picked]

    def _draw(self) -> bool:
        """Open shards until enough units wait; returns whether there is a unit to yield."""
        while self._left and self._left[0][1] == 0:
            self._left.popleft()
        while not self._is_exhausted and not self._is_full():
            units = next(self._shards, None)
            if units is None:
                self._is_exhausted = True
            elif units:
                self._left.append([self._drawn, len(units)])
                for unit, bucket in zip(units, self._bucket_of(units), strict=True):
                    self._waiting.setdefault(bucket, deque()).append((self._drawn, unit))
                self._drawn += 1
        return bool(self._left)

    def _is_full(self) -> bool:
        waiting = sum(left for _, left in self._left)
        return bool(self._left) and (waiting >= self._ahead_units or len(self._left) >= self._ahead_shards)
