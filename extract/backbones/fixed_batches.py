"""Fixed batches: forwards of one shape, so that a row's vector does not depend on its neighbours.

Matrix libraries choose their kernels, and with them the order of summation, by the shape of the whole batch.
The same text embedded alone and among others then differs in the last bits (measured: 1e-6 for BERT and CLIP
in fp32 on CPU), and a resumed pass would not end in the same bytes. Rows of a batch of fixed shape do not
influence each other (measured: equal bits under any permutation), so on CPU every forward gets a shape that
depends on the row alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

#: Padded tokens of one text forward on CPU: large enough to keep two to eight cores busy, small enough that
#: the filled-up last forward of a length costs little.
CPU_TOKENS = 256
#: Images of one forward on CPU.
CPU_IMAGES = 8
#: Padded lengths are multiples of this, so that few shapes occur.
LENGTH_STEP = 8
#: Longest texts of a network that computes with packed weights, whose kernels of every length stay in memory
#: (measured in fp32, lengths up to 512: 90 MB at 384 columns, 170 MB at 768; up to 2,048: 1 GB).
PACKED_LIMIT = 512


def padded_length(n_tokens: int, limit: int) -> int:
    """Return `n_tokens` rounded up to a multiple of ``LENGTH_STEP``, at most `limit`."""
    return min(-(-n_tokens // LENGTH_STEP) * LENGTH_STEP, limit)


def chunks_by_length(lengths: Sequence[int], limit: int) -> Iterator[tuple[int, list[int], int]]:
    """Cut texts into forwards of a shape that depends on each text's own length only.

    Parameters
    ----------
    lengths : sequence of int
        Tokens of each text, at most `limit`.
    limit : int
        The network's token limit.

    Yields
    ------
    length : int
        Padded length of the forward.
    positions : list of int
        Positions into `lengths`; every position is yielded once. The last one is repeated to fill the
        forward.
    n_real : int
        How many of `positions` are not repeats.
    """
    groups: dict[int, list[int]] = {}
    for position, n_tokens in enumerate(lengths):
        groups.setdefault(padded_length(n_tokens, limit), []).append(position)
    for length, members in sorted(groups.items(), reverse=True):
        for positions, n_real in chunks(members, max(1, CPU_TOKENS // length)):
            yield length, positions, n_real


def chunks(positions: Sequence[int], size: int) -> Iterator[tuple[list[int], int]]:
    """Cut `positions` into runs of `size`, the last one repeated to fill; yields (run, how many are real)."""
    for start in range(0, len(positions), size):
        real = list(positions[start : start + size])
        yield real + real[-1:] * (size - len(real)), len(real)
