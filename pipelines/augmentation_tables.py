"""Tables of ``embedonce augment``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipelines.console import IntervalCell, count_cell, p_cell
from pipelines.metrics import SHOWN
from pipelines.targeting import NONE, TARGETED

HEADER = ["views of", "rows with views", *SHOWN, "deviation", "accuracy inside the slices"]
COMPARISONS_HEADER = ["targeted against", "rows", "score", "difference", "95 %", "p", "p (Holm)", "verdict"]


def table_rows(metrics: Mapping[str, Any]) -> list[list[object]]:
    """Return the cells under `HEADER`: no views, the mean of the random draws, the targeted rows."""
    groups = [
        (NONE, [v for v in metrics["variants"] if v["variant"] == NONE]),
        ("random", [v for v in metrics["variants"] if v["variant"].startswith("random")]),
        (TARGETED, [v for v in metrics["variants"] if v["variant"] == TARGETED]),
    ]
    cells: list[list[object]] = []
    for name, members in groups:
        scores = np.array([[v["cv"][score]["mean"] for score in SHOWN] for v in members])
        main = [v["cv"][metrics["metric"]]["mean"] for v in members]
        inside = [v["accuracy_inside"] for v in members]
        cells.append(
            [
                name if len(members) == 1 else f"{name} (mean of {len(members)})",
                count_cell(members[0]["rows_with_views"]),
                *(f"{score:.3f}" for score in scores.mean(axis=0)),
                f"{np.std(main, ddof=1):.3f}" if len(main) > 1 else "-",
                "-" if None in inside else f"{np.mean(inside):.3f}",
            ]
        )
    return cells


def comparison_rows(metrics: Mapping[str, Any]) -> list[list[object]]:
    """Return the cells under `COMPARISONS_HEADER`."""
    return [
        [
            line["against"],
            line["rows"],
            line["score"],
            f"{line['difference']:+.3f}",
            IntervalCell(line["ci95"], "+.3f"),
            p_cell(line["p_value"]),
            p_cell(line["p_holm"]),
            line["verdict"],
        ]
        for line in metrics["comparisons"]
    ]
