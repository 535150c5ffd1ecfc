"""The rows one network learns from and stops on: split first, then scaled, resampled and weighed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from heads.columns import ColumnScale, LinearMap
from heads.early_stopping import matched_weights
from heads.projection import reduced_map
from heads.resampling import make_resampler
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
        Columns of each block that the network sees.
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
    scale, widths = _columns(X[kept], weights[kept], slices, blocks, pca, whiten=whiten)
    rows, row_codes, row_weights = scale.apply(X[kept]), codes[kept], weights[kept]
    sampler = make_resampler(resampler, random_state=seed)
    if sampler is not None:
        rows, row_codes = sampler.fit_resample(rows, row_codes)
        row_weights = np.ones(len(rows))
    mass = np.bincount(row_codes, weights=row_weights)
    row_weights = weigh(row_codes, row_weights)
    stopped_on = None
    if held_out is not None:
        matched = matched_weights(row_codes, row_weights, codes[held_out], weights[held_out])
        stopped_on = WeightedRows.on(device, scale.apply(X[held_out]), codes[held_out], matched)
    samples = None
    if view_per_epoch and origins is not None:
        samples = np.unique(origins[kept], return_inverse=True)[1]
    learnt_from = WeightedRows.on(device, rows, row_codes, row_weights, samples)
    return TrainingRows(scale, widths, learnt_from, stopped_on, mass / mass.sum())


def _columns(
    X: NDArray[Any],
    weights: NDArray[np.float64],
    slices: Sequence[slice],
    blocks: Mapping[str, int] | None,
    pca: int | None,
    *,
    whiten: bool,
) -> tuple[ColumnScale | LinearMap, tuple[int, ...]]:
    """Return the map to the columns that the network sees, and how many there are of each block."""
    scale = ColumnScale.of(X, weights, blocks)
    if pca is None:
        return scale, tuple(columns.stop - columns.start for columns in slices)
    return reduced_map(scale, X, slices, pca, whiten=whiten)
