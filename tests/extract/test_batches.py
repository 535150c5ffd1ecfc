"""Cutting batches, and running out of memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.batches import BatchPlanner
from extract.forwards import BackoffForward

_SHARDS = st.lists(st.lists(st.integers(1, 40), max_size=12), max_size=8)


@given(_SHARDS, st.integers(1, 64), st.integers(1, 30), st.integers(1, 4))
def test_planner_finishes_shards_in_order_with_full_batches(
    lengths: list[list[int]], budget: int, ahead_units: int, ahead_shards: int
) -> None:
    """Every unit once; a batch has one bucket, starts in the first open shard, and is full if it can be."""
    bucket = [length for shard in lengths for length in shard]
    starts = np.cumsum([0, *map(len, lengths)])
    shards = [list(range(starts[i], starts[i + 1])) for i in range(len(lengths))]
    planner = BatchPlanner(
        shards,
        lambda units: [bucket[unit] for unit in units],
        lambda length: max(1, budget // length),
        ahead_units=ahead_units,
        ahead_shards=ahead_shards,
    )
    batches = list(planner)
    assert sorted(unit for batch in batches for unit in batch) == list(range(len(bucket)))
    left = set(range(len(bucket)))
    for batch in batches:
        length = bucket[batch[0]]
        assert {bucket[unit] for unit in batch} == {length}
        assert len(batch) <= max(1, budget // length)
        first = next(shard for shard in shards if left & set(shard))
        assert batch[0] in first
        assert length == max(bucket[unit] for unit in left & set(first))
        left -= set(batch)
        if len(batch) < max(1, budget // length):
            assert not any(bucket[unit] == length for unit in left & set(first))


def test_planner_fills_batches_from_the_shards_ahead() -> None:
    """Three shards of five equal units make two batches of eight, the rest last."""
    shards = [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11, 12, 13, 14]]
    batches = list(BatchPlanner(shards, lambda units: [8] * len(units), lambda _: 8))
    assert batches == [[0, 1, 2, 3, 4, 5, 6, 7], [8, 9, 10, 11, 12, 13, 14]]


def test_planner_draws_shards_late() -> None:
    """Memory is bounded: no more shards are drawn than the limits allow."""
    drawn: list[int] = []

    def shards() -> Iterator[list[int]]:
        for start in range(0, 1000, 10):
            drawn.append(start)
            yield list(range(start, start + 10))

    planner = BatchPlanner(shards(), lambda units: [1] * len(units), lambda _: 4, ahead_shards=3)
    next(iter(planner))
    assert len(drawn) == 3


@pytest.mark.parametrize("fits", [1, 3, 7, 64])
def test_backoff_gives_the_same_vectors_when_memory_runs_out(fits: int) -> None:
    """Halving the batch changes nothing in the result, and the size that fits is remembered."""
    sizes: list[int] = []

    def forward(batch: Sequence[int]) -> dict[str, np.ndarray]:
        if len(batch) > fits:
            raise MemoryError
        sizes.append(len(batch))
        return {"pooled": np.array(batch, dtype=np.float32)[:, None]}

    run = BackoffForward(forward)
    for _ in range(2):
        vectors, ok = run(list(range(20)))
        assert ok.all()
        assert vectors["pooled"][:, 0].tolist() == list(range(20))
    assert max(sizes) <= fits
    assert run.largest is None or run.largest <= fits


def test_backoff_marks_a_row_that_never_fits() -> None:
    """A row too big even alone is marked, and the others are embedded."""

    def forward(batch: Sequence[int]) -> dict[str, np.ndarray]:
        if 5 in batch:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return {"pooled": np.array(batch, dtype=np.float32)[:, None]}

    vectors, ok = BackoffForward(forward)(list(range(8)))
    assert np.flatnonzero(~ok).tolist() == [5]
    assert vectors["pooled"][:, 0].tolist() == [0, 1, 2, 3, 4, 6, 7]


def test_backoff_passes_other_errors_on() -> None:
    """An error that is not about memory is not retried."""

    def forward(batch: Sequence[int]) -> dict[str, np.ndarray]:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        BackoffForward(forward)([1, 2])
