"""What a search found, written as a run folder: tables, the fitted model, its answers, scores and page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.after import applied_entry
from pipelines.applied_steps import EXTRA, fit_applied
from pipelines.class_parameters import with_class_codes
from pipelines.console import tell
from pipelines.matrices import Matrix
from pipelines.metrics import metrics_of_run, test_scores
from pipelines.report import write_report
from pipelines.runs import (
    METRICS,
    MODEL,
    OUT_OF_FOLD,
    PREDICTIONS,
    REPORT,
    TRIALS,
    RunFolder,
    write_json,
    write_out_of_fold,
    write_predictions,
    write_trials,
)
from pipelines.training_trace import silent_block_notes, write_training_trace
from pipelines.tune_settings import TuneSettings
from tuning import Configuration

if TYPE_CHECKING:
    from heads import AfterSteps
    from pipelines.zero_shot import ClassPrompts
    from tuning import Finalists, SearchResult


def write_run(
    run: RunFolder,
    found: SearchResult,
    matrix: Matrix,
    settings: TuneSettings,
    began: float,
    prompts: ClassPrompts | None,
    *,
    timed_out: bool,
    finalists: Finalists | None,
    decided: bool,
) -> None:
    """Fit the winner on all labelled rows and write everything that a run folder holds.

    Parameters
    ----------
    run : RunFolder
        Being worked in.
    found : SearchResult
    matrix : Matrix
    settings : TuneSettings
    began : float
        Reading of ``time.perf_counter`` when the command began.
    prompts : ClassPrompts or None
        Of a zero-shot head.
    timed_out : bool
    finalists : Finalists or None
        From `repeated_finalists`.
    decided : bool
        Whether they chose the winner.
    """
    rows, names, applied = matrix.training, matrix.class_names, settings.applied
    folder = run.result
    pipeline = _fit_final(found.trials[found.best].configuration, matrix, settings.seed, prompts)
    for note in silent_block_notes(pipeline):
        tell(f"note: {note}")
    _write_search(folder, found, matrix)
    steps = fit_applied(applied, found, matrix.labels[rows], names, pipeline.classes_)
    _write_model(run, pipeline, matrix, None if applied.is_nothing else steps)
    tags = _predict_tags(pipeline, matrix.rows(matrix.unlabelled), names, steps)
    write_predictions(folder / PREDICTIONS, [matrix.ids[i] for i in matrix.unlabelled], tags)
    metrics = metrics_of_run(
        found,
        matrix.labels[rows],
        names,
        groups=matrix.groups[rows],
        test=test_scores(pipeline, matrix, steps),
        finalists=finalists,
        decided=decided,
        random_state=settings.seed,
    )
    if not applied.is_nothing:
        metrics["after"]["applied"] = applied_entry(
            applied,
            found,
            matrix.labels[rows],
            names,
            pipeline.classes_,
            random_state=settings.seed,
            groups=matrix.groups[rows],
        )
    metrics["stopped_by_timeout"] = timed_out
    metrics["n_parameters"] = int(pipeline.named_steps["head"].n_parameters)
    metrics["seconds"] = round(time.perf_counter() - began, 3)
    write_json(folder / METRICS, metrics)
    write_json(folder / "config.json", run.config)
    write_report(folder, folder / REPORT, title=run.path.name)


def _fit_final(
    configuration: Configuration, matrix: Matrix, seed: int, prompts: ClassPrompts | None = None
) -> Any:
    """Fit a configuration on all labelled rows outside the test split, and on their views."""
    from heads import fit_with_views, make_pipeline

    configuration = with_class_codes(configuration, matrix.class_names)
    if prompts is not None:
        from pipelines.zero_shot import zero_shot_pipeline

        return zero_shot_pipeline(configuration, matrix, prompts, matrix.training, seed)
    pipeline = make_pipeline(
        configuration.head,
        blocks=matrix.blocks,
        resampler=configuration.resampler,
        parameters=dict(configuration.parameters),
        random_state=seed,
    )
    return fit_with_views(pipeline, matrix.X, matrix.labels, matrix.views, rows=matrix.training)


def _write_search(folder: Path, found: SearchResult, matrix: Matrix) -> None:
    """Write the table of trials, and the winner's out-of-fold probabilities."""
    write_trials(folder / TRIALS, [*found.trials, *found.dropped], found.failures)
    write_out_of_fold(
        folder / OUT_OF_FOLD,
        [matrix.ids[i] for i in matrix.training],
        found.fold_of_row,
        [matrix.class_names[code] for code in matrix.labels[matrix.training]],
        found.trials[found.best].oof,
        matrix.class_names,
    )


def _write_model(run: RunFolder, pipeline: Any, matrix: Matrix, steps: AfterSteps | None) -> None:
    """Write the fitted model with what `predict` needs besides, and how its training went."""
    from heads import save_model

    rows, folder = matrix.training, run.result / MODEL
    extra: dict[str, Any] = {"spaces": run.config["spaces"]}
    if matrix.terms:
        extra["terms"] = {block: list(terms) for block, terms in matrix.terms.items()}
    if steps is not None:
        extra[EXTRA] = steps.as_dict()
    names = [matrix.class_names[code] for code in pipeline.classes_]
    save_model(pipeline, folder, classes=names, extra=extra)
    write_training_trace(folder, pipeline, matrix.rows(rows), [matrix.ids[i] for i in rows])


def _predict_tags(pipeline: Any, X: np.ndarray, class_names: Sequence[str], steps: AfterSteps) -> list[str]:
    """Return the class name of every row, after calibration and decision."""
    if not len(X):
        return []
    codes = pipeline.classes_[steps.codes(steps.probabilities(pipeline.predict_proba(X)))]
    return [class_names[code] for code in codes]
