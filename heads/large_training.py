"""Training rows that stay on disk: their split, their scale, and their batches in random order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heads.columns import ColumnScale
from heads.early_stopping import inner_split, matched_weights
from heads.large_columns import measured_scale
from heads.large_rows import LargeRows, read_ahead, widened
from heads.silent_blocks import screened_rows, silent_blocks
from heads.training_rows import TrainingRows, Weigh, seen_columns
from heads.weighted_rows import Batch

_WINDOW_BYTES = 256 << 20  # of rows as they are stored; two windows are in memory at a time


@dataclass(frozen=True)
class LargeWeightedRows:
    """Rows on disk that a network learns from or stops on; like ``heads.weighted_rows.WeightedRows``.

    Attributes
    ----------
    rows : LargeRows
    scale : ColumnScale
    codes : Tensor of shape (n,), int64
    weights : Tensor of shape (n,), float32, mean 1
    device : torch.device
    window_bytes : int
        Rows that are shuffled together.

    Notes
    -----
    The order of an epoch is random in two steps: chunks of consecutive rows (4 MiB) in random order make up
    windows, and the rows of a window are shuffled. A full shuffle would read every row by itself. Where all
    rows fit in one window the order is the full shuffle of ``WeightedRows``, batch for batch.

    Rows that lie in the file by class are mixed as far as a window holds chunks from all over the file.

    References
    ----------
    L. Xu et al., "In-database machine learning with CorgiPile: stochastic gradient descent without full data
    shuffle", SIGMOD 2022: the two steps, and how fast they converge.
    """

    rows: LargeRows
    scale: ColumnScale
    codes: Tensor
    weights: Tensor
    device: torch.device
    window_bytes: int = _WINDOW_BYTES

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def batches(self, order: torch.Generator, n_batches: int) -> Iterator[Batch]:
        """Go through all rows once in random order, in batches of equal size (to one row)."""
        sizes = iter(_equal_sizes(len(self), n_batches))
        missing = next(sizes)
        pieces: list[tuple[Tensor, Tensor]] = []
        for values, places in self._windows(order):
            shuffled = torch.randperm(len(values), generator=order)
            taken = 0
            while taken < len(shuffled):
                piece = shuffled[taken : taken + missing]
                taken, missing = taken + len(piece), missing - len(piece)
                pieces.append((values.index_select(0, piece), places.index_select(0, piece)))
                if missing == 0:
                    yield self._batch(pieces)
                    pieces, missing = [], next(sizes, 0)

    def parts(self) -> Iterator[Batch]:
        """Go through all rows in order."""
        for places, values in self.rows.chunks():
            yield self._batch([(torch.from_numpy(values), torch.arange(places.start, places.stop))])

    def first(self, n: int) -> Tensor:
        """Return the first rows, as the network sees them."""
        return next(self.parts()).X[:n]

    def _windows(self, order: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Read the rows in windows; yield what is stored and the places of the rows."""
        n_chunks = self.rows.n_chunks
        row_bytes = self.rows.shape[1] * self.rows.stored_dtype.itemsize
        n_windows = min(n_chunks, max(1, -(-len(self) * row_bytes // self.window_bytes)))
        chunks = torch.arange(n_chunks) if n_windows == 1 else torch.randperm(n_chunks, generator=order)
        windows = [sorted(window.tolist()) for window in chunks.tensor_split(n_windows)]
        return read_ahead(partial(self._read, window) for window in windows)

    def _read(self, chunks: list[int]) -> tuple[Tensor, Tensor]:
        """Read some chunks into one tensor."""
        slices = [self.rows.places(chunk) for chunk in chunks]
        n_rows = sum(part.stop - part.start for part in slices)
        values = np.empty((n_rows, self.rows.shape[1]), dtype=self.rows.stored_dtype)
        filled = 0
        for chunk, part in zip(chunks, slices, strict=True):
            values[filled : filled + part.stop - part.start] = self.rows.read(chunk)
            filled += part.stop - part.start
        places = np.concatenate([np.arange(part.start, part.stop) for part in slices])
        return torch.from_numpy(values), torch.from_numpy(places)

    def _batch(self, pieces: list[tuple[Tensor, Tensor]]) -> Batch:
        """Standardise rows and put them on the training device with their classes and weights."""
        if len(pieces) > 1:
            pieces = [(torch.cat([own for own, _ in pieces]), torch.cat([own for _, own in pieces]))]
        ((values, places),) = pieces
        mean, inverse = (
            torch.from_numpy(part.astype(np.float32)) for part in (self.scale.mean, self.scale.inverse)
        )
        if self.scale.columns is not None:
            values = values.index_select(1, torch.from_numpy(self.scale.columns))
        X = values.to(torch.float32).sub(mean).mul_(inverse)
        parts = (X, self.codes.index_select(0, places), self.weights.index_select(0, places))
        return Batch(*(part.to(self.device) for part in parts))


def prepare_large_rows(
    rows: LargeRows,
    codes: NDArray[np.intp],
    weights: NDArray[np.float64],
    *,
    slices: Sequence[slice],
    screen_blocks: bool,
    validation_fraction: float,
    weigh: Weigh,
    device: torch.device,
    seed: int,
) -> TrainingRows:
    """Split and scale rows on disk, as ``heads.training_rows.prepare_rows`` does with rows in memory.

    Parameters
    ----------
    rows : LargeRows of shape (n_samples, n_features)
    codes : ndarray of shape (n_samples,), integer
        Every class from 0 to the largest has a row.
    weights : ndarray of shape (n_samples,), float64
        Positive sample weights.
    slices : sequence of slice
        Columns of each block.
    screen_blocks : bool
        The rows that are looked at (16,384 at most) are read into memory.
    validation_fraction : float in [0, 1)
    weigh : callable
    device : torch.device
    seed : int
        Of the split: the same rows are held out as in memory.

    Returns
    -------
    TrainingRows

    Raises
    ------
    ValueError
        If a value is not finite.
    """
    split = inner_split(codes, validation_fraction, np.random.RandomState(seed))
    kept, held_out = (np.arange(len(rows)), None) if split is None else split
    counting = np.zeros(len(rows))
    counting[kept] = weights[kept]
    scale = measured_scale(rows, counting)
    silent = np.zeros(len(slices), dtype=bool)
    if screen_blocks and len(slices) > 1:
        shown = screened_rows(kept)
        read = np.concatenate([widened(part) for _, part in rows.select(shown).chunks()])
        silent = silent_blocks(scale.apply(read), codes[shown], slices)
    scale, widths = seen_columns(scale, slices, silent)
    mass = np.bincount(codes[kept], weights=weights[kept])
    row_weights = weigh(codes[kept], weights[kept])

    def of(places: NDArray[np.intp], own: NDArray[np.float64]) -> LargeWeightedRows:
        return LargeWeightedRows(
            rows.select(places),
            scale,
            torch.from_numpy(codes[places].astype(np.int64)),
            torch.from_numpy((own / own.mean()).astype(np.float32)),
            device,
        )

    stopped_on = None
    if held_out is not None:
        matched = matched_weights(codes[kept], row_weights, codes[held_out], weights[held_out])
        stopped_on = of(held_out, matched)
    return TrainingRows(scale, widths, of(kept, row_weights), stopped_on, mass / mass.sum())


def _equal_sizes(n_rows: int, n_batches: int) -> list[int]:
    """Return the sizes that ``Tensor.tensor_split`` gives."""
    size, larger = divmod(n_rows, n_batches)
    return [size + (number < larger) for number in range(n_batches)]
