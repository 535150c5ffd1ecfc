"""Charts of robustness: the score against the severity of each fault of the inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.report.ablation_charts import interval_chart
from pipelines.report.charts import SOFT, Axis, Chart, Mark, span_of
from pipelines.report.markup import table
from pipelines.report.score_charts import score_name

_Fault = Mapping[str, Any]


def robustness_charts(robustness: Mapping[str, Any]) -> list[Chart]:
    """Draw a curve for each fault of several severities, and one line for each of the others.

    Parameters
    ----------
    robustness : mapping
        As of ``robustness.json``: ``metric``, ``clean`` (with ``score``), and ``faults``, each with ``name``,
        ``severity``, ``score`` and its 95 % interval ``low`` to ``high``.
    """
    metric = score_name(str(robustness.get("metric", "score")))
    faults: Sequence[_Fault] = robustness["faults"]
    clean = _clean_score(robustness)
    heights = [float(fault[key]) for fault in faults for key in ("low", "high")]
    low, high = span_of([*heights, *([] if clean is None else [clean])], within=(0.0, 1.0))
    names = dict.fromkeys(str(fault["name"]) for fault in faults)
    by_name = {name: [fault for fault in faults if fault["name"] == name] for name in names}
    charts = [
        _curve(name, mine, clean, Axis(metric, low, high)) for name, mine in by_name.items() if len(mine) > 1
    ]
    single = [mine[0] for mine in by_name.values() if len(mine) == 1]
    if single:
        rows = [(str(f["name"]), float(f["score"]), float(f["low"]), float(f["high"])) for f in single]
        words = "With 95 % intervals." + ("" if clean is None else f" Dashed: unharmed inputs, {clean:.3f}.")
        charts.append(
            interval_chart("robustness-missing", "Without an input", words, rows, metric, dashed_at=clean)
        )
    return charts


def _clean_score(robustness: Mapping[str, Any]) -> float | None:
    clean = robustness.get("clean")
    score = clean.get("score") if isinstance(clean, dict) else clean
    return float(score) if isinstance(score, int | float) else None


def _curve(name: str, faults: Sequence[_Fault], clean: float | None, y: Axis) -> Chart:
    ordered = sorted(faults, key=lambda fault: float(fault["severity"]))
    x = [float(fault["severity"]) for fault in ordered]
    scores, lows, highs = ([float(fault[key]) for fault in ordered] for key in ("score", "low", "high"))
    notes = [
        f"{name}, severity {at:g}: {score:.3f} ({low:.3f} to {high:.3f}), {float(fault['difference']):+.3f} "
        f"({float(fault['diff_low']):+.3f} to {float(fault['diff_high']):+.3f}) to unharmed inputs"
        for fault, at, score, low, high in zip(ordered, x, scores, lows, highs, strict=True)
    ]
    left, right = span_of(x)
    marks = [
        Mark("band", x, lows, highs),
        Mark("line", x, scores, name="with the fault"),
        Mark("points", x, scores, notes=notes),
    ]
    if clean is not None:
        marks.insert(
            0, Mark("line", [left, right], [clean, clean], name="unharmed", colour=SOFT, dashed=True)
        )
    ticks = [(at, f"{at:g}") for at in x]
    title = name.replace("-", " ").capitalize()
    return Chart(f"robustness-{name}", title, "", Axis("severity", left, right, ticks), y, marks)


def robustness_table(robustness: Mapping[str, Any]) -> str:
    """Return every fault with its score and its difference to unharmed inputs."""
    rows = [
        [
            fault["name"],
            f"{float(fault['severity']):g}",
            f"{float(fault['score']):.3f}",
            f"{float(fault['low']):.3f} to {float(fault['high']):.3f}",
            f"{float(fault['difference']):+.3f}",
            f"{float(fault['diff_low']):+.3f} to {float(fault['diff_high']):+.3f}",
        ]
        for fault in robustness["faults"]
    ]
    header = ["fault", "severity", "score", "95 % interval", "difference", "95 % interval "]
    return table(header, rows)
