"""Files of bad cases, beside the other files of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from pipelines.bad_cases.finding import BadCases
from pipelines.runs import write_csv

CASES, SLICES, PAIRS = "bad_cases.csv", "slices.csv", "confusion_pairs.csv"


def write_bad_cases(found: BadCases) -> list[Path]:
    """Write ``bad_cases.csv``, ``slices.csv`` and ``confusion_pairs.csv`` into the run folder, durably.

    Returns
    -------
    list of Path
    """
    cases = found.cases.assign(
        slices=["; ".join(names) for names in found.cases["slices"]],
        neighbours=[shown_neighbours(near) for near in found.cases["neighbours"]],
    )
    tables = {CASES: cases, SLICES: found.slices, PAIRS: found.confusion_pairs}
    for name, table in tables.items():
        write_csv(found.run / name, list(table.columns), _cells(table))
    return [found.run / name for name in tables]


def shown_neighbours(near: Iterable[tuple[str, str, float]]) -> str:
    """Return ``"id label 0.91; id label 0.88"``."""
    return "; ".join(f"{guid} {label} {cosine:.2f}" for guid, label, cosine in near)


def _cells(table: pd.DataFrame) -> list[Sequence[object]]:
    return [
        [f"{cell:.6g}" if isinstance(cell, float) else cell for cell in line]
        for line in table.itertuples(index=False, name=None)
    ]
