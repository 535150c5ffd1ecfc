"""``embedonce tune`` and ``embedonce train``: matrices in, a finished run folder out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cache import Split
from heads import HEADS, RESAMPLERS
from pipelines.class_parameters import with_class_codes
from pipelines.console import tell
from pipelines.errors import RunError, UsageError
from pipelines.matrices import Matrix, default_features, read_matrix
from pipelines.metrics import metrics_of_run, test_scores
from pipelines.presets import settle_preset
from pipelines.report import write_report
from pipelines.runs import (
    METRICS,
    MODEL,
    OUT_OF_FOLD,
    PREDICTIONS,
    REPORT,
    TRIALS,
    RunFolder,
    read_json,
    write_json,
    write_out_of_fold,
    write_predictions,
    write_trials,
)
from pipelines.scoreboard import TrialPrinter
from pipelines.search_spaces import planned_search
from pipelines.training_trace import write_training_trace
from tuning import Configuration, make_folds, score_name

if TYPE_CHECKING:
    from tuning import SearchResult


@dataclass(frozen=True)
class TuneSettings:
    """Settings of ``embedonce tune`` and ``train``, as on the command line.

    For ``train`` there is one head, `trials` is 1, and `resampler` and `parameters` may differ from the
    head's defaults; `preset` names what they come from (``presets.apply_preset``). `use_views` is how many of
    the stored augmented views are trained on, None for all. `space` is what a space file declares
    (``search_spaces.read_space``); with `grid` every combination of it is tried, and nothing else.
    `select` is ``"best"``, or ``"simplest"`` for the simplest trial within one standard error of the best.
    """

    features: tuple[str, ...] = ()
    heads: tuple[str, ...] = ("mlp", "logreg", "lightgbm")
    trials: int = 200
    metric: str = "macro-f1"
    folds: int = 5
    seed: int = 0
    timeout: float | None = None
    study: str | None = None
    storage: str | None = None
    out: Path = Path("runs")
    resampler: str = "none"
    parameters: Mapping[str, Any] | None = None
    use_views: int | None = None
    preset: str | None = None
    space: Mapping[str, Any] | None = None
    grid: bool = False
    select: str = "best"

    def __post_init__(self) -> None:
        faults = []
        unknown = [head for head in self.heads if head not in HEADS]
        if unknown or not self.heads:
            faults.append(
                f"heads {', '.join(map(repr, unknown)) or '(none)'} are not known; allowed are "
                f"{', '.join(HEADS)}"
            )
        if self.trials < 1:
            faults.append(f"trials {self.trials} must be at least 1")
        if self.folds < 2:
            faults.append(f"folds {self.folds} must be at least 2")
        if self.seed < 0:
            faults.append(f"seed {self.seed} must not be negative")
        if self.use_views is not None and self.use_views < 0:
            faults.append(f"use_views {self.use_views} must not be negative")
        if self.timeout is not None and self.timeout <= 0:
            faults.append(f"timeout {self.timeout} must be a positive number of seconds")
        if self.resampler not in RESAMPLERS:
            faults.append(f"resampler {self.resampler!r} is not known; allowed are {', '.join(RESAMPLERS)}")
        if self.storage is not None and self.study is None:
            faults.append("a storage needs a name for the study: add --study NAME")
        if self.study is not None and (Path(self.study).name != self.study or self.study in ("", ".", "..")):
            faults.append(f"study {self.study!r} must be a plain name: it becomes a folder in --out")
        try:
            score_name(self.metric)
        except ValueError as error:
            faults.append(str(error))
        if faults:
            raise UsageError("; ".join(faults))


@dataclass(frozen=True)
class RunResult:
    """A finished run, new or found.

    Attributes
    ----------
    path : Path
    metrics : dict
        As in ``metrics.json``.
    nothing_to_do : bool
        The run was there already.
    """

    path: Path
    metrics: dict[str, Any]
    nothing_to_do: bool


def tune(settings: TuneSettings) -> RunResult:
    """Search for the best head with cross-validation and write the run folder."""
    return _run("tune", settings)


def train(settings: TuneSettings) -> RunResult:
    """Cross-validate and fit one configuration and write the run folder."""
    return _run("train", settings)


def _run(command: str, settings: TuneSettings) -> RunResult:
    began = time.perf_counter()
    specs = settings.features or tuple(default_features())
    matrix = read_matrix(specs, use_views=settings.use_views)
    settings, notes = settle_preset(settings, matrix)
    for note in (*matrix.notes, *split_notes(matrix), *notes):
        tell(f"note: {note}")
    run = RunFolder(settings.out, settings.study, run_config(command, settings, matrix))
    if run.is_done:
        return RunResult(run.path, read_json(run.path / METRICS), nothing_to_do=True)
    check_trainable(matrix, settings.folds)
    if command == "train":
        with_class_codes(
            single_configuration(settings), matrix.class_names
        )  # wrong parameters are named before anything is written
    else:
        planned_search(settings, matrix)  # and so is a wrong space
    with run.working():
        asked = time.perf_counter()
        found = _search(command, settings, matrix, run)
        timed_out = settings.timeout is not None and time.perf_counter() - asked >= settings.timeout
        _write_run(run, found, matrix, settings, began, timed_out=timed_out)
        path = run.publish()
    return RunResult(path, read_json(path / METRICS), nothing_to_do=False)


def split_notes(matrix: Matrix) -> list[str]:
    """Say how the manifest's splits are used, where that could surprise."""
    notes = []
    validation = int(((matrix.splits == Split.VAL) & (matrix.labels >= 0)).sum())
    if validation:
        notes.append(
            f"{validation:,} labelled rows of split 'val' are cross-validated and trained on like the "
            "others; only split 'test' is held out"
        )
    shared = int(np.isin(matrix.groups[matrix.test], matrix.groups[matrix.training]).sum())
    if shared:
        notes.append(
            f"{shared:,} of {len(matrix.test):,} test rows share a text, a picture or a group with training "
            "rows: their score is too good"
        )
    return notes


def run_config(command: str, settings: TuneSettings, matrix: Matrix) -> dict[str, Any]:
    """Return everything that ``config.json`` records."""
    from extract import library_versions

    values = asdict(settings)
    del values["out"]
    values.update(
        command=command,
        features=[f"{ref.path}:{ref.space}" for ref in matrix.spaces],
        heads=list(settings.heads),
        parameters=dict(settings.parameters or {}),
        spaces=[asdict(ref) for ref in matrix.spaces],
        class_names=list(matrix.class_names),
        versions=library_versions(),
    )
    # The spelling of the specs does not change the result; their spaces are recorded beside.
    del values["features"]
    # What is used is recorded, not how it was asked for: 'all' of other stores would be another number.
    # Stores without views have no such setting, so that their runs keep the names they have always had.
    del values["use_views"]
    for name in ("preset", "space", "grid"):
        if not values[name]:
            del values[name]
    if settings.select == "best":
        del values["select"]
    if matrix.stored_views:
        values["use_views"] = 0 if matrix.views is None else len(matrix.views)
    return values


def check_trainable(matrix: Matrix, n_folds: int) -> None:
    """Refuse a data set on which no head can be cross-validated.

    Raises
    ------
    RunError
        With the class counts.
    """
    labels = matrix.labels[matrix.training]
    counts = {name: int((labels == code).sum()) for code, name in enumerate(matrix.class_names)}
    present = {name: count for name, count in counts.items() if count}
    shown = ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"
    if len(present) < 2:
        raise RunError(
            f"The data set has labelled rows of {len(present)} class(es) ({shown}); at least 2 are needed "
            "to train."
        )
    few = {name: count for name, count in counts.items() if count < n_folds}
    if few:
        names = ", ".join(f"'{name}' has {count}" for name, count in few.items())
        raise RunError(
            f"Every class needs at least {n_folds} labelled rows for {n_folds} folds, but {names} "
            f"({shown}). Lower --folds or label more."
        )


def matrix_folds(matrix: Matrix, n_folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return folds over the training rows of a matrix; rows of one group stay together."""
    rows = matrix.training
    return make_folds(matrix.labels[rows], n_folds=n_folds, groups=matrix.groups[rows], random_state=seed)


def _search(command: str, settings: TuneSettings, matrix: Matrix, run: RunFolder) -> SearchResult:
    from tuning import SearchResult, evaluate, open_study, search, simplest_within_one_se

    rows = matrix.training
    folds = matrix_folds(matrix, settings.folds, settings.seed)
    task = {
        "blocks": matrix.blocks,
        "views": matrix.training_views,
        "n_classes": len(matrix.class_names),
        "metric": settings.metric,
        "random_state": settings.seed,
    }
    if command == "train":
        configuration = single_configuration(settings)
        coded = with_class_codes(configuration, matrix.class_names)
        trial = evaluate(coded, matrix.X[rows], matrix.labels[rows], folds, **task)  # type: ignore[arg-type]
        trial = replace(trial, configuration=configuration)
        return SearchResult([trial], [], 0, 0, folds, score_name(settings.metric), len(matrix.class_names))
    study = (
        open_study(settings.study, settings.storage, random_state=settings.seed) if settings.storage else None
    )
    space, grid = planned_search(settings, matrix)
    printer = TrialPrinter(settings.trials if grid is None else len(grid), settings.metric)
    found = search(
        matrix.X[rows],
        matrix.labels[rows],
        heads=settings.heads,
        n_trials=settings.trials,
        folds=folds,
        timeout=settings.timeout,
        space=space,
        grid=grid,
        study=study,
        recall=run.memory,
        on_trial=printer,
        on_step=printer.step,
        **task,  # type: ignore[arg-type]
    )
    if settings.select == "simplest":
        chosen = simplest_within_one_se(
            found.trials,
            matrix.labels[rows],
            folds,
            found.n_classes,
            settings.metric,
            random_state=settings.seed,
        )
        found = replace(found, best=chosen)
    return found


def single_configuration(settings: TuneSettings) -> Configuration:
    """Return the one configuration of ``train``: the head's defaults, changed by resampler and parameters."""
    from tuning import default_configuration

    if len(settings.heads) != 1:
        raise UsageError(f"train takes one head, got {', '.join(settings.heads)}")
    start = default_configuration(settings.heads[0])
    unknown = [name for name in settings.parameters or {} if name not in start.parameters]
    if unknown:
        raise UsageError(
            f"Parameter(s) {', '.join(map(repr, unknown))} of head '{start.head}' are not known; allowed are "
            f"{', '.join(start.parameters)}."
        )
    return Configuration(start.head, settings.resampler, {**start.parameters, **(settings.parameters or {})})


def _write_run(
    run: RunFolder,
    found: SearchResult,
    matrix: Matrix,
    settings: TuneSettings,
    began: float,
    *,
    timed_out: bool,
) -> None:
    from heads import save_model

    rows, names = matrix.training, matrix.class_names
    best = found.trials[found.best]
    folder = run.result
    pipeline = fit_final(best.configuration, matrix, settings.seed)
    fold_of = np.empty(len(rows), dtype=np.int64)
    for number, (_, valid) in enumerate(found.folds):
        fold_of[valid] = number
    write_trials(folder / TRIALS, [*found.trials, *found.dropped], found.failures)
    write_out_of_fold(
        folder / OUT_OF_FOLD,
        [matrix.ids[i] for i in rows],
        fold_of,
        [names[c] for c in matrix.labels[rows]],
        best.oof,
        names,
    )
    save_model(
        pipeline,
        folder / MODEL,
        classes=[names[c] for c in pipeline.classes_],
        extra={"spaces": run.config["spaces"]},
    )
    write_training_trace(folder / MODEL, pipeline, matrix.X[rows], [matrix.ids[i] for i in rows])
    tags = predict_tags(pipeline, matrix.X[matrix.unlabelled], names)
    write_predictions(folder / PREDICTIONS, [matrix.ids[i] for i in matrix.unlabelled], tags)
    test = test_scores(pipeline, matrix)
    metrics = metrics_of_run(found, matrix.labels[rows], names, test=test, random_state=settings.seed)
    metrics["stopped_by_timeout"] = timed_out
    metrics["n_parameters"] = int(pipeline.named_steps["head"].n_parameters)
    metrics["seconds"] = round(time.perf_counter() - began, 3)
    write_json(folder / METRICS, metrics)
    write_json(folder / "config.json", run.config)
    write_report(folder, folder / REPORT, title=run.path.name)


def fit_final(configuration: Configuration, matrix: Matrix, seed: int) -> Any:
    """Fit a configuration on all labelled rows outside the test split, and on their views."""
    from heads import fit_with_views, make_pipeline

    configuration = with_class_codes(configuration, matrix.class_names)
    pipeline = make_pipeline(
        configuration.head,
        blocks=matrix.blocks,
        resampler=configuration.resampler,
        parameters=dict(configuration.parameters),
        random_state=seed,
    )
    return fit_with_views(pipeline, matrix.X, matrix.labels, matrix.views, rows=matrix.training)


def predict_tags(pipeline: Any, X: np.ndarray, class_names: Sequence[str]) -> list[str]:
    """Return the most probable class name of every row."""
    if not len(X):
        return []
    codes = pipeline.classes_[pipeline.predict_proba(X).argmax(axis=1)]
    return [class_names[code] for code in codes]
