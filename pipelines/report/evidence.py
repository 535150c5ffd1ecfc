"""Evidence: what a run folder says, read once; what is missing is noted with its reason."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.errors import RunError
from pipelines.report.json_values import finite_cell
from pipelines.report.measurements import ROBUSTNESS, read_fusion_weights, read_robustness, read_training
from pipelines.report.recorded_scores import check_metrics
from pipelines.runs import CONFIG, METRICS, MODEL, OUT_OF_FOLD, TRIALS, check_config, read_csv, read_json
from pipelines.training_trace import FUSION_WEIGHTS, TRAINING


@dataclass(frozen=True)
class OutOfFold:
    """Out-of-fold predictions of every labelled row.

    Attributes
    ----------
    ids : tuple of str
    folds, y : ndarray of shape (n_samples,), int64
        Fold in which a row was held out; code of its class.
    probabilities : ndarray of shape (n_samples, n_classes), float64
    classes : tuple of str
    """

    ids: tuple[str, ...]
    folds: np.ndarray
    y: np.ndarray
    probabilities: np.ndarray
    classes: tuple[str, ...]

    @cached_property
    def predicted(self) -> np.ndarray:
        """ndarray of shape (n_samples,), int64: the most probable class."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @cached_property
    def confidence(self) -> np.ndarray:
        """ndarray of shape (n_samples,), float64: probability of the most probable class."""
        return np.asarray(self.probabilities.max(axis=1))

    @cached_property
    def wrong(self) -> np.ndarray:
        """ndarray of shape (n_samples,), bool."""
        return np.asarray(self.predicted != self.y)


@dataclass(frozen=True)
class Evidence:
    """A run folder, read.

    Attributes
    ----------
    folder : Path
    title : str
    metrics, config : dict
    trials : list of dict
        Rows of ``trials.csv``; empty when it is not there.
    rows : OutOfFold or None
    training : dict or None
        What was measured while the winner was trained (see `training_trace`).
    fusion : dict or None
        Block -> its weight in every labelled row, ndarray of shape (n_samples,).
    robustness : dict or None
        What ``embedonce robustness`` measured; see `robustness_charts`.
    cases, slices : list of dict, or None
        Lines of ``bad_cases.csv`` and ``slices.csv``, which ``embedonce errors`` writes.
    missing : dict
        File name -> one sentence that says why it could not be read.
    """

    folder: Path
    title: str
    metrics: dict[str, Any]
    config: dict[str, Any]
    trials: list[dict[str, str]] = field(default_factory=list)
    rows: OutOfFold | None = None
    training: dict[str, Any] | None = None
    fusion: dict[str, np.ndarray] | None = None
    robustness: dict[str, Any] | None = None
    cases: list[dict[str, str]] | None = None
    slices: list[dict[str, str]] | None = None
    missing: Mapping[str, str] = field(default_factory=dict)


CASES, SLICES = "bad_cases.csv", "slices.csv"


def read_evidence(folder: Path, *, title: str) -> Evidence:
    """Read a run folder.

    Raises
    ------
    RunError
        If ``metrics.json`` or ``config.json`` is missing or damaged. Any other file may be missing.
    """
    metrics, config = read_json(folder / METRICS), read_json(folder / CONFIG)
    check_config(config, folder / CONFIG)
    check_metrics(metrics, folder / METRICS)
    missing: dict[str, str] = {}
    trials = _trials(folder / TRIALS, missing)
    rows = _out_of_fold(folder / OUT_OF_FOLD, metrics["classes"], missing)
    training = read_training(folder / MODEL / TRAINING, missing)
    fusion = None
    if training is not None:
        ids = None if rows is None else rows.ids
        fusion = read_fusion_weights(folder / MODEL / FUSION_WEIGHTS, training["blocks"], ids, missing)
    robustness = read_robustness(folder / ROBUSTNESS, missing)
    cases = _found_cases(folder / CASES, _CASE_COLUMNS, missing)
    slices = _found_cases(folder / SLICES, _SLICE_COLUMNS, missing)
    if cases is None or slices is None:
        cases = slices = None
    return Evidence(
        folder, title, metrics, config, trials, rows, training, fusion, robustness, cases, slices, missing
    )


_CASE_COLUMNS: dict[str, Callable[[str], object]] = {
    "id": str, "slices": str, "label_error_score": finite_cell,
}  # fmt: skip
_SLICE_COLUMNS: dict[str, Callable[[str], object]] = {
    "name": str, "n": int, "errors": int, "error_rate": finite_cell, "low": finite_cell,
    "high": finite_cell, "difference": finite_cell, "p_holm": finite_cell,
}  # fmt: skip


def _found_cases(
    path: Path, columns: Mapping[str, Callable[[str], object]], missing: dict[str, str]
) -> list[dict[str, str]] | None:
    """Return a table of ``embedonce errors`` whose cells can be read, or None."""
    if not path.is_file():
        missing[path.name] = "Not looked at yet; embedonce errors --run RUN adds slices and suspect labels."
        return None
    try:
        lines = read_csv(path)
        for line in lines:
            for name, kind in columns.items():
                kind(line[name])
    except (RunError, KeyError, TypeError, ValueError) as error:
        missing[path.name] = f"'{path}' is damaged ({type(error).__name__}: {error}). Look for errors again."
        return None
    return lines


def _trials(path: Path, missing: dict[str, str]) -> list[dict[str, str]]:
    needed = {"number", "state", "head", "resampler", "score", "seconds", "parameters"}
    try:
        trials = read_csv(path)
        if trials and not needed <= set(trials[0]):
            raise RunError(f"'{path}' lacks the columns {', '.join(sorted(needed - set(trials[0])))}.")
        for trial in trials:
            _check_trial(trial)
    except RunError as error:
        missing[TRIALS] = str(error)
        return []
    except (RecursionError, TypeError, ValueError) as error:
        missing[TRIALS] = f"'{path}' is damaged ({type(error).__name__}: {error!s:.200}). Make the run again."
        return []
    if not trials:
        missing[TRIALS] = f"'{path}' holds no rows."
    return trials


def _check_trial(trial: Mapping[str, str]) -> None:
    """Refuse a line that could not be drawn; those of failed trials have neither number nor score."""
    if trial["number"]:
        int(trial["number"])
    if trial["score"]:
        finite_cell(trial["score"])
    if trial["state"] == "complete":
        finite_cell(trial["seconds"])
    if not isinstance(json.loads(trial["parameters"]), dict):
        raise TypeError(f"parameters {trial['parameters']!r:.60} are no object")


def _out_of_fold(path: Path, classes: Sequence[str], missing: dict[str, str]) -> OutOfFold | None:
    try:
        table = read_csv(path)
        codes = {name: code for code, name in enumerate(classes)}
        return OutOfFold(
            tuple(row["id"] for row in table),
            np.array([int(row["fold"]) for row in table], dtype=np.int64),
            np.array([codes[row["label"]] for row in table], dtype=np.int64),
            _finite([[float(row[f"p_{name}"]) for name in classes] for row in table]),
            tuple(classes),
        )
    except RunError as error:
        missing[OUT_OF_FOLD] = str(error)
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        missing[OUT_OF_FOLD] = f"'{path}' is damaged ({type(error).__name__}: {error}). Make the run again."
    return None


def _finite(values: list[list[float]]) -> np.ndarray:
    table = np.array(values, dtype=np.float64)
    if not len(table) or not np.isfinite(table).all():
        raise ValueError("no rows" if not len(table) else "a probability is not finite")
    return table
