"""The winner of a finished run, and the folds and groups that it was found on, as the run records them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heads import HEADS, OTHER_HEADS, RESAMPLERS, default_parameters
from heads.presets import parameter_rules
from pipelines.duplicates import duplicate_settings
from pipelines.errors import RunError
from pipelines.matrices import read_relations
from pipelines.run_stores import store_specs
from pipelines.runs import CONFIG, METRICS, OUT_OF_FOLD, check_config, read_csv, read_json
from tuning import Configuration, Fold


def winner_of_run(run: Path) -> tuple[Configuration, dict[str, Any]]:
    """Return the winner of a run and the run's ``config.json``.

    Raises
    ------
    RunError
        If it is no finished run of ``tune`` or ``train``, or its head is not trained on rows.
    """
    config, metrics = read_json(run / CONFIG), read_json(run / METRICS)
    check_config(config, run / CONFIG)
    winner = metrics.get("winner")
    if not isinstance(winner, dict) or any(
        not isinstance(winner.get(name), kind)
        for name, kind in (("head", str), ("resampler", str), ("parameters", dict))
    ):
        raise RunError(f"'{run}' has no winner; --run takes a run folder of tune or train.")
    if winner["head"] in OTHER_HEADS:
        raise RunError(
            f"The head of '{run}' is '{winner['head']}', which cannot be trained anew here. Pass a run of "
            "tune, or of train with another head."
        )
    odd = _unknown(winner["head"], winner["resampler"], winner["parameters"])
    if odd:
        raise RunError(
            f"The winner of '{run}' has {', '.join(odd)}, which this version does not know. The run was "
            "changed, or made by another version: make it again."
        )
    return Configuration(winner["head"], winner["resampler"], winner["parameters"]), config


def _unknown(head: str, resampler: str, parameters: Mapping[str, Any]) -> list[str]:
    """Return what of a configuration cannot be made."""
    known = default_parameters(head) if head in HEADS else parameters
    rules = parameter_rules(head) if head in HEADS else {}
    return [
        *([] if head in HEADS else [f"head {head!r:.60}"]),
        *([] if resampler in RESAMPLERS else [f"resampler {resampler!r:.60}"]),
        *(f"parameter {name!r:.60}" for name in parameters if name not in known),
        *(
            f"parameter {name!r:.60} of {parameters[name]!r:.60}"
            for name, rule in rules.items()
            if name in parameters and rule(parameters[name]) is not None
        ),
    ][:5]


def recorded_folds(run: Path, ids: Sequence[str]) -> list[Fold]:
    """Return the folds of a run over its labelled rows.

    Parameters
    ----------
    run : Path
    ids : sequence of str
        Of the labelled rows, in the order in which the folds are to count them.

    Raises
    ------
    RunError
        If the run's out-of-fold rows are damaged, or of other samples.
    """
    path = run / OUT_OF_FOLD
    try:
        fold_of = {row["id"]: int(row["fold"]) for row in read_csv(path)}
    except (KeyError, ValueError) as error:
        raise RunError(
            f"'{path}' is damaged ({type(error).__name__}: {error}). Make the run again."
        ) from error
    names = sorted(set(fold_of.values()))
    if set(fold_of) != set(ids) or len(names) < 2:
        raise RunError(
            f"'{path}' has {len(fold_of):,} rows in {len(names)} fold(s), but the run's stores have "
            f"{len(ids):,} labelled rows, not all of them the same. The run or its stores changed; make the "
            "run again."
        )
    folds = np.array([fold_of[guid] for guid in ids])
    return [(np.flatnonzero(folds != name), np.flatnonzero(folds == name)) for name in names]


def recorded_groups(run: Path, config: Mapping[str, Any], ids: Sequence[str]) -> np.ndarray:
    """Return which rows the folds of a run kept together, found again in its stores.

    Parameters
    ----------
    run : Path
    config : mapping
        Its ``config.json``.
    ids : sequence of str
        Labelled rows.

    Returns
    -------
    ndarray of shape (n_ids,), int32
        Rows with one number are related.

    Raises
    ------
    RunError
        If the stores are gone, have changed or lack a row, or other rows are related than the run recorded.
    StoreError
        If a store cannot be trusted.
    """
    specs = store_specs(config["spaces"], run)
    known, related = read_relations(specs, duplicates=config.get("duplicates", "near"))
    if config.get("related_rows") != duplicate_settings([related]).get("related_rows"):
        raise RunError(
            f"Other rows of '{run}' are related now than when it was made: pictures are gone or have "
            "changed, or another version looks for them. Make the run again."
        )
    place = {guid: row for row, guid in enumerate(known)}
    absent = sum(guid not in place for guid in ids)
    if absent:
        raise RunError(f"The stores of '{run}' lack {absent:,} of its {len(ids):,} rows. Make the run again.")
    groups: np.ndarray = related.groups[[place[guid] for guid in ids]]
    return groups
