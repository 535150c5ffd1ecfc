"""``embedonce ablate``: a grid of features, heads, fusions, resamplers and views on the same folds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heads.names import FUSIONS, HEADS, RESAMPLERS, unknown_name
from pipelines.ablation.comparing import described_rows
from pipelines.ablation.feature_sets import FeatureSets, named_specs, read_feature_sets
from pipelines.ablation.figure import write_figure
from pipelines.ablation.fitted_rows import Fitted, RowMemory
from pipelines.ablation.fitting import fit_rows
from pipelines.ablation.grid import Candidate, Grid, candidates_of, find_reference, named_rows
from pipelines.ablation.leaks import leaky_table
from pipelines.ablation.ledger import LedgerRows, described_ledger, disagreements, ledger_rows
from pipelines.ablation.paper_rows import PaperRun, paper_run
from pipelines.ablation.tables import (
    CASES_HEADER,
    DISAGREEMENTS,
    DISAGREEMENTS_HEADER,
    LEAKS,
    LEAKS_HEADER,
    LEDGER,
    LEDGER_HEADER,
    TABLE,
    leaks_table,
    ledger_tables,
    whole_table,
    write_tables,
)
from pipelines.ablation.zero_shot_rows import (
    embed_prompts,
    is_zero_shot,
    score_prompts,
    zero_shot_candidates,
)
from pipelines.console import duration, tell
from pipelines.duplicates import RULES, duplicate_settings
from pipelines.errors import UsageError
from pipelines.named_stores import default_features
from pipelines.report import write_ablation_report
from pipelines.run_results import RunResult
from pipelines.runs import METRICS, REPORT, RunFolder, noted_weights, read_json, write_csv, write_json
from pipelines.trainable import check_trainable
from tuning import Fold, majority_scores, score_name

if TYPE_CHECKING:
    from pipelines.zero_shot import ClassPrompts


@dataclass(frozen=True)
class AblateSettings:
    """Settings of ``embedonce ablate``, as on the command line.

    Attributes
    ----------
    features, swap : tuple of str
        See ``feature_sets.named_specs``; with neither, the stores in ``features/``.
    heads, modalities, fusions, resamplers, use_views
        What is crossed; see ``grid.Grid``.
    preset : str or None
        A table of a report (``paper_rows``) instead of a grid.
    reference : str or None
        Name of the row that the others are compared with; None is the richest.
    shuffles : int
        Seeds of each kind of shuffled partner in the modality ledger; 0 leaves shuffles out.
    leaky : bool
        Also score the reference row with the leaks of the reports; see `leaks`.
    metric : str
        The score whose differences are tested.
    folds, seed : int
    out : Path
    duplicates : str
        Which rows share a fold; see ``duplicates.find_related_rows``.
    prompts : tuple of str
        Templates with ``{class}``: adds rows that nothing is trained for (``zero_shot_rows``).
    weights : mapping of str to Path, or None
        Folders of backbones by name, for the prompts.
    """

    features: tuple[str, ...] = ()
    heads: tuple[str, ...] = ("logreg",)
    metric: str = "macro-f1"
    folds: int = 5
    seed: int = 0
    out: Path = Path("runs")
    swap: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    fusions: tuple[str, ...] = ()
    resamplers: tuple[str, ...] = ("none",)
    use_views: tuple[int | None, ...] = ()
    preset: str | None = None
    reference: str | None = None
    shuffles: int = 3
    duplicates: str = "near"
    leaky: bool = False
    prompts: tuple[str, ...] = ()
    weights: Mapping[str, Path] | None = None

    def __post_init__(self) -> None:
        faults = [
            unknown_name(kind, name, known)
            for kind, names, known in (
                ("head", self.heads, HEADS),
                ("fusion", self.fusions, FUSIONS),
                ("resampler", self.resamplers, RESAMPLERS),
            )
            for name in names
            if name not in known
        ]
        if not self.heads or not self.resamplers:
            faults.append("heads and resamplers need at least one name each")
        if self.fusions and "mlp" not in self.heads and self.preset is None:
            faults.append("fusions are ways of the mlp to combine blocks: add it with --heads mlp")
        if self.preset is not None and self.swap:
            faults.append("a preset chooses its own stores by their backbones: leave out --swap")
        if self.preset is not None and self.leaky:
            faults.append("a preset replays the table of a report: pass --leaky without it")
        if self.preset is not None and self.prompts:
            faults.append("a preset replays the table of a report: pass --prompts without it")
        if self.duplicates not in RULES:
            faults.append(f"duplicates {self.duplicates!r} is not known; allowed are {', '.join(RULES)}")
        if self.folds < 2:
            faults.append(f"folds {self.folds} must be at least 2")
        if self.seed < 0 or self.shuffles < 0:
            faults.append(f"seed {self.seed} and shuffles {self.shuffles} must not be negative")
        try:
            score_name(self.metric)
        except ValueError as error:
            faults.append(str(error))
        if faults:
            raise UsageError("; ".join(faults))


@dataclass(frozen=True)
class Ablation(RunResult):
    """A finished ablation.

    Its ``metrics`` have ``rows`` (see ``comparing.described_rows``), ``ledger``, ``skipped`` rows of a
    report, ``majority`` and ``seconds``.
    """

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of the table."""
        rows: list[dict[str, Any]] = self.metrics["rows"]
        return rows


@dataclass(frozen=True)
class _Plan:
    """What is going to be computed, before anything is."""

    sets: FeatureSets
    rows: list[Candidate]
    reference: Candidate
    ledgers: list[LedgerRows]
    paper: PaperRun | None


def ablate(settings: AblateSettings) -> Ablation:
    """Cross-validate every row of a table on the same folds and seeds, and compare them row by row.

    Parameters
    ----------
    settings : AblateSettings

    Returns
    -------
    Ablation

    Raises
    ------
    UsageError
        If something is asked for that the stores do not have.
    RunError
        If the data set cannot be cross-validated, or stores of a preset are missing.
    StoreError
        If a store cannot be trusted, or stores disagree.
    """
    began = time.perf_counter()
    plan = _planned(settings)
    run = RunFolder(settings.out, None, _config(settings, plan))
    if run.is_done:
        return Ablation(run.path, read_json(run.path / METRICS), True)
    check_trainable(plan.sets.samples, settings.folds)
    prompts = embed_prompts(plan.rows, plan.sets, settings.prompts, settings.weights or {})
    with run.working():
        folds = plan.sets.folds(settings.folds, settings.seed)
        fitted = _fitted(plan, folds, settings, RowMemory(run.work / "trials"), prompts)
        metrics = _metrics(settings, plan, folds, fitted)
        metrics["seconds"] = round(time.perf_counter() - began, 3)
        folder = run.result
        write_json(folder / METRICS, metrics)
        write_json(folder / "config.json", run.config)
        _write_files(folder, metrics, plan, fitted)
        write_ablation_report(folder, folder / REPORT, title=run.path.name)
        return Ablation(run.publish(), metrics, False)


def _planned(settings: AblateSettings) -> _Plan:
    paper = None
    if settings.preset is not None:
        paper = paper_run(settings.preset, settings.features, duplicates=settings.duplicates)
        sets, rows = paper.sets, list(paper.rows)
    else:
        features = settings.features or (() if settings.swap else tuple(default_features()))
        sets = read_feature_sets(named_specs(features, settings.swap), duplicates=settings.duplicates)
        grid = Grid(
            settings.heads, settings.resamplers, settings.modalities, settings.fusions, settings.use_views
        )
        prompted = zero_shot_candidates(sets, settings.prompts, settings.modalities)
        rows = named_rows([*candidates_of(sets, grid), *prompted])
    for note in (*sets.notes, *(paper.notes if paper else ())):
        tell(f"note: {note}")
    asked = settings.reference or (paper.reference if paper else None)
    reference = find_reference([row for row in rows if asked or not is_zero_shot(row)], asked)
    if settings.leaky and reference.n_views:
        raise UsageError(
            f"--leaky needs a reference row without views, but '{reference.name}' trains on them: add none "
            "to --use-views."
        )
    if is_zero_shot(reference):
        raise UsageError(
            f"--reference {reference.name!r} is a row that nothing is trained for; name one of a head."
        )
    ledgers = [] if paper else ledger_rows(sets, reference.configuration, settings.shuffles)
    return _Plan(sets, rows, reference, ledgers, paper)


def _config(settings: AblateSettings, plan: _Plan) -> dict[str, Any]:
    from extract import library_versions

    values = asdict(settings)
    del values["out"], values["features"], values["swap"], values["duplicates"]
    spaces = [
        {**({"set": name} if name else {}), **asdict(ref)}
        for name, matrix in plan.sets.matrices.items()
        for ref in matrix.spaces
    ]
    if not settings.leaky:
        del values["leaky"]  # runs without it keep the names they have always had
    if not settings.prompts:
        del values["prompts"]
    del values["weights"]
    values |= noted_weights(settings.weights)
    values.update(
        command="ablate",
        heads=list(settings.heads),
        reference=plan.reference.name,
        rows=[row.name for row in plan.rows],
        spaces=spaces,
        class_names=list(plan.sets.samples.class_names),
        versions=library_versions(),
        **duplicate_settings([matrix.related for matrix in plan.sets.matrices.values()]),
    )
    return values


def _fitted(
    plan: _Plan,
    folds: Sequence[Fold],
    settings: AblateSettings,
    memory: RowMemory,
    prompts: Mapping[str, ClassPrompts],
) -> dict[str, Fitted]:
    named: dict[str, Candidate] = {}
    for row in (*plan.rows, *(row for ledger in plan.ledgers for row in ledger.all)):
        if not row.votes:
            named.setdefault(row.key, row)  # a row of the ledger may be one of the table
    wanted = list(named.values())
    tell(f"{len(wanted)} rows x {len(folds)} folds on {len(plan.sets.labels):,} samples")
    began, done = time.perf_counter(), 0

    def on_row(row: Candidate, _: Fitted) -> None:
        nonlocal done
        done += 1
        elapsed = time.perf_counter() - began
        left = elapsed / done * (len(wanted) - done)
        tell(f"{done}/{len(wanted)} {row.name}" + (f"; {duration(left)} left" if done < len(wanted) else ""))

    prompted = [row for row in wanted if is_zero_shot(row)]
    trained = [row for row in wanted if not is_zero_shot(row)]
    fitted = score_prompts(
        prompted, plan.sets, prompts, folds, metric=settings.metric, seed=settings.seed, on_row=on_row
    )
    fitted |= fit_rows(trained, plan.sets, folds, seed=settings.seed, memory=memory, on_row=on_row)
    if plan.paper is not None:
        fitted |= {row.key: plan.paper.vote(row, fitted) for row in plan.rows if row.votes}
    return fitted


def _metrics(
    settings: AblateSettings, plan: _Plan, folds: Sequence[Fold], fitted: Mapping[str, Fitted]
) -> dict[str, Any]:
    sets = plan.sets
    score, seed = {"metric": settings.metric}, settings.seed
    rows = described_rows(plan.rows, fitted, plan.reference, sets, folds, seed=seed, **score)
    return {
        "metric": score_name(settings.metric),
        "n": len(sets.labels),
        "classes": list(sets.samples.class_names),
        "reference": plan.reference.name,
        "rows": rows,
        "skipped": list(plan.paper.skipped) if plan.paper else [],
        "ledger": [
            described_ledger(ledger, fitted, sets, folds, seed=seed, **score) for ledger in plan.ledgers
        ],
        "leaks": _leaks(settings, plan, folds, fitted),
        "majority": majority_scores(sets.labels, len(sets.samples.class_names)),
    }


def _leaks(
    settings: AblateSettings, plan: _Plan, folds: Sequence[Fold], fitted: Mapping[str, Fitted]
) -> list[dict[str, Any]]:
    if not settings.leaky:
        return []
    tell("the leaks of the reports, on the reference row")
    oof = fitted[plan.reference.key].oof
    return leaky_table(plan.reference, oof, plan.sets, folds, seed=settings.seed)


def _write_files(folder: Path, metrics: Mapping[str, Any], plan: _Plan, fitted: Mapping[str, Fitted]) -> None:
    rows, name = metrics["rows"], metrics["metric"]
    write_tables(folder, TABLE, *whole_table(rows, metrics["skipped"]))
    points = [
        (
            row["name"],
            row["cv"][name]["mean"],
            row["cv"][name]["ci95"][0],
            row["cv"][name]["ci95"][1],
            row["against_reference"] is None,
        )
        for row in rows
    ]
    write_figure(folder, TABLE, points, label=name.replace("_", " ").replace("f1", "F1"))
    if metrics["leaks"]:
        write_tables(folder, LEAKS, LEAKS_HEADER, leaks_table(metrics["leaks"], name))
    if metrics["ledger"]:
        ledger, cases = ledger_tables(metrics["ledger"])
        write_tables(folder, LEDGER, LEDGER_HEADER, ledger)
        write_tables(folder, f"{LEDGER}_cases", CASES_HEADER, cases)
        lines = [line for found in plan.ledgers for line in disagreements(found, fitted, plan.sets)]
        write_csv(folder / f"{DISAGREEMENTS}.csv", DISAGREEMENTS_HEADER, lines)
