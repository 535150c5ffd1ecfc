"""``embedonce tune`` and ``embedonce train``: matrices in, a finished run folder out."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from heads import HEADS, OTHER_HEADS
from pipelines.applied_steps import check_preferred
from pipelines.class_parameters import with_class_codes
from pipelines.console import tell
from pipelines.duplicates import duplicate_settings
from pipelines.errors import UsageError
from pipelines.finalists import repeated_finalists, repeats_of
from pipelines.matrices import Matrix, read_matrix
from pipelines.named_stores import default_features
from pipelines.placed_rows import fold_teller, placed_rows
from pipelines.presets import settle_preset
from pipelines.run_results import RunResult
from pipelines.runs import (
    METRICS,
    RunFolder,
    noted_weights,
    read_json,
)
from pipelines.scoreboard import TrialPrinter
from pipelines.search_spaces import planned_search
from pipelines.trainable import check_trainable, matrix_folds, split_notes
from pipelines.tune_settings import TuneSettings, single_configuration
from pipelines.written_run import write_run
from tuning import score_name

if TYPE_CHECKING:
    from optuna.study import Study

    from pipelines.zero_shot import ClassPrompts
    from tuning import Finalists, Fold, SearchResult


def tune(settings: TuneSettings) -> RunResult:
    """Search for the best head with cross-validation and write the run folder."""
    unsearched = [head for head in settings.heads if head in OTHER_HEADS]
    if unsearched:
        raise UsageError(
            f"Head(s) {', '.join(map(repr, unsearched))} have nothing to search. Use embedonce train --head "
            f"{unsearched[0]}, or tune {', '.join(HEADS)}."
        )
    return _run("tune", settings)


def train(settings: TuneSettings) -> RunResult:
    """Cross-validate and fit one configuration and write the run folder."""
    return _run("train", settings)


def _run(command: str, settings: TuneSettings) -> RunResult:
    began = time.perf_counter()
    specs = settings.features or tuple(default_features())
    with ExitStack() as stores:
        matrix = read_matrix(
            specs,
            use_views=settings.use_views,
            duplicates=settings.duplicates,
            stay_open=stores if command == "train" else None,
        )
        return _run_on(matrix, command, settings, began)


def _run_on(matrix: Matrix, command: str, settings: TuneSettings, began: float) -> RunResult:
    settings, notes = settle_preset(settings, matrix)
    for note in (*matrix.notes, *split_notes(matrix), *notes):
        tell(f"note: {note}")
    run = RunFolder(settings.out, settings.study, run_config(command, settings, matrix))
    if run.is_done:
        return RunResult(run.path, read_json(run.path / METRICS), nothing_to_do=True)
    prompts, settings = _checked(command, settings, matrix)
    # Only now: a finished run and a wrong setting need no rows, and reading many takes minutes.
    on_disk = matrix.is_on_disk
    matrix = placed_rows(matrix, single_configuration(settings)) if on_disk else matrix.in_memory()
    study = _shared_study(settings)  # and a storage that cannot be opened
    with run.working():
        matrix.put_in_order()
        asked = time.perf_counter()
        folds = matrix_folds(matrix, settings.folds, settings.seed)
        if command == "train":
            found = _evaluated(settings, matrix, folds, prompts)
        else:
            found = _search(settings, matrix, folds, run, study)
        deadline = None if settings.timeout is None else asked + settings.timeout
        timed_out = deadline is not None and time.perf_counter() >= deadline
        found, finalists = _finalists(command, settings, found, matrix, deadline)
        write_run(
            run,
            found,
            matrix,
            settings,
            began,
            prompts,
            timed_out=timed_out,
            finalists=finalists,
            decided=finalists is not None and settings.select == "best",
        )
        path = run.publish()
    return RunResult(path, read_json(path / METRICS), nothing_to_do=False)


def _checked(
    command: str, settings: TuneSettings, matrix: Matrix
) -> tuple[ClassPrompts | None, TuneSettings]:
    """Name what is wrong before anything is written; return prompts, and settings with their scale."""
    check_trainable(matrix, settings.folds)
    present = np.unique(matrix.labels[matrix.training])
    check_preferred(settings.applied, [matrix.class_names[code] for code in present])
    prompts = None
    if settings.heads == ("zero-shot",):
        prompts, settings = _with_prompts(settings, matrix)
    if command == "train":
        with_class_codes(single_configuration(settings), matrix.class_names)
    else:
        planned_search(settings, matrix)
    return prompts, settings


def run_config(command: str, settings: TuneSettings, matrix: Matrix) -> dict[str, Any]:
    """Return everything that ``config.json`` records."""
    from extract import library_versions

    values = asdict(settings)
    del values["out"], values["duplicates"]
    values.update(
        command=command,
        features=[f"{ref.path}:{ref.space}" for ref in matrix.spaces],
        heads=list(settings.heads),
        parameters=dict(settings.parameters or {}),
        spaces=[asdict(ref) for ref in matrix.spaces],
        class_names=list(matrix.class_names),
        versions=library_versions(),
        **duplicate_settings([matrix.related]),
    )
    # The spelling of the specs does not change the result; their spaces are recorded beside.
    del values["features"]
    # What is used is recorded, not how it was asked for: 'all' of other stores would be another number.
    # Stores without views have no such setting, so that their runs keep the names they have always had.
    del values["use_views"]
    for name in ("preset", "space", "grid"):
        if not values[name]:
            del values[name]
    if settings.repeats is None:
        del values["repeats"]
    for name, usual in (("select", "best"), ("calibrate", "none"), ("decide", "argmax")):
        if values[name] == usual:
            del values[name]
    del values["weights"]
    values |= noted_weights(settings.weights)
    if matrix.stored_views:
        values["use_views"] = 0 if matrix.views is None else len(matrix.views)
    return values


def _with_prompts(settings: TuneSettings, matrix: Matrix) -> tuple[ClassPrompts, TuneSettings]:
    """Embed the prompts of a zero-shot head, and note the scale that belongs to them."""
    from pipelines.prediction_rows import EmbeddingOptions
    from pipelines.zero_shot import DEFAULT_PROMPTS, class_prompts

    given = dict(settings.parameters or {})
    templates = tuple(given.get("prompts") or DEFAULT_PROMPTS)
    how = EmbeddingOptions(weights=settings.weights or {})
    prompts = class_prompts(matrix, templates, how, scale=given.get("scale"))
    return prompts, replace(
        settings, parameters={**given, "prompts": list(templates), "scale": prompts.scale}
    )


def _shared_study(settings: TuneSettings) -> Study | None:
    """Open the study that other processes may share; None where the run keeps its own."""
    from tuning import open_study

    if not settings.storage:
        return None
    return open_study(settings.study, settings.storage, random_state=settings.seed)


def _search(
    settings: TuneSettings, matrix: Matrix, folds: list[Fold], run: RunFolder, study: Study | None
) -> SearchResult:
    """Search for the best configuration, or the simplest that is as good."""
    from tuning import search, simplest_within_one_se

    rows = matrix.training
    space, grid = planned_search(settings, matrix)
    printer = TrialPrinter(settings.trials if grid is None else len(grid), settings.metric)
    found = search(
        matrix.X[rows],
        matrix.labels[rows],
        heads=settings.heads,
        n_trials=settings.trials,
        views=matrix.training_views,
        blocks=matrix.blocks,
        folds=folds,
        n_classes=len(matrix.class_names),
        metric=settings.metric,
        random_state=settings.seed,
        timeout=settings.timeout,
        space=space,
        grid=grid,
        study=study,
        recall=run.memory,
        on_trial=printer,
        on_step=printer.step,
    )
    if settings.select == "simplest":
        chosen = simplest_within_one_se(
            found.trials,
            matrix.labels[rows],
            folds,
            found.n_classes,
            settings.metric,
            groups=matrix.groups[rows],
            random_state=settings.seed,
        )
        found = replace(found, best=chosen)
    return found


def _evaluated(
    settings: TuneSettings, matrix: Matrix, folds: list[Fold], prompts: ClassPrompts | None
) -> SearchResult:
    """Cross-validate the one configuration that was asked for: a search with one trial."""
    from tuning import SearchResult, evaluate

    configuration = single_configuration(settings)
    coded = with_class_codes(configuration, matrix.class_names)
    if prompts is not None:
        from pipelines.zero_shot import zero_shot_trial

        trial = zero_shot_trial(coded, matrix, prompts, folds, metric=settings.metric, seed=settings.seed)
    else:
        rows = matrix.training
        trial = evaluate(
            coded,
            matrix.rows(rows),
            matrix.labels[rows],
            folds,
            blocks=matrix.blocks,
            n_classes=len(matrix.class_names),
            metric=settings.metric,
            random_state=settings.seed,
            views=matrix.training_views,
            on_fold=fold_teller(len(folds)) if matrix.is_on_disk else None,
        )
    trial = replace(trial, configuration=configuration)
    return SearchResult([trial], [], 0, 0, folds, score_name(settings.metric), len(matrix.class_names))


def _finalists(
    command: str,
    settings: TuneSettings,
    found: SearchResult,
    matrix: Matrix,
    deadline: float | None,
) -> tuple[SearchResult, Finalists | None]:
    """Let other splits decide among the best few, where a search was made and it is asked for or usual."""
    if command == "train":
        return found, None
    decides = settings.select == "best"
    n_repeats = repeats_of(
        settings.repeats,
        n_trials=len(found.trials) + len(found.dropped),
        shape=(len(matrix.training), matrix.X.shape[1]),
        decides=decides,
    )
    return repeated_finalists(
        found,
        matrix,
        n_repeats=n_repeats,
        random_state=settings.seed,
        deadline=deadline,
        decides=decides,
    )
