"""Training rows of each fold in LightGBM's binned form, made once for all who want the same bins."""

import json
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tuning.reductions import Reductions

if TYPE_CHECKING:
    import lightgbm

    from heads import LightGBMHead

_UNWEIGHTED = ""


@dataclass(frozen=True, eq=False)
class BinnedFold:
    """What one booster trains on and is scored on.

    Attributes
    ----------
    dataset : lightgbm.Dataset
        Training rows with labels (positions in `classes`) and weights; shared, not to be changed.
    classes : ndarray of shape (n_present,), int64
        Class codes that occur among the training rows, ascending.
    valid : ndarray of shape (n_valid, n_columns), float32
    """

    dataset: "lightgbm.Dataset"
    classes: NDArray[np.int64]
    valid: NDArray[np.float32]


class BinnedRows:
    """One ``lightgbm.Dataset`` per fold, width, bins and class weights.

    Parameters
    ----------
    reductions : Reductions

    Notes
    -----
    Bins come from training rows only. LightGBM keeps a pointer to the weights of a Dataset in every booster
    on it, so ``set_weight`` would change boosters that are alive: each weighting has a Dataset of its own,
    a copy of the bins of the first (2 ms where binning 3,200 x 128 rows takes 50).

    Memory: one byte per row and column for each Dataset, for as long as this object lives. Safe to call from
    several threads.
    """

    def __init__(self, reductions: Reductions) -> None:
        self.reductions = reductions
        self._folds: dict[tuple[object, ...], dict[str, BinnedFold]] = {}
        self._locks: dict[tuple[object, ...], threading.Lock] = {}
        self._making_rows = threading.Lock()

    def of(self, fold: int, head: "LightGBMHead") -> BinnedFold:
        """Return the binned rows of a fold for a head.

        Parameters
        ----------
        fold : int
        head : LightGBMHead
            Its ``pca``, ``max_bin`` and class weights count, nothing else.

        Returns
        -------
        BinnedFold

        Raises
        ------
        ValueError
            When the training rows have fewer than two classes, the rows cannot be made, or the class weights
            are wrong.
        """
        bins = (fold, head.pca, head.max_bin)
        weighting = json.dumps([head.class_weight, head.class_boost, head.effective_beta], sort_keys=True)
        with self._locks.setdefault(bins, threading.Lock()):
            found = self._folds.setdefault(bins, {})
            if _UNWEIGHTED not in found:
                found[_UNWEIGHTED] = self._bin(fold, head)
            if weighting not in found:
                found[weighting] = _weighted(found[_UNWEIGHTED], head)
            return found[weighting]

    def _bin(self, fold: int, head: "LightGBMHead") -> BinnedFold:
        """Bin the training rows of a fold."""
        import lightgbm

        with self._making_rows:  # rows of several widths share products that should be computed once
            rows = self.reductions.rows(fold, head.pca)
        classes, labels = np.unique(rows.train_codes, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(
                f"The training rows of fold {fold} are all of class {classes.tolist()}, but LightGBM needs "
                "two classes or more. Use fewer folds, or check the labels."
            )
        settings = head.binning_settings()
        dataset = lightgbm.Dataset(rows.train, label=labels, params=settings, free_raw_data=True)
        return BinnedFold(dataset.construct(), classes, rows.valid)


def _weighted(binned: BinnedFold, head: "LightGBMHead") -> BinnedFold:
    """Copy binned rows and weigh them for a head; where all weigh the same, they are left as they are.

    The copy is made of rows without weights: LightGBM takes weights of 1 for "leave what is there".
    """
    labels = np.asarray(binned.dataset.get_label()).astype(np.intp)
    classes = list(range(int(labels.max()) + 1))
    weights = head.booster_weights(labels, classes, np.ones(len(labels)))
    if np.all(weights == 1):
        return binned
    dataset: Any = binned.dataset.subset(list(range(len(labels)))).construct()
    dataset.set_weight(weights)
    return BinnedFold(dataset, binned.classes, binned.valid)
