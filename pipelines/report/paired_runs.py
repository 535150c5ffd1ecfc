"""Runs compared row by row with the first of them, as far as they have the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cache import StoreError
from pipelines.errors import RunError
from pipelines.report.evidence import Evidence, OutOfFold
from pipelines.runs import OUT_OF_FOLD


def paired_runs(runs: Sequence[Evidence], metric: str) -> tuple[list[tuple[str, dict[str, Any]]], list[str]]:
    """Compare every run with the first.

    Parameters
    ----------
    runs : sequence of Evidence
        Two or more.
    metric : str

    Returns
    -------
    compared : list of (title, comparison)
        ``difference`` to the first run with ``ci95`` and ``p_value`` (paired bootstrap), ``p_holm`` with
        Holm's correction over the runs, ``verdict``, and ``same_folds``: whether scores are means over folds,
        or of all rows pooled because the folds differ.
    reasons : list of str
        One sentence for each run that cannot be compared row by row; one more if rows are drawn one by one,
        because it is not known any more which of them are related.
    """
    from pipelines.ablation.comparing import with_holm

    first, reasons = runs[0], [_not_paired(runs[0], run) for run in runs[1:]]
    paired = [
        (run.title, run.rows)
        for run, reason in zip(runs[1:], reasons, strict=True)
        if not reason and run.rows is not None
    ]
    reasons = [reason for reason in reasons if reason]
    if first.rows is None or not paired:
        return [], reasons
    groups, why = _groups(first, first.rows)
    reasons += [why] if why else []
    compared = [(title, _compared(rows, first.rows, groups, metric)) for title, rows in paired]
    with_holm([found for _, found in compared])
    return compared, reasons


def _groups(first: Evidence, rows: OutOfFold) -> tuple[np.ndarray | None, str]:
    """Return which rows are related, or None and a sentence that says why that is not known."""
    from pipelines.recorded_winner import recorded_groups

    try:
        return recorded_groups(first.folder, first.config, rows.ids), ""
    except (RunError, StoreError) as error:
        return None, f"Intervals and p-values take every row for itself, related ones too: {error}"


def _compared(mine: OutOfFold, first: OutOfFold, groups: np.ndarray | None, metric: str) -> dict[str, Any]:
    from tuning import paired_difference

    places = {guid: k for k, guid in enumerate(mine.ids)}
    order = np.array([places[guid] for guid in first.ids])
    same_folds = np.array_equal(mine.folds[order], first.folds)
    folds = [
        (np.flatnonzero(first.folds != fold), np.flatnonzero(first.folds == fold))
        for fold in np.unique(first.folds)
    ]
    found = paired_difference(
        mine.probabilities[order],
        first.probabilities,
        first.y,
        n_classes=len(first.classes),
        metric=metric,
        folds=folds if same_folds else None,
        groups=groups,
    )
    return {**found, "same_folds": same_folds}


def _not_paired(first: Evidence, run: Evidence) -> str:
    """Say why two runs cannot be compared row by row; empty when they can."""
    for one in (first, run):
        if one.rows is None:
            return f"{run.title} is not compared row by row: {one.missing[OUT_OF_FOLD]}"
    assert first.rows is not None and run.rows is not None
    labels = [
        dict(zip(r.ids, (r.classes[code] for code in r.y), strict=True)) for r in (first.rows, run.rows)
    ]
    if labels[0] != labels[1] or first.rows.classes != run.rows.classes:
        return f"{run.title} is not compared row by row: its rows or classes are not those of {first.title}."
    return ""
