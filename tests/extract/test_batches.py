"""Cutting batches, and running out of memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.batches import cut_by_rows, cut_by_tokens
from extract.forwards import BackoffForward


@given(st.lists(st.integers(1, 80), max_size=60), st.integers(1, 300), st.integers(1, 12))
def test_cut_by_tokens_keeps_every_text_within_the_budget(
    lengths: list[int], budget: int, max_rows: int
) -> None:
    """Every text is in one batch, batches fit budget and rows, the longest come first."""
    batches = cut_by_tokens(lengths, budget=budget, max_rows=max_rows)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) <= max_rows
        assert len(batch) == 1 or max(lengths[i] for i in batch) * len(batch) <= budget
    flat = [lengths[i] for batch in batches for i in batch]
    assert flat == sorted(lengths, reverse=True)


def test_cut_by_rows_keeps_order() -> None:
    """Seven rows by three."""
    assert cut_by_rows(7, 3) == [[0, 1, 2], [3, 4, 5], [6]]


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
