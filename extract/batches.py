"""Batches: which inputs go through the network together."""

from __future__ import annotations

from collections.abc import Sequence

#: Padded tokens per text batch, and rows per image batch, when --batch-size is not given.
TOKEN_BUDGET = {"cpu": 2048, "cuda": 32768}
IMAGE_ROWS = {"cpu": 16, "cuda": 64}
MAX_TEXT_ROWS = 256


def cut_by_tokens(
    lengths: Sequence[int], *, budget: int, max_rows: int, sort: bool = True
) -> list[list[int]]:
    """Cut texts into batches whose padded size stays within a token budget, longest first.

    Longest first means that running out of memory shows in the first batch, and that texts of like length
    share a batch, so that little padding is computed.

    Parameters
    ----------
    lengths : sequence of int
        Tokens of each text.
    budget : int
        Largest ``max(length) * rows`` of a batch; a single longer text is a batch of its own.
    max_rows : int
        Largest number of rows of a batch.
    sort : bool
        False keeps the given order, for towers that always pad to full length.

    Returns
    -------
    list of list of int
        Positions into `lengths`; every position occurs once. Ties keep their order, so the cut is stable.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i]) if sort else list(range(len(lengths)))
    batches: list[list[int]] = []
    longest = 0
    for position in order:
        grown = max(longest, lengths[position])
        if batches and len(batches[-1]) < max_rows and grown * (len(batches[-1]) + 1) <= budget:
            batches[-1].append(position)
            longest = grown
        else:
            batches.append([position])
            longest = lengths[position]
    return batches


def cut_by_rows(n_rows: int, size: int) -> list[list[int]]:
    """Cut ``range(n_rows)`` into runs of `size`."""
    return [list(range(start, min(start + size, n_rows))) for start in range(0, n_rows, size)]
