"""The scoreboard: what a run says on the terminal, while it searches and when it is done."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from shlex import quote
from typing import TYPE_CHECKING, Any

from pipelines.after import after_rows
from pipelines.console import duration, say, table, tell
from pipelines.metrics import SHOWN
from pipelines.runs import REPORT

if TYPE_CHECKING:
    from pipelines.tune import RunResult
    from tuning import Trial


class TrialPrinter:
    """Tells every few seconds how far the search is and what is best."""

    def __init__(self, n_trials: int, metric: str) -> None:
        self._n_trials, self._metric = n_trials, metric
        self._began = self._last = time.monotonic()
        self._count = 0

    def __call__(self, trial: Trial, best: Trial) -> None:
        self._count += 1
        now = time.monotonic()
        if now - self._last < 2 and self._count < self._n_trials:
            return
        self._last = now
        left = (now - self._began) / self._count * (self._n_trials - self._count)
        tell(
            f"trial {self._count}/{self._n_trials}: {trial.configuration.head} {trial.score:.4f}; best "
            f"{self._metric} {best.score:.4f} ({best.configuration.head}, resampler "
            f"{best.configuration.resampler}); {duration(left)} left"
        )


def print_run(result: RunResult, *, as_json: bool) -> None:
    """Print the scores of a run and what to do next."""
    metrics = result.metrics
    if as_json:
        say(json.dumps({"run": str(result.path), **metrics}, indent=2, ensure_ascii=False))
        return
    if result.nothing_to_do:
        tell(f"Nothing to do: run '{result.path}' was made with these settings and stores.")
    say(
        table(
            score_rows(metrics),
            ["score", "cross-validated", "95 % interval", "corrected", "default", "majority"],
        )
    )
    say()
    rows = [
        [name, c["support"], f"{c['precision']:.3f}", f"{c['recall']:.3f}", f"{c['f1']:.3f}"]
        for name, c in metrics["per_class"].items()
    ]
    say(table(rows, ["class", "rows", "precision", "recall", "F1"]))
    if "after" in metrics:  # runs made by earlier versions have none
        say()
        say(table(after_rows(metrics, SHOWN), ["after training", *SHOWN, "log loss", "ECE"]))
    if metrics["test"]:
        shown = ", ".join(f"{name} {metrics['test'][name]['mean']:.3f}" for name in SHOWN)
        say(f"test split ({metrics['test']['n']:,} rows, scored once): {shown}")
    say(verdict(metrics))
    if metrics.get("stopped_by_timeout"):
        tell(
            f"--timeout stopped the search after {metrics['n_trials']} trials; a run without it starts anew."
        )
    if not result.nothing_to_do:
        tell(
            f"{metrics['n']:,} labelled rows, {metrics['n_trials']} trial(s) in "
            f"{duration(metrics['seconds'])}."
        )
    tell(f"Next: open {result.path / REPORT}, or embedonce predict --run {quote(str(result.path))}")
    say(str(result.path))


def score_rows(metrics: Mapping[str, Any]) -> list[list[str]]:
    """Return the rows of the score table."""
    rows = []
    for name in SHOWN:
        cv, corrected = metrics["cv"][name], metrics["corrected"][name]
        low, high = cv["ci95"]
        rows.append(
            [
                name,
                f"{cv['mean']:.3f}",
                f"{low:.3f} to {high:.3f}",
                f"{corrected['mean']:.3f}",
                f"{metrics['default'][name]['mean']:.3f}" if metrics["default"] else "-",
                f"{metrics['majority'][name]:.3f}",
            ]
        )
    return rows


def verdict(metrics: Mapping[str, Any]) -> str:
    """Say in one line what won and whether it differs from the runner-up."""
    winner = f"winner: {metrics['winner']['head']} (resampler {metrics['winner']['resampler']})"
    other = metrics["runner_up"]
    if other is None:
        return winner
    low, high = other["ci95"]
    clear = "is better than" if low > 0 else "cannot be told from"
    return (
        f"{winner}; it {clear} the runner-up {other['head']} (difference {other['difference']:+.3f}, 95 % "
        f"interval {low:+.3f} to {high:+.3f}, p = {other['p_value']:.2f})"
    )
