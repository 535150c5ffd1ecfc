"""The page of an ablation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from cache import write_file
from pipelines.console import p_text
from pipelines.errors import RunError
from pipelines.report.ablation_charts import ledger_charts, table_charts
from pipelines.report.charts import Chart
from pipelines.report.leaks import leak_chart, leak_sentences, leak_table
from pipelines.report.markup import Section, figures, no_rows, page, table, why
from pipelines.report.page import Report
from pipelines.report.score_charts import score_name
from pipelines.report.tables import reproduce
from pipelines.runs import CONFIG, METRICS, check_config, read_csv, read_json

TABLE = "ablation.csv"


def write_ablation_report(folder: Path, target: Path, *, title: str) -> Report:
    """Write the page of an ablation from the files in `folder`.

    Raises
    ------
    RunError
        If ``metrics.json`` or ``config.json`` is missing or damaged. Without its tables the page says so.
    """
    metrics, config = read_json(folder / METRICS), read_json(folder / CONFIG)
    check_config(config, folder / CONFIG)
    lead, charts, ledgers, (leaks, about_leaks) = _drawn(metrics, folder / METRICS)
    notes: list[str] = []
    sections = [
        Section("scores", "Scores", figures(charts)),
        Section("table", "Table", _table(folder / TABLE, notes)),
        Section("ledger", "Modality ledger", _ledger(metrics, ledgers)),
        *([Section("leaks", "Leaks", about_leaks)] if leaks else []),
        Section("reproduce", "How to reproduce", reproduce(config, title)),
    ]
    content = page(title, lead, sections, no_rows(), ())
    write_file(target, content)
    drawn = [*charts, *(chart for group in ledgers for chart in group), *leaks]
    return Report(target, len(content), [*drawn], notes)


def _drawn(
    metrics: Mapping[str, Any], path: Path
) -> tuple[str, list[Chart], list[list[Chart]], tuple[list[Chart], str]]:
    """Return the first sentences, the charts of the table and of each ledger, and `_leaks`."""
    try:
        ledgers = [ledger_charts(ledger, k) for k, ledger in enumerate(metrics.get("ledger") or ())]
        return _lead(metrics), table_charts(metrics), ledgers, _leaks(metrics)
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
        raise RunError(
            f"'{path}' is not that of an ablation, or is damaged ({type(error).__name__}: {error}). Make the "
            "ablation again."
        ) from error


def _lead(metrics: Mapping[str, Any]) -> str:
    words = f"{metrics['n']:,} labelled rows; every line on the same folds."
    if metrics.get("reference"):
        words += f" Differences are to {metrics['reference']}, tested row by row."
    compared = [row.get("against_reference") for row in metrics["rows"]]
    verdicts = [found["verdict"] for found in compared if found and "verdict" in found]
    if verdicts:
        words += (
            f" {verdicts.count('better')} of {len(verdicts)} lines are better, {verdicts.count('worse')} "
            f"worse, {verdicts.count('inside the noise')} inside the noise."
        )
    return f"<p>{escape(words)}</p>"


def _table(path: Path, notes: list[str]) -> str:
    try:
        lines = read_csv(path)
    except RunError as error:
        notes.append(str(error))
        return why(str(error))
    if not lines:
        return why("It has no rows.")
    return table(list(lines[0]), [[_as_read(*cell) for cell in line.items()] for line in lines])


#: Columns whose numbers people read in another form; see ``console.NumberCell``.
_AS_READ: Mapping[str, Callable[[float], str]] = {
    "p": p_text,
    "p (Holm)": p_text,
    "parameters": "{:,.0f}".format,
}


def _as_read(column: str, cell: str) -> str:
    try:
        return _AS_READ[column](float(cell))
    except (KeyError, ValueError):  # another column, no comparison, or a table of an earlier version
        return cell


def _leaks(metrics: Mapping[str, Any]) -> tuple[list[Chart], str]:
    """Return what leaks seem to add to the reference, and the section about it; nothing if not asked for."""
    leaks = metrics.get("leaks")
    if not leaks:
        return [], ""
    words = (
        f"A lesson, and no result: the reference, {metrics['reference']}, scored as some reports have "
        "scored, with validation rows reaching the training rows. Such a figure is worth no more than the "
        "honest one beside it."
    )
    charts = [leak_chart(leaks, metrics["metric"])]
    drawn = figures(charts, beside=leak_sentences(leaks))
    return charts, f"<p>{escape(words)}</p>{drawn}{leak_table(leaks, metrics['metric'])}"


def _ledger(metrics: Mapping[str, Any], charts: Sequence[Sequence[Chart]]) -> str:
    """What each modality is worth, or why that is not known."""
    if not charts:
        return why(
            "A ledger needs a feature set with text and image; this table has none, is the replay of a "
            "report's, or was made by an earlier version."
        )
    parts = []
    for ledger, drawn in zip(metrics["ledger"], charts, strict=True):
        name = f"<h3>{escape(ledger['set'])}</h3>" if ledger["set"] else ""
        parts.append(name + figures(drawn) + _scores(ledger) + _cases(ledger))
    return "".join(parts)


def _scores(ledger: Mapping[str, Any]) -> str:
    rows = []
    for row in ledger["rows"]:
        by = row["both_better_by"]
        compared = (
            ["-"] * 4
            if by is None
            else [
                f"{by['difference']:+.3f}",
                f"{by['ci95'][0]:+.3f} to {by['ci95'][1]:+.3f}",
                p_text(by["p_holm"]),
                by["verdict"],
            ]
        )
        spread = "" if row["deviation"] is None else f" \u00b1 {row['deviation']:.3f}"
        rows.append([row["features"], f"{row['score']:.3f}{spread}", *compared])
    header = [
        "features",
        score_name(ledger["metric"]),
        "both better by",
        "95 % interval",
        "p (Holm)",
        "both are",
    ]
    return table(header, rows)


def _cases(ledger: Mapping[str, Any]) -> str:
    rows = [
        [case["case"], *(f"{case[key]:,}" for key in ("n", "both_right", "both_as_text", "both_as_image"))]
        for case in ledger["cases"]
    ]
    header = ["alone", "rows", "both together right", "both say what text says", "what the image says"]
    return table(header, rows)
