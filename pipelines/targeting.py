"""Targeting: in every outer fold, the training rows that are like the ones the model gets wrong."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cache import sha256_hex
from pipelines.ablation.fitted_rows import Fitted, RowMemory
from pipelines.ablation.fitting import FitData, FoldFit, fit_and_predict, fit_pool
from pipelines.bad_cases.facts import RowFacts
from pipelines.bad_cases.slices import Slices, input_slices, slice_table
from pipelines.console import duration, tell
from pipelines.errors import RunError
from tuning import Configuration, Fold, fold_seed, make_folds

_INNER_FOLDS = 3
#: Variants that get no views, and views of the rows that were chosen; "random 1" and so on stand between.
NONE, TARGETED = "none", "targeted"


@dataclass(frozen=True, eq=False)
class Target:
    """What was chosen in one outer fold, without looking at the rows that it holds out.

    Attributes
    ----------
    train, held_out : ndarray of integer
        Positions among the training rows of the data set.
    slices : tuple of str
        The worst slices of the part trained on.
    rows : ndarray of integer
        Rows of `train` inside them.
    inside : ndarray of shape (n_held_out,), bool
        Which of `held_out` are inside them.
    """

    train: np.ndarray
    held_out: np.ndarray
    slices: tuple[str, ...]
    rows: np.ndarray
    inside: np.ndarray


def choose_targets(
    configuration: Configuration,
    data: FitData,
    facts: RowFacts,
    groups: np.ndarray,
    folds: Sequence[Fold],
    *,
    n_slices: int,
    seed: int,
    memory: RowMemory,
) -> list[Target]:
    """Find the worst slices of inputs in the training part of every outer fold.

    Parameters
    ----------
    configuration : Configuration
    data : FitData
        Clean rows.
    facts : RowFacts
        Of the same rows.
    groups : ndarray of shape (n_rows,), integer
        Rows of one group share an inner fold too.
    folds : sequence of (train, valid)
        The outer folds.
    n_slices : int
        How many slices are chosen at most: those whose error rate is surely furthest above that of the other
        rows, and the one that is nearest to being so if there are none.
    seed : int
    memory : RowMemory
        Of this data, these folds and this seed; fits that it knows are not made again.

    Returns
    -------
    list of Target

    Raises
    ------
    RunError
        If no slice can be told from the inputs.
    """
    tables = {}
    for k, (train, _) in enumerate(folds):
        inner = make_folds(data.y[train], n_folds=_INNER_FOLDS, groups=groups[train], random_state=seed)
        tables[f"inner {k}"] = [
            _Fit(train[rest], train[valid], fold_seed(seed, fold)) for fold, (rest, valid) in enumerate(inner)
        ]
    fitted = _fitted_tables(configuration, data, tables, memory, "slices of outer fold")
    targets = []
    for (train, held_out), oof in zip(folds, fitted.values(), strict=True):
        wrong = np.zeros(len(data.y), dtype=bool)
        wrong[train] = oof[train].argmax(axis=1) != data.y[train]
        targets.append(_target(facts, wrong, train, held_out, n_slices))
    return targets


@dataclass(frozen=True, eq=False)
class _Fit:
    """One fit of a table: on which rows, with views of which of them, and which rows it predicts."""

    train: np.ndarray
    held_out: np.ndarray
    seed: int
    viewed: np.ndarray | None = None


def _fitted_tables(
    configuration: Configuration,
    data: FitData,
    tables: Mapping[str, Sequence[_Fit]],
    memory: RowMemory,
    label: str,
) -> dict[str, np.ndarray]:
    """Return key -> probabilities of all rows, zeros where no fit of the table holds them out."""
    found = {key: known.oof for key in tables if (known := memory.get(key)) is not None}
    began, n_new = time.perf_counter(), len(tables) - len(found)
    with fit_pool({configuration.head}) as pool:
        waiting = {
            key: [
                (
                    fit.held_out,
                    pool.submit(
                        fit_and_predict,
                        configuration,
                        data,
                        fit.train,
                        fit.held_out,
                        seed=fit.seed,
                        viewed=fit.viewed,
                    ),
                )
                for fit in fits
            ]
            for key, fits in tables.items()
            if key not in found
        }
        for done, (key, parts) in enumerate(waiting.items(), start=1):
            found[key] = _joined(
                data, [(held_out, future.result()) for held_out, future in parts], memory, key
            )
            left = (time.perf_counter() - began) / done * (n_new - done)
            tell(f"{label} {len(found)}/{len(tables)}" + (f"; {duration(left)} left" if done < n_new else ""))
    return {key: found[key] for key in tables}


def _joined(
    data: FitData, parts: Sequence[tuple[np.ndarray, FoldFit]], memory: RowMemory, key: str
) -> np.ndarray:
    """Put the parts of a table together, and keep it."""
    oof = np.zeros((len(data.y), len(data.class_names)), dtype=np.float32)
    for held_out, part in parts:
        oof[held_out] = part.probabilities
    n_parameters = round(float(np.mean([part.n_parameters for _, part in parts])))
    memory.put(key, Fitted(oof, n_parameters, sum(part.seconds for _, part in parts)))
    return oof


def _target(
    facts: RowFacts, wrong: np.ndarray, train: np.ndarray, held_out: np.ndarray, n_slices: int
) -> Target:
    slices = input_slices(facts, train)
    table = slice_table({name: members[train] for name, members in slices.items()}, {}, wrong[train])
    if table.empty:
        raise RunError(
            "No slice can be told from the inputs of this run: its stores hold neither texts nor sizes of "
            "pictures that differ. Make the run on stores of extract-features."
        )
    worse = table[table["difference_low"] > 0]["name"].tolist() or table["name"].tolist()[:1]
    chosen = tuple(worse[:n_slices])
    members = _union(slices, chosen)
    return Target(train, held_out, chosen, train[members[train]], members[held_out])


def _union(slices: Slices, names: Sequence[str]) -> np.ndarray:
    members: np.ndarray = np.logical_or.reduce([slices[name] for name in names])
    return members


def times_chosen(targets: Sequence[Target]) -> dict[str, int]:
    """Return slice -> number of outer folds that chose it, the most frequent first."""
    return dict(Counter(name for target in targets for name in target.slices).most_common())


def viewed_rows(targets: Sequence[Target], *, draws: int, seed: int) -> dict[str, list[np.ndarray]]:
    """Return which rows bring views, by variant and outer fold.

    Parameters
    ----------
    targets : sequence of Target
    draws : int
        Random controls: as many rows as were chosen, drawn from the same training part.
    seed : int

    Returns
    -------
    dict of str to list of ndarray of integer
        ``"none"``, ``"random 1"`` ..., ``"targeted"``.
    """
    nobody = np.empty(0, dtype=np.int64)
    found = {NONE: [nobody for _ in targets]}
    for draw in range(1, draws + 1):
        found[f"random {draw}"] = [
            np.sort(
                np.random.default_rng([seed, draw, fold]).choice(
                    target.train, len(target.rows), replace=False
                )
            )
            for fold, target in enumerate(targets)
        ]
    return {**found, TARGETED: [target.rows for target in targets]}


def fit_variants(
    configuration: Configuration,
    data: FitData,
    targets: Sequence[Target],
    viewed: Mapping[str, Sequence[np.ndarray]],
    *,
    seed: int,
    memory: RowMemory,
) -> dict[str, np.ndarray]:
    """Fit every variant on the training part of every outer fold, and predict the rows held out.

    Parameters
    ----------
    configuration : Configuration
    data : FitData
        With views of all rows that bring some.
    targets : sequence of Target
    viewed : mapping of str to sequence of ndarray
        From `viewed_rows`.
    seed : int
        Fits of one fold have one seed, whatever the variant.
    memory : RowMemory
        Of this data, these targets and this seed; variants that it knows are not fitted again.

    Returns
    -------
    dict of str to ndarray of shape (n_rows, n_classes), float32
        Probabilities of every row by the model that was not trained on it.
    """
    tables = {
        _key(name, rows): [
            _Fit(target.train, target.held_out, fold_seed(seed, fold), rows[fold])
            for fold, target in enumerate(targets)
        ]
        for name, rows in viewed.items()
    }
    fitted = _fitted_tables(configuration, data, tables, memory, "variant")
    return dict(zip(viewed, fitted.values(), strict=True))


def _key(name: str, rows: Sequence[np.ndarray]) -> str:
    """Return what a variant is kept by: its name and the rows that bring views."""
    digest = sha256_hex(b";".join(np.asarray(part, dtype=np.int64).tobytes() for part in rows))
    return f"{name} {digest[:16]}"
