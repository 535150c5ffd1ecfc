"""``embedonce stability``: one configuration under other seeds and other splits."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipelines.ablation.feature_sets import FeatureSets, read_feature_sets
from pipelines.ablation.fitted_rows import Fitted, RowMemory
from pipelines.ablation.fitting import fit_rows
from pipelines.ablation.grid import Candidate
from pipelines.console import duration, say, table, tell
from pipelines.duplicates import duplicate_settings
from pipelines.errors import UsageError
from pipelines.metrics import SHOWN
from pipelines.named_stores import default_features
from pipelines.presets import apply_preset, settle_preset
from pipelines.recorded_winner import winner_of_run
from pipelines.run_results import RunResult, begin_answer
from pipelines.run_stores import store_specs
from pipelines.runs import CONFIG, METRICS, RunFolder, read_json, write_json
from pipelines.stability_statistics import variance_shares
from pipelines.stability_tables import CELLS, HEADER, TABLE, table_rows, write_stability
from pipelines.trainable import check_trainable
from pipelines.tune_settings import TuneSettings, single_configuration
from tuning import SCORES, Configuration, confusion, nadeau_bengio, score, score_name


@dataclass(frozen=True)
class StabilitySettings:
    """Settings of ``embedonce stability``, as on the command line.

    Attributes
    ----------
    features : tuple of str
        ``FILE[:SPACE]``; () is the stores of `run`, else those in ``features/``.
    head, resampler, parameters
        The configuration, unless `preset` or `run` names one.
    preset : str or None
        A head preset, as for ``train``.
    run : Path or None
        A run folder, whose winner is the configuration.
    seeds, splits : int
        How many of each; every seed meets every split.
    metric : str or None
    folds : int or None
    seed : int
        The first of the seeds, and of the splits.
    out : Path
    duplicates : str or None
        Which rows share a fold; see ``duplicates.find_related_rows``.
    use_views : int, "all" or None
        How many of the stored augmented views are trained on.

    Notes
    -----
    `metric`, `folds`, `duplicates` and `use_views` that are None are those of `run`, so that it is measured
    as it was scored; without a run macro-F1, 5, near duplicates and no views.
    """

    features: tuple[str, ...] = ()
    head: str = "logreg"
    resampler: str = "none"
    parameters: Mapping[str, Any] | None = None
    preset: str | None = None
    run: Path | None = None
    seeds: int = 5
    splits: int = 5
    metric: str | None = None
    folds: int | None = None
    seed: int = 0
    out: Path = Path("runs")
    duplicates: str | None = None
    use_views: int | Literal["all"] | None = None

    def __post_init__(self) -> None:
        faults = []
        if self.preset is not None and self.run is not None:
            faults.append("a preset and a run both name a configuration: leave one out")
        if self.seeds < 1 or self.splits < 1:
            faults.append(f"seeds {self.seeds} and splits {self.splits} must be at least 1")
        if self.seeds * self.splits < 2:
            faults.append("one seed on one split has no spread: ask for more seeds or splits")
        if faults:
            raise UsageError("; ".join(faults))


def stability(settings: StabilitySettings) -> RunResult:
    """Cross-validate one configuration for every seed on every split, and split the variance among them.

    Parameters
    ----------
    settings : StabilitySettings

    Returns
    -------
    RunResult

    Raises
    ------
    UsageError
        If the configuration is wrong, or there are fewer views than asked for.
    RunError
        If the run has no winner, or the data set cannot be cross-validated.
    StoreError
        If a store cannot be trusted, or stores disagree.
    """
    began = time.perf_counter()
    asked, specs = _asked(settings)
    sets = read_feature_sets({"": specs}, duplicates=asked.duplicates, use_views=asked.use_views)
    asked, notes = settle_preset(asked, sets.samples)
    configuration = single_configuration(asked)
    for note in (*sets.notes, *notes):
        tell(f"note: {note}")
    run = RunFolder(settings.out, None, _config(settings, asked, configuration, sets))
    if run.is_done:
        return RunResult(run.path, read_json(run.path / METRICS), True)
    check_trainable(sets.samples, asked.folds)
    with run.working():
        scores, drew = _scores(settings, asked.folds, configuration, sets, run.work / "trials")
        metrics = _metrics(asked, configuration, scores, drew=drew, n=len(sets.labels))
        metrics["seconds"] = round(time.perf_counter() - began, 3)
        folder = run.result
        write_json(folder / METRICS, metrics)
        write_json(folder / CONFIG, run.config)
        write_stability(folder, metrics, scores, seed=settings.seed)
        return RunResult(run.publish(), metrics, False)


def _asked(settings: StabilitySettings) -> tuple[TuneSettings, tuple[str, ...]]:
    """Return the configuration and how it is scored, as `train` would be asked for them, and the stores."""
    if settings.run is not None:
        winner, config = winner_of_run(settings.run)
        asked = TuneSettings(
            heads=(winner.head,),
            resampler=winner.resampler,
            parameters=winner.parameters,
            **_scored(settings, config),
        )
        return asked, settings.features or store_specs(config["spaces"], settings.run)
    asked = TuneSettings(
        heads=(settings.head,),
        resampler=settings.resampler,
        parameters=dict(settings.parameters or {}),
        **_scored(settings, {}),
    )
    if settings.preset is not None:
        asked = apply_preset(asked, settings.preset, keep_resampler=settings.resampler != "none")
    return asked, settings.features or tuple(default_features())


def _scored(settings: StabilitySettings, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a configuration is scored: as asked, else as a run records it, else as usual."""
    # A run that records neither has no views, and the usual rule for duplicates.
    usual = {"metric": "macro-f1", "folds": 5, "duplicates": "near", "use_views": 0}
    scored = {name: recorded.get(name, value) for name, value in usual.items()}
    scored |= {name: getattr(settings, name) for name in usual if getattr(settings, name) is not None}
    if scored["use_views"] == "all":
        scored["use_views"] = None
    return {"trials": 1, "seed": settings.seed, **scored}


def _config(
    settings: StabilitySettings, asked: TuneSettings, configuration: Configuration, sets: FeatureSets
) -> dict[str, Any]:
    from extract import library_versions

    values = asdict(settings)
    for name in ("out", "features", "run", "head", "duplicates", "use_views"):
        del values[name]
    values.update(
        command="stability",
        preset=None,  # its parameters are recorded; what it was called does not change a score
        metric=asked.metric,
        folds=asked.folds,
        heads=[configuration.head],
        resampler=configuration.resampler,
        parameters=dict(configuration.parameters),
        spaces=[asdict(ref) for ref in sets.samples.spaces],
        class_names=list(sets.samples.class_names),
        versions=library_versions(),
        **duplicate_settings([sets.samples.related]),
    )
    if _n_views(sets):
        values["use_views"] = _n_views(sets)
    return values


def _n_views(sets: FeatureSets) -> int:
    views = sets.samples.views
    return 0 if views is None else len(views)


def _scores(
    settings: StabilitySettings,
    n_folds: int,
    configuration: Configuration,
    sets: FeatureSets,
    work: Path,
) -> tuple[np.ndarray, bool]:
    """Return scores of shape (n_scores, n_splits, n_seeds, n_folds), and whether seeds change anything."""
    blocks = tuple(sets.samples.blocks)
    shape = (len(SCORES), settings.splits, settings.seeds, n_folds)
    scores, drew, began = np.zeros(shape), True, time.perf_counter()
    for split in range(settings.splits):
        folds = sets.folds(n_folds, settings.seed + split)
        row = Candidate(f"split {split}", "", "all", blocks, configuration, n_views=_n_views(sets))
        first: Fitted | None = None
        for number in range(settings.seeds if drew else 1):
            folder = work / f"{split}-{number}"
            folder.mkdir(exist_ok=True)
            fitted = fit_rows(
                [row],
                sets,
                folds,
                seed=settings.seed + number,
                memory=RowMemory(folder),
                on_row=lambda *_: None,
            )[row.key]
            scores[:, split, number] = _fold_scores(fitted, sets, folds)
            if first is None:
                first = fitted
            elif split == 0 and number == 1 and np.array_equal(first.oof, fitted.oof):
                drew = False
                tell(f"note: {configuration.head} draws nothing: every seed gives the same; one is computed")
                break
        if not drew:
            scores[:, split] = scores[:, split, :1]
        _tell_progress(split + 1, settings.splits, time.perf_counter() - began)
    return scores, drew


def _tell_progress(done: int, total: int, elapsed: float) -> None:
    left = f"; {duration(elapsed / done * (total - done))} left" if done < total else ""
    tell(f"split {done}/{total} done{left}")


def _fold_scores(fitted: Fitted, sets: FeatureSets, folds: Sequence[Any]) -> np.ndarray:
    """Return scores of shape (n_scores, n_folds)."""
    n_classes, y = len(sets.samples.class_names), sets.labels
    counts = np.stack([confusion(y[valid], fitted.predictions[valid], n_classes) for _, valid in folds])
    return np.stack([score(counts, name) for name in SCORES])


def _metrics(
    asked: TuneSettings, configuration: Configuration, scores: np.ndarray, *, drew: bool, n: int
) -> dict[str, Any]:
    name = score_name(asked.metric)
    main = scores[SCORES.index(name)]
    share = 1 / (asked.folds - 1)
    return {
        "metric": name,
        "n": n,
        "configuration": configuration.as_dict(),
        "draws": drew,
        "scores": {key: _summary(values, share) for key, values in zip(SCORES, scores, strict=True)},
        "per_seed": [
            {
                "seed": asked.seed + number,
                **{key: float(scores[SCORES.index(key), :, number].mean()) for key in SHOWN},
                "deviation": _deviation(main[:, number].mean(axis=1)),
                "ci95": nadeau_bengio(main[:, number].ravel(), test_share=share)["ci95"],
            }
            for number in range(main.shape[1])
        ],
        "variance": variance_shares(main.mean(axis=2)),
    }


def _summary(values: np.ndarray, share: float) -> dict[str, Any]:
    """Describe scores of shape (n_splits, n_seeds, n_folds)."""
    return {
        "mean": float(values.mean()),
        "deviation": _deviation(values.mean(axis=2).ravel()),
        "lowest": float(values.mean(axis=2).min()),
        "highest": float(values.mean(axis=2).max()),
        "ci95": nadeau_bengio(values.mean(axis=1).ravel(), test_share=share)["ci95"],
    }


def _deviation(values: np.ndarray) -> float | None:
    return float(values.std(ddof=1)) if len(values) > 1 else None


def print_stability(found: RunResult, *, as_json: bool) -> None:
    """Print the per-seed table, where the variance comes from, and what to do next."""
    metrics = found.metrics
    if not begin_answer(found, as_json=as_json):
        return
    say(table(table_rows(metrics), HEADER))
    name, shares = metrics["metric"], metrics["variance"]
    whole = metrics["scores"][name]
    say(
        f"{name} {whole['mean']:.3f}, from {whole['lowest']:.3f} to {whole['highest']:.3f} over seeds and "
        f"splits; deviation and interval are of {name} (Nadeau and Bengio)"
    )
    say(
        "variance: "
        + ", ".join(f"{part} {shares['share'][part]:.0%}" for part in ("split", "seed", "rest"))
        + ("" if metrics["draws"] else "; this head draws nothing, so seeds change nothing")
    )
    if not found.nothing_to_do:
        tell(f"done in {duration(metrics['seconds'])}")
    tell(f"Next: {found.path}/{TABLE}.csv, .md, .tex and .svg are for a paper; {CELLS}.csv has every fold")
    say(str(found.path))
