"""``embedonce tune`` and ``embedonce train``: matrices in, a finished run folder out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cache import Split
from heads import HEADS, OTHER_HEADS, RESAMPLERS
from pipelines.after import applied_entry
from pipelines.applied_steps import EXTRA, AppliedSteps, asked_steps, check_preferred, fit_applied
from pipelines.class_parameters import with_class_codes
from pipelines.console import tell
from pipelines.duplicates import RULES, duplicate_settings
from pipelines.errors import RunError, UsageError
from pipelines.finalists import repeated_finalists, repeats_of
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
    from heads import AfterSteps
    from pipelines.zero_shot import ClassPrompts
    from tuning import SearchResult


@dataclass(frozen=True)
class TuneSettings:
    """Settings of ``embedonce tune`` and ``train``, as on the command line.

    For ``train`` there is one head, `trials` is 1, and `resampler` and `parameters` may differ from the
    head's defaults; `preset` names what they come from (``presets.apply_preset``). `use_views` is how many of
    the stored augmented views are trained on, None for all. `space` is what a space file declares
    (``search_spaces.read_space``); with `grid` every combination of it is tried, and nothing else.
    `duplicates` says which rows share a fold (``duplicates.find_related_rows``).
    `calibrate` and `decide` are what ``predict`` applies (``applied_steps.asked_steps``). `weights` are
    folders of backbones by name, for a zero-shot head, which embeds its ``prompts`` (one of its parameters).
    `select` is ``"best"``, or ``"simplest"`` for the simplest trial within one standard error of the best.
    `repeats` is on how many other splits the best five are scored again, None for `finalists.repeats_of`.
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
    repeats: int | None = None
    duplicates: str = "near"
    calibrate: str = "none"
    decide: str = "argmax"
    weights: Mapping[str, Path] | None = None

    def __post_init__(self) -> None:
        faults = []
        unknown = [head for head in self.heads if head not in (*HEADS, *OTHER_HEADS)]
        if unknown or not self.heads:
            faults.append(
                f"heads {', '.join(map(repr, unknown)) or '(none)'} are not known; allowed are "
                f"{', '.join((*HEADS, *OTHER_HEADS))}"
            )
        if self.trials < 1:
            faults.append(f"trials {self.trials} must be at least 1")
        if self.folds < 2:
            faults.append(f"folds {self.folds} must be at least 2")
        if self.repeats is not None and self.repeats < 0:
            faults.append(f"repeats {self.repeats} must not be negative")
        if self.seed < 0:
            faults.append(f"seed {self.seed} must not be negative")
        if self.use_views is not None and self.use_views < 0:
            faults.append(f"use_views {self.use_views} must not be negative")
        if self.timeout is not None and self.timeout <= 0:
            faults.append(f"timeout {self.timeout} must be a positive number of seconds")
        if self.resampler not in RESAMPLERS:
            faults.append(f"resampler {self.resampler!r} is not known; allowed are {', '.join(RESAMPLERS)}")
        if self.duplicates not in RULES:
            faults.append(f"duplicates {self.duplicates!r} is not known; allowed are {', '.join(RULES)}")
        if self.storage is not None and self.study is None:
            faults.append("a storage needs a name for the study: add --study NAME")
        if self.study is not None and (Path(self.study).name != self.study or self.study in ("", ".", "..")):
            faults.append(f"study {self.study!r} must be a plain name: it becomes a folder in --out")
        try:
            score_name(self.metric)
        except ValueError as error:
            faults.append(str(error))
        try:
            asked_steps(self.calibrate, self.decide)
        except UsageError as error:
            faults.append(str(error))
        if faults:
            raise UsageError("; ".join(faults))

    @property
    def applied(self) -> AppliedSteps:
        """What ``predict`` does to the model's probabilities."""
        return asked_steps(self.calibrate, self.decide)


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
    matrix = read_matrix(specs, use_views=settings.use_views, duplicates=settings.duplicates)
    settings, notes = settle_preset(settings, matrix)
    for note in (*matrix.notes, *split_notes(matrix), *notes):
        tell(f"note: {note}")
    run = RunFolder(settings.out, settings.study, run_config(command, settings, matrix))
    if run.is_done:
        return RunResult(run.path, read_json(run.path / METRICS), nothing_to_do=True)
    check_trainable(matrix, settings.folds)
    present = np.unique(matrix.labels[matrix.training])
    check_preferred(settings.applied, [matrix.class_names[code] for code in present])
    prompts = None
    if settings.heads == ("zero-shot",):
        prompts, settings = _with_prompts(settings, matrix)
    if command == "train":
        with_class_codes(
            single_configuration(settings), matrix.class_names
        )  # wrong parameters are named before anything is written
    else:
        planned_search(settings, matrix)  # and so is a wrong space
    with run.working():
        asked = time.perf_counter()
        found = _search(command, settings, matrix, run, prompts)
        deadline = None if settings.timeout is None else asked + settings.timeout
        timed_out = deadline is not None and time.perf_counter() >= deadline
        finalists = _finalists(command, settings, found, matrix, deadline)
        _write_run(run, found, matrix, settings, began, prompts, timed_out=timed_out, finalists=finalists)
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
    del values["weights"]  # where files lie changes no result: their hash is compared with the store's
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


def _search(
    command: str, settings: TuneSettings, matrix: Matrix, run: RunFolder, prompts: ClassPrompts | None
) -> SearchResult:
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
        if prompts is not None:
            from pipelines.zero_shot import zero_shot_trial

            options = {"metric": settings.metric, "seed": settings.seed}
            trial = zero_shot_trial(coded, matrix, prompts, folds, **options)  # type: ignore[arg-type]
        else:
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
            groups=matrix.groups[rows],
            random_state=settings.seed,
        )
        found = replace(found, best=chosen)
    return found


def _finalists(
    command: str,
    settings: TuneSettings,
    found: SearchResult,
    matrix: Matrix,
    deadline: float | None,
) -> list[dict[str, Any]]:
    """Score the best few again on other splits, where a search was made and it is asked for or cheap."""
    if command == "train":
        return []
    n_repeats = repeats_of(
        settings.repeats,
        n_trials=len(found.trials) + len(found.dropped),
        shape=(len(matrix.training), matrix.X.shape[1]),
    )
    return repeated_finalists(
        found, matrix, n_repeats=n_repeats, random_state=settings.seed, deadline=deadline
    )


def single_configuration(settings: TuneSettings) -> Configuration:
    """Return the one configuration of ``train``: the head's defaults, changed by resampler and parameters."""
    from heads import default_parameters

    if len(settings.heads) != 1:
        raise UsageError(f"train takes one head, got {', '.join(settings.heads)}")
    start = Configuration(settings.heads[0], "none", default_parameters(settings.heads[0]))
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
    prompts: ClassPrompts | None,
    *,
    timed_out: bool,
    finalists: list[dict[str, Any]],
) -> None:
    from heads import save_model

    rows, names = matrix.training, matrix.class_names
    best = found.trials[found.best]
    folder = run.result
    pipeline = fit_final(best.configuration, matrix, settings.seed, prompts)
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
    applied = settings.applied
    steps = fit_applied(applied, found, matrix.labels[rows], names, pipeline.classes_)
    extra: dict[str, Any] = {"spaces": run.config["spaces"]}
    if matrix.terms:
        extra["terms"] = {block: list(terms) for block, terms in matrix.terms.items()}
    if not applied.is_nothing:
        extra[EXTRA] = steps.as_dict()
    save_model(pipeline, folder / MODEL, classes=[names[c] for c in pipeline.classes_], extra=extra)
    write_training_trace(folder / MODEL, pipeline, matrix.X[rows], [matrix.ids[i] for i in rows])
    tags = predict_tags(pipeline, matrix.X[matrix.unlabelled], names, steps)
    write_predictions(folder / PREDICTIONS, [matrix.ids[i] for i in matrix.unlabelled], tags)
    test = test_scores(pipeline, matrix)
    metrics = metrics_of_run(
        found,
        matrix.labels[rows],
        names,
        groups=matrix.groups[rows],
        test=test,
        finalists=finalists,
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


def fit_final(
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


def predict_tags(pipeline: Any, X: np.ndarray, class_names: Sequence[str], steps: AfterSteps) -> list[str]:
    """Return the class name of every row, after calibration and decision."""
    if not len(X):
        return []
    codes = pipeline.classes_[steps.codes(steps.probabilities(pipeline.predict_proba(X)))]
    return [class_names[code] for code in codes]
