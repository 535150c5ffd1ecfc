"""Slices of the samples: error rates with intervals, as ``embedonce errors`` has found them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipelines.console import p_text
from pipelines.report.ablation_charts import interval_chart
from pipelines.report.charts import Chart
from pipelines.report.markup import table

_MOST_DRAWN = 12


def slice_chart(slices: Sequence[Mapping[str, str]], error_rate: float) -> Chart:
    """Draw the error rates of the slices that are worst for sure.

    Parameters
    ----------
    slices : sequence of mapping
        Lines of ``slices.csv``, the worst first.
    error_rate : float
        Of all rows.
    """
    rows = [
        (line["name"], float(line["error_rate"]), float(line["low"]), float(line["high"]))
        for line in slices[:_MOST_DRAWN]
    ]
    return interval_chart(
        "slices",
        "Error rate by slice",
        f"With 95 % Wilson intervals; dashed: all rows, {error_rate:.3f}. What is predicted is known only "
        "after predicting.",
        rows,
        "error rate",
        dashed_at=error_rate,
    )


def slice_table(slices: Sequence[Mapping[str, str]]) -> str:
    """Return every slice with its rows, errors and the difference to the rest."""
    rows = [
        [
            line["name"],
            f"{int(line['n']):,}",
            f"{int(line['errors']):,}",
            f"{float(line['error_rate']):.3f}",
            f"{float(line['low']):.3f} to {float(line['high']):.3f}",
            f"{float(line['difference']):+.3f}",
            p_text(float(line["p_holm"])),
        ]
        for line in slices
    ]
    return table(["slice", "rows", "errors", "rate", "95 % interval", "to the rest", "p (Holm)"], rows)
