"""Tables and figure of ``embedonce stability``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.ablation.figure import write_figure
from pipelines.ablation.tables import write_tables
from pipelines.console import IntervalCell
from pipelines.metrics import SHOWN
from pipelines.runs import write_csv
from tuning import SCORES

TABLE, CELLS = "stability", "scores"
HEADER = ["seed", *SHOWN, "deviation", "95 % interval"]


def write_stability(folder: Path, metrics: Mapping[str, Any], scores: np.ndarray, *, seed: int) -> None:
    """Write the table, every fold's scores, and the figure.

    Parameters
    ----------
    folder : Path
    metrics : mapping
        As in ``metrics.json``.
    scores : ndarray of shape (n_scores, n_splits, n_seeds, n_folds), float
    seed : int
        The first of the seeds, and of the splits.
    """
    write_tables(folder, TABLE, HEADER, table_rows(metrics))
    lines = [
        [split + seed, number + seed, fold, *(f"{value:.6f}" for value in scores[:, split, number, fold])]
        for split, number, fold in np.ndindex(*scores.shape[1:])
    ]
    write_csv(folder / f"{CELLS}.csv", ["split", "seed", "fold", *SCORES], lines)
    name = metrics["metric"]
    whole = metrics["scores"][name]
    points = [(f"seed {row['seed']}", row[name], *row["ci95"], False) for row in metrics["per_seed"]]
    points.append(("all seeds", whole["mean"], *whole["ci95"], True))
    write_figure(folder, TABLE, points, label=name.replace("_", " ").replace("f1", "F1"))


def table_rows(metrics: Mapping[str, Any]) -> list[list[object]]:
    """Return the cells of the per-seed table, the last line all seeds together."""
    whole = metrics["scores"]
    last = {
        "seed": "all",
        **{key: whole[key]["mean"] for key in SHOWN},
        "deviation": whole[metrics["metric"]]["deviation"],
        "ci95": whole[metrics["metric"]]["ci95"],
    }
    return [
        [
            str(row["seed"]),
            *(f"{row[key]:.3f}" for key in SHOWN),
            "-" if row["deviation"] is None else f"{row['deviation']:.4f}",
            IntervalCell(row["ci95"]),
        ]
        for row in [*metrics["per_seed"], last]
    ]
