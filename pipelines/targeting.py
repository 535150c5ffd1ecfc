"""Targeting: in every outer fold, the training rows that are like the ones the model gets wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.ablation.feature_sets import Fold
from pipelines.ablation.fitting import FitData, FoldFit, fit_and_predict, fit_pool
from pipelines.bad_cases.facts import RowFacts
from pipelines.bad_cases.slices import Slices, input_slices, slice_table
from pipelines.errors import RunError
from tuning import Configuration, fold_seed, make_folds

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

    Returns
    -------
    list of Target

    Raises
    ------
    RunError
        If no slice can be told from the inputs.
    """
    with fit_pool({configuration.head}) as pool:
        waiting = []
        for train, _ in folds:
            inner = make_folds(data.y[train], n_folds=_INNER_FOLDS, groups=groups[train], random_state=seed)
            parts = [
                (
                    train[valid],
                    pool.submit(
                        fit_and_predict,
                        configuration,
                        data,
                        train[rest],
                        train[valid],
                        seed=fold_seed(seed, k),
                    ),
                )
                for k, (rest, valid) in enumerate(inner)
            ]
            waiting.append(parts)
        targets = []
        for (train, held_out), parts in zip(folds, waiting, strict=True):
            wrong = np.zeros(len(data.y), dtype=bool)
            for rows, part in parts:
                wrong[rows] = part.result().probabilities.argmax(axis=1) != data.y[rows]
            targets.append(_target(facts, wrong, train, held_out, n_slices))
    return targets


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

    Returns
    -------
    dict of str to ndarray of shape (n_rows, n_classes), float32
        Probabilities of every row by the model that was not trained on it.
    """
    found = {name: np.zeros((len(data.y), len(data.class_names)), dtype=np.float32) for name in viewed}
    with fit_pool({configuration.head}) as pool:
        waiting = [
            (
                found[name],
                target.held_out,
                pool.submit(
                    fit_and_predict,
                    configuration,
                    data,
                    target.train,
                    target.held_out,
                    seed=fold_seed(seed, fold),
                    viewed=rows[fold],
                ),
            )
            for name, rows in viewed.items()
            for fold, target in enumerate(targets)
        ]
        for table, held_out, future in waiting:
            fitted: FoldFit = future.result()
            table[held_out] = fitted.probabilities
    return found
