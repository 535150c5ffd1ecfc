"""Measurements of a run beside its scores: how it was trained, and how robust it is; read and checked.

The files may be damaged or a stranger's, so everything that a chart will read is looked at here, once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.errors import RunError
from pipelines.report.json_values import as_finite, as_list, as_number, as_object, as_text, finite_cell
from pipelines.runs import read_csv, read_json
from pipelines.training_trace import FUSION_WEIGHTS

ROBUSTNESS = "robustness.json"

_NETWORK_KEYS = {"history", "best_epoch", "fusion_weights"}
_FAULT_NUMBERS = ("severity", "score", "low", "high", "difference", "diff_low", "diff_high")


def read_training(path: Path, missing: dict[str, str]) -> dict[str, Any] | None:
    """Return what was measured while a run's model was trained (see `training_trace`), or None.

    Parameters
    ----------
    path : Path
    missing : dict of str to str
        Gets the reason under the file's name.
    """
    absent = (
        "There are no learning curves: the winner is not trained in epochs, or the run is of an earlier "
        "version, which did not keep them."
    )
    return _read_checked(path, _check_training, missing, absent=absent, lacks="does not describe a training")


def _check_training(training: Mapping[str, Any]) -> None:
    networks, blocks = as_list(training["networks"]), as_list(training["blocks"])
    for name in (training["fusion"], *blocks):
        as_text(name)
    for network in networks:
        if _NETWORK_KEYS - set(as_object(network)):
            raise KeyError(*sorted(_NETWORK_KEYS - set(network)))
        as_finite(network["best_epoch"])
        for entry in as_list(network["history"]):
            as_finite(as_object(entry)["epoch"])
            for value in entry.values():  # a loss that is not finite ends a training, and is kept
                if value is not None:
                    as_number(value)
        for weights in network["fusion_weights"] or ():
            if len([as_number(weight) for weight in as_list(weights)]) != len(blocks):
                raise ValueError(f"{len(weights)} weights of {len(blocks)} blocks")


def read_fusion_weights(
    path: Path, blocks: Sequence[str], ids: Sequence[str] | None, missing: dict[str, str]
) -> dict[str, np.ndarray] | None:
    """Return block -> its weight in every labelled row, ndarray of shape (n_samples,), or None.

    Parameters
    ----------
    path : Path
    blocks : sequence of str
    ids : sequence of str, or None
        Of the rows that it must have, in order.
    missing : dict of str to str
        Gets the reason under the file's name.
    """
    if not path.is_file():
        return None
    try:
        table = read_csv(path)
        if not table or (ids is not None and [row["id"] for row in table] != list(ids)):
            raise ValueError("its rows are not those of oof.csv")
        weights = {name: np.array([finite_cell(row[name]) for row in table]) for name in blocks}
    except (RunError, KeyError, TypeError, ValueError) as error:
        missing[FUSION_WEIGHTS] = f"'{path}' is damaged ({type(error).__name__}: {error})."
        return None
    return weights


def read_robustness(path: Path, missing: dict[str, str]) -> dict[str, Any] | None:
    """Return what ``embedonce robustness`` measured (see `robustness_charts`), or None.

    Parameters
    ----------
    path : Path
    missing : dict of str to str
        Gets the reason under the file's name.
    """
    absent = "Not measured yet; embedonce robustness --run RUN adds it."
    return _read_checked(
        path, _check_robustness, missing, absent=absent, lacks="lists no faults with their scores"
    )


def _check_robustness(found: Mapping[str, Any]) -> None:
    if not isinstance(found["rows"], int):
        raise TypeError("rows is no whole number")
    clean = found.get("clean")
    for value in [clean.get("score")] if isinstance(clean, dict) else [clean]:
        if value is not None:
            as_finite(value)
    for fault in as_list(found["faults"]):
        as_text(as_object(fault)["name"])
        for key in _FAULT_NUMBERS:
            as_finite(fault[key])


def _read_checked(
    path: Path,
    check: Callable[[Mapping[str, Any]], None],
    missing: dict[str, str],
    *,
    absent: str,
    lacks: str,
) -> dict[str, Any] | None:
    """Return what a file says if it passes the check; else None, with the reason under its name."""
    if not path.is_file():
        missing[path.name] = absent
        return None
    try:
        found = read_json(path)
        check(found)
    except RunError as error:
        missing[path.name] = str(error)
        return None
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        said = f"({type(error).__name__}: {error!s:.200}). Measure again, or make the run again."
        missing[path.name] = f"'{path}' is damaged: it {lacks} {said}"
        return None
    return found
