"""``embedonce augment``: do views of samples like the worst slices help rows that did not choose them?"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cache import canonical_json, sha256_hex
from extract import Backbone
from pipelines.ablation.fitted_rows import RowMemory
from pipelines.ablation.fitting import FitData
from pipelines.ablation.tables import write_tables
from pipelines.augmentation_scores import compared_variants, described_variants
from pipelines.augmentation_tables import COMPARISONS_HEADER, HEADER, comparison_rows, table_rows
from pipelines.bad_cases.facts import RowFacts, read_facts, with_raw_texts
from pipelines.console import duration, say, table, tell
from pipelines.duplicates import duplicate_settings
from pipelines.errors import UsageError
from pipelines.matrices import Matrix, read_matrix
from pipelines.prediction_rows import EmbeddingOptions, device_of
from pipelines.recorded_winner import winner_of_run
from pipelines.row_views import embed_views, open_backbones
from pipelines.run_results import RunResult, begin_answer
from pipelines.run_stores import store_specs
from pipelines.runs import CONFIG, METRICS, RunFolder, read_json, write_json
from pipelines.targeting import choose_targets, fit_variants, times_chosen, viewed_rows
from pipelines.trainable import check_trainable, matrix_folds
from pipelines.unfinished_work import asked_inputs
from tuning import Configuration, score_name

TABLE, COMPARISONS = "augmentation", "comparisons"
_EMBEDDED_VIEWS = 2


@dataclass(frozen=True)
class AugmentSettings:
    """Settings of ``embedonce augment``, as on the command line.

    Attributes
    ----------
    run : Path
        A run folder, whose winner is trained again.
    slices : int
        Slices that are chosen at most, in each outer fold.
    draws : int
        Random controls with as many views.
    views : int or None
        Views of each chosen row; None is all that the stores hold, or 2 embedded for this.
    augment : {"light", "strong"}
        Kind of the views that are embedded for this; stored ones are what they are.
    folds, seed : int
        Of the outer folds.
    metric : str or None
        None is the run's.
    data : Path or None
        The data set: slices of texts before they were cleaned, and pictures to embed.
    device : str
    weights : mapping of str to Path
    out : Path
    """

    run: Path
    slices: int = 3
    draws: int = 3
    views: int | None = None
    augment: str = "light"
    folds: int = 5
    seed: int = 0
    metric: str | None = None
    data: Path | None = None
    device: str = "auto"
    weights: Mapping[str, Path] = field(default_factory=dict)
    out: Path = Path("runs")

    def __post_init__(self) -> None:
        faults = []
        if self.slices < 1 or self.draws < 1 or (self.views is not None and self.views < 1):
            faults.append(
                f"slices {self.slices}, draws {self.draws} and views {self.views} must be at least 1"
            )
        if self.folds < 2:
            faults.append(f"folds {self.folds} must be at least 2")
        if self.seed < 0:
            faults.append(f"seed {self.seed} must not be negative")
        if self.metric is not None:
            try:
                score_name(self.metric)
            except ValueError as error:
                faults.append(str(error))
        if faults:
            raise UsageError("; ".join(faults))


def augment(settings: AugmentSettings) -> RunResult:
    """Train a run's winner with views of samples like its worst slices, of random samples, and of none.

    Parameters
    ----------
    settings : AugmentSettings

    Returns
    -------
    RunResult
        Its ``metrics`` have ``variants``, ``comparisons``, and ``slices`` with how often each was chosen.

    Raises
    ------
    RunError
        If the run has no winner, its stores changed, no slice can be told, or views cannot be embedded.
    UsageError
        If a setting is wrong.
    StoreError
        If a store cannot be trusted.

    Notes
    -----
    Nested: in every outer fold the slices are chosen by errors of inner folds of the part trained on, the
    borders of the slices come from that part too, and only rows that had no say are scored. The random
    control gets as many views, so that what views do at all is told from what choosing them does.
    """
    began = time.perf_counter()
    configuration, config = winner_of_run(settings.run)
    matrix = read_matrix(
        store_specs(config["spaces"], settings.run), duplicates=config.get("duplicates", "near")
    )
    settings = replace(settings, metric=settings.metric or config["metric"])
    facts = _facts(settings, matrix)
    run = RunFolder(settings.out, None, _config(settings, configuration, config, matrix, facts))
    if run.is_done:
        return RunResult(run.path, read_json(run.path / METRICS), True)
    check_trainable(matrix, settings.folds)
    backbones = {} if _stored(settings, matrix) else open_backbones(config["spaces"], _how(settings))
    with run.working():
        metrics = _measured(settings, configuration, config, matrix, facts, backbones, run.work / "trials")
        metrics["seconds"] = round(time.perf_counter() - began, 3)
        folder = run.result
        write_json(folder / METRICS, metrics)
        write_json(folder / CONFIG, run.config)
        write_tables(folder, TABLE, HEADER, table_rows(metrics))
        write_tables(folder, COMPARISONS, COMPARISONS_HEADER, comparison_rows(metrics))
        return RunResult(run.publish(), metrics, False)


def _facts(settings: AugmentSettings, matrix: Matrix) -> RowFacts:
    """Return what is known of the training rows; their texts before they were cleaned, with a data set."""
    rows = matrix.training
    facts = read_facts(matrix, rows)
    if settings.data is None or facts.texts is None:
        return facts
    return with_raw_texts(facts, [matrix.ids[row] for row in rows], settings.data)


def _how(settings: AugmentSettings) -> EmbeddingOptions:
    return EmbeddingOptions(device=device_of(settings.device), weights=settings.weights)


def _config(
    settings: AugmentSettings,
    configuration: Configuration,
    config: Mapping[str, Any],
    matrix: Matrix,
    facts: RowFacts,
) -> dict[str, Any]:
    from extract import library_versions

    values = asdict(settings)
    for name in ("run", "data", "device", "weights", "out"):
        del values[name]
    if _stored(settings, matrix):
        del values["augment"]  # the stores say what kind their views are
    values.update(
        command="augment",
        heads=[configuration.head],
        resampler=configuration.resampler,
        parameters=dict(configuration.parameters),
        raw_texts=_texts_hash(settings, facts) or False,
        spaces=config["spaces"],
        class_names=list(matrix.class_names),
        versions=library_versions(),
        **duplicate_settings([matrix.related]),
        inputs=asked_inputs(
            settings.run, data=settings.data, device=settings.device, weights=settings.weights
        ),
    )
    return values


def _texts_hash(settings: AugmentSettings, facts: RowFacts) -> str | None:
    """Return the hash of texts that are not those of the stores; None if there are none such."""
    if settings.data is None or facts.texts is None:
        return None
    return sha256_hex(canonical_json(list(facts.texts)))


def _stored(settings: AugmentSettings, matrix: Matrix) -> bool:
    """Tell whether the stores hold the views that are asked for."""
    return matrix.stored_views >= (settings.views or 1)


def _measured(
    settings: AugmentSettings,
    configuration: Configuration,
    config: Mapping[str, Any],
    matrix: Matrix,
    facts: RowFacts,
    backbones: Mapping[str, Backbone],
    work: Path,
) -> dict[str, Any]:
    rows, memory = matrix.training, RowMemory(work)
    groups, folds = matrix.groups[rows], matrix_folds(matrix, settings.folds, settings.seed)
    clean = FitData(matrix.X[rows], matrix.labels[rows], matrix.blocks, matrix.class_names)
    tell(f"choosing slices in {len(folds)} outer folds of {len(rows):,} samples")
    targets = choose_targets(
        configuration,
        clean,
        facts,
        groups,
        folds,
        n_slices=settings.slices,
        seed=settings.seed,
        memory=memory,
    )
    viewed = viewed_rows(targets, draws=settings.draws, seed=settings.seed)
    views = _views(settings, config, matrix, viewed, backbones, work)
    tell(f"fitting {len(viewed)} variants in {len(folds)} folds")
    oof = fit_variants(
        configuration,
        replace(clean, views=views[:, rows]),
        targets,
        viewed,
        seed=settings.seed,
        memory=memory,
    )
    return {
        "metric": score_name(str(settings.metric)),
        "n": len(rows),
        "classes": list(matrix.class_names),
        "configuration": configuration.as_dict(),
        "n_views": len(views),
        "slices": times_chosen(targets),
        "n_inside": int(sum(target.inside.sum() for target in targets)),
        "variants": described_variants(oof, viewed, clean, groups, targets, seed=settings.seed),
        "comparisons": compared_variants(
            oof, clean, groups, targets, metric=str(settings.metric), seed=settings.seed
        ),
    }


def _views(
    settings: AugmentSettings,
    config: Mapping[str, Any],
    matrix: Matrix,
    viewed: Mapping[str, Sequence[np.ndarray]],
    backbones: Mapping[str, Backbone],
    work: Path,
) -> np.ndarray:
    """Return views of every row that brings some, float32 of shape (n_views, n_samples, n_features)."""
    if matrix.views is not None and _stored(settings, matrix):
        return matrix.views[: settings.views]
    wanted = np.unique(np.concatenate([part for parts in viewed.values() for part in parts]))
    n_views = settings.views or _EMBEDDED_VIEWS
    tell(f"the stores hold too few views: embedding {n_views} of each of {len(wanted):,} samples")
    return embed_views(
        matrix,
        matrix.training[wanted],
        config["spaces"],
        n_views=n_views,
        augment=settings.augment,
        run=settings.run,
        data=settings.data,
        backbones=backbones,
        device=_how(settings).device,
        work=work,
    )


def print_augmentation(found: RunResult, *, as_json: bool) -> None:
    """Print the chosen slices, the variants and the comparisons."""
    metrics = found.metrics
    if not begin_answer(found, as_json=as_json):
        return
    say(table([[name, str(n)] for name, n in metrics["slices"].items()], ["slice", "outer folds"]))
    say()
    say(table(table_rows(metrics), HEADER))
    say()
    say(table(comparison_rows(metrics), COMPARISONS_HEADER))
    say(
        f"{metrics['n_views']} view(s) of each row with views; {metrics['n_inside']:,} of {metrics['n']:,} "
        "scored rows lie in the slices that their fold chose without them"
    )
    if not found.nothing_to_do:
        tell(f"done in {duration(metrics['seconds'])}")
    tell(
        f"Next: {found.path}/{TABLE}.csv, .md and .tex are for a paper; to train on views of all samples: "
        "extract-features --views N --augment KIND, then tune"
    )
    say(str(found.path))
