"""The page of an ablation."""

from __future__ import annotations

from pathlib import Path

from cache import write_file
from pipelines.report.charts import Axis, Chart, Mark, names_axis, span_of
from pipelines.report.markup import Section, figures, no_rows, page, table
from pipelines.report.page import Report
from pipelines.report.tables import reproduce
from pipelines.runs import CONFIG, METRICS, read_csv, read_json


def interval_chart(
    key: str, title: str, caption: str, rows: list[tuple[str, float, float, float]], label: str
) -> Chart:
    """Draw one line per row: a point with its 95 % interval, on a common axis.

    Parameters
    ----------
    key, title, caption : str
    rows : list of (name, mean, low, high)
    label : str
        Of the axis.
    """
    at = [-float(k) for k in range(len(rows))]
    means, lows, highs = [row[1] for row in rows], [row[2] for row in rows], [row[3] for row in rows]
    notes = [f"{name}: {mean:.3f} ({low:.3f} to {high:.3f})" for name, mean, low, high in rows]
    low, high = span_of([*lows, *highs], within=(0.0, 1.0))
    marks = [Mark("span", lows, at, highs), Mark("points", means, at, notes=notes)]
    names = names_axis([row[0] for row in rows])
    return Chart(
        key, title, caption, Axis(label, low, high), names, marks, across=True, height=30 * len(rows) + 56
    )


def write_ablation_report(folder: Path, target: Path, *, title: str) -> Report:
    """Write the page of an ablation from the files in `folder`.

    Raises
    ------
    RunError
        If a file of the ablation is missing.
    """
    metrics, config = read_json(folder / METRICS), read_json(folder / CONFIG)
    points = [
        (
            row.get("name") or f"{row['features']} ({row['head']})",
            row["cv"]["macro_f1"]["mean"],
            *row["cv"]["macro_f1"]["ci95"],
        )
        for row in metrics["rows"]
    ]
    lines = read_csv(folder / "ablation.csv")
    lead = (
        f"<p>{metrics['n']:,} labelled rows; every line on the same folds. "
        "Differences are to the line marked as reference, tested row by row.</p>"
    )
    caption = "Lines whose intervals overlap much may still differ row by row: see the differences below."
    chart = interval_chart("ablation", "Macro F1 with 95 % intervals", caption, points, "macro F1")
    sections = [
        Section("scores", "Macro F1", figures([chart])),
        Section("table", "Table", table(list(lines[0]), [list(line.values()) for line in lines])),
        *_ledger(folder / "ledger.csv"),
        Section("reproduce", "How to reproduce", reproduce(config, title)),
    ]
    content = page(title, lead, sections, no_rows(), ())
    write_file(target, content)
    return Report(target, len(content), [chart])


def _ledger(path: Path) -> list[Section]:
    """Return what each modality is worth, where the ablation has written it."""
    lines = read_csv(path) if path.is_file() else []
    if not lines:
        return []
    body = table(list(lines[0]), [list(line.values()) for line in lines])
    return [Section("ledger", "Modality ledger", body)]
