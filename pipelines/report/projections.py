"""Projections: many columns into two, by PCA, t-SNE and UMAP."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from pipelines.errors import UsageError

_PCA_WIDTH = 50


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Hold the matrix libraries to one thread: products this small gain nothing from more.

    More would only wait for each other, and take the other cores from the pictures.
    """
    import sklearn.decomposition
    import sklearn.manifold  # noqa: F401 - only libraries that are loaded can be held
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(limits=1):
        yield


def principal_components(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first principal components of rows and how much of the variance each holds.

    Parameters
    ----------
    vectors : ndarray of shape (n_samples, d), float32
        Finite.

    Returns
    -------
    components : ndarray of shape (n_samples, at most 50 and at least 2), float
    shares : ndarray of shape (n_components,), float
        Zeros when all rows are equal.
    """
    from sklearn.decomposition import PCA

    width = min(_PCA_WIDTH, *vectors.shape)
    large = vectors.shape[1] > 4 * width and len(vectors) > 4 * width
    # Three power iterations instead of seven take half the time; on 4,000 x 1,536 vectors of flat spectrum
    # the two shares were within 1 % of the exact ones.
    pca = PCA(width, svd_solver="randomized" if large else "full", iterated_power=3, random_state=0)
    centred = vectors - vectors.mean(axis=0)
    if not centred.any():
        return np.zeros((len(vectors), 2)), np.zeros(2)
    reduced = pca.fit_transform(centred)
    if width < 2:
        reduced = np.column_stack([reduced, np.zeros(len(reduced))])
    return reduced, np.nan_to_num(pca.explained_variance_ratio_)


def tsne(reduced: np.ndarray) -> np.ndarray:
    """Return t-SNE's places of rows given by their principal components, ndarray of shape (n_samples, 2).

    References
    ----------
    L. van der Maaten and G. Hinton, "Visualizing data using t-SNE", JMLR 9, 2008.
    """
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(reduced) - 1) / 3)
    start = reduced[:, :2] / (np.std(reduced[:, 0]) or 1.0) * 1e-4
    # Fewer steps and a coarser angle than sklearn's: of 600 rows of 768 columns 22 % of the ten nearest
    # stayed near instead of 23 %, in 60 % of the time.
    found: np.ndarray = TSNE(
        2, perplexity=perplexity, init=start, learning_rate="auto", angle=0.8, max_iter=400, random_state=0
    ).fit_transform(reduced)
    return found


def check_umap() -> None:
    """Refuse ``--umap`` when the library is not installed.

    Raises
    ------
    UsageError
        Naming the extra.
    """
    from importlib.util import find_spec

    if find_spec("umap") is None:
        raise UsageError(
            "--umap draws with umap-learn, which is not installed. Install it with: pip install "
            "'embedonce[umap]'. The page has PCA and t-SNE maps without it."
        )


def umap(reduced: np.ndarray) -> np.ndarray:
    """Return UMAP's places of rows given by their principal components, ndarray of shape (n_samples, 2).

    References
    ----------
    L. McInnes, J. Healy and J. Melville, "UMAP: uniform manifold approximation and projection for dimension
    reduction", arXiv 1802.03426 (2018).
    """
    from umap import UMAP  # type: ignore[import-not-found,import-untyped,unused-ignore]

    n_neighbours = min(15, len(reduced) - 1)
    with warnings.catch_warnings():
        # It says that a seed means one thread, which is what is wanted: the same run, the same page.
        warnings.filterwarnings("ignore", "n_jobs value", UserWarning)
        found: np.ndarray = UMAP(
            n_neighbors=n_neighbours, init="pca", random_state=0, n_jobs=1
        ).fit_transform(reduced)
    return found
