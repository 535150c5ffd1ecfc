"""After training: what calibration, decision weights and an ensemble are worth on the rows of a search."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from pipelines.applied_steps import AppliedSteps, nested_results
from tuning import cv_summary, score

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tuning import SearchResult

#: What each entry of ``metrics["after"]`` did, in the order of tables.
AFTER = {
    "none": "as trained",
    "temperature": "temperature scaling",
    "vector": "vector scaling",
    "decision_weights": "decision weights",
    "greedy": "ensemble of the search",
    "applied": "what predict applies",
}


def after_training(
    found: SearchResult, y: np.ndarray, *, random_state: int, groups: np.ndarray | None = None
) -> dict[str, dict[str, Any]]:
    """Score every step after training, nested over the folds of the search.

    Parameters
    ----------
    found : SearchResult
    y : ndarray of shape (n_samples,), integer
        Class codes of the rows that were cross-validated.
    random_state : int
        Of the ensemble's bags and of the bootstrap.
    groups : ndarray of shape (n_samples,), integer, or None
        Related rows have equal numbers; intervals are over draws of groups.

    Returns
    -------
    dict
        A key for each of `AFTER` but ``applied`` (see `applied_entry`): the scores of `tuning.cv_summary`,
        and ``log_loss`` (nats) and ``ece`` of all rows pooled, None where a step gives no probabilities. What
        is scored on a fold was fitted on the others. All but ``greedy`` start from the winner, which was
        chosen on all rows; ``greedy`` chooses anew without the fold it is scored on.
    """
    from heads import fit_decision_weights as fit_weights
    from heads import fit_greedy, fit_temperature, fit_vector_scaling, nested_apply

    winner = found.trials[found.best].oof
    metric = partial(score, name=found.metric)
    fold_of_row = found.fold_of_row
    fits: dict[str, tuple[Any, np.ndarray]] = {
        "temperature": (fit_temperature, winner),
        "vector": (fit_vector_scaling, winner),
        "decision_weights": (partial(fit_weights, metric=metric), winner),
        "greedy": (
            partial(fit_greedy, metric=metric, random_state=random_state),
            np.stack([trial.oof for trial in found.trials]),
        ),
    }
    # One thread: sums over several may differ in the last bits from run to run, and a replay must not.
    with threadpool_limits(limits=1, user_api="blas"):
        results = {"none": winner} | {
            name: nested_apply(fit, oof, y, fold_of_row) for name, (fit, oof) in fits.items()
        }
    return {name: _scored(result, found, y, random_state, groups) for name, result in results.items()}


def applied_entry(
    asked: AppliedSteps,
    found: SearchResult,
    y: np.ndarray,
    class_names: Sequence[str],
    model_codes: np.ndarray,
    *,
    random_state: int,
    groups: np.ndarray | None = None,
) -> dict[str, Any]:
    """Return the entry ``applied`` of ``metrics["after"]``: what was asked for, nested over the folds.

    Parameters
    ----------
    asked, found, y, class_names, model_codes
        As for `applied_steps.fit_applied`.
    random_state : int
        Of the bootstrap.
    groups : ndarray of shape (n_samples,), integer, or None
        As for `after_training`.

    Returns
    -------
    dict
        As the other entries of `after_training`.
    """
    folds = found.fold_of_row
    result = nested_results(asked, found, y, class_names, model_codes, folds)
    return _scored(result, found, y, random_state, groups)


def _scored(
    result: np.ndarray,
    found: SearchResult,
    y: np.ndarray,
    random_state: int,
    groups: np.ndarray | None,
) -> dict[str, Any]:
    from heads import step_scores

    votes = np.eye(found.n_classes)[result] if result.ndim == 1 else result
    summary = cv_summary(
        votes, y, found.folds, n_classes=found.n_classes, groups=groups, random_state=random_state
    )
    quality = step_scores(result, y, found.n_classes)
    return {**summary, **{key: _rounded(quality.get(key)) for key in ("log_loss", "ece")}}


def _rounded(value: float | None) -> float | None:
    """Drop digits in which two machines, or one and two threads, may differ."""
    return None if value is None else round(value, 6)


def has_ensemble(metrics: Mapping[str, Any]) -> bool:
    """Tell whether a run has several trials: an ensemble of one is that trial.

    Parameters
    ----------
    metrics : mapping
        What ``metrics.json`` of a run holds; one without counts is of one trial.
    """
    return bool(metrics.get("n_trials", 1) != 1)


def after_rows(metrics: Mapping[str, Any], scores: Sequence[str]) -> list[list[str]]:
    """Return table rows: what was done, the given scores, log loss and calibration error."""
    rows = []
    for name, label in AFTER.items():
        if name not in metrics["after"] or (name == "greedy" and not has_ensemble(metrics)):
            continue
        entry = metrics["after"][name]
        means = [f"{entry[shown]['mean']:.3f}" for shown in scores]
        quality = ["-" if entry[key] is None else f"{entry[key]:.3f}" for key in ("log_loss", "ece")]
        rows.append([label, *means, *quality])
    return rows
