"""Maps: the rows in two dimensions, by PCA and t-SNE, for each block and for all blocks together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_MOST_NEIGHBOURS_ROWS = 700  # t-SNE costs seconds beyond
_FEWEST_ROWS = 12
_PCA_WIDTH = 50


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
    features: Mapping[str, np.ndarray], probabilities: np.ndarray, codes: np.ndarray, classes: Sequence[str]
) -> list[SampleMap]:
    """Draw every block, all blocks together, and the out-of-fold probabilities.

    Parameters
    ----------
    features : mapping of str to ndarray of shape (n_samples, d), float32
        Block -> vectors; rows with NaN are left out of that map.
    probabilities : ndarray of shape (n_samples, n_classes), float64
    codes : ndarray of shape (n_samples,), int64
        True classes: they colour the points and play no part in where these lie.
    classes : sequence of str

    Returns
    -------
    list of SampleMap
        PCA of all rows, and t-SNE of at most 700 (drawn with a fixed seed); none for fewer than 12 rows.

    References
    ----------
    L. van der Maaten and G. Hinton, "Visualizing data using t-SNE", JMLR 9, 2008.
    """
    spaces = {name: np.asarray(x, dtype=np.float32) for name, x in features.items()}
    spaces = {name: x for name, x in spaces.items() if np.isfinite(x).all(axis=1).sum() >= _FEWEST_ROWS}
    if len(spaces) > 1:
        spaces["all blocks"] = np.concatenate([_scaled(x) for x in spaces.values()], axis=1)
    maps = []
    for name, vectors in spaces.items():
        rows = np.flatnonzero(np.isfinite(vectors).all(axis=1))
        reduced, explained = _principal(vectors[rows])
        some = _subset(len(rows))
        share = f"These two directions hold {explained[:2].sum():.0%} of the variance."
        label = (codes, tuple(classes))
        key = name.replace(" ", "-")
        maps.append(_map(f"pca-{key}", f"PCA, {name}", share, rows, reduced[:, :2], *label))
        close = f"{len(some):,} rows; what is close here is alike, distances between groups say little."
        maps.append(_map(f"tsne-{key}", f"t-SNE, {name}", close, rows[some], _tsne(reduced[some]), *label))
    logs = np.log(np.clip(probabilities, 1e-6, 1.0))
    if len(logs) >= _FEWEST_ROWS:
        reduced, _ = _principal((logs - logs.mean(axis=1, keepdims=True)).astype(np.float32))
        words = (
            "Each row by what was predicted for it out of fold; overlap is what the head cannot tell apart."
        )
        rows = np.arange(len(logs))
        maps.append(
            _map("pca-predictions", "PCA, predictions", words, rows, reduced[:, :2], codes, tuple(classes))
        )
    return maps


def _scaled(vectors: np.ndarray) -> np.ndarray:
    """Centre a block and give it unit variance in sum, so that every block counts alike; missing = mean."""
    centred = vectors - np.nanmean(vectors, axis=0)
    spread = float(np.sqrt(np.nansum(np.nanvar(vectors, axis=0))))
    return np.asarray(np.nan_to_num(centred / (spread or 1.0)), dtype=np.float32)


def _subset(n: int) -> np.ndarray:
    if n <= _MOST_NEIGHBOURS_ROWS:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, _MOST_NEIGHBOURS_ROWS, replace=False))


def _principal(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return at most 50 principal components of the rows (at least 2) and their shares of the variance."""
    from sklearn.decomposition import PCA

    width = min(_PCA_WIDTH, *vectors.shape)
    large = vectors.shape[1] > 4 * width and len(vectors) > 4 * width
    pca = PCA(width, svd_solver="randomized" if large else "full", random_state=0)
    centred = vectors - vectors.mean(axis=0)
    if not centred.any():
        return np.zeros((len(vectors), 2)), np.zeros(2)
    reduced = pca.fit_transform(centred)
    if width < 2:
        reduced = np.column_stack([reduced, np.zeros(len(reduced))])
    return reduced, np.nan_to_num(pca.explained_variance_ratio_)


def _tsne(reduced: np.ndarray) -> np.ndarray:
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(reduced) - 1) / 3)
    start = reduced[:, :2] / (np.std(reduced[:, 0]) or 1.0) * 1e-4
    found: np.ndarray = TSNE(
        2, perplexity=perplexity, init=start, learning_rate="auto", max_iter=500, random_state=0
    ).fit_transform(reduced)
    return found


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
