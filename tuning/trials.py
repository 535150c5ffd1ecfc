"""One configuration, and what cross-validating it gives: out-of-fold probabilities and a score."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import heads
from tuning.folds import Fold, check_partition
from tuning.scores import class_codes, confusion, score


@dataclass(frozen=True)
class Configuration:
    """Everything that names one candidate: a head, how its training rows are resampled, and its parameters.

    Attributes
    ----------
    head : str
        One of ``heads.HEADS``.
    resampler : str
        One of ``heads.RESAMPLERS``.
    parameters : mapping of str to JSON value
        Constructor parameters of the head.

    Raises
    ------
    TypeError
        When ``parameters`` cannot be written as JSON (NaN and infinity cannot).
    """

    head: str
    resampler: str
    parameters: Mapping[str, Any]

    def __post_init__(self) -> None:
        # A private copy: a caller who goes on editing its dict must not change a stored configuration.
        object.__setattr__(self, "parameters", dict(self.parameters))
        try:
            self._canonical_json()
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"The parameters {dict(self.parameters)!r} of head '{self.head}' cannot be written as JSON "
                f"({error}). Allowed are str, int, float, bool, None, lists and dicts of them; convert NumPy "
                "scalars with .item()."
            ) from error

    def __hash__(self) -> int:
        return hash(self.key)

    def _canonical_json(self) -> str:
        return json.dumps(self.as_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @property
    def key(self) -> str:
        """Hexadecimal sha256 of the canonical JSON of `as_dict`: equal configurations have equal keys."""
        return hashlib.sha256(self._canonical_json().encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-able dict that ``Configuration(**dict)`` turns back into an equal configuration."""
        return {"head": self.head, "resampler": self.resampler, "parameters": dict(self.parameters)}


@dataclass(frozen=True, eq=False)
class Trial:
    """An evaluated configuration.

    Attributes
    ----------
    number : int
        Position among everything the search asked, from 0.
    configuration : Configuration
    score : float
        Mean of ``fold_scores``, in [0, 1], larger is better.
    fold_scores : list of float
        The search metric on the validation rows of each fold, in fold order.
    seconds : float
        Wall-clock time of all fits and predictions.
    oof : ndarray of shape (n_samples, n_classes), float32
        Out-of-fold probabilities: row i comes from the model that did not train on row i.
    rung : int
        How far the trial was taken. Scores of different rungs are not comparable; 0 means all folds in full.
    asked : Configuration or None
        What was asked for, of a trial that was chosen or dropped on the way: a search asks for the most
        epochs or rounds, and ``configuration`` has as many as were best. None for one that was taken to its
        end in any case.
    """

    number: int
    configuration: Configuration
    score: float
    fold_scores: list[float]
    seconds: float
    oof: NDArray[np.float32]
    rung: int = 0
    asked: Configuration | None = None

    @property
    def key(self) -> str:
        """Key of the configuration that was asked for."""
        return (self.asked or self.configuration).key

    @property
    def predictions(self) -> NDArray[np.int64]:
        """Most probable class of every row, shape (n_samples,), int64; the lowest code wins a tie."""
        classes: NDArray[np.int64] = self.oof.argmax(axis=1)
        return classes


def fold_scores_of(
    predictions: NDArray[np.int64],
    y: NDArray[np.int64],
    folds: Sequence[Fold],
    *,
    n_classes: int,
    metric: str,
) -> list[float]:
    """Score the validation rows of each fold on their own.

    Parameters
    ----------
    predictions, y : ndarray of shape (n_samples,), int64
        Class codes.
    folds : sequence of (train, valid)
    n_classes : int
    metric : str
        A score name.

    Returns
    -------
    list of float
        In fold order.
    """
    return [float(score(confusion(y[valid], predictions[valid], n_classes), metric)) for _, valid in folds]


def fold_seed(random_state: int, fold: int) -> int:
    """Return the seed of a fold, shared by all configurations, so that they differ by merit and not by luck.

    Parameters
    ----------
    random_state : int
        Of the whole search.
    fold : int
        Its position.

    Returns
    -------
    int
        In [0, 2^31).
    """
    words = np.random.SeedSequence([random_state, fold]).generate_state(1)
    return int(words[0] >> 1)  # 31 bits: LightGBM's seeds are signed 32-bit integers


def evaluate(
    configuration: Configuration,
    X: ArrayLike,
    y: ArrayLike,
    folds: Sequence[Fold],
    *,
    views: Any = None,
    blocks: Mapping[str, int] | None = None,
    n_classes: int,
    metric: str = "macro-f1",
    random_state: int = 0,
    number: int = 0,
    on_fold: Callable[[int], None] | None = None,
) -> Trial:
    """Cross-validate one configuration.

    Parameters
    ----------
    configuration : Configuration
    X : array-like of shape (n_samples, n_features), float32
        Anything with ``shape`` that slices by row numbers (an HDF5 dataset does). A block without a valid
        embedding is NaN in that row; the pipeline imputes it from training rows. Rows of a matrix on disk
        that is too big for memory stay there where the head allows it (``heads.trains_by_chunks``).
    y : array-like of shape (n_samples,), integer
        Class codes 0 .. n_classes - 1.
    folds : sequence of (train, valid)
        From `make_folds`.
    views : array-like of shape (n_views, n_samples, n_features), or None
        Augmented views of the rows of X. In each fold those of the training rows are trained on too; those
        of the validation rows are not read.
    blocks : mapping of str to int, or None
        Block name to width, in column order.
    n_classes : int
    metric : str
        A score name.
    random_state : int
        Each fold has its own seed made from this one.
    number : int
        Stored in the result.
    on_fold : callable or None
        Told the position of each fold when it begins.

    Returns
    -------
    Trial

    Raises
    ------
    ValueError
        When ``y``, ``folds`` or ``views`` are wrong, the head or resampler refuses its parameters or training
        rows, or training diverged: what is returned is finite.

    Notes
    -----
    Each fold fits a fresh pipeline on its training rows (and their views) only. A class that a training fold
    lacks gets probability 0.
    """
    codes = class_codes(y, n_classes)
    check_partition(folds, len(codes))
    rows: Any = X if hasattr(X, "shape") else np.asarray(X)  # an HDF5 dataset is read fold by fold
    oof = np.zeros((len(codes), n_classes), dtype=np.float32)
    started = time.perf_counter()
    for fold, (train, valid) in enumerate(folds):
        if on_fold is not None:
            on_fold(fold)
        pipeline = heads.make_pipeline(
            configuration.head,
            blocks=blocks,
            resampler=configuration.resampler,
            parameters=configuration.parameters,
            random_state=fold_seed(random_state, fold),
        )
        heads.fit_with_views(pipeline, rows, codes, views, rows=train)
        found = pipeline.predict_proba(heads.select_rows(rows, valid))
        if not np.isfinite(found).all():
            raise ValueError(
                f"Training diverged: probabilities of fold {fold} are not finite. Use a smaller "
                "learning_rate, or look for extreme values in X."
            )
        oof[np.ix_(valid, pipeline.classes_)] = found
    seconds = time.perf_counter() - started
    fold_scores = fold_scores_of(oof.argmax(axis=1), codes, folds, n_classes=n_classes, metric=metric)
    return Trial(
        number=number,
        configuration=configuration,
        score=float(np.mean(fold_scores)),
        fold_scores=fold_scores,
        seconds=seconds,
        oof=oof,
    )
