"""Scores of a run, as ``metrics.json`` records them: what a page reads of them is there, or it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.errors import RunError
from pipelines.report.json_values import as_finite, as_list, as_object, as_text

_KEYS = ("classes", "n", "metric", "cv", "corrected", "majority", "per_class")
_OF_A_CLASS = ("precision", "recall", "f1", "support")
_OBJECTS = ("against_default", "overtuning", "after")


def check_metrics(metrics: Mapping[str, Any], path: Path) -> None:
    """Refuse the metrics of something else than ``tune`` or ``train``, or damaged ones.

    Parameters
    ----------
    metrics : mapping
        Contents of ``metrics.json``, also of an early version.
    path : Path
        Of the file, for the message.

    Raises
    ------
    RunError
        Naming what is missing, or the first thing that is not what a run records.
    """
    lacking = [key for key in _KEYS if key not in metrics]
    if lacking:
        raise RunError(
            f"'{path}' lacks {', '.join(map(repr, lacking))}: it is not from tune or train. Name a run of "
            "these, or make the run again."
        )
    for part, check in (
        ("classes", lambda: [as_text(name) for name in as_list(metrics["classes"])]),
        ("n", lambda: f"{as_finite(metrics['n']):,}"),
        ("n_trials", lambda: as_finite(metrics.get("n_trials", 0))),
        ("n_dropped", lambda: as_finite(metrics.get("n_dropped", 0))),
        ("cv", lambda: _check_intervals(metrics["cv"], as_text(metrics["metric"]))),
        ("corrected", lambda: _check_intervals(metrics["corrected"], metrics["metric"], *metrics["cv"])),
        ("majority", lambda: [as_finite(as_object(metrics["majority"])[name]) for name in metrics["cv"]]),
        ("per_class", lambda: _check_classes(metrics["per_class"])),
        ("default", lambda: _check_scores(metrics.get("default") or metrics["cv"], *metrics["cv"])),
        ("test", lambda: _check_test(metrics.get("test") or metrics["cv"], metrics["cv"])),
        ("winner", lambda: _check_names(as_object(metrics.get("winner") or {}))),
        ("runner_up", lambda: _check_runner_up(as_object(metrics.get("runner_up") or {}))),
        ("comparisons", lambda: [as_object(metrics.get(name) or {}) for name in _OBJECTS]),
    ):
        try:
            check()
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            raise RunError(
                f"'{path}' is damaged: {part} is not what a run records ({type(error).__name__}: "
                f"{error!s:.200}). Make the run again."
            ) from error


def _check_scores(scores: Any, *names: str) -> None:
    """Refuse scores without a mean and an interval under each of some names."""
    for name in names:
        as_object(scores)[name]
    for name, entry in as_object(scores).items():
        if name in names or isinstance(entry, dict):
            as_finite(as_object(entry)["mean"])
            if entry.get("ci95") is not None:
                ends = [as_finite(end) for end in as_list(entry["ci95"])]
                if len(ends) != 2:
                    raise ValueError(f"an interval has {len(ends)} ends")


def _check_intervals(scores: Any, *names: str) -> None:
    """Refuse scores that are drawn with their intervals, where one lacks it."""
    _check_scores(scores, *names)
    for name in names:
        as_list(scores[name]["ci95"])


def _check_names(part: dict[str, Any]) -> None:
    for name in {"head", "resampler"} & set(part):
        as_text(part[name])


def _check_runner_up(runner_up: dict[str, Any]) -> None:
    if not runner_up:
        return
    as_text(runner_up["head"])
    _check_names(runner_up)
    for value in (runner_up["difference"], runner_up["p_value"], *as_list(runner_up["ci95"])):
        as_finite(value)
    if len(runner_up["ci95"]) != 2:
        raise ValueError(f"an interval has {len(runner_up['ci95'])} ends")


def _check_test(test: Any, cv: Mapping[str, Any]) -> None:
    parts = [as_object(test)]
    parts += [as_object(test["applied"])] if "applied" in test else []
    for part in parts:
        _check_scores({name: part[name] for name in cv}, *cv)


def _check_classes(per_class: Any) -> None:
    for values in as_object(per_class).values():
        for key in _OF_A_CLASS:
            as_finite(as_object(values)[key])
