"""Scores of ``embedonce augment``: every variant, and targeted views against none and random ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.ablation.comparing import with_holm
from pipelines.ablation.fitting import FitData
from pipelines.targeting import NONE, TARGETED, Target
from tuning import Fold, cv_summary, mean_paired_difference, score_name


def _inside(targets: Sequence[Target]) -> np.ndarray:
    """Return the scored rows that lie in the slices which their own outer fold chose."""
    return np.sort(np.concatenate([target.held_out[target.inside] for target in targets]))


def _folds(targets: Sequence[Target]) -> list[Fold]:
    return [(target.train, target.held_out) for target in targets]


def described_variants(
    oof: Mapping[str, np.ndarray],
    viewed: Mapping[str, Sequence[np.ndarray]],
    data: FitData,
    groups: np.ndarray,
    targets: Sequence[Target],
    *,
    seed: int,
) -> list[dict[str, Any]]:
    """Return what ``metrics.json`` says of every variant.

    Parameters
    ----------
    oof : mapping of str to ndarray of shape (n_rows, n_classes)
        From `targeting.fit_variants`.
    viewed : mapping of str to sequence of ndarray
        From `targeting.viewed_rows`.
    data : FitData
    groups : ndarray of shape (n_rows,), integer
    targets : sequence of Target
    seed : int
        Of the bootstrap.

    Returns
    -------
    list of dict
        ``variant``, ``rows_with_views`` (mean over the outer folds), ``cv`` as `tuning.cv_summary`, and
        ``accuracy_inside`` the slices that a row's fold chose, None when no scored row is in any.
    """
    inside, folds = _inside(targets), _folds(targets)
    return [
        {
            "variant": name,
            "rows_with_views": round(float(np.mean([len(rows) for rows in viewed[name]]))),
            "cv": cv_summary(
                p, data.y, folds, groups=groups, n_classes=len(data.class_names), random_state=seed
            ),
            "accuracy_inside": float(np.mean(p[inside].argmax(axis=1) == data.y[inside]))
            if len(inside)
            else None,
        }
        for name, p in oof.items()
    ]


def compared_variants(
    oof: Mapping[str, np.ndarray],
    data: FitData,
    groups: np.ndarray,
    targets: Sequence[Target],
    *,
    metric: str,
    seed: int,
) -> list[dict[str, Any]]:
    """Compare targeted views with none and with random ones, on all rows and inside the slices.

    Parameters
    ----------
    oof, data, groups, targets, seed
        As for `described_variants`.
    metric : str
        Of all rows; inside the slices it is accuracy, because few of their rows may be of a class.

    Returns
    -------
    list of dict
        ``against``, ``rows``, ``score``, the paired difference as `tuning.mean_paired_difference`, and
        p-value with Holm's correction and verdict over the whole list.
    """
    codes = {name: p.argmax(axis=1) for name, p in oof.items()}
    others = {NONE: [codes[NONE]], "random": [codes[name] for name in codes if name.startswith("random")]}
    inside = _inside(targets)
    whole = [(np.empty(0, dtype=np.int64), np.arange(len(inside)))]
    kinds = [("all", np.arange(len(data.y)), _folds(targets), score_name(metric))]
    if len(inside):
        kinds.append(("inside the slices", inside, whole, "accuracy"))
    compared: list[dict[str, Any]] = [
        {
            "against": name,
            "rows": kind,
            "score": judged_by,
            **mean_paired_difference(
                codes[TARGETED][part],
                [model[part] for model in models],
                data.y[part],
                parts,
                groups=groups[part],
                n_classes=len(data.class_names),
                metric=judged_by,
                random_state=seed,
            ),
        }
        for kind, part, parts, judged_by in kinds
        for name, models in others.items()
    ]
    with_holm(compared)
    return compared
