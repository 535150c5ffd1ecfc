"""Balancing the training rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from imblearn.base import BaseSampler
from imblearn.over_sampling import ADASYN, SMOTE, BorderlineSMOTE, RandomOverSampler
from imblearn.over_sampling.base import BaseOverSampler
from imblearn.under_sampling import EditedNearestNeighbours, RandomUnderSampler
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from heads.class_neighbors import ClassNeighbors
from heads.names import RESAMPLERS, unknown_name

_MOST_NEIGHBORS = 5  # of the same class, for making a row between two
_MOST_JUDGES = 10  # of any class, for telling whether a row lies at a border (Borderline-SMOTE)
_MOST_EDITORS = 3  # of any class, that must all agree with a row (edited nearest neighbours)


class FoldSMOTE(BaseOverSampler):  # type: ignore[misc]
    """SMOTE whose number of neighbours shrinks with the smallest class of the fold.

    Plain SMOTE fails in the one fold in which a rare class happens to have five rows. Here k is the smaller
    of 5 and the rows of the smallest class that is enlarged, less one. A class of more than 4,096 rows is
    searched for neighbours in parts (``heads.class_neighbors``), so that time grows with the rows only.

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
        neighbors = ClassNeighbors(_neighbors_of_smallest(y, "SMOTE") + 1)  # a row is its own first
        resampled = SMOTE(k_neighbors=neighbors, random_state=self.random_state).fit_resample(X, y)
        return resampled[0], resampled[1]


class FoldBorderlineSMOTE(BaseOverSampler):  # type: ignore[misc]
    """Borderline-SMOTE whose neighbourhoods shrink with the fold, and which enlarges every class.

    New rows start at rows of a class with half or more, but not all, of their 10 neighbours in other classes.
    A class that has no such row is left alone by the published method; here plain SMOTE enlarges it.

    Parameters
    ----------
    random_state : int, RandomState or None

    References
    ----------
    H. Han et al., "Borderline-SMOTE: A New Over-Sampling Method in Imbalanced Data Sets Learning", ICIC 2005
    (borderline-1).
    """

    def __init__(self, *, random_state: int | np.random.RandomState | None = None) -> None:
        super().__init__(sampling_strategy="auto")
        self.random_state = random_state

    def _fit_resample(self, X: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        k = _neighbors_of_smallest(y, "Borderline-SMOTE")
        judges = min(_MOST_JUDGES, len(y) - 1)
        borderline = BorderlineSMOTE(k_neighbors=k, m_neighbors=judges, random_state=self.random_state)
        rows, labels = borderline.fit_resample(X, y)[:2]
        evened = FoldSMOTE(random_state=self.random_state).fit_resample(rows, labels)
        return evened[0], evened[1]


class FoldADASYN(BaseOverSampler):  # type: ignore[misc]
    """ADASYN whose number of neighbours shrinks with the fold, and which refuses no class.

    More rows are made where more neighbours belong to other classes, so classes become equally large only up
    to rounding. ADASYN cannot enlarge a class whose rows have neighbours of their own class only; here plain
    SMOTE does.

    Parameters
    ----------
    random_state : int, RandomState or None

    References
    ----------
    H. He et al., "ADASYN: Adaptive Synthetic Sampling Approach for Imbalanced Learning", IJCNN 2008.
    """

    def __init__(self, *, random_state: int | np.random.RandomState | None = None) -> None:
        super().__init__(sampling_strategy="auto")
        self.random_state = random_state

    def _fit_resample(self, X: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        k = _neighbors_of_smallest(y, "ADASYN")
        random = check_random_state(self.random_state)
        classes, counts = np.unique(y, return_counts=True)
        rows, labels = [X], [y]
        for label in classes[counts < counts.max()]:
            wanted = {label: int(counts.max())}
            try:
                adasyn = ADASYN(sampling_strategy=wanted, n_neighbors=k, random_state=random)
                made = adasyn.fit_resample(X, y)
            except (
                RuntimeError,
                ValueError,
            ):  # no neighbour of another class, or all rounded to 0
                smote = SMOTE(sampling_strategy=wanted, k_neighbors=k, random_state=random)
                made = smote.fit_resample(X, y)
            rows.append(made[0][len(X) :])
            labels.append(made[1][len(y) :])
        return np.concatenate(rows), np.concatenate(labels)


class FoldSMOTEENN(BaseOverSampler):  # type: ignore[misc]
    """SMOTE, then cleaning by edited nearest neighbours, which never removes a whole class.

    After SMOTE a row of any class, old or new, stays only when its 3 nearest neighbours all have its label. A
    class that would lose every row keeps all of them. Classes are not equally large afterwards.

    Parameters
    ----------
    random_state : int, RandomState or None

    Notes
    -----
    Compares all rows after SMOTE with each other: the cost grows with the square of their number.

    References
    ----------
    G. Batista et al., "A Study of the Behavior of Several Methods for Balancing Machine Learning Training
    Data", SIGKDD Explorations 6 (2004).
    """

    def __init__(self, *, random_state: int | np.random.RandomState | None = None) -> None:
        super().__init__(sampling_strategy="auto")
        self.random_state = random_state

    def _fit_resample(self, X: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        _neighbors_of_smallest(y, "SMOTE-ENN")
        rows, labels = FoldSMOTE(random_state=self.random_state).fit_resample(X, y)[:2]
        editors = min(_MOST_EDITORS, len(labels) - 1)
        cleaner = EditedNearestNeighbours(sampling_strategy="all", n_neighbors=editors)
        cleaner.fit_resample(rows, labels)
        emptied = np.isin(labels, np.setdiff1d(labels, labels[cleaner.sample_indices_]))
        kept = np.concatenate([cleaner.sample_indices_, np.flatnonzero(emptied)])
        return rows[kept], labels[kept]


def _neighbors_of_smallest(y: NDArray[Any], method: str) -> int:
    """Return how many neighbours of its class the smallest enlarged class can give, 5 at most."""
    classes, counts = np.unique(y, return_counts=True)
    alone = [repr(label) for label in classes[counts == 1].tolist()]
    if alone:
        raise ValueError(
            f"{method} makes new rows between two rows of a class, but class {', '.join(alone)} has 1 "
            "training row. Use resampler='random-over', 'inverse-frequency' or 'none', or collect more rows."
        )
    enlarged = counts[counts < counts.max()]
    return min(_MOST_NEIGHBORS, int(enlarged.min()) - 1) if len(enlarged) else _MOST_NEIGHBORS


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


@dataclass(frozen=True)
class _Method:
    """A sampler, what it is called where it makes rows between two, and what it leaves of a class."""

    sampler: type[BaseSampler]
    makes: str | None = None
    evens_to: Callable[[NDArray[np.integer[Any]]], Any] | None = None  # None: the rows themselves decide
    picks: bool = False


_METHODS = {
    "random-over": _Method(RandomOverSampler, evens_to=np.max, picks=True),
    "random-under": _Method(RandomUnderSampler, evens_to=np.min, picks=True),
    "smote": _Method(FoldSMOTE, makes="SMOTE", evens_to=np.max),
    "borderline-smote": _Method(FoldBorderlineSMOTE, makes="Borderline-SMOTE", evens_to=np.max),
    "adasyn": _Method(FoldADASYN, makes="ADASYN", evens_to=np.max),
    "smote-enn": _Method(FoldSMOTEENN, makes="SMOTE-ENN"),
    "inverse-frequency": _Method(InverseFrequencySampler, evens_to=np.max, picks=True),
}


def picks_rows(name: str) -> bool:
    """Tell whether a sampler picks rows by their class alone, whatever their columns hold.

    Parameters
    ----------
    name : str
        One of ``heads.RESAMPLERS``.

    Returns
    -------
    bool
        True of samplers whose ``sample_indices_`` after ``fit_resample`` are all that they did.
    """
    return name in _METHODS and _METHODS[name].picks


def resampled_size(name: str, sizes: NDArray[np.integer[Any]]) -> int | None:
    """Return how many rows there are after resampling, as far as the sizes of the classes say.

    Parameters
    ----------
    name : str
        One of ``heads.RESAMPLERS``.
    sizes : ndarray of shape (n_classes,), integer
        Rows of each class, 1 or more.

    Returns
    -------
    int or None
        Up to rounding for ``"adasyn"``. None for ``"smote-enn"``: what it removes depends on the rows.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if name == "none":
        return int(sizes.sum())
    evens_to = _method(name).evens_to
    return None if evens_to is None else len(sizes) * int(evens_to(sizes))


def check_resampling(name: str, y: NDArray[Any]) -> None:
    """Refuse labels that a sampler cannot work on, before rows are put aside and scaled.

    Parameters
    ----------
    name : str
        One of ``heads.RESAMPLERS``.
    y : ndarray of shape (n_samples,)
        Labels, as they are called in the message.

    Raises
    ------
    ValueError
        If the sampler makes synthetic rows and a class has a single row.
    """
    makes = _METHODS[name].makes if name in _METHODS else None
    if makes is not None:
        _neighbors_of_smallest(y, makes)


def make_resampler(name: str, *, random_state: int | np.random.RandomState | None) -> BaseSampler | None:
    """Make a sampler by name.

    Parameters
    ----------
    name : str
        One of ``heads.RESAMPLERS``: ``"none"``; ``"random-over"`` repeats rows until all classes are as large
        as the largest; ``"random-under"`` leaves rows out until all are as small as the smallest;
        ``"smote"`` adds synthetic rows instead, ``"borderline-smote"`` near other classes, ``"adasyn"``
        the more the nearer; ``"smote-enn"`` also removes rows that their neighbours contradict;
        ``"inverse-frequency"`` draws all rows anew with equal class chances.
    random_state : int, RandomState or None

    Returns
    -------
    imblearn sampler, or None for ``"none"``
        With ``fit_resample(X, y)``; put it in an imblearn Pipeline, which uses it in ``fit`` only.

    Raises
    ------
    ValueError
        If the name is unknown. Those that make synthetic rows raise in ``fit_resample`` when a class has a
        single row.
    """
    return None if name == "none" else _method(name).sampler(random_state=random_state)


def _method(name: str) -> _Method:
    if name not in _METHODS:
        raise ValueError(f"Nothing was made: {unknown_name('resampler', name, RESAMPLERS)}.")
    return _METHODS[name]
