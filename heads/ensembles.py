"""Ensembles of models from their stored out-of-fold probabilities, without fitting a model again.

A stack of probabilities has shape (n_models, n_samples, n_classes); codes are columns. What is fitted here
is fitted on out-of-fold rows, and applied to the same models' probabilities of other rows, in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heads.linear import LogisticHead
from heads.out_of_fold import (
    Metric,
    check_codes,
    check_probabilities,
    confusion_counts,
    log_loss,
    log_probabilities,
    most_probable,
    score_counts,
)
from heads.parameter_rules import check_parameters, number, whole

_DECIMALS = 9  # scores and losses that agree in these are equal


@dataclass(frozen=True)
class WeightedVote:
    """The weighted mean of the models' probabilities.

    Attributes
    ----------
    weights : ndarray of shape (n_models,), float64
        Not negative; they sum to one.
    """

    weights: NDArray[np.float64]

    def apply(self, stack: ArrayLike) -> NDArray[np.float64]:
        """Return probabilities of shape (n_samples, n_classes), float64."""
        return soft_vote(stack, weights=self.weights)


@dataclass(frozen=True)
class StackedLogistic:
    """Logistic regression on the logarithms of all models' probabilities.

    Attributes
    ----------
    head : LogisticHead
        Fitted; its columns are model after model, class after class within a model.
    n_classes : int
    """

    head: LogisticHead
    n_classes: int

    def apply(self, stack: ArrayLike) -> NDArray[np.float64]:
        """Return probabilities of shape (n_samples, n_classes), float64; 0 for a class it never saw."""
        columns = _stacked_columns(check_probabilities(stack, n_axes=3))
        probabilities = np.zeros((len(columns), self.n_classes))
        probabilities[:, self.head.classes_] = self.head.predict_proba(columns)
        return probabilities


def soft_vote(stack: ArrayLike, *, weights: ArrayLike | None = None) -> NDArray[np.float64]:
    """Average the models' probabilities.

    Parameters
    ----------
    stack : array-like of shape (n_models, n_samples, n_classes)
    weights : array-like of shape (n_models,), optional
        Not negative; scaled to sum to one. None counts all models alike.

    Returns
    -------
    ndarray of shape (n_samples, n_classes), float64

    Raises
    ------
    ValueError
        If `stack` is faulty, or `weights` are not one finite number of at least 0 per model, some positive.

    Examples
    --------
    >>> soft_vote([[[0.9, 0.1]], [[0.5, 0.5]]], weights=[3, 1]).round(3).tolist()
    [[0.8, 0.2]]
    """
    table = check_probabilities(stack, n_axes=3)
    share = np.ones(len(table)) if weights is None else np.asarray(weights, dtype=np.float64)
    if share.shape != (len(table),) or not np.isfinite(share).all() or (share < 0).any() or not share.any():
        raise ValueError(
            f"weights={share.tolist()} do not fit {len(table)} model(s); allowed is one finite number of at "
            "least 0 for each, not all of them 0."
        )
    mean: NDArray[np.float64] = np.tensordot(share / share.sum(), table, axes=1)
    return mean


def majority_vote(stack: ArrayLike, *, tie: int | None = None) -> NDArray[np.intp]:
    """Name the class that most models name.

    Parameters
    ----------
    stack : array-like of shape (n_models, n_samples, n_classes)
    tie : int, optional
        Class code of rows on which two or more classes have the most votes ("neutral" in the course report
        this comes from). None gives them to the one of these classes with the highest mean probability.

    Returns
    -------
    ndarray of shape (n_samples,), integer
        Class codes.

    Raises
    ------
    ValueError
        If `stack` is faulty or `tie` is no class code.
    """
    table = check_probabilities(stack, n_axes=3)
    n_classes = table.shape[2]
    if tie is not None and not 0 <= tie < n_classes:
        raise ValueError(f"tie={tie} is no class; allowed are None and 0..{n_classes - 1}.")
    votes = (table.argmax(axis=2)[:, :, None] == np.arange(n_classes)).sum(axis=0)
    leads = votes == votes.max(axis=1, keepdims=True)
    winners: NDArray[np.intp] = np.where(leads, table.mean(axis=0), -1.0).argmax(axis=1)
    if tie is not None:
        winners = np.where(leads.sum(axis=1) > 1, tie, winners)
    return winners


def fit_soft_vote(stack: ArrayLike, y: ArrayLike) -> WeightedVote:
    """Return the plain mean of the models; there is nothing to learn, and `y` is only checked."""
    table = check_probabilities(stack, n_axes=3)
    check_codes(y, *table.shape[1:])
    return WeightedVote(np.full(len(table), 1 / len(table)))


def fit_best_single(stack: ArrayLike, y: ArrayLike, *, metric: Metric = "macro_f1") -> WeightedVote:
    """Choose the one model with the best score; of equals the one with the lower log loss."""
    return fit_greedy(stack, y, metric=metric, max_size=1, n_bags=1, bag_share=1.0)


def fit_stacking(
    stack: ArrayLike, y: ArrayLike, *, C: float = 0.01, class_weight: str | None = None
) -> StackedLogistic:
    """Learn by logistic regression how to combine models.

    Parameters
    ----------
    stack : array-like of shape (n_models, n_samples, n_classes)
        Out-of-fold probabilities.
    y : array-like of shape (n_samples,), integer
        Class codes; two classes or more.
    C : float, default 0.01
        Inverse strength of the L2 penalty, on standardised columns. The columns of similar models are nearly
        equal, so it should be strong.
    class_weight : None or "balanced"

    Returns
    -------
    StackedLogistic

    Raises
    ------
    ValueError
        If the arrays are faulty, there is one class only, or an argument is out of range.

    References
    ----------
    D. H. Wolpert, "Stacked generalization", Neural Networks 5 (1992).
    """
    table = check_probabilities(stack, n_axes=3)
    codes = check_codes(y, *table.shape[1:])
    head = LogisticHead(C=C, class_weight=class_weight).fit(_stacked_columns(table), codes)
    return StackedLogistic(head, table.shape[2])


def _stacked_columns(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log-probabilities of shape (n_samples, n_models * n_classes)."""
    logs = log_probabilities(table)
    return np.ascontiguousarray(logs.transpose(1, 0, 2).reshape(table.shape[1], -1))


def fit_greedy(
    stack: ArrayLike,
    y: ArrayLike,
    *,
    metric: Metric = "macro_f1",
    max_size: int = 25,
    n_start: int = 5,
    n_bags: int = 20,
    bag_share: float = 0.5,
    n_kept: int | None = 50,
    random_state: int = 0,
) -> WeightedVote:
    """Choose models one by one, each the one that helps the mean most, in several random bags of models.

    Parameters
    ----------
    stack : array-like of shape (n_models, n_samples, n_classes)
        Out-of-fold probabilities.
    y : array-like of shape (n_samples,), integer
        Class codes.
    metric : str or callable, default "macro_f1"
        See `heads.out_of_fold.score_counts`. Of equal scores the lower log loss wins.
    max_size : int, default 25
        Choices per bag. A model may be chosen several times; of all sizes the best is kept.
    n_start : int, default 5
        Each bag starts with its best so many models, which makes lucky pairs less likely.
    n_bags : int, default 20
    bag_share : float in (0, 1], default 0.5
        Share of the models in a bag.
    n_kept : int or None, default 50
        Only the best so many models are looked at; None is all.
    random_state : int

    Returns
    -------
    WeightedVote
        Weights are shares of choices, averaged over bags.

    Raises
    ------
    ValueError
        If the arrays are faulty or arguments out of range.

    References
    ----------
    R. Caruana, A. Niculescu-Mizil, G. Crew, A. Ksikes, "Ensemble selection from libraries of models", ICML
    2004 (selection with replacement, sorted start, bags); R. Caruana, A. Munson, A. Niculescu-Mizil, "Getting
    the most out of ensemble selection", ICDM 2006 (leaving out weak models first).
    """
    values = {"max_size": max_size, "n_start": n_start, "n_bags": n_bags, "bag_share": bag_share}
    check_parameters(
        "fit_greedy",
        {**values, "n_kept": n_kept, "random_state": random_state},
        {
            **dict.fromkeys(("max_size", "n_start", "n_bags"), whole(1)),
            "bag_share": number(0, 1, open_low=True, open_high=False),
            "n_kept": whole(1, or_none=True),
            "random_state": whole(0),
        },
    )
    table = check_probabilities(stack, n_axes=3)
    codes = check_codes(y, *table.shape[1:])
    ranked = _ranking(table, codes, metric)[:n_kept]
    in_bag = max(1, round(bag_share * len(ranked)))
    generator = np.random.default_rng(random_state)
    weights = np.zeros(len(table))
    for _ in range(n_bags):
        bag = ranked[np.sort(generator.permutation(len(ranked))[:in_bag])]
        chosen = _grow(table[bag], codes, metric, max_size=max_size, n_start=n_start)
        weights += np.bincount(bag[chosen], minlength=len(table)) / len(chosen)
    return WeightedVote(weights / n_bags)


def _ranking(table: NDArray[np.float64], codes: NDArray[np.intp], metric: Metric) -> NDArray[np.intp]:
    """Order models from best to worst."""
    scores = _scores(table, codes, metric)
    losses = np.array([log_loss(model, codes) for model in table])
    return np.lexsort((losses.round(_DECIMALS), -scores.round(_DECIMALS)))


def _scores(tables: NDArray[np.float64], codes: NDArray[np.intp], metric: Metric) -> NDArray[np.float64]:
    """Score the most probable classes of many models; rows need not sum to one."""
    return score_counts(confusion_counts(codes, most_probable(tables), tables.shape[2]), metric)


def _grow(
    ranked: NDArray[np.float64], codes: NDArray[np.intp], metric: Metric, *, max_size: int, n_start: int
) -> list[int]:
    """Return positions of the models chosen from a stack in order of rank; repeats count."""
    chosen = list(range(min(n_start, max_size, len(ranked))))
    total = ranked[chosen].sum(axis=0)
    best_size = len(chosen)
    best = float(_scores(total[None], codes, metric).round(_DECIMALS)[0])
    while len(chosen) < max_size:
        sums = total + ranked
        scores = _scores(sums, codes, metric).round(_DECIMALS)
        equal = np.flatnonzero(scores == scores.max())
        losses = [round(log_loss(sums[model] / (len(chosen) + 1), codes), _DECIMALS) for model in equal]
        pick = int(equal[int(np.argmin(losses))])
        chosen.append(pick)
        total = sums[pick]
        if scores[pick] > best:
            best, best_size = float(scores[pick]), len(chosen)
    return chosen[:best_size]
