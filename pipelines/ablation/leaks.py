"""Leaks: what a configuration seems to score when validation rows reach the training rows, as in reports.

Nothing here is a result. Each practice was found in a report; the table shows what it adds to the honest
score of the same configuration on the same folds, so that such a figure is recognised elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from heads import BlockImputer, make_resampler
from pipelines.ablation.feature_sets import FeatureSets
from pipelines.ablation.fitting import FitData, fit_and_predict, fit_pool
from pipelines.ablation.grid import Candidate
from tuning import Configuration, Fold, cv_summary, fold_seed, make_folds

HONEST = "honest"
HONEST_SMOTE = "honest, SMOTE inside the training folds"
MERGED = "LEAKY: validation rows merged into training"
SMOTE_FIRST = "LEAKY: SMOTE before the split"
AUGMENTED_ERRORS = "LEAKY: views of wrong validation rows trained on"

#: Practice -> why its figure means nothing.
WHY = {
    HONEST: "trained on the other folds only",
    HONEST_SMOTE: "synthetic rows are made of training rows, and only real rows are scored",
    MERGED: "the model is asked for rows whose labels it was told",
    SMOTE_FIRST: "rows made between two neighbours lie on both sides of the split, and are scored too",
    AUGMENTED_ERRORS: "the wrong rows were found by their labels, and their views tell the labels",
}
_VIEWS_MISSING = "not run: the stores hold no views; extract with --views 2 to see it"


@dataclass(frozen=True)
class _Job:
    """One practice: on which rows it trains in each fold, and which it scores."""

    practice: str
    configuration: Configuration
    data: FitData
    folds: Sequence[Fold]
    groups: np.ndarray | None  # of the rows of `data`; None: synthetic rows are related to nobody


def leaky_table(
    row: Candidate, oof: np.ndarray, sets: FeatureSets, folds: Sequence[Fold], *, seed: int
) -> list[dict[str, Any]]:
    """Score one configuration honestly and with the leaks of the reports.

    Parameters
    ----------
    row : Candidate
        The reference row of a table.
    oof : ndarray of shape (n_training, n_classes)
        Its honest out-of-fold probabilities.
    sets : FeatureSets
    folds : sequence of (train, valid)
    seed : int

    Returns
    -------
    list of dict
        ``practice``, ``leaky``, ``cv`` (scores as `tuning.cv_summary`, of the rows that the practice would
        score), ``n_scored``, ``honest`` (the practice that it should be compared with), ``why``. A practice
        that needs views has ``cv`` None without them, and ``why`` says so.
    """
    data, groups = _training_data(row, sets), sets.groups
    jobs = [
        _Job(MERGED, row.configuration, data, [(np.concatenate(fold), fold[1]) for fold in folds], groups),
        _smote_first(row.configuration, data, len(folds), seed),
    ]
    smote = replace(row.configuration, resampler="smote")
    if row.configuration.resampler != "smote":
        jobs.append(_Job(HONEST_SMOTE, smote, data, folds, groups))
    if data.views is not None:
        jobs.append(_augmented_errors(row.configuration, data, oof, folds, groups))
    honest = _Job(HONEST, row.configuration, data, folds, groups)
    found = {job.practice: _described(job, p, seed) for job, p in [(honest, oof), *_fitted(jobs, seed)]}
    if HONEST_SMOTE not in found:
        found[SMOTE_FIRST]["honest"] = HONEST  # whose own resampler is SMOTE
    if AUGMENTED_ERRORS not in found:
        found[AUGMENTED_ERRORS] = {
            "practice": AUGMENTED_ERRORS,
            "leaky": True,
            "cv": None,
            "n_scored": 0,
            "honest": HONEST,
            "why": _VIEWS_MISSING,
        }
    return [found[practice] for practice in WHY if practice in found]


def _training_data(row: Candidate, sets: FeatureSets) -> FitData:
    """Return the training rows of a table's row, renumbered from 0, with all stored views."""
    matrix = sets.matrices[row.feature_set]
    views, training = matrix.view_columns(row.blocks), matrix.training
    return FitData(
        matrix.columns(row.blocks)[training],
        matrix.labels[training],
        {block: matrix.blocks[block] for block in row.blocks},
        matrix.class_names,
        None if views is None else views[:, training],
    )


def _smote_first(configuration: Configuration, data: FitData, n_folds: int, seed: int) -> _Job:
    """Resample all rows, then split them: real and synthetic rows are trained on and scored alike."""
    whole = BlockImputer(blocks=dict(data.blocks)).fit_transform(data.X)
    sampler = make_resampler("smote", random_state=seed)
    assert sampler is not None  # only "none" has none
    X, y = sampler.fit_resample(whole, data.y)
    resampled = FitData(X.astype(np.float32), y, data.blocks, data.class_names)
    folds = make_folds(y, n_folds=n_folds, random_state=seed)
    return _Job(SMOTE_FIRST, replace(configuration, resampler="none"), resampled, folds, None)


def _augmented_errors(
    configuration: Configuration,
    data: FitData,
    oof: np.ndarray,
    folds: Sequence[Fold],
    groups: np.ndarray,
) -> _Job:
    """Train on views of the validation rows that the honest model got wrong, then score those rows."""
    assert data.views is not None
    n, wrong = len(data.y), np.flatnonzero(oof.argmax(axis=1) != data.y)
    X = np.concatenate([data.X, *(view[wrong] for view in data.views)])
    origin = np.concatenate([np.arange(n), np.tile(wrong, len(data.views))])
    added = np.arange(n, len(X))
    leaked = [
        (np.concatenate([train, added[np.isin(origin[added], valid)]]), valid) for train, valid in folds
    ]
    widened = FitData(X, data.y[origin], data.blocks, data.class_names)
    return _Job(AUGMENTED_ERRORS, configuration, widened, leaked, groups[origin])


def _fitted(jobs: Sequence[_Job], seed: int) -> Iterable[tuple[_Job, np.ndarray]]:
    """Yield every job with the probabilities of the rows it holds out, zeros elsewhere."""
    with fit_pool({job.configuration.head for job in jobs}) as pool:
        waiting = [
            [
                pool.submit(
                    fit_and_predict,
                    job.configuration,
                    replace(job.data, views=None),
                    train,
                    held_out,
                    seed=fold_seed(seed, fold),
                )
                for fold, (train, held_out) in enumerate(job.folds)
            ]
            for job in jobs
        ]
        for job, parts in zip(jobs, waiting, strict=True):
            p = np.zeros((len(job.data.y), len(job.data.class_names)), dtype=np.float32)
            for (_, held_out), part in zip(job.folds, parts, strict=True):
                p[held_out] = part.result().probabilities
            yield job, p


def _described(job: _Job, p: np.ndarray, seed: int) -> dict[str, Any]:
    n_classes = len(job.data.class_names)
    return {
        "practice": job.practice,
        "leaky": job.practice not in (HONEST, HONEST_SMOTE),
        "cv": cv_summary(p, job.data.y, job.folds, groups=job.groups, n_classes=n_classes, random_state=seed),
        "n_scored": int(sum(len(held_out) for _, held_out in job.folds)),
        "honest": HONEST_SMOTE if job.practice == SMOTE_FIRST else HONEST,
        "why": WHY[job.practice],
    }
