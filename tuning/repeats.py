"""Repeated cross-validation: score a few configurations on many splits, and compare them honestly."""

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike

from tuning.folds import Fold, make_folds
from tuning.trials import Configuration, Trial
from tuning.uncertainty import Difference


class Finalist(TypedDict):
    """How one configuration did over all repeats, ready for JSON.

    ``configuration`` is `Configuration.as_dict`; ``scores`` has a list of fold scores per repeat; ``mean``
    and ``std`` are over the repeats' means (``std`` is None for one repeat); ``difference`` is this one minus
    the first of the list, with ``ci95`` and ``p_value`` from `nadeau_bengio`.
    """

    configuration: dict[str, Any]
    mean: float
    std: float | None
    scores: list[list[float]]
    difference: float
    ci95: list[float]
    p_value: float


def nadeau_bengio(differences: ArrayLike, *, test_share: float) -> Difference:
    """Test whether a mean over the folds of (repeated) cross-validation is 0: the corrected resampled t-test.

    Parameters
    ----------
    differences : array-like of shape (n_scores,), float
        One per repeat and fold: score of A minus score of B on the same validation rows.
    test_share : float
        Validation rows over training rows of a fold, such as 1 / 4 for five folds.

    Returns
    -------
    Difference
        Mean, 95 % interval and two-sided p-value of the t distribution of n_scores - 1 degrees. Differences
        that are all equal have no spread: the p-value is then 1 for zeros, else 0.

    Raises
    ------
    ValueError
        When there are fewer than two differences, one is not finite, or ``test_share`` is not positive.

    Notes
    -----
    Training sets of folds overlap, so the plain standard error is far too small. The correction multiplies
    the variance by ``1 / n_scores + test_share`` instead of ``1 / n_scores``.

    References
    ----------
    Nadeau, Bengio (2003). Inference for the generalization error. Machine Learning 52, 239-281.

    Examples
    --------
    >>> found = nadeau_bengio([0.01, 0.03, 0.02, 0.02, 0.02], test_share=1 / 4)
    >>> round(found["difference"], 3), round(found["p_value"], 3)
    (0.02, 0.014)
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all() or not test_share > 0:
        raise ValueError(
            f"'differences' is {values.tolist()!r:.200} and 'test_share' {test_share}, allowed are two "
            "finite numbers or more, and a share above 0. Pass one difference per fold and repeat."
        )
    from scipy.stats import t  # slow to import

    n, mean = len(values), float(values.mean())
    error = float(np.sqrt(values.var(ddof=1) * (1 / n + test_share)))
    half = float(t.ppf(0.975, n - 1)) * error
    if error:
        p_value = float(2 * t.sf(abs(mean) / error, n - 1))
    else:
        p_value = 0.0 if mean else 1.0
    return Difference(difference=mean, ci95=[mean - half, mean + half], p_value=p_value)


def repeat_finalists(
    finalists: Sequence[Configuration],
    evaluate_on: Callable[[Configuration, list[Fold], int], Trial],
    y: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    n_folds: int = 5,
    n_repeats: int = 5,
    random_state: int = 0,
) -> list[Finalist]:
    """Cross-validate a few configurations again on other splits with other seeds.

    Parameters
    ----------
    finalists : sequence of Configuration
        Usually the best few of a search.
    evaluate_on : callable (configuration, folds, seed) -> Trial
        Such as a call of `evaluate` with the matrix filled in.
    y : array-like of shape (n_samples,), integer
        Class codes.
    groups : array-like of shape (n_samples,) or None
        Related rows, which stay on one side; see `make_folds`.
    n_folds, n_repeats : int
    random_state : int
        Repeat number r has a split and a seed that depend on this and r alone, shared by all finalists.

    Returns
    -------
    list of Finalist
        The highest mean over all repeats first; equals in the order given.

    Raises
    ------
    ValueError
        When there are no finalists, one is given twice, there are no repeats, or `make_folds` or
        ``evaluate_on`` refuses.

    Notes
    -----
    The first is the one to take: a mean over repeats carries less luck of the split than the one split of
    the search, on which the leader may owe its place to chance (Kohavi 1995). It still is the best of
    several on rows that the search has seen, so its mean is no estimate for new data: report the score from
    `tuning.bbc_cv` over all trials of the search, whose choice this only refines.

    References
    ----------
    Kohavi (1995). A study of cross-validation and bootstrap for accuracy estimation and model selection.
    IJCAI 14, 1137-1143.
    """
    _check_finalists(finalists, n_repeats)
    scores = np.empty((len(finalists), n_repeats, n_folds))
    shares = []
    for repeat in range(n_repeats):
        split_seed, model_seed = np.random.SeedSequence([random_state, repeat]).generate_state(2).tolist()
        folds = make_folds(y, n_folds=n_folds, groups=groups, random_state=split_seed)
        shares += [len(valid) / len(train) for train, valid in folds]
        for i, configuration in enumerate(finalists):
            scores[i, repeat] = evaluate_on(configuration, folds, model_seed).fold_scores
    order = np.argsort(-scores.mean(axis=(1, 2)), kind="stable")
    first = scores[order[0]]
    return [
        _finalist(finalists[i], scores[i], scores[i] - first, test_share=float(np.mean(shares)))
        for i in order
    ]


def _check_finalists(finalists: Sequence[Configuration], n_repeats: int) -> None:
    faults = []
    if not finalists:
        faults.append("'finalists' is empty, allowed is one configuration or more")
    if len({configuration.key for configuration in finalists}) < len(finalists):
        faults.append("'finalists' holds a configuration twice, allowed is once")
    if n_repeats < 1:
        faults.append(f"'n_repeats' is {n_repeats}, allowed is 1 or more")
    if faults:
        raise ValueError(f"{'; '.join(faults)}. Pass the best few trials of a search.")


def _finalist(
    configuration: Configuration, scores: np.ndarray, differences: np.ndarray, *, test_share: float
) -> Finalist:
    """Sum up the scores and differences (repeats, folds) of one configuration."""
    means = scores.mean(axis=1)
    compared = nadeau_bengio(differences.ravel(), test_share=test_share)
    return Finalist(
        configuration=configuration.as_dict(),
        mean=float(means.mean()),
        std=float(means.std(ddof=1)) if len(means) > 1 else None,
        scores=scores.tolist(),
        difference=compared["difference"],
        ci95=compared["ci95"],
        p_value=compared["p_value"],
    )
