"""The page: a run folder rendered as one HTML file that opens offline, prints, and reads on a phone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from cache import write_file
from pipelines.after import after_rows
from pipelines.metrics import SHOWN
from pipelines.report.figures import history, intervals
from pipelines.report.style import STYLE
from pipelines.runs import CONFIG, METRICS, OUT_OF_FOLD, TRIALS, read_csv, read_json

_SCORES = {
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
}
_N_ERRORS = 25


def write_report(folder: Path, target: Path, *, title: str) -> None:
    """Write the report of a tune or train run from the files in `folder`.

    Raises
    ------
    RunError
        If a file of the run is missing.
    """
    metrics, config = read_json(folder / METRICS), read_json(folder / CONFIG)
    trials, rows = read_csv(folder / TRIALS), read_csv(folder / OUT_OF_FOLD)
    sections = [
        ("Scores", _scores(metrics)),
        ("Classes", _classes(metrics)),
        ("Confusion", _confusion(rows, metrics["classes"])),
        *([("After training", _after(metrics))] if "after" in metrics else []),  # earlier runs have none
        ("Search", _search(trials, metrics)),
        ("Confident errors", _errors(rows, metrics["classes"])),
        ("How to reproduce", _reproduce(config, title)),
    ]
    write_file(target, _page(title, _lead(metrics), sections).encode("utf-8"))


def write_ablation_report(folder: Path, target: Path, *, title: str) -> None:
    """Write the report of an ablation from the files in `folder`."""
    metrics, config = read_json(folder / METRICS), read_json(folder / CONFIG)
    rows = metrics["rows"]
    points = [
        (f"{row['features']} ({row['head']})", row["cv"]["macro_f1"]["mean"], *row["cv"]["macro_f1"]["ci95"])
        for row in rows
    ]
    table = read_csv(folder / "ablation.csv")
    cells = [list(row.values()) for row in table]
    lead = (
        f"{metrics['n']:,} labelled rows; every line on the same folds. "
        "Differences are to the last line of each head, tested row by row."
    )
    sections = [
        ("Macro F1", f"<figure>{intervals(points, label='macro F1')}</figure>"),
        ("Table", _table(list(table[0]), cells)),
        ("How to reproduce", _reproduce(config, title)),
    ]
    write_file(target, _page(title, f"<p>{lead}</p>", sections).encode("utf-8"))


def _lead(metrics: Mapping[str, Any]) -> str:
    name = metrics["metric"]
    cv, corrected = metrics["cv"][name], metrics["corrected"][name]
    low, high = cv["ci95"]
    default = metrics["default"]
    tiles = [
        ("cross-validated", cv["mean"], f"95 % interval {low:.3f} to {high:.3f}"),
        ("corrected for the search", corrected["mean"], "what to expect on new data (BBC-CV)"),
        ("default settings", default[name]["mean"] if default else None, "before any search"),
        ("most frequent class", metrics["majority"][name], "no features at all"),
    ]
    shown = "".join(
        f'<div class="tile"><b>{"-" if value is None else f"{value:.3f}"}</b>'
        f"<span>{escape(label)}</span><small>{escape(note)}</small></div>"
        for label, value, note in tiles
    )
    winner = metrics["winner"]
    text = (
        f"{escape(_SCORES.get(name, name))} of {escape(winner['head'])} (resampler "
        f"{escape(winner['resampler'])}) on {metrics['n']:,} labelled rows, {metrics['n_trials']} trial(s)."
    )
    return f'<p>{text}</p><div class="tiles">{shown}</div>'


def _scores(metrics: Mapping[str, Any]) -> str:
    points = [(_SCORES[name], v["mean"], *v["ci95"]) for name, v in metrics["cv"].items() if name in _SCORES]
    header = [
        "score",
        "cross-validated",
        "95 % interval",
        "corrected",
        "default",
        "majority",
        *(["test"] if metrics["test"] else []),
    ]
    rows = []
    for name, label in _SCORES.items():
        cv = metrics["cv"][name]
        row = [
            label,
            f"{cv['mean']:.3f}",
            f"{cv['ci95'][0]:.3f} to {cv['ci95'][1]:.3f}",
            f"{metrics['corrected'][name]['mean']:.3f}",
            f"{metrics['default'][name]['mean']:.3f}" if metrics["default"] else "-",
            f"{metrics['majority'][name]:.3f}",
        ]
        rows.append([*row, f"{metrics['test'][name]['mean']:.3f}"] if metrics["test"] else row)
    return (
        f"<figure>{intervals(points, label='score')}</figure>"
        + _table(header, rows)
        + _runner_up(metrics["runner_up"])
    )


def _runner_up(other: Mapping[str, Any] | None) -> str:
    if other is None:
        return ""
    low, high = other["ci95"]
    word = "is better than" if low > 0 else "cannot be told from"
    return (
        f"<p>The winner {word} the runner-up ({escape(other['head'])}): "
        f"difference {other['difference']:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}, "
        f"p = {other['p_value']:.2f}.</p>"
    )


def _classes(metrics: Mapping[str, Any]) -> str:
    rows = [
        [name, f"{c['support']:,}", f"{c['precision']:.3f}", f"{c['recall']:.3f}", f"{c['f1']:.3f}"]
        for name, c in metrics["per_class"].items()
    ]
    return _table(["class", "rows", "precision", "recall", "F1"], rows)


def _after(metrics: Mapping[str, Any]) -> str:
    header = ["step", *(_SCORES[name] for name in SHOWN), "log loss", "calibration error"]
    return (
        _table(header, after_rows(metrics, SHOWN))
        + "<p>Each step was fitted on the other folds than the one it is scored on. The ensemble is chosen "
        "among all trials without that fold; the other lines start from the winner, which was chosen on all "
        "rows.</p>"
    )


def _predicted(row: Mapping[str, str], classes: Sequence[str]) -> tuple[str, float]:
    probabilities = [float(row[f"p_{name}"]) for name in classes]
    best = int(np.argmax(probabilities))
    return classes[best], probabilities[best]


def _confusion(rows: Sequence[Mapping[str, str]], classes: Sequence[str]) -> str:
    counts = {true: dict.fromkeys(classes, 0) for true in classes}
    for row in rows:
        counts[row["label"]][_predicted(row, classes)[0]] += 1
    head = "".join(f"<th>{escape(name)}</th>" for name in classes)
    body = ""
    for true in classes:
        total = sum(counts[true].values()) or 1
        cells = "".join(
            f'<td class="heat" style="--share:{counts[true][name] / total:.3f}">{counts[true][name]:,}'
            f"<small>{counts[true][name] / total:.0%}</small></td>"
            for name in classes
        )
        body += f"<tr><th>{escape(true)}</th>{cells}</tr>"
    return (
        f'<div class="scroll"><table><thead><tr><th>true \\ predicted</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _search(trials: Sequence[Mapping[str, str]], metrics: Mapping[str, Any]) -> str:
    done = [row for row in trials if row["state"] == "complete"]
    points = [(int(row["number"]), float(row["score"]), row["head"]) for row in done]
    best = sorted(done, key=lambda row: -float(row["score"]))[:10]
    rows = [
        [
            row["number"],
            row["head"],
            row["resampler"],
            f"{float(row['score']):.4f}",
            f"{float(row['seconds']):.1f}",
            _parameters(row["parameters"]),
        ]
        for row in best
    ]
    table = _table(
        [
            "trial",
            "head",
            "resampler",
            _SCORES.get(metrics["metric"], metrics["metric"]),
            "seconds",
            "parameters",
        ],
        rows,
    )
    failed = [row for row in trials if row["state"] == "failed"]
    note = (
        f"<p>{len(failed)} configuration(s) could not be trained; trials.csv says why.</p>" if failed else ""
    )
    return f"<figure>{history(points, label=metrics['metric'])}</figure>{table}{note}"


def _parameters(text: str) -> str:
    """Return ``{"C": 0.0123456}`` as ``C = 0.0123``."""
    values = json.loads(text)
    shown = {name: f"{v:.3g}" if isinstance(v, float) else str(v) for name, v in values.items()}
    return ", ".join(f"{name} = {value}" for name, value in shown.items())


def _errors(rows: Sequence[Mapping[str, str]], classes: Sequence[str]) -> str:
    wrong = []
    for row in rows:
        predicted, confidence = _predicted(row, classes)
        if predicted != row["label"]:
            wrong.append([row["id"], row["label"], predicted, f"{confidence:.3f}"])
    wrong.sort(key=lambda row: -float(row[3]))
    share = len(wrong) / len(rows) if rows else 0.0
    lead = (
        f"<p>{len(wrong):,} of {len(rows):,} rows ({share:.0%}) are wrong out of fold; "
        f"the {min(_N_ERRORS, len(wrong))} most confident:</p>"
    )
    return lead + _table(["id", "label", "predicted", "probability"], wrong[:_N_ERRORS])


def _reproduce(config: Mapping[str, Any], title: str) -> str:
    spaces = [
        [s["block"], s["backbone"], s["path"], s["space_fingerprint"][:16], s["store_fingerprint"][:16]]
        for s in config["spaces"]
    ]
    settings = escape(
        json.dumps({k: v for k, v in config.items() if k != "spaces"}, indent=2, ensure_ascii=False)
    )
    command = f"embedonce {config['command']} --config runs/{title}/config.json --out again"
    return (
        f"<p>In the folder where it ran, with the same stores: <code>{escape(command)}</code></p>"
        + _table(["block", "backbone", "store", "space fingerprint", "store fingerprint"], spaces)
        + f"<details><summary>every setting and version</summary><pre>{settings}</pre></details>"
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(str(cell))}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _page(title: str, lead: str, sections: Sequence[tuple[str, str]]) -> str:
    body = "".join(f"<section><h2>{escape(name)}</h2>{content}</section>" for name, content in sections)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)} - embedonce</title><style>{STYLE}</style></head><body><main>"
        f"<h1>{escape(title)}</h1>{lead}{body}</main></body></html>\n"
    )
