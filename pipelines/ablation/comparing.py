"""Comparisons: every row against one reference, and which differences are inside the noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.ablation.feature_sets import FeatureSets
from pipelines.ablation.fitted_rows import Fitted
from pipelines.ablation.grid import Candidate
from pipelines.metrics import class_scores
from tuning import Fold, cv_summary, holm, mcnemar, paired_difference

#: An adjusted p-value above it leaves a difference inside the noise.
ALPHA = 0.05
_N_BOOTSTRAP = 4999


def described_rows(
    rows: Sequence[Candidate],
    fitted: Mapping[str, Fitted],
    reference: Candidate,
    sets: FeatureSets,
    folds: Sequence[Fold],
    *,
    metric: str,
    seed: int,
) -> list[dict[str, Any]]:
    """Return what ``metrics.json`` says of each row.

    Parameters
    ----------
    rows : sequence of Candidate
    fitted : mapping of str to Fitted
        By `Candidate.key`.
    reference : Candidate
        The row that the others are compared with.
    sets : FeatureSets
    folds : sequence of (train, valid)
    metric : str
        The score whose differences are tested.
    seed : int
        Of the bootstrap.

    Returns
    -------
    list of dict
        ``cv`` has every score with its interval; ``against_reference`` is None for the reference, else the
        paired difference, its interval, its p-value, the p-value with Holm's correction over the table, the
        p-value of McNemar's test (accuracy), and a verdict.
    """
    found = [_described(row, fitted[row.key], sets, folds, seed) for row in rows]
    compared = [
        None
        if row.name == reference.name
        else compare(fitted[row.key], fitted[reference.key], sets, folds, metric=metric, seed=seed)
        for row in rows
    ]
    with_holm([values for values in compared if values is not None])
    for values, against in zip(found, compared, strict=True):
        values["against_reference"] = against
    return found


def _described(
    row: Candidate,
    fitted: Fitted,
    sets: FeatureSets,
    folds: Sequence[Fold],
    seed: int,
) -> dict[str, Any]:
    configuration, y, class_names = row.configuration, sets.labels, sets.samples.class_names
    return {
        "name": row.name,
        "set": row.feature_set,
        "features": row.shown_features,
        "head": row.head_label,
        "fusion": configuration.parameters.get("fusion"),
        "resampler": configuration.resampler,
        "views": row.n_views,
        "blocks": list(row.blocks),
        "cv": cv_summary(
            fitted.oof, y, folds, groups=sets.groups, n_classes=len(class_names), random_state=seed
        ),
        "per_class": class_scores(fitted.predictions, y, class_names),
        "n_parameters": fitted.n_parameters,
        "seconds": round(fitted.seconds, 3),
        "reported": dict(row.reported),
        "note": row.note,
    }


def compare(
    a: Fitted, b: Fitted, sets: FeatureSets, folds: Sequence[Fold], *, metric: str, seed: int
) -> dict[str, Any]:
    """Return how much better `a` is than `b` on the same rows, and two p-values."""
    y = sets.labels
    difference = paired_difference(
        a.oof,
        b.oof,
        y,
        groups=sets.groups,
        n_classes=len(sets.samples.class_names),
        metric=metric,
        folds=folds,
        n_bootstrap=_N_BOOTSTRAP,
        random_state=seed,
    )
    return {**difference, "mcnemar_p": mcnemar(a.predictions, b.predictions, y)}


def with_holm(compared: Sequence[dict[str, Any]]) -> None:
    """Add the corrected p-value and the verdict to the comparisons of one table."""
    for values, p in zip(compared, holm([values["p_value"] for values in compared]), strict=True):
        values["p_holm"] = float(p)
        values["verdict"] = verdict(values["difference"], float(p))


def verdict(difference: float, p_holm: float) -> str:
    """Return ``"better"``, ``"worse"`` or ``"inside the noise"``."""
    if p_holm > ALPHA or difference == 0:
        return "inside the noise"
    return "better" if difference > 0 else "worse"
