"""The page that puts runs side by side."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np

from cache import write_file
from pipelines.console import duration, p_text
from pipelines.errors import RunError, UsageError
from pipelines.metrics import SHOWN
from pipelines.report.ablation_charts import difference_chart, interval_chart
from pipelines.report.charts import SOFT, Axis, Chart, Mark, span_of
from pipelines.report.evidence import Evidence, read_evidence
from pipelines.report.markup import Section, figures, no_rows, page, table, tiles, why
from pipelines.report.page import Report
from pipelines.report.paired_runs import paired_runs
from pipelines.report.score_charts import SCORES, score_name
from pipelines.runs import CONFIG, read_json
from pipelines.scoreboard import n_made

_RINGS = 4

Compared = tuple[str, dict[str, Any]]
"""A run's title, and how it compares with the first (see `paired_runs`)."""


def write_comparison(folders: Sequence[Path], target: Path) -> Report:
    """Write one page about several runs of tune or train.

    Parameters
    ----------
    folders : sequence of Path
        Run folders; differences are to the first.
    target : Path

    Returns
    -------
    Report

    Raises
    ------
    UsageError
        If there are fewer than two runs, or one is named twice.
    RunError
        If a folder is not a finished run of tune or train.
    """
    resolved = [folder.resolve() for folder in folders]
    if len(folders) < 2 or len(set(resolved)) < len(folders):
        raise UsageError(
            f"--compare needs two or more different runs, got {len(set(resolved))}: "
            f"{', '.join(repr(str(folder)) for folder in folders)}. Name each run folder once."
        )
    runs = [_read(folder, name) for folder, name in zip(folders, _names(resolved), strict=True)]
    metric = runs[0].metrics["metric"]
    charts = [_scores(runs, metric), _radar(runs)]
    cost = _cost(runs, metric)
    charts += [cost] if cost is not None else []
    compared, reasons = paired_runs(runs, metric)
    differences = _difference_charts(runs[0], compared, metric)
    sections = [
        Section("scores", "Scores", figures(charts) + _table(runs)),
        Section(
            "differences",
            "Differences",
            figures(differences) + _differences(runs[0], compared, metric, reasons),
        ),
        Section("classes", "F1 of each class", _classes(runs)),
        Section("settings", "Settings that differ", _settings(runs)),
        Section("reproduce", "How to reproduce", _reproduce(runs)),
    ]
    content = page("Runs compared", _lead(runs, metric), sections, no_rows(), ())
    write_file(target, content)
    notes = [] if cost is not None else ["a run does not say how many parameters it has"]
    return Report(target, len(content), [*charts, *differences], notes)


def _read(folder: Path, name: str) -> Evidence:
    command = read_json(folder / CONFIG).get("command")
    if command not in ("tune", "train"):
        raise RunError(
            f"'{folder}' is a run of '{command}', but only runs of tune and train can be compared."
        )
    return read_evidence(folder, title=name)


def _names(folders: Sequence[Path]) -> list[str]:
    """Return the folders' names, with their parents' where two are alike."""
    names = [folder.name for folder in folders]
    alike = {name for name in names if names.count(name) > 1}
    return [
        f"{f.parent.parent.name}/{f.parent.name}/{f.name}" if f.name in alike else f.name for f in folders
    ]


def _lead(runs: Sequence[Evidence], metric: str) -> str:
    best = max(runs, key=lambda run: run.metrics["corrected"][metric]["mean"])
    words = (
        f"Of {len(runs)} runs, {escape(best.title)} has the best {escape(score_name(metric))} after "
        "correction for its search."
    )
    shown = [
        (
            f"{run.metrics['corrected'][metric]['mean']:.3f}",
            run.title,
            _note(run, metric),
        )
        for run in runs
    ]
    return f"<p>{words}</p>{tiles(shown)}"


def _note(run: Evidence, metric: str) -> str:
    head = run.metrics.get("winner", {}).get("head", "-")
    return f"{head}, cross-validated {run.metrics['cv'][metric]['mean']:.3f}"


def _scores(runs: Sequence[Evidence], metric: str) -> Chart:
    rows = [
        (run.title, run.metrics["corrected"][metric]["mean"], *run.metrics["corrected"][metric]["ci95"])
        for run in runs
    ]
    caption = (
        "Corrected for the search, with 95 % intervals. Whether two runs differ is said below, row by row."
    )
    return interval_chart(
        "compare-scores", f"Corrected {score_name(metric)}", caption, rows, score_name(metric)
    )


def _radar(runs: Sequence[Evidence]) -> Chart:
    """Six scores around a circle; the middle is a little below the smallest."""
    names = list(SCORES)
    values = np.array([[run.metrics["cv"][name]["mean"] for name in names] for run in runs])
    low, high = span_of(values.ravel().tolist(), pad=0.25, within=(0.0, 1.0))
    angles = [math.pi / 2 - 2 * math.pi * k / len(names) for k in range(len(names))]

    def around(radii: Sequence[float]) -> tuple[list[float], list[float]]:
        x = [r * math.cos(a) for r, a in zip(radii, angles, strict=True)]
        y = [r * math.sin(a) for r, a in zip(radii, angles, strict=True)]
        return [*x, x[0]], [*y, y[0]]

    marks = [
        Mark("line", *around([k / _RINGS] * len(names)), colour=SOFT, dashed=True)
        for k in range(1, _RINGS + 1)
    ]
    for colour, (run, row) in enumerate(zip(runs, values, strict=True)):
        x, y = around(((row - low) / (high - low)).tolist())
        notes = [f"{run.title}, {SCORES[name]}: {value:.3f}" for name, value in zip(names, row, strict=True)]
        marks.append(Mark("line", x, y, name=run.title, colour=colour))
        marks.append(Mark("points", x[:-1], y[:-1], colour=colour, notes=notes))
    x, y = around([1.34] * len(names))
    marks.append(Mark("text", x[:-1], y[:-1], notes=[SCORES[name] for name in names]))
    return Chart(
        "compare-radar",
        "Six scores",
        f"Cross-validated; the outer ring is {high:.2f}, the middle {low:.2f}, so small gaps look large.",
        Axis("", -1.65, 1.65),
        Axis("", -1.65, 1.65),
        marks,
        bare=True,
    )


def _cost(runs: Sequence[Evidence], metric: str) -> Chart | None:
    """Parameters against seconds; None when a run does not say them."""
    if not all(run.metrics.get("n_parameters") and run.metrics.get("seconds") for run in runs):
        return None
    points = [(int(run.metrics["n_parameters"]), float(run.metrics["seconds"])) for run in runs]
    marks = [
        Mark("points", [s], [float(n)], name=run.title, colour=colour,
             notes=[f"{run.title}: {n:,} parameters, {duration(s)}, {run.metrics['cv'][metric]['mean']:.3f}"])
        for colour, (run, (n, s)) in enumerate(zip(runs, points, strict=True))
    ]  # fmt: skip
    return Chart(
        "compare-cost",
        "Parameters against time",
        "Numbers in the final head, and seconds of the whole run with its search.",
        Axis("seconds", min(s for _, s in points) / 2, max(s for _, s in points) * 2, log=True),
        Axis("parameters", min(n for n, _ in points) / 2, max(n for n, _ in points) * 2, log=True),
        marks,
    )


def _table(runs: Sequence[Evidence]) -> str:
    header = [
        "run",
        "head",
        "resampler",
        "trials",
        *(SCORES[name] for name in SHOWN),
        "parameters",
        "seconds",
    ]
    rows = []
    for run in runs:
        m, winner = run.metrics, run.metrics.get("winner", {})
        means = [f"{m['cv'][name]['mean']:.3f}" for name in SHOWN]
        n = m.get("n_parameters")
        rows.append([
            run.title, winner.get("head", "-"), winner.get("resampler", "-"), f"{n_made(m):,}", *means,
            "-" if n is None else f"{n:,}", f"{m['seconds']:.1f}" if "seconds" in m else "-",
        ])  # fmt: skip
    return table(header, rows)


def _differences(first: Evidence, compared: Sequence[Compared], metric: str, reasons: Sequence[str]) -> str:
    words = (
        f"<p>Difference in {escape(score_name(metric))} to <b>{escape(first.title)}</b>, on the same rows "
        "(paired bootstrap, which draws related rows together), p-values with Holm's correction for the "
        "number of runs. The winners were chosen on these rows, so a long search looks a little too good "
        "here.</p>"
    )
    rows = [
        [
            title,
            f"{found['difference']:+.3f}",
            f"{found['ci95'][0]:+.3f} to {found['ci95'][1]:+.3f}",
            p_text(found["p_value"]),
            p_text(found["p_holm"]),
            found["verdict"],
            "mean over folds" if found["same_folds"] else "all rows pooled, because the folds differ",
        ]
        for title, found in compared
    ]
    header = ["run", "difference", "95 % interval", "p", "p (Holm)", "verdict", "score"]
    return (words + table(header, rows) if rows else "") + "".join(map(why, reasons))


def _classes(runs: Sequence[Evidence]) -> str:
    names = list(dict.fromkeys(name for run in runs for name in run.metrics["per_class"]))
    rows = [
        [
            run.title,
            *(
                f"{run.metrics['per_class'][n]['f1']:.3f}" if n in run.metrics["per_class"] else "-"
                for n in names
            ),
        ]
        for run in runs
    ]
    return table(["run", *names], rows)


def _difference_charts(first: Evidence, compared: Sequence[Compared], metric: str) -> list[Chart]:
    if not compared:
        return []
    name = score_name(metric)
    words = "Row by row, with 95 % intervals; the verdict allows for the number of runs (Holm)."
    title = f"Difference to {first.title}"
    return [difference_chart("compare-differences", title, words, compared, f"difference in {name}")]


def _settings(runs: Sequence[Evidence]) -> str:
    flat = [dict(_flattened(run.config)) for run in runs]
    keys = [
        key
        for key in dict.fromkeys(k for one in flat for k in one)
        if len({one.get(key) for one in flat}) > 1
    ]
    if not keys:
        return why("All settings are the same.")
    return table(
        ["setting", *(run.title for run in runs)],
        [[key, *(one.get(key, "-") for one in flat)] for key in keys],
    )


def _flattened(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (dotted name, value) of every setting; a space is named by its block."""
    for key, value in config.items():
        if key == "spaces":
            for space in value:
                yield f"{space['block']}", f"{space['backbone']}, {space['store_fingerprint'][:12]}"
        elif isinstance(value, dict):
            yield from ((f"{key}.{name}", inner) for name, inner in _flattened(value))
        elif key != "class_names":
            yield key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _reproduce(runs: Sequence[Evidence]) -> str:
    command = "embedonce report --compare " + " ".join(quote(str(run.folder)) for run in runs)
    return (
        f"<p><code>{escape(command)}</code></p><p>Each run's own page has its settings and fingerprints.</p>"
    )
