"""Tables and sentences of the page that follow from ``metrics.json``, ``trials.csv`` and ``config.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from pipelines.after import after_rows, has_ensemble
from pipelines.console import p_in_words, p_text
from pipelines.metrics import SHOWN
from pipelines.report.markup import table, tiles
from pipelines.report.score_charts import SCORES, completed, score_name
from pipelines.scoreboard import gain_line, trials_made


def lead(metrics: Mapping[str, Any]) -> str:
    """What was found, in one sentence and four numbers."""
    name = metrics["metric"]
    cv, corrected, default = metrics["cv"][name], metrics["corrected"][name], metrics.get("default")
    low, high = cv["ci95"]
    winner = metrics.get("winner", {})
    text = (
        f"{escape(score_name(name))} of {escape(winner.get('head', 'the winner'))} (resampler "
        f"{escape(winner.get('resampler', 'none'))}) on {metrics['n']:,} labelled rows, "
        f"{trials_made(metrics)}."
    )
    shown = [
        (f"{cv['mean']:.3f}", "cross-validated", f"95 % interval {low:.3f} to {high:.3f}"),
        (f"{corrected['mean']:.3f}", "corrected for the search", "what to expect on new data (BBC-CV)"),
        (f"{default[name]['mean']:.3f}" if default else "-", "default settings", "before any search"),
        (f"{metrics['majority'][name]:.3f}", "most frequent class", "no features at all"),
    ]
    return f"<p>{text}</p>{tiles(shown)}"


def scores(metrics: Mapping[str, Any]) -> str:
    """Every score, and the comparison with the runner-up."""
    default, test = metrics.get("default"), metrics.get("test")
    header = ["score", "cross-validated", "corrected", "default", "majority"]
    applied = (test or {}).get("applied")
    header += ["test"] if test else []
    header += ["test, as predict answers"] if applied else []
    rows = []
    for name in (name for name in SCORES if name in metrics["cv"]):
        cv = metrics["cv"][name]
        row = [
            SCORES[name],
            f"{cv['mean']:.3f} ({cv['ci95'][0]:.3f} to {cv['ci95'][1]:.3f})",
            f"{metrics['corrected'][name]['mean']:.3f}",
            f"{default[name]['mean']:.3f}" if default else "-",
            f"{metrics['majority'][name]:.3f}",
        ]
        row += [f"{found[name]['mean']:.3f}" for found in (test, applied) if found]
        rows.append(row)
    where = " on the other splits" if metrics.get("chosen_on") == "other splits" else ""
    return table(header, rows) + _runner_up(metrics.get("runner_up"), where)


def _runner_up(other: Mapping[str, Any] | None, where: str) -> str:
    if other is None:
        return ""
    (low, high), by = other["ci95"], other["difference"]
    word = "is better than" if low > 0 else "cannot be told from"
    return (
        f"<p>The winner {word} the runner-up ({escape(other['head'])}){where}: difference "
        f"{by:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}, {escape(p_in_words(other['p_value']))}.</p>"
    )


def data(metrics: Mapping[str, Any], n_unlabelled: int | None) -> str:
    """How many rows there are."""
    rest = "" if not n_unlabelled else f" The stores hold {n_unlabelled:,} more without a label."
    return f"<p>{metrics['n']:,} labelled rows in {len(metrics['classes'])} classes.{rest}</p>"


def classes(metrics: Mapping[str, Any]) -> str:
    """Precision, recall and F1 of each class."""
    rows = [
        [name, f"{c['support']:,}", f"{c['precision']:.3f}", f"{c['recall']:.3f}", f"{c['f1']:.3f}"]
        for name, c in metrics["per_class"].items()
    ]
    return table(["class", "rows", "precision", "recall", "F1"], rows)


def after(metrics: Mapping[str, Any]) -> str:
    """What calibration, decision weights and an ensemble are worth."""
    others = "The lines"
    if has_ensemble(metrics):
        others = "The ensemble is chosen among all trials without that fold; the other lines"
    header = ["step", *(SCORES[name] for name in SHOWN), "log loss", "calibration error"]
    return (
        table(header, after_rows(metrics, SHOWN))
        + f"<p>Each step was fitted on the other folds than the one it is scored on. {others} "
        "start from the winner, which was chosen on all rows.</p>"
    )


def search(trials: Sequence[Mapping[str, str]], metrics: Mapping[str, Any]) -> str:
    """The ten best configurations, and how many failed."""
    varied = _varied(trials)
    best = sorted(completed(trials), key=lambda row: -float(row["score"]))[:10]
    rows = [
        [
            row["number"],
            row["head"],
            row["resampler"],
            f"{float(row['score']):.4f}",
            f"{float(row['seconds']):.1f}",
            _parameters(row, varied),
        ]
        for row in best
    ]
    shown = "parameters that were searched" if varied else "parameters"
    header = ["trial", "head", "resampler", score_name(metrics["metric"]), "seconds", shown]
    failed = sum(row["state"] == "failed" for row in trials)
    note = f"<p>{failed} configuration(s) could not be trained; trials.csv says why.</p>" if failed else ""
    return table(header, rows, long=shown) + note


def choice(metrics: Mapping[str, Any]) -> str:
    """What the search has gained, and how the finalists compare; early versions did not measure it."""
    lines = []
    if metrics.get("overtuning"):
        line = gain_line(metrics["overtuning"])
        lines.append(f"{line[0].upper()}{line[1:]}.")
    against = metrics.get("against_default")
    decided = metrics.get("chosen_on") == "other splits"
    if against:
        why = (
            "that split had no vote among the finalists."
            if decided
            else "the gap between the two is the luck of having chosen among many."
        )
        low, high = against["ci95"]
        lines.append(
            f"On the split of the search, and without that correction, the winner is "
            f"{against['difference']:+.3f} from the default settings ({low:+.3f} to {high:+.3f}, "
            f"{p_in_words(against['p_value'])}); {why}"
        )
    words = "".join(f"<p>{escape(line)}</p>" for line in lines)
    return words + _finalists(metrics.get("finalists"), decided=decided)


def _finalists(finalists: Sequence[Mapping[str, Any]] | None, *, decided: bool) -> str:
    """Return the best configurations on repeated splits (see `tuning.repeat_finalists`)."""
    if not finalists:
        return ""
    rows = []
    for number, found in enumerate(finalists):
        low, high = found["ci95"]
        std = "" if found["std"] is None else f" \u00b1 {found['std']:.3f}"
        compared = [f"{found['difference']:+.3f} ({low:+.3f} to {high:+.3f})", p_text(found["p_value"])]
        settings = found["configuration"]
        compared = compared if number else ["-", "-"]
        rows.append([settings["head"], settings["resampler"], f"{found['mean']:.3f}{std}", *compared])
    chosen = " The highest mean there won: the search's own split made them finalists, and its luck with it."
    words = (
        "<p>The best configurations again, each on the same new splits; differences are to the first "
        f"(Nadeau and Bengio's corrected t-test).{chosen if decided else ''}</p>"
    )
    return words + table(["head", "resampler", "mean", "difference", "p"], rows)


def _varied(trials: Sequence[Mapping[str, str]]) -> set[tuple[str, str]]:
    """Return (head, parameter) of the parameters that take several values in the search."""
    seen: dict[tuple[str, str], set[str]] = {}
    for row in trials:
        for name, value in json.loads(row["parameters"]).items():
            seen.setdefault((row["head"], name), set()).add(json.dumps(value, sort_keys=True))
    return {key for key, values in seen.items() if len(values) > 1}


def _parameters(row: Mapping[str, str], varied: set[tuple[str, str]]) -> str:
    """Return ``C = 0.0123, class_weight = balanced``; of a search only what it varied."""
    values = json.loads(row["parameters"])
    names = [name for name in values if (row["head"], name) in varied] if varied else list(values)
    shown = {name: f"{v:.3g}" if isinstance(v, float) else str(v) for name, v in values.items()}
    return ", ".join(f"{name} = {shown[name]}" for name in names)


def reproduce(config: Mapping[str, Any], title: str) -> str:
    """Command, fingerprints, versions and every setting."""
    spaces = [
        [s["block"], s["backbone"], s["path"], s["space_fingerprint"][:16], s["store_fingerprint"][:16]]
        for s in config["spaces"]
    ]
    settings = escape(
        json.dumps(
            {k: v for k, v in config.items() if k not in ("spaces", "versions")}, indent=2, ensure_ascii=False
        )
    )
    versions = ", ".join(f"{name} {value}" for name, value in config.get("versions", {}).items())
    command = f"embedonce {config['command']} --config runs/{title}/config.json --out again"
    return (
        f"<p>In the folder where it ran, with the same stores: <code>{escape(command)}</code></p>"
        + table(["block", "backbone", "store", "space fingerprint", "store fingerprint"], spaces)
        + (f"<p>Made with {escape(versions)}.</p>" if versions else "")
        + f"<details><summary>every setting</summary><pre>{settings}</pre></details>"
    )
