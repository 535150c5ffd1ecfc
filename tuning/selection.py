"""The score of the best of many configurations, corrected for having been chosen.

The best of many cross-validated scores is optimistic: part of what made it the best is luck with these rows.
Bootstrap bias corrected cross-validation (BBC-CV) repeats the choice on the rows drawn into a bootstrap
sample and scores the choice on the rows left out, from stored out-of-fold predictions and without fitting
anything.

What is repeated is the choice of the best trial, and which trials were dropped early. What is not: how the
sampler let earlier scores guide its questions.

Where other splits decide among the best few, the choice is repeated there: `tuning.bbc_finalists`.

References
----------
Tsamardinos, Greasidou, Borboudakis (2018). Bootstrapping the out-of-sample predictions for efficient and
accurate cross-validation. Machine Learning 107, 1895-1922.
Shao, Wu (1989). A general theory for jackknife variance estimation. Annals of Statistics 17, 1176-1197.
Bates, Hastie, Tibshirani (2024). Cross-validation: what does it estimate and how well does it do it? Journal
of the American Statistical Association 119, 1434-1445.
"""

import numpy as np
from numpy.typing import ArrayLike

from tuning.early_drops import EarlyDrops
from tuning.repeated_choice import choice_of
from tuning.scores import SCORES, Floats, Ints, score
from tuning.uncertainty import Difference, Estimate, difference_of, percentile_interval


def bbc_cv(
    predictions: ArrayLike,
    y: ArrayLike,
    *,
    n_classes: int,
    metric: str = "macro-f1",
    dropped: EarlyDrops | None = None,
    groups: ArrayLike | None = None,
    n_bootstrap: int = 1000,
    random_state: int = 0,
) -> dict[str, Estimate]:
    """Estimate every score of the configuration that a search would choose, free of the luck of being chosen.

    Parameters
    ----------
    predictions : array-like of shape (n_trials, n_samples), integer
        Out-of-fold class codes of every trial the choice was made from.
    y : array-like of shape (n_samples,), integer
        True class codes.
    n_classes : int
    metric : str
        The score by which the best trial is chosen.
    dropped : EarlyDrops or None
        The trials that the search dropped early: who goes on is then decided again in each draw, on the drawn
        rows.
    groups : array-like of shape (n_samples,) or None
        Related rows have equal values and are drawn, or left out, together; see `tuning.bootstrap`.
    n_bootstrap : int
        Number of draws.
    random_state : int

    Returns
    -------
    dict of str to Estimate
        A key for each of ``SCORES``: mean and percentile interval, over the draws, of the chosen trial's
        score on the rows that were not drawn.

    Raises
    ------
    ValueError
        When the shapes disagree, there is no trial, a code or the metric is not allowed, or a class has one
        row (or group).

    Notes
    -----
    Rows are drawn with replacement within each class; a class in which every row happened to be drawn is
    drawn again, because its score outside would not exist. The choice is by the score of all drawn rows
    pooled, where a search takes the mean over folds; the first of equal trials is chosen. Draw number i
    depends on ``random_state`` and i alone.

    About 37 % of the rows are left out of a draw. Were only the luck of the scored rows at work, the spread
    of scores on them would be 1.3 times that of a score on all rows (the delete-d jackknife, Shao and Wu
    1989). But the score of a model also depends on the rows it was trained on, which no bootstrap of stored
    predictions sees and which makes plain intervals from cross-validation too narrow by about as much (Bates,
    Hastie, Tibshirani 2024). So the percentiles are reported as they are: benchmarks/corrected_estimate.py
    counts how often they hold the true score.

    Models of the folds see fewer rows than one fitted on all rows, which a correction for choosing leaves in:
    the estimate is that much too low for the final model.

    The cost is one matrix product per class, (draws, rows) @ (rows, trials x classes); memory stays below a
    few hundred MB whatever the number of draws.
    """
    choice = choice_of(predictions, y, n_classes=n_classes, metric=metric, dropped=dropped, groups=groups)
    counts = np.concatenate(
        [
            left_out_confusions(drawn, chosen, choice.codes, n_classes)
            for drawn, chosen in choice.repeated(n_bootstrap=n_bootstrap, random_state=random_state)
        ]
    )
    return {key: estimate_of(score(counts, key)) for key in SCORES}


def bbc_difference(
    predictions: ArrayLike,
    y: ArrayLike,
    reference: int,
    *,
    n_classes: int,
    metric: str = "macro-f1",
    dropped: EarlyDrops | None = None,
    groups: ArrayLike | None = None,
    n_bootstrap: int = 1000,
    random_state: int = 0,
) -> Difference:
    """Estimate how much better the configuration that a search would choose is than one named beforehand.

    The plain difference between a winner and the default flatters the winner: it was chosen on these rows,
    the default was not.

    Parameters
    ----------
    predictions : array-like of shape (n_trials, n_samples), integer
        Out-of-fold class codes of every trial the choice was made from.
    y : array-like of shape (n_samples,), integer
        True class codes.
    reference : int
        Index of the trial to compare with, from 0; it can be chosen too, and then the difference is 0.
    n_classes : int
    metric : str
        The score by which the best trial is chosen, and of which this is a difference.
    dropped, groups
        As in `bbc_cv`.
    n_bootstrap : int
        Number of draws.
    random_state : int

    Returns
    -------
    Difference
        Mean, percentile interval and p-value, over the draws, of the chosen trial's score minus the
        reference's on the rows that were not drawn. ``p_value`` is twice the smaller share of draws on either
        side of 0, counting one more draw than were made on each side.

    Raises
    ------
    ValueError
        When `bbc_cv` refuses the arguments, or ``reference`` is not the index of a trial.

    Notes
    -----
    The draws and the choices are those of `bbc_cv` with the same arguments. The rows left out of a draw are
    about 37 % of all, so the interval is wider than one of all rows: it errs towards "inside the noise".
    """
    choice = choice_of(predictions, y, n_classes=n_classes, metric=metric, dropped=dropped, groups=groups)
    if not 0 <= reference < choice.n_trials:
        raise ValueError(
            f"'reference' is {reference}, allowed is 0 to {choice.n_trials - 1}: the index of a trial. Pass "
            "the position of the default configuration among the trials."
        )
    differences = []
    for drawn, chosen in choice.repeated(n_bootstrap=n_bootstrap, random_state=random_state):
        winner = left_out_confusions(drawn, chosen, choice.codes, n_classes)
        other = left_out_confusions(drawn, choice.table[[reference]], choice.codes, n_classes)
        differences.append(score(winner, choice.metric) - score(other, choice.metric))
    values = np.concatenate(differences)
    return difference_of(float(values.mean()), values)


def estimate_of(values: Floats) -> Estimate:
    """Return the mean and the percentile interval of draws, shape (n_bootstrap,)."""
    return Estimate(mean=float(values.mean()), ci95=percentile_interval(values))


def left_out_confusions(drawn: Ints, chosen: Ints, codes: Ints, n_classes: int) -> Ints:
    """Confusion counts, shape (draws, k, k), of predictions (draws, n_samples) on the rows not drawn."""
    size = n_classes * n_classes
    cells = codes * n_classes + chosen + np.arange(len(drawn))[:, None] * size
    counts = np.bincount(cells[drawn == 0], minlength=len(drawn) * size)
    return counts.reshape(len(drawn), n_classes, n_classes)
