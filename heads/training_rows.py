"""The rows one network learns from and stops on: split first, then scaled, resampled and weighed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from heads.columns import ColumnScale, LinearMap
from heads.early_stopping import matched_weights
from heads.projection import reduced_map
from heads.resampling import make_resampler
from heads.silent_blocks import screened_rows, silent_blocks
from heads.view_rows import inner_split_of

if TYPE_CHECKING:
    import torch

    from heads.weighted_rows import Rows

Weigh = Callable[[NDArray[np.intp], NDArray[np.float64]], NDArray[np.float64]]
"""Takes class codes and sample weights; returns the weights of the rows."""


@dataclass(frozen=True)
class TrainingRows:
    """What one network learns from and stops on.

    Attributes
    ----------
    scale : ColumnScale or LinearMap
        From rows as they come to the columns that the network sees, measured on the rows that are learnt
        from.
    block_widths : tuple of int
        Columns of each block that the network sees; 0 for a block that it does not.
    learnt_from : Rows
    stopped_on : Rows or None
        Original rows that take no part in anything else.
    priors : ndarray of shape (n_classes,), float64
        Shares of the classes among the rows that are learnt from, after resampling, before class weights.
    """

    scale: ColumnScale | LinearMap
    block_widths: tuple[int, ...]
    learnt_from: Rows
    stopped_on: Rows | None
    priors: NDArray[np.float64]


def prepare_rows(
    X: NDArray[Any],
    codes: NDArray[np.intp],
    weights: NDArray[np.float64],
    origins: NDArray[np.intp] | None = None,
    *,
    slices: Sequence[slice],
    blocks: Mapping[str, int] | None = None,
    pca: int | None,
    whiten: bool,
    screen_blocks: bool,
    validation_fraction: float,
    resampler: str,
    view_per_epoch: bool = False,
    weigh: Weigh,
    device: torch.device,
    seed: int,
) -> TrainingRows:
    """Split first, then scale, then resample: held-out rows are original rows and shape nothing.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), float32 or float64
    codes : ndarray of shape (n_samples,), integer
        Every class from 0 to the largest has a row.
    weights : ndarray of shape (n_samples,), float64
        Positive sample weights.
    origins : ndarray of shape (n_samples,), integer, or None
        For each row the row that it is an augmented view of (itself when it is none); None means no views.
        A held-out row is clean, and its views are not learnt from.
    slices : sequence of slice
        Columns of each block.
    blocks : mapping of str to int, or None
        Name and width of each block; see ``ColumnScale.of``.
    pca : int or None
        Principal directions per block; None keeps the standardised columns.
    whiten : bool
        See ``heads.projection.reduced_map``.
    screen_blocks : bool
        Whether blocks that say nothing about the labels of the rows that are learnt from are left out; see
        ``heads.silent_blocks``.
    validation_fraction : float in [0, 1)
    resampler : str
        One of ``heads.RESAMPLERS``; "none" with `view_per_epoch`.
    view_per_epoch : bool
        Whether an epoch shows each sample once, in a view that is drawn anew, instead of all its views.
    weigh : callable
    device : torch.device
    seed : int
        Of the split and of the resampler.

    Returns
    -------
    TrainingRows
    """
    from heads.weighted_rows import WeightedRows

    split = inner_split_of(codes, origins, validation_fraction, np.random.RandomState(seed))
    kept, held_out = (np.arange(len(X)), None) if split is None else split
    scale = ColumnScale.of(X[kept], weights[kept], blocks)
    silent = np.zeros(len(slices), dtype=bool)
    if screen_blocks and len(slices) > 1:
        shown = screened_rows(kept if origins is None else kept[origins[kept] == kept])
        silent = silent_blocks(scale.apply(X[shown]), codes[shown], slices)
    seen, widths = _columns(scale, X[kept], slices, silent, pca, whiten=whiten)
    rows, row_codes, row_weights = seen.apply(X[kept]), codes[kept], weights[kept]
    sampler = make_resampler(resampler, random_state=seed)
    if sampler is not None:
        rows, row_codes = sampler.fit_resample(rows, row_codes)
        row_weights = np.ones(len(rows))
    mass = np.bincount(row_codes, weights=row_weights)
    row_weights = weigh(row_codes, row_weights)
    stopped_on = None
    if held_out is not None:
        matched = matched_weights(row_codes, row_weights, codes[held_out], weights[held_out])
        stopped_on = WeightedRows.on(device, seen.apply(X[held_out]), codes[held_out], matched)
    samples = None
    if view_per_epoch and origins is not None:
        samples = np.unique(origins[kept], return_inverse=True)[1]
    learnt_from = WeightedRows.on(device, rows, row_codes, row_weights, samples)
    return TrainingRows(seen, widths, learnt_from, stopped_on, mass / mass.sum())


def seen_columns(
    scale: ColumnScale, slices: Sequence[slice], silent: NDArray[np.bool_]
) -> tuple[ColumnScale, tuple[int, ...]]:
    """Return the scale that leaves silent blocks out, and how many columns it leaves of each block.

    Parameters
    ----------
    scale : ColumnScale
        Of all columns.
    slices : sequence of slice
    silent : ndarray of shape (n_blocks,), bool
    """
    widths = [columns.stop - columns.start for columns in slices]
    left = tuple(0 if quiet else width for quiet, width in zip(silent, widths, strict=True))
    return scale.of_blocks(compress(slices, ~silent)) if silent.any() else scale, left


def _columns(
    scale: ColumnScale,
    X: NDArray[Any],
    slices: Sequence[slice],
    silent: NDArray[np.bool_],
    pca: int | None,
    *,
    whiten: bool,
) -> tuple[ColumnScale | LinearMap, tuple[int, ...]]:
    """Return the map to the columns that the network sees, and how many there are of each block."""
    if pca is None:
        return seen_columns(scale, slices, silent)
    linear, made = reduced_map(scale, X, compress(slices, ~silent), pca, whiten=whiten)
    widths = iter(made)
    return linear, tuple(0 if quiet else next(widths) for quiet in silent)
