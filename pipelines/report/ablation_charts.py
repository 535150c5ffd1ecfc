"""Charts of an ablation: rows with intervals, differences, and what each modality is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.console import p_in_words
from pipelines.report.charts import SOFT, Axis, Chart, Mark, names_axis, span_of
from pipelines.report.score_charts import score_name

_VERDICT_COLOURS = {"better": 0, "worse": 1, "inside the noise": SOFT}


def interval_chart(
    key: str,
    title: str,
    caption: str,
    rows: Sequence[tuple[str, float, float, float]],
    label: str,
    *,
    dashed_at: float | None = None,
) -> Chart:
    """Draw one line per row: a point with its 95 % interval, on a common axis from 0 to 1 at most.

    Parameters
    ----------
    key, title, caption : str
    rows : sequence of (name, mean, low, high)
    label : str
        Of the axis.
    dashed_at : float, optional
        Where a dashed line to compare with is drawn.
    """
    at = [-float(k) for k in range(len(rows))]
    means, lows, highs = [row[1] for row in rows], [row[2] for row in rows], [row[3] for row in rows]
    notes = [f"{name}: {mean:.3f} ({low:.3f} to {high:.3f})" for name, mean, low, high in rows]
    low, high = span_of([*lows, *highs, *([] if dashed_at is None else [dashed_at])], within=(0.0, 1.0))
    marks = [Mark("span", lows, at, highs), Mark("points", means, at, notes=notes)]
    names = names_axis([row[0] for row in rows])
    if dashed_at is not None:
        marks.insert(0, _upright(dashed_at, names))
    return Chart(key, title, caption, Axis(label, low, high), names, marks, across=True, height=_height(rows))


def _height(rows: Sequence[object]) -> int:
    return 30 * len(rows) + 56


def _upright(at: float, names: Axis) -> Mark:
    return Mark("line", [at, at], [names.low, names.high], colour=SOFT, dashed=True)


def difference_chart(
    key: str, title: str, caption: str, rows: Sequence[tuple[str, Mapping[str, Any]]], label: str
) -> Chart:
    """Draw differences with their 95 % intervals around a line at zero, coloured by verdict.

    Parameters
    ----------
    key, title, caption : str
    rows : sequence of (name, comparison)
        A comparison has ``difference``, ``ci95``, ``p_holm`` and ``verdict`` (see ``comparing.compare``).
    label : str
        Of the axis.
    """
    names = names_axis([name for name, _ in rows])
    ends = [value for _, found in rows for value in found["ci95"]]
    low, high = span_of([*ends, 0.0])
    marks = [_upright(0.0, names)]
    for verdict, colour in _VERDICT_COLOURS.items():
        mine = [(k, *row) for k, row in enumerate(rows) if row[1]["verdict"] == verdict]
        if not mine:
            continue
        at = [-float(k) for k, _, _ in mine]
        notes = [
            f"{name}: {found['difference']:+.3f} ({found['ci95'][0]:+.3f} to {found['ci95'][1]:+.3f}), "
            f"with Holm's correction {p_in_words(found['p_holm'])}, {verdict}"
            for _, name, found in mine
        ]
        lows, highs = ([found["ci95"][end] for _, _, found in mine] for end in (0, 1))
        means = [found["difference"] for _, _, found in mine]
        marks.append(Mark("span", lows, at, highs, colour=colour))
        marks.append(Mark("points", means, at, name=verdict, colour=colour, notes=notes))
    return Chart(key, title, caption, Axis(label, low, high), names, marks, across=True, height=_height(rows))


def table_charts(metrics: Mapping[str, Any]) -> list[Chart]:
    """Every row's score, and its difference to the reference row.

    Parameters
    ----------
    metrics : mapping
        ``metrics.json`` of an ablation, also of an early version (without names and references).
    """
    metric = metrics.get("metric", "macro_f1")
    points = [
        (row_name(row), row["cv"][metric]["mean"], *row["cv"][metric]["ci95"]) for row in metrics["rows"]
    ]
    reference = metrics.get("reference")
    level = next((mean for name, mean, *_ in points if name == reference), None)
    caption = "Lines whose intervals overlap much may still differ row by row: see the differences." + (
        "" if level is None else f" Dashed: the reference, {reference}."
    )
    name = score_name(metric)
    title = f"{name[0].upper()}{name[1:]} with 95 % intervals"
    charts = [interval_chart("ablation", title, caption, points, name, dashed_at=level)]
    compared = [(row_name(row), row.get("against_reference")) for row in metrics["rows"]]
    judged = [(name, found) for name, found in compared if found and "verdict" in found]
    if judged:
        charts.append(
            difference_chart(
                "ablation-differences",
                "Difference to the reference",
                "On the same samples and folds; the verdict allows for how many rows are compared (Holm).",
                judged,
                f"difference in {name}",
            )
        )
    return charts


def row_name(row: Mapping[str, Any]) -> str:
    """Return what a row of an ablation is called; early versions gave rows no names."""
    return str(row.get("name") or f"{row['features']} ({row['head']})")


def ledger_charts(ledger: Mapping[str, Any], number: int) -> list[Chart]:
    """How much better both modalities are than less, and which cases they get right.

    Parameters
    ----------
    ledger : mapping
        One of ``ledger`` in ``metrics.json``.
    number : int
        Of the ledger, to tell the figures' files apart.
    """
    end = f"-{number}" if number else ""
    name = score_name(ledger["metric"])
    rows = [
        (str(row["features"]), row["both_better_by"])
        for row in ledger["rows"]
        if row["both_better_by"] is not None
    ]
    return [
        difference_chart(
            f"ledger{end}",
            "How much better both modalities are than ...",
            "Shuffled partner: every text beside the picture of another sample. Within class: partners "
            "are dealt among samples of one label; where both are no better, the pairing does not matter.",
            rows,
            f"gain in {name}",
        ),
        _cases_chart(f"ledger-cases{end}", ledger["cases"]),
    ]


def _cases_chart(key: str, cases: Sequence[Mapping[str, Any]]) -> Chart:
    at = [-float(k) for k in range(len(cases))]
    totals, right = [float(case["n"]) for case in cases], [float(case["both_right"]) for case in cases]
    notes = [f"{c['case']}: {c['n']:,} rows, both together right in {c['both_right']:,}" for c in cases]
    marks = [
        Mark("bars", totals, at, name="rows", colour=SOFT, width=0.62, notes=notes),
        Mark("bars", right, at, name="both together are right", width=0.62, notes=notes),
    ]
    return Chart(
        key,
        "Where the modalities disagree",
        "Rows by which modality alone is right, and how many of them both together get right.",
        Axis("rows", 0.0, max([*totals, 1.0]) * 1.06),
        names_axis([str(case["case"]) for case in cases]),
        marks,
        across=True,
    )
