"""The scoreboard: what a run says on the terminal, while it searches and when it is done."""

from __future__ import annotations

import time
from collections.abc import Mapping
from shlex import quote
from typing import TYPE_CHECKING, Any

from pipelines.after import after_rows
from pipelines.console import duration, p_in_words, say, table, tell
from pipelines.finalists import finalist_rows
from pipelines.metrics import SHOWN
from pipelines.run_results import RunResult, begin_answer
from pipelines.runs import REPORT

_SHOWN_TRIALS = 5

if TYPE_CHECKING:
    from tuning import Trial


class TrialPrinter:
    """Tells every few seconds how far the search is, what runs and which configurations are best."""

    def __init__(self, n_trials: int, metric: str) -> None:
        self._n_trials, self._metric = n_trials, metric
        self._began = self._last = time.monotonic()
        self._best: dict[int, Trial] = {}
        self._count = self._dropped = 0
        self._shown: list[int] = []

    def __call__(self, trial: Trial, _best: Trial) -> None:
        """Take up a trial that was made."""
        self._count += 1
        self._dropped += bool(trial.rung)
        if not trial.rung:
            ranked = sorted([*self._best.values(), trial], key=lambda one: (-one.score, one.number))
            self._best = {one.number: one for one in ranked[:_SHOWN_TRIALS]}
        if self._count == self._n_trials:
            self._tell_best()

    def step(self, sentence: str) -> None:
        """Say what runs now, if enough time has gone by."""
        now = time.monotonic()
        if now - self._last < 2:
            return
        self._last = now
        self._tell_best()
        left = (now - self._began) / max(self._count, 1) * (self._n_trials - self._count)
        ahead = f"; about {duration(left)} left" if self._count else ""
        tell(f"{self._count}/{self._n_trials} trials ({self._dropped} dropped early){ahead}; now {sentence}")

    def _tell_best(self) -> None:
        """Show the best trials, unless they are those shown last."""
        if list(self._best) == self._shown:
            return
        self._shown = list(self._best)
        rows = [
            [str(one.number), one.configuration.head, one.configuration.resampler, f"{one.score:.4f}"]
            for one in self._best.values()
        ]
        tell(table(rows, ["trial", "head", "resampler", self._metric]))


def print_run(result: RunResult, *, as_json: bool) -> None:
    """Print the scores of a run and what to do next."""
    metrics = result.metrics
    if not begin_answer(result, as_json=as_json):
        return
    _print_tables(metrics)
    _print_sentences(metrics)
    if metrics.get("stopped_by_timeout"):
        tell(f"--timeout stopped the search after {n_made(metrics)} trials; a run without it starts anew.")
    if not result.nothing_to_do:
        tell(f"{metrics['n']:,} labelled rows, {trials_made(metrics)}, in {duration(metrics['seconds'])}.")
    tell(f"Next: open {result.path / REPORT}, or embedonce predict --run {quote(str(result.path))}")
    say(str(result.path))


def _print_tables(metrics: Mapping[str, Any]) -> None:
    """Print scores, classes, what came after training and the finalists, as far as there are any."""
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
    if metrics.get("finalists"):
        n_repeats = len(metrics["finalists"][0]["scores"])
        say()
        say(
            table(
                finalist_rows(metrics["finalists"]),
                ["trial", "head", "resampler", f"on {n_repeats} other splits", "minus winner", "95 %", "p"],
            )
        )


def _print_sentences(metrics: Mapping[str, Any]) -> None:
    """Print the test split's scores, who won, and what the search gained."""
    if metrics["test"]:
        test = metrics["test"]
        say(f"test split ({test['n']:,} rows, scored once): {_shown_scores(test)}")
        if "applied" in test:
            say(f"test split, as predict answers: {_shown_scores(test['applied'])}")
    say(verdict(metrics))
    if metrics.get("overtuning"):  # runs made by earlier versions have none
        say(gain_line(metrics["overtuning"]))
    if metrics.get("against_default"):
        say(default_line(metrics["against_default"]))


def _shown_scores(scores: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {scores[name]['mean']:.3f}" for name in SHOWN)


def trials_made(metrics: Mapping[str, Any]) -> str:
    """Say how many trials were made, and how many of them were dropped early.

    Parameters
    ----------
    metrics : mapping
        What ``metrics.json`` of a run holds; one without counts is of one trial.

    Returns
    -------
    str
        Such as ``"20 trial(s), 8 of them dropped early"``.
    """
    dropped = metrics.get("n_dropped", 0)
    made = f"{n_made(metrics):,} trial(s)"
    return f"{made}, {dropped:,} of them dropped early" if dropped else made


def n_made(metrics: Mapping[str, Any]) -> int:
    """Return the number of trials that were made: finished, or dropped early."""
    return int(metrics.get("n_trials", 1) + metrics.get("n_dropped", 0))


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
    """Say in one line what won, by which splits, and whether it differs from the runner-up."""
    winner = f"winner: {metrics['winner']['head']} (resampler {metrics['winner']['resampler']})"
    if metrics.get("chosen_on") == "other splits":
        winner += ", chosen among the finalists by the other splits"
    other = metrics["runner_up"]
    if other is None:
        return winner
    low, high = other["ci95"]
    clear = "is better than" if low > 0 else "cannot be told from"
    return (
        f"{winner}; it {clear} the runner-up {other['head']} (difference {other['difference']:+.3f}, 95 % "
        f"interval {low:+.3f} to {high:+.3f}, {p_in_words(other['p_value'])})"
    )


def gain_line(overtuning: Mapping[str, Any]) -> str:
    """Say in one line what tuning gained over the default configuration, and whether that is noise."""
    gain, (low, high) = overtuning["gain"], overtuning["ci95"]
    word = "lost" if gain < 0 else "gained"
    noise = "inside" if overtuning["inside_noise"] else "outside"
    return (
        f"tuning {word} {abs(gain):.3f} over the default (corrected for the choice), which is {noise} the "
        f"noise (95 % interval {low:+.3f} to {high:+.3f})"
    )


def default_line(compared: Mapping[str, Any]) -> str:
    """Say in one line how winner and default compare on the split of the search."""
    low, high = compared["ci95"]
    return (
        f"winner minus default on the split of the search: {compared['difference']:+.3f} (95 % interval "
        f"{low:+.3f} to {high:+.3f}, {p_in_words(compared['p_value'])}; "
        f"whether both are right equally often: McNemar's {p_in_words(compared['mcnemar'])})"
    )
