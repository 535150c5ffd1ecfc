"""What ``embedonce ablate`` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.ablation.tables import (
    CASES_HEADER,
    HEADER,
    LEAKS_HEADER,
    LEDGER_HEADER,
    TABLE,
    details_table,
    leaks_table,
    ledger_tables,
    reported_table,
    table_rows,
)
from pipelines.console import duration, say, table, tell
from pipelines.metrics import SHOWN
from pipelines.run_results import begin_answer
from pipelines.runs import REPORT

if TYPE_CHECKING:
    from pipelines.ablate import Ablation


def print_ablation(ablation: Ablation, *, as_json: bool) -> None:
    """Print the tables and what to do next."""
    metrics, rows = ablation.metrics, ablation.rows
    if not begin_answer(ablation, as_json=as_json):
        return
    say(table(table_rows(rows), HEADER))
    say()
    header, details = details_table(rows)
    say(
        table(
            [[row["features"], row["head"], *line] for row, line in zip(rows, details, strict=True)],
            ["features", "head", *header],
        )
    )
    if metrics["skipped"] or any(row["reported"] for row in rows):
        header, cells = reported_table(rows, metrics["skipped"])
        say()
        say(table(cells, header))
        say("reported figures are of the report's own single split; ours are cross-validated")
    _print_ledger(metrics)
    _print_leaks(metrics)
    say(f"differences in {metrics['metric']} are to '{metrics['reference']}'; {_noise(rows)}")
    majority = ", ".join(f"{name} {metrics['majority'][name]:.3f}" for name in SHOWN)
    say(f"always the most frequent class: {majority}")
    if not ablation.nothing_to_do:
        tell(f"done in {duration(metrics['seconds'])}")
    tell(f"Next: open {ablation.path / REPORT}; {TABLE}.csv, .md, .tex and .svg beside it are for a paper")
    say(str(ablation.path))


def _print_ledger(metrics: Mapping[str, Any]) -> None:
    if not metrics["ledger"]:
        return
    rows, cases = ledger_tables(metrics["ledger"])
    for header, cells in ((LEDGER_HEADER, rows), (CASES_HEADER, cases)):
        shown = 0 if any(line[0] for line in cells) else 1  # one unnamed set needs no column
        say()
        say(table([line[shown:] for line in cells], header[shown:]))
    say()


def _print_leaks(metrics: Mapping[str, Any]) -> None:
    leaks = metrics.get("leaks")  # runs of earlier versions have none
    if not leaks:
        return
    say(f"what leaks seem to add to '{metrics['reference']}' (a lesson: only the honest rows are results):")
    say(table(leaks_table(leaks, metrics["metric"]), LEAKS_HEADER))
    say()


def _noise(rows: Sequence[Mapping[str, Any]]) -> str:
    compared = [row["against_reference"] for row in rows if row["against_reference"] is not None]
    inside = sum(values["verdict"] == "inside the noise" for values in compared)
    return f"{inside} of {len(compared)} are inside the noise (p with Holm's correction above 0.05)"
