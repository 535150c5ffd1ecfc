"""Repeated cross-validation: score a few configurations on many splits, and compare them honestly."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike

from tuning.batch_evaluation import BatchEvaluation, Task
from tuning.folds import Fold, make_folds
from tuning.scores import Floats, Ints, class_codes, score_name
from tuning.trials import Configuration, Trial
from tuning.uncertainty import Difference


class RepeatError(ValueError):
    """Finalists cannot be scored on another split: it cannot be cut, or one of them refuses its rows."""


class Finalist(TypedDict):
    """How one configuration did over all repeats, ready for JSON.

    ``configuration`` is `Configuration.as_dict`; ``scores`` has a list of fold scores per repeat; ``mean``
    and ``std`` are over the repeats' means (``std`` is None for one repeat); ``difference`` is this one minus
    the winner, with ``ci95`` and ``p_value`` from `nadeau_bengio`.
    """

    configuration: dict[str, Any]
    mean: float
    std: float | None
    scores: list[list[float]]
    difference: float
    ci95: list[float]
    p_value: float


@dataclass(frozen=True)
class Repeats:
    """A few configurations, cross-validated on the same other splits.

    Attributes
    ----------
    configurations : sequence of Configuration
    scores : ndarray of shape (n_finalists, n_repeats, n_folds), float64
    predictions : ndarray of shape (n_finalists, n_repeats, n_samples), int64
        Out-of-fold class codes: what `tuning.bbc_finalists` takes.
    test_share : float
        Validation rows over training rows of a fold, on average.
    """

    configurations: Sequence[Configuration]
    scores: Floats
    predictions: Ints
    test_share: float

    @property
    def best(self) -> int:
        """Index of the highest mean over all repeats; the first of equals."""
        return int(self.scores.mean(axis=(1, 2)).argmax())

    def compared(self, winner: int) -> list[tuple[int, Finalist]]:
        """Compare all with one of them.

        Parameters
        ----------
        winner : int
            Index of the one that the others are compared with.

        Returns
        -------
        list of (int, Finalist)
            Each with its index: the winner first, then the others, the highest mean first; equals in the
            order given.
        """
        order = np.argsort(-self.scores.mean(axis=(1, 2)), kind="stable").tolist()
        reference = self.scores[winner]
        return [
            (i, _finalist(self.configurations[i], self.scores[i], reference, test_share=self.test_share))
            for i in (winner, *(i for i in order if i != winner))
        ]


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


class EvaluationOnSplits:
    """Cross-validates configurations on any folds, together: on the same reductions, networks in stacks.

    Parameters
    ----------
    X, y, blocks, views, n_classes, metric
        As in `tuning.evaluate`.
    on_step : callable (text) or None
        Called with one sentence before each longer piece of work.

    Notes
    -----
    What a configuration gets is what `tuning.evaluate` gives within the tolerance of the engines of a search
    (see `tuning.batch_evaluation`), several times sooner. Five networks of one shape in a stack take half the
    time of five stacks of one (7.0 to 14.6 microseconds for each row, epoch and network of 256 x 128 units).
    """

    def __init__(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        n_classes: int,
        metric: str,
        blocks: Mapping[str, int] | None = None,
        views: Any = None,
        on_step: Callable[[str], None] | None = None,
    ) -> None:
        self._rows = (X, class_codes(y, n_classes))
        self._options: dict[str, Any] = {"blocks": blocks, "n_classes": n_classes, "views": views}
        self._metric, self._on_step = score_name(metric), on_step

    def __call__(
        self, configurations: Sequence[Configuration], folds: Sequence[Fold], seed: int
    ) -> list[Trial]:
        """Cross-validate configurations: what `repeat_finalists` calls.

        Raises
        ------
        RepeatError
            When a head or resampler refuses its parameters or training rows.
        """
        X, y = self._rows
        task = Task(X, y, folds, metric=self._metric, random_state=seed, **self._options)
        asked = [(configuration, number) for number, configuration in enumerate(configurations)]
        in_full = [configuration.key for configuration in configurations]
        trials = []
        for outcome in BatchEvaluation(task, self._on_step).outcomes(asked, never_dropped=in_full):
            if isinstance(outcome, str):
                raise RepeatError(outcome)
            trials.append(outcome)
        return trials


def repeat_finalists(
    finalists: Sequence[Configuration],
    evaluate_on: Callable[[Sequence[Configuration], list[Fold], int], list[Trial]],
    y: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    n_folds: int = 5,
    n_repeats: int = 5,
    random_state: int = 0,
    goes_on: Callable[[int], bool] | None = None,
) -> Repeats | None:
    """Cross-validate a few configurations again on other splits with other seeds.

    Parameters
    ----------
    finalists : sequence of Configuration
        Usually the best few of a search, see `tuning.finalists_of`.
    evaluate_on : callable (configurations, folds, seed) -> list of Trial
        Takes all finalists at once and keeps their order; such as an `EvaluationOnSplits`.
    y : array-like of shape (n_samples,), integer
        Class codes.
    groups : array-like of shape (n_samples,) or None
        Related rows, which stay on one side; see `make_folds`.
    n_folds, n_repeats : int
    random_state : int
        Repeat number r has a split and a seed that depend on this and r alone, shared by all finalists.
    goes_on : callable (repeat) -> bool, or None
        Asked before each repeat, from 0; False ends the repeats there.

    Returns
    -------
    Repeats or None
        None when ``goes_on`` allowed no repeat.

    Raises
    ------
    ValueError
        When there are no finalists, one is given twice, or there are no repeats.
    RepeatError
        When `make_folds` refuses to cut another split, or ``evaluate_on`` raises it.

    Notes
    -----
    A mean over repeats carries less luck of the split than the one split of the search, on which the leader
    may owe its place to chance (Kohavi 1995), and none of that split's. The best of these means still is the
    best of several on rows that the search has seen, so it is no estimate for new data: report the score from
    `tuning.bbc_finalists`.

    References
    ----------
    Kohavi (1995). A study of cross-validation and bootstrap for accuracy estimation and model selection.
    IJCAI 14, 1137-1143.
    """
    _check_finalists(finalists, n_repeats)
    repeats: list[list[Trial]] = []
    shares: list[float] = []
    for repeat in range(n_repeats):
        if goes_on is not None and not goes_on(repeat):
            break
        split_seed, model_seed = np.random.SeedSequence([random_state, repeat]).generate_state(2).tolist()
        try:
            folds = make_folds(y, n_folds=n_folds, groups=groups, random_state=split_seed)
        except ValueError as error:
            raise RepeatError(str(error)) from error
        shares += [len(valid) / len(train) for train, valid in folds]
        repeats.append(evaluate_on(finalists, folds, model_seed))
    if not repeats:
        return None
    # From (repeats, finalists, ...) to (finalists, repeats, ...).
    scores = np.array([[trial.fold_scores for trial in trials] for trials in repeats]).swapaxes(0, 1)
    predictions = np.array([[trial.predictions for trial in trials] for trials in repeats]).swapaxes(0, 1)
    return Repeats(tuple(finalists), scores, predictions, float(np.mean(shares)))


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
    configuration: Configuration, scores: Floats, reference: Floats, *, test_share: float
) -> Finalist:
    """Sum up the scores (repeats, folds) of one configuration beside those of the winner."""
    means = scores.mean(axis=1)
    compared = nadeau_bengio((scores - reference).ravel(), test_share=test_share)
    return Finalist(
        configuration=configuration.as_dict(),
        mean=float(means.mean()),
        std=float(means.std(ddof=1)) if len(means) > 1 else None,
        scores=scores.tolist(),
        difference=compared["difference"],
        ci95=compared["ci95"],
        p_value=compared["p_value"],
    )
