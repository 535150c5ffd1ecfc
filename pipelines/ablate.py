"""``embedonce ablate``: the same head on text, image and both, on the same folds."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cache import write_file
from heads import HEADS
from pipelines.console import duration, say, table, tell
from pipelines.errors import UsageError
from pipelines.matrices import Matrix, default_features, read_matrix
from pipelines.metrics import SHOWN
from pipelines.report import write_ablation_report
from pipelines.runs import METRICS, REPORT, RunFolder, read_json, write_csv, write_json
from pipelines.tune import check_trainable, matrix_folds
from tuning import Trial, cv_summary, evaluate, majority_scores, paired_difference, score_name


@dataclass(frozen=True)
class AblateSettings:
    """Settings of ``embedonce ablate``, as on the command line."""

    features: tuple[str, ...] = ()
    heads: tuple[str, ...] = ("logreg",)
    metric: str = "macro-f1"
    folds: int = 5
    seed: int = 0
    out: Path = Path("runs")

    def __post_init__(self) -> None:
        unknown = [head for head in self.heads if head not in HEADS]
        if unknown:
            raise UsageError(
                f"heads {', '.join(map(repr, unknown))} are not known; allowed are {', '.join(HEADS)}"
            )
        if self.folds < 2 or self.seed < 0:
            raise UsageError(f"folds {self.folds} must be at least 2 and seed {self.seed} not negative")
        try:
            score_name(self.metric)
        except ValueError as error:
            raise UsageError(str(error)) from error


@dataclass(frozen=True)
class Ablation:
    """A finished ablation.

    Attributes
    ----------
    path : Path
    rows : list of dict
        One per head and set of modalities: scores with intervals, and the difference to "both" on clean
        rows. Stores with augmented views add one row that trains on them too.
    nothing_to_do : bool
    """

    path: Path
    rows: list[dict[str, Any]]
    majority: Mapping[str, float]
    seconds: float
    nothing_to_do: bool


def ablate(settings: AblateSettings) -> Ablation:
    """Cross-validate every modality alone and all together, and compare them row by row."""
    began = time.perf_counter()
    matrix = read_matrix(settings.features or tuple(default_features()))
    for note in matrix.notes:
        tell(f"note: {note}")
    run = RunFolder(settings.out, None, _config(settings, matrix))
    if run.is_done:
        found = read_json(run.path / METRICS)
        return Ablation(run.path, found["rows"], found["majority"], found["seconds"], True)
    check_trainable(matrix, settings.folds)
    with run.working():
        rows = _rows(settings, matrix)
        majority = majority_scores(matrix.labels[matrix.training], len(matrix.class_names))
        seconds = round(time.perf_counter() - began, 3)
        folder = run.result
        metrics = {
            "metric": score_name(settings.metric),
            "n": len(matrix.training),
            "rows": rows,
            "majority": majority,
            "seconds": seconds,
        }
        write_json(folder / METRICS, metrics)
        write_json(folder / "config.json", run.config)
        _write_tables(folder, rows)
        write_ablation_report(folder, folder / REPORT, title=run.path.name)
        return Ablation(run.publish(), rows, majority, seconds, False)


def _config(settings: AblateSettings, matrix: Matrix) -> dict[str, Any]:
    from extract import library_versions

    values = asdict(settings)
    del values["out"], values["features"]
    values.update(
        command="ablate",
        heads=list(settings.heads),
        spaces=[asdict(ref) for ref in matrix.spaces],
        class_names=list(matrix.class_names),
        versions=library_versions(),
    )
    return values


def modality_sets(matrix: Matrix) -> dict[str, list[str]]:
    """Return row name -> blocks: each modality alone, then all together when there are several."""
    by_modality: dict[str, list[str]] = {}
    for block in sorted(matrix.blocks, key=_place):
        by_modality.setdefault(block.split(".")[0], []).append(block)
    if len(by_modality) == 1 and len(matrix.blocks) > 1:
        by_modality = {block: [block] for block in matrix.blocks}
    sets = dict(by_modality)
    if len(by_modality) > 1:
        sets["both" if len(by_modality) == 2 else "all"] = list(matrix.blocks)
    return sets


def _place(block: str) -> int:
    """Text stands first, whatever the files are called."""
    return ("text", "image", "joint").index(block.split(".")[0])


def _rows(settings: AblateSettings, matrix: Matrix) -> list[dict[str, Any]]:
    training = matrix.training
    y = matrix.labels[training]
    folds = matrix_folds(matrix, settings.folds, settings.seed)
    rows = []
    for head in settings.heads:
        trials = {}
        for name, blocks in modality_sets(matrix).items():
            tell(f"{head}: {name}")
            trials[name] = _trial(head, blocks, settings, matrix, y, folds)
        reference = list(trials)[-1]
        if matrix.views is not None:
            name = f"{reference} + views"
            tell(f"{head}: {name}")
            blocks = modality_sets(matrix)[reference]
            trials[name] = _trial(head, blocks, settings, matrix, y, folds, views=matrix.view_columns(blocks))
        for name, trial in trials.items():
            rows.append(_row(name, trial, trials[reference], y, folds, settings, len(matrix.class_names)))
    return rows


def _trial(
    head: str,
    blocks: list[str],
    settings: AblateSettings,
    matrix: Matrix,
    y: np.ndarray,
    folds: list[Any],
    *,
    views: np.ndarray | None = None,
) -> Trial:
    from tuning import default_configuration

    return evaluate(
        default_configuration(head),
        matrix.columns(blocks)[matrix.training],
        y,
        folds,
        views=None if views is None else views[:, matrix.training],
        blocks={block: matrix.blocks[block] for block in blocks},
        n_classes=len(matrix.class_names),
        metric=settings.metric,
        random_state=settings.seed,
    )


def _row(
    name: str,
    trial: Trial,
    reference: Trial,
    y: np.ndarray,
    folds: list[Any],
    settings: AblateSettings,
    n_classes: int,
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "features": name,
        "head": trial.configuration.head,
        "cv": cv_summary(trial.oof, y, folds, n_classes=n_classes, random_state=settings.seed),
        "seconds": round(trial.seconds, 3),
        "against_reference": None,
    }
    if trial is not reference:
        row["against_reference"] = dict(
            paired_difference(
                trial.oof,
                reference.oof,
                y,
                n_classes=n_classes,
                metric=settings.metric,
                folds=folds,
                random_state=settings.seed,
            )
        )
    return row


HEADER = ["features", "head", *SHOWN, "macro_f1 95 %", "difference", "p"]


def table_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Return the cells of the ablation table."""
    cells = []
    for row in rows:
        low, high = row["cv"]["macro_f1"]["ci95"]
        against = row["against_reference"]
        cells.append(
            [
                row["features"],
                row["head"],
                *(f"{row['cv'][name]['mean']:.3f}" for name in SHOWN),
                f"{low:.3f} to {high:.3f}",
                "reference" if against is None else f"{against['difference']:+.3f}",
                "" if against is None else f"{against['p_value']:.3f}",
            ]
        )
    return cells


def _write_tables(folder: Path, rows: list[dict[str, Any]]) -> None:
    cells = table_rows(rows)
    write_csv(folder / "ablation.csv", HEADER, cells)
    lines = [
        "| " + " | ".join(HEADER) + " |",
        "|" + "---|" * len(HEADER),
        *("| " + " | ".join(row) + " |" for row in cells),
    ]
    write_file(folder / "ablation.md", ("\n".join(lines) + "\n").encode("utf-8"))


def print_ablation(ablation: Ablation, *, as_json: bool) -> None:
    """Print the table and what to do next."""
    if as_json:
        say(
            json.dumps(
                {"run": str(ablation.path), "rows": ablation.rows, "majority": ablation.majority},
                indent=2,
                ensure_ascii=False,
            )
        )
        return
    if ablation.nothing_to_do:
        tell(f"Nothing to do: '{ablation.path}' was made with these settings and stores.")
    say(table(table_rows(ablation.rows), HEADER))
    majority = ", ".join(f"{name} {ablation.majority[name]:.3f}" for name in SHOWN)
    say(f"always the most frequent class: {majority}")
    if not ablation.nothing_to_do:
        tell(f"done in {duration(ablation.seconds)}")
    tell(f"Next: open {ablation.path / REPORT}")
    say(str(ablation.path))
