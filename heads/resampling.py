"""Balancing the training rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from imblearn.over_sampling import SMOTE, RandomOverSampler
from imblearn.over_sampling.base import BaseOverSampler
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from heads.names import RESAMPLERS, unknown_name

_MOST_NEIGHBORS = 5


class FoldSMOTE(BaseOverSampler):  # type: ignore[misc]
    """SMOTE whose number of neighbours shrinks with the smallest class of the fold.

    Plain SMOTE fails in the one fold in which a rare class happens to have five rows. Here k is the smaller
    of 5 and the rows of the smallest class that is enlarged, less one.

    Parameters
    ----------
    random_state : int, RandomState or None

    References
    ----------
    N. V. Chawla et al., "SMOTE: Synthetic Minority Over-sampling Technique", JAIR 16 (2002).
    """

    def __init__(self, *, random_state: int | np.random.RandomState | None = None) -> None:
        super().__init__(sampling_strategy="auto")
        self.random_state = random_state

    def _fit_resample(self, X: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        classes, counts = np.unique(y, return_counts=True)
        alone = [repr(label) for label in classes[counts == 1].tolist()]
        if alone:
            raise ValueError(
                f"SMOTE makes new rows between two rows of a class, but class {', '.join(alone)} has 1 "
                "training row. Use resampler='random-over', 'inverse-frequency' or 'none', or collect more "
                "rows."
            )
        enlarged = counts[counts < counts.max()]
        k = min(_MOST_NEIGHBORS, int(enlarged.min()) - 1) if len(enlarged) else _MOST_NEIGHBORS
        resampled = SMOTE(k_neighbors=k, random_state=self.random_state).fit_resample(X, y)
        return resampled[0], resampled[1]


class InverseFrequencySampler(BaseOverSampler):  # type: ignore[misc]
    """Rows drawn with replacement, each with a probability inverse to the size of its class.

    As many rows are drawn as classes times the largest class, so that every class is expected to reach the
    largest one; at 6 : 1 : 3 that is 1.8 times the rows. Unlike random over-sampling, rows of the largest
    class are drawn at random too, so some are left out. One row of each class comes first, so that no class
    can be missing.

    Parameters
    ----------
    random_state : int, RandomState or None

    Attributes
    ----------
    sample_indices_ : ndarray of shape (n_drawn,)
        Rows that were drawn.
    """

    def __init__(self, *, random_state: int | np.random.RandomState | None = None) -> None:
        super().__init__(sampling_strategy="auto")
        self.random_state = random_state

    def _fit_resample(self, X: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        random = check_random_state(self.random_state)
        classes, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
        first = [random.choice(np.flatnonzero(codes == code)) for code in range(len(classes))]
        n_more = len(classes) * (int(counts.max()) - 1)
        chance = 1.0 / (len(classes) * counts[codes])
        more = random.choice(len(codes), size=n_more, replace=True, p=chance)
        self.sample_indices_ = np.concatenate([first, more]).astype(np.intp)
        return X[self.sample_indices_], y[self.sample_indices_]


def make_resampler(name: str, *, random_state: int | np.random.RandomState | None) -> BaseOverSampler | None:
    """Make a sampler by name.

    Parameters
    ----------
    name : str
        One of ``heads.RESAMPLERS``: ``"none"``; ``"random-over"`` repeats rows until all classes are as large
        as the largest; ``"smote"`` adds synthetic rows instead; ``"inverse-frequency"`` draws all rows anew
        with equal class chances.
    random_state : int, RandomState or None

    Returns
    -------
    imblearn sampler, or None for ``"none"``
        With ``fit_resample(X, y)``; put it in an imblearn Pipeline, which uses it in ``fit`` only.

    Raises
    ------
    ValueError
        If the name is unknown. ``"smote"`` raises in ``fit_resample`` when a class has a single row.
    """
    if name == "none":
        return None
    if name == "random-over":
        return RandomOverSampler(random_state=random_state)
    if name == "smote":
        return FoldSMOTE(random_state=random_state)
    if name == "inverse-frequency":
        return InverseFrequencySampler(random_state=random_state)
    raise ValueError(f"There is an {unknown_name('resampler', name, RESAMPLERS)}.")
