"""Maps: the rows in two dimensions, for each block, all blocks together, and what the model makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.report.projections import on_one_thread, principal_components, tsne, umap

_MOST_NEIGHBOURS_ROWS = 500  # t-SNE and UMAP cost seconds beyond
_FEWEST_ROWS = 12
_LEARNT = (
    "Made by the final model, which has learnt from these rows: groups look cleaner here than on new rows. "
)


@dataclass(frozen=True)
class SampleMap:
    """A scatter of rows.

    Attributes
    ----------
    key, title, caption : str
        As of `charts.Chart`.
    rows : ndarray of shape (n_points,), int64
        Which of the rows shown each point is.
    xy : ndarray of shape (n_points, 2), float64
        Within [0, 1].
    codes : ndarray of shape (n_points,), int64
        True classes.
    classes : tuple of str
    """

    key: str
    title: str
    caption: str
    rows: np.ndarray
    xy: np.ndarray
    codes: np.ndarray
    classes: tuple[str, ...]


def sample_maps(
    features: Mapping[str, np.ndarray],
    probabilities: np.ndarray,
    codes: np.ndarray,
    classes: Sequence[str],
    *,
    layers: Mapping[str, np.ndarray] | None = None,
    with_umap: bool = False,
) -> list[SampleMap]:
    """Draw every block, all blocks together, the model's layers, and the out-of-fold probabilities.

    Parameters
    ----------
    features : mapping of str to ndarray of shape (n_samples, d), float32
        Block -> vectors; rows with NaN are left out of that map.
    probabilities : ndarray of shape (n_samples, n_classes), float64
    codes : ndarray of shape (n_samples,), int64
        True classes: they colour the points and play no part in where these lie.
    classes : sequence of str
    layers : mapping of str to ndarray of shape (n_samples, width), optional
        Layer of the final model -> what it makes of the rows (see `model_layers`).
    with_umap : bool

    Returns
    -------
    list of SampleMap
        PCA of all rows, and t-SNE (and UMAP) of at most 500 (drawn with a fixed seed); none for fewer than 12
        rows.
    """
    with on_one_thread():
        return _sample_maps(
            features, probabilities, (codes, tuple(classes)), layers or {}, with_umap=with_umap
        )


_Label = tuple[np.ndarray, tuple[str, ...]]
"""True classes of all rows, and the names of the classes."""


def _sample_maps(
    features: Mapping[str, np.ndarray],
    probabilities: np.ndarray,
    label: _Label,
    layers: Mapping[str, np.ndarray],
    *,
    with_umap: bool,
) -> list[SampleMap]:
    spaces = {name: np.asarray(x, dtype=np.float32) for name, x in features.items()}
    spaces = {name: x for name, x in spaces.items() if np.isfinite(x).all(axis=1).sum() >= _FEWEST_ROWS}
    if len(spaces) > 1:
        spaces["all blocks"] = np.concatenate([_scaled(x) for x in spaces.values()], axis=1)
    maps = [m for name, x in spaces.items() for m in _maps_of(name, x, label, "", with_umap=with_umap)]
    for name, x in layers.items():
        if len(x) >= _FEWEST_ROWS:
            vectors = np.asarray(x, dtype=np.float32)
            maps += _maps_of(name, vectors, label, _LEARNT, with_umap=with_umap)
    logs = np.log(np.clip(probabilities, 1e-6, 1.0))
    if len(logs) >= _FEWEST_ROWS:
        reduced, _ = principal_components((logs - logs.mean(axis=1, keepdims=True)).astype(np.float32))
        words = (
            "Each row by what was predicted for it out of fold; overlap is what the head cannot tell apart."
        )
        rows = np.arange(len(logs))
        maps.append(_map("pca-predictions", "PCA, predictions", words, rows, reduced[:, :2], *label))
    return maps


def _maps_of(
    name: str,
    vectors: np.ndarray,
    label: _Label,
    caveat: str,
    *,
    with_umap: bool,
) -> Iterator[SampleMap]:
    """Yield the maps of one space."""
    rows = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    reduced, shares = principal_components(vectors[rows])
    key = name.replace(" ", "-")
    words = f"These two directions hold {shares[:2].sum():.0%} of the variance."
    yield _map(f"pca-{key}", f"PCA, {name}", caveat + words, rows, reduced[:, :2], *label)
    some = _subset(len(rows))
    near = "what is close here is alike, distances between groups say little."
    words = f"{caveat}{len(some):,} rows; {near}"
    yield _map(f"tsne-{key}", f"t-SNE, {name}", words, rows[some], tsne(reduced[some]), *label)
    if with_umap:
        yield _map(f"umap-{key}", f"UMAP, {name}", words, rows[some], umap(reduced[some]), *label)


def _scaled(vectors: np.ndarray) -> np.ndarray:
    """Centre a block and give it unit variance in sum, so that every block counts alike; missing = mean."""
    centred = vectors - np.nanmean(vectors, axis=0)
    spread = float(np.sqrt(np.nansum(np.nanvar(vectors, axis=0))))
    return np.asarray(np.nan_to_num(centred / (spread or 1.0)), dtype=np.float32)


def _subset(n: int) -> np.ndarray:
    if n <= _MOST_NEIGHBOURS_ROWS:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, _MOST_NEIGHBOURS_ROWS, replace=False))


def _map(
    key: str,
    title: str,
    caption: str,
    rows: np.ndarray,
    xy: np.ndarray,
    codes: np.ndarray,
    classes: tuple[str, ...],
) -> SampleMap:
    low, high = xy.min(axis=0), xy.max(axis=0)
    scaled = (xy - low) / np.where(high > low, high - low, 1.0)
    return SampleMap(key, title, caption, rows, np.asarray(scaled, dtype=np.float64), codes[rows], classes)
