"""``embedonce robustness``: the score of a run when its inputs get worse, fault by fault."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np

from extract import FAULTS_VERSION, INPUT_FAULTS, SEVERITIES
from pipelines.ablation.figure import write_figure
from pipelines.console import duration, say, say_json, table, tell
from pipelines.errors import RunError, UsageError
from pipelines.faulty_vectors import MISSING, FaultyVectors, Variant
from pipelines.matrices import Matrix, read_matrix
from pipelines.prediction_rows import EmbeddingOptions, device_of
from pipelines.recorded_winner import recorded_folds, winner_of_run
from pipelines.robustness_scores import sample_rows, score_variants
from pipelines.run_inputs import group_by_tower, modality_of_space, read_tower_rows
from pipelines.run_stores import store_specs
from pipelines.runs import CONFIG, read_json, write_csv, write_json
from pipelines.unfinished_work import asked_inputs
from pipelines.work_lock import work_lock
from tuning import Configuration, score_name

_ANSWERED = ("asked", "faults", "clean", "metric")

FAULTS = (*INPUT_FAULTS, *MISSING)
STEM = "robustness"
_COLUMNS = ("fault", "severity", "level", "score", "low", "high", "difference", "diff_low", "diff_high", "p")


@dataclass(frozen=True)
class RobustnessSettings:
    """Settings of ``embedonce robustness``, as on the command line.

    Attributes
    ----------
    run : Path
    data : Path or None
        The data set, where the pictures lie; None looks around the stores and the run.
    rows : int
        Labelled rows that are embedded again, drawn by class.
    severities : tuple of int
        Of 1 to 5.
    faults : tuple of str
        () is every fault of the modalities that the run uses.
    seed : int
        Of the drawing of rows and of the bootstrap.
    device : str
    weights : mapping of str to Path
        Backbone -> folder of its weights.
    """

    run: Path
    data: Path | None = None
    rows: int = 200
    severities: tuple[int, ...] = (1, 3, 5)
    faults: tuple[str, ...] = ()
    seed: int = 0
    device: str = "auto"
    weights: Mapping[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        faults = []
        unknown = [name for name in self.faults if name not in FAULTS]
        if unknown:
            faults.append(
                f"fault(s) {', '.join(map(repr, unknown))} are not known; allowed are {', '.join(FAULTS)}"
            )
        wrong = [severity for severity in self.severities if severity not in SEVERITIES]
        if wrong or not self.severities:
            faults.append(f"severities {', '.join(map(str, wrong)) or '(none)'} are not of 1 to 5")
        if self.seed < 0:
            faults.append(f"seed {self.seed} must not be negative")
        if self.rows < 2:
            faults.append(f"rows {self.rows} must be at least 2")
        if faults:
            raise UsageError("; ".join(faults))


@dataclass(frozen=True)
class Robustness:
    """A finished measurement: the run, what ``robustness.json`` says, and whether it was there already."""

    run: Path
    result: dict[str, Any]
    nothing_to_do: bool


def robustness(settings: RobustnessSettings) -> Robustness:
    """Embed a sample of a run's labelled rows under faults and score them by models that never saw them.

    Parameters
    ----------
    settings : RobustnessSettings

    Returns
    -------
    Robustness

    Raises
    ------
    RunError
        If another process measures it, the run, its stores or its pictures are not there or have changed,
        or the backbones do not make the stored vectors.
    UsageError
        If a fault is of a modality that the run does not use, or a space was imported.

    Notes
    -----
    The run's configuration is fitted anew in each of the run's own folds, on stored clean features, and
    scores the sampled rows of the fold left out: clean and under every fault. So no score is of a row that
    its model was trained on. The sample is scored as a whole, not fold by fold, for a fold holds few of it.
    """
    began = time.perf_counter()
    configuration, config = winner_of_run(settings.run)
    variants = _variants(settings, config["spaces"])
    asked = _asked(settings, config["spaces"], variants)
    known = settings.run / f"{STEM}.json"
    if (measured := _measured_before(known, asked)) is not None:
        return Robustness(settings.run, measured, nothing_to_do=True)
    score_name(config["metric"])  # an unknown one is told before anything is embedded
    device_of(settings.device)  # and so is an unknown device
    group_by_tower(_changed_spaces(config["spaces"], variants))  # imported ones are named first
    work = settings.run / f"{STEM}.work"
    with work_lock(work) as is_free:
        if not is_free:
            raise RunError(
                f"The robustness of '{settings.run}' is being measured by another process right now. Wait "
                "for it."
            )
        if (measured := _measured_before(known, asked)) is not None:  # meanwhile, by another process
            shutil.rmtree(work, ignore_errors=True)
            return Robustness(settings.run, measured, nothing_to_do=True)
        write_json(work / CONFIG, _noted(settings))
        result = _measured(settings, configuration, config, variants, work)
        result.update(asked=asked, seconds=round(time.perf_counter() - began, 3))
        _write(settings.run, result)
        shutil.rmtree(work, ignore_errors=True)
    return Robustness(settings.run, result, nothing_to_do=False)


def _measured_before(path: Path, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what was measured of the same question; damaged answers are measured again."""
    try:
        result = read_json(path) if path.is_file() else {}
    except RunError:
        return None
    whole = set(_ANSWERED) <= set(result)
    return result if whole and result["asked"] == asked else None


def _noted(settings: RobustnessSettings) -> dict[str, Any]:
    """Return what ``doctor`` needs to say how an interrupted call goes on."""
    inputs = asked_inputs(settings.run, data=settings.data, device=settings.device, weights=settings.weights)
    return {
        "command": STEM,
        "rows": settings.rows,
        "severities": list(settings.severities),
        "faults": list(settings.faults) or None,
        "seed": settings.seed,
        "inputs": inputs,
    }


def _measured(
    settings: RobustnessSettings,
    configuration: Configuration,
    config: Mapping[str, Any],
    variants: list[Variant],
    work: Path,
) -> dict[str, Any]:
    """Return what ``robustness.json`` says of the scores."""
    matrix = read_matrix(
        store_specs(config["spaces"], settings.run),
        use_views=config.get("use_views"),
        duplicates=config.get("duplicates", "near"),
    )
    picked = sample_rows(matrix.labels[matrix.training], settings.rows, settings.seed)
    if len(picked) < settings.rows:
        tell(f"note: the run has {len(picked):,} labelled rows; all of them are used")
    folds = recorded_folds(settings.run, [matrix.ids[row] for row in matrix.training])
    vectors = _embed(settings, config["spaces"], matrix, picked, variants, work)
    return score_variants(configuration, config, matrix, folds, picked, vectors, variants, settings.seed)


def _asked(
    settings: RobustnessSettings, spaces: list[dict[str, Any]], variants: list[Variant]
) -> dict[str, Any]:
    """Return what decides the result; equal questions are answered once."""
    return {
        "version": FAULTS_VERSION,
        "variants": [variant.name for variant in variants],
        "rows": settings.rows,
        "seed": settings.seed,
        "spaces": [[space["store_fingerprint"], space["space"]] for space in spaces],
    }


def _variants(settings: RobustnessSettings, spaces: list[dict[str, Any]]) -> list[Variant]:
    """Return every (fault, severity) that can be asked of a run with these spaces."""
    kinds = {modality_of_space(space) for space in spaces}
    has = {modality: bool(kinds & {modality, "joint"}) for modality in ("text", "image")}
    # Without its only modality a run would answer from nothing.
    possible = {name: has[fault.modality] for name, fault in INPUT_FAULTS.items()}
    possible |= {
        name: has[gone] and any(kind not in (gone, "joint") for kind in kinds)
        for name, gone in MISSING.items()
    }
    unfit = [name for name in settings.faults if not possible[name]]
    if unfit:
        raise UsageError(
            f"Fault(s) {', '.join(map(repr, unfit))} do not fit a run on "
            f"{', '.join(space['space'] for space in spaces)}: it has no such input, or nothing else. Choose "
            f"from {', '.join(name for name in FAULTS if possible[name])}."
        )
    names = [name for name in FAULTS if possible[name] and (not settings.faults or name in settings.faults)]
    return [
        Variant(name, severity)
        for name in names
        for severity in ((1,) if name in MISSING else sorted(set(settings.severities)))
    ]


def _changed_spaces(spaces: list[dict[str, Any]], variants: list[Variant]) -> list[dict[str, Any]]:
    return [space for space in spaces if any(v.changes(modality_of_space(space)) for v in variants)]


def _embed(
    settings: RobustnessSettings,
    spaces: list[dict[str, Any]],
    matrix: Matrix,
    picked: np.ndarray,
    variants: list[Variant],
    work: Path,
) -> np.ndarray:
    """Return the sampled rows under every variant: float32 of shape (n_variants, n_picked, n_features)."""
    rows = matrix.training[picked]
    ids = [matrix.ids[row] for row in rows]
    wanted = _changed_spaces(spaces, variants)
    how = EmbeddingOptions(device=device_of(settings.device), weights=settings.weights)
    changed: dict[str, np.ndarray] = {}
    if wanted:
        towers = read_tower_rows(wanted, ids, run=settings.run, data=settings.data)
        maker = FaultyVectors(towers, ids, how, work)
        changed = maker.embed(variants)
    X = np.repeat(matrix.X[rows][None], len(variants), axis=0)
    start = 0
    for (block, width), space in zip(matrix.blocks.items(), spaces, strict=True):
        part = X[:, :, start : start + width]
        for k, variant in enumerate(variants):
            if variant.removes(modality_of_space(space)):
                part[k] = np.nan
            elif variant.changes(modality_of_space(space)):
                part[k] = changed[block][k]
        start += width
    return X


def _write(run: Path, result: Mapping[str, Any]) -> None:
    """Write the table and the figure, then the JSON that says the measurement is whole."""
    (run / f"{STEM}.json").unlink(missing_ok=True)  # an earlier answer does not belong to these tables
    rows = [
        [
            fault["name"],
            fault["severity"],
            "" if fault["level"] is None else f"{fault['level']:g}",
            *(f"{fault[key]:.6f}" for key in (*_COLUMNS[3:9], "p_value")),
        ]
        for fault in result["faults"]
    ]
    clean = result["clean"]
    rows.insert(
        0, ["clean", 0, "", *(f"{clean[key]:.6f}" for key in ("score", "low", "high")), "", "", "", ""]
    )
    write_csv(run / f"{STEM}.csv", _COLUMNS, rows)
    points = [("unharmed", clean["score"], clean["low"], clean["high"], True)]
    points += [
        (
            fault["name"] if fault["name"] in MISSING else f"{fault['name']} {fault['severity']}",
            fault["score"],
            fault["low"],
            fault["high"],
            False,
        )
        for fault in result["faults"]
    ]
    write_figure(run, STEM, points, label=f"{result['metric'].replace('_', ' ')} by fault and severity")
    write_json(run / f"{STEM}.json", result)


def print_robustness(found: Robustness, *, as_json: bool) -> None:
    """Print the table, what it says, and what to do next."""
    result = found.result
    if as_json:
        say_json({"run": str(found.run), **result})
        return
    if found.nothing_to_do:
        tell(f"Nothing to do: '{found.run / f'{STEM}.json'}' answers this already.")
    clean, metric = result["clean"], result["metric"]
    lines: list[list[object]] = [["unharmed", "", f"{clean['score']:.3f}", _interval(clean), "", "", ""]]
    lines += [
        [
            fault["name"],
            "" if fault["name"] in MISSING else fault["severity"],
            f"{fault['score']:.3f}",
            _interval(fault),
            f"{fault['difference']:+.3f}",
            f"{fault['diff_low']:+.3f} to {fault['diff_high']:+.3f}",
            "inside the noise" if fault["diff_low"] <= 0 <= fault["diff_high"] else "",
        ]
        for fault in result["faults"]
    ]
    say(table(lines, ["fault", "severity", metric, "95 %", "difference", "95 % of it", "verdict"]))
    say(f"{metric} of {result['rows']:,} rows, each by a model that was trained without it")
    if not found.nothing_to_do:
        tell(f"done in {duration(result['seconds'])}")
    page = f"embedonce report --run {quote(str(found.run))}"
    tell(f"Next: {page} draws the curves; {STEM}.csv and .svg are for a paper")
    say(str(found.run / f"{STEM}.csv"))


def _interval(values: Mapping[str, Any]) -> str:
    return f"{values['low']:.3f} to {values['high']:.3f}"
