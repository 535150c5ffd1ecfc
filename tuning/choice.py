"""Which of the trials to take: the best, or the simplest of those that cannot be told from the best."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from numpy.typing import ArrayLike

import heads
from heads.mlp_settings import layer_sizes
from tuning.balance import NONE
from tuning.bootstrap import checked_groups
from tuning.folds import Fold, check_partition
from tuning.scores import class_codes, score_name
from tuning.trials import Configuration, Trial
from tuning.uncertainty import paired_draws

# Draws for a standard error: 400 leave it uncertain by 3.5 % of itself.
_N_BOOTSTRAP = 400

# From the simplest: means of classes, linear functions, stored rows, sums of trees, a network.
_HEADS = ("centroid", "ridge", "logreg", "svm", "knn", "lightgbm", "mlp")

Parameters = Mapping[str, Any]


def _mlp_order(parameters: Parameters) -> tuple[float, ...]:
    """Weights of the layers (all columns: infinitely many), then decay and dropout, strongest first."""
    sizes = layer_sizes(parameters["hidden"], parameters["n_hidden"], taper=parameters["taper"])
    inputs = math.inf if parameters["pca"] is None else parameters["pca"]
    first = sizes[0] if sizes else 1  # without hidden layers: as few as can be, whatever the classes
    later = sum(before * after for before, after in pairwise(sizes))
    members = parameters["n_members"]
    return (
        members * (inputs * first + later),
        members * (first + later),
        -parameters["weight_decay"],
        -parameters["dropout"],
    )


def _lightgbm_order(parameters: Parameters) -> tuple[float, ...]:
    """Leaves of all trees, then the penalty, strongest first, and rows per leaf, most first."""
    leaves = parameters["n_estimators"] * parameters["num_leaves"]
    return leaves, -parameters["reg_lambda"], -parameters["min_child_samples"]


_ORDER: dict[str, Callable[[Parameters], tuple[float, ...]]] = {
    "centroid": lambda _: (),
    "ridge": lambda parameters: (-parameters["alpha"],),
    "logreg": lambda parameters: (parameters["C"],),
    "svm": lambda parameters: (parameters["C"],),
    "knn": lambda parameters: (-parameters["n_neighbors"], -parameters["temperature"]),
    "lightgbm": _lightgbm_order,
    "mlp": _mlp_order,
}


def simplest_within_one_se(
    trials: Sequence[Trial],
    y: ArrayLike,
    folds: Sequence[Fold],
    n_classes: int,
    metric: str = "macro-f1",
    *,
    groups: ArrayLike | None = None,
    random_state: int = 0,
) -> int:
    """Choose the simplest trial whose score is within one standard error of the best.

    The order of heads, from the simplest: centroid, ridge, logreg, svm, knn, lightgbm, mlp. Within a head:
    stronger regularisation (ridge: larger alpha; logreg and svm: smaller C; knn: more neighbours) or fewer
    trained numbers (lightgbm: fewer leaves in all; mlp: fewer weights, then more decay and dropout); then
    without a resampler; then the higher score; then the earlier trial.

    Parameters
    ----------
    trials : sequence of Trial
        Cross-validated on the same folds in full. A parameter that a configuration does not name has the
        head's default.
    y : array-like of shape (n_samples,), integer
        Class codes.
    folds : sequence of (train, valid)
    n_classes : int
    metric : str
        The score name that the trials were scored by.
    groups : array-like of shape (n_samples,) or None
        Related rows have equal values and are drawn together; see `tuning.bootstrap`.
    random_state : int
        Of the bootstrap.

    Returns
    -------
    int
        Index into ``trials``.

    Raises
    ------
    ValueError
        When there are no trials, a head is not known, or shapes, codes or the metric are wrong.

    Notes
    -----
    The standard error is that of the *difference* to the best trial, over bootstraps of the rows (or groups)
    within each fold and true class in which a row brings both predictions. Trials are scored on the same rows
    and err on many of the same, so this is smaller than the standard error of the best score itself, which
    the rule uses as first written, and calls fewer trials equal. Five folds alone would give a standard error
    of four degrees of freedom.

    The rule prefers what is likely to hold on new data at no measurable cost; it is no estimate. The score
    of what it chooses was still seen by the choice.

    References
    ----------
    Breiman, Friedman, Olshen, Stone (1984). Classification and Regression Trees, section 3.4.3 (the 1 SE
    rule). Hastie, Tibshirani, Friedman (2009). The Elements of Statistical Learning, section 7.10.
    """
    name = score_name(metric)
    codes = class_codes(y, n_classes)
    check_partition(folds, len(codes))
    _check_trials(trials, (len(codes), n_classes))
    numbers = checked_groups(groups, len(codes), folds)
    best = max(range(len(trials)), key=lambda index: trials[index].score)
    ranks = [(_complexity(trial.configuration), -trial.score, i) for i, trial in enumerate(trials)]
    predictions, parts = trials[best].predictions, [valid for _, valid in folds]
    for _, _, index in sorted(ranks):
        if index == best:
            break
        difference, draws = paired_draws(
            predictions,
            trials[index].predictions,
            codes,
            parts,
            groups=numbers,
            n_classes=n_classes,
            metric=name,
            n_bootstrap=_N_BOOTSTRAP,
            random_state=random_state,
        )
        if difference <= draws.std(ddof=1):
            return index
    return best


def _check_trials(trials: Sequence[Trial], shape: tuple[int, int]) -> None:
    """Refuse what has no place in the order, and trials on other rows; all faults together."""
    faults = [] if trials else ["there are none"]
    for trial in trials:
        if trial.configuration.head not in _ORDER:
            faults.append(f"trial {trial.number} is of head '{trial.configuration.head}'")
        if trial.oof.shape != shape:
            faults.append(f"trial {trial.number} has probabilities of shape {trial.oof.shape}")
    if faults:
        raise ValueError(
            f"'trials': {'; '.join(faults[:5])}. Allowed are one or more, of {', '.join(_HEADS)}, with "
            f"probabilities of shape {shape}. Pass the trials of one search with the labels it was given."
        )


def _complexity(configuration: Configuration) -> tuple[int, tuple[float, ...], bool]:
    """Sort key, the simplest first."""
    head = configuration.head
    parameters = {**heads.default_parameters(head), **configuration.parameters}
    return _HEADS.index(head), _ORDER[head](parameters), configuration.resampler != NONE
