"""The score of the finalist that other splits choose, corrected for having been chosen.

The best few of a search won their places on its split, whose luck other splits do not share. What is
optimistic about a mean over those is that it is the best of a few, on the rows that chose it. So BBC-CV is
made there (see `tuning.selection`): choose on the rows of a bootstrap draw, score on the rows left out.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from tuning.repeated_choice import Choice, Counts, choice_of
from tuning.scores import SCORES, Ints, class_codes, score
from tuning.selection import estimate_of, left_out_confusions
from tuning.uncertainty import Difference, Estimate, difference_of


def bbc_finalists(
    predictions: ArrayLike,
    y: ArrayLike,
    *,
    n_classes: int,
    metric: str = "macro-f1",
    groups: ArrayLike | None = None,
    n_bootstrap: int = 1000,
    random_state: int = 0,
) -> dict[str, Estimate]:
    """Estimate every score of the finalist that other splits choose, free of the luck of being chosen.

    Parameters
    ----------
    predictions : array-like of shape (n_finalists, n_repeats, n_samples), integer
        Out-of-fold class codes of the finalists on splits that did not make them finalists:
        ``Repeats.predictions``.
    y, n_classes, metric, groups, n_bootstrap, random_state
        As in `bbc_cv`.

    Returns
    -------
    dict of str to Estimate
        A key for each of ``SCORES``: mean and percentile interval, over the draws, of the chosen finalist's
        mean score over the repeats, on the rows that were not drawn.

    Raises
    ------
    ValueError
        As `bbc_cv`.

    Notes
    -----
    In each draw the finalist with the highest mean over the repeats on the drawn rows is chosen. Who became a
    finalist is not decided again: another one would have been cross-validated on the same other splits, and
    nothing is known of that.
    """
    choice, shape = _choice_of_finalists(predictions, y, n_classes, metric, groups)
    counts = np.concatenate(
        [
            outside
            for _, outside in _chosen_finalists(
                choice, shape, n_bootstrap=n_bootstrap, random_state=random_state
            )
        ]
    )
    return {key: estimate_of(score(counts, key).mean(axis=1)) for key in SCORES}


def bbc_finalists_difference(
    predictions: ArrayLike,
    y: ArrayLike,
    reference: ArrayLike,
    *,
    n_classes: int,
    metric: str = "macro-f1",
    groups: ArrayLike | None = None,
    n_bootstrap: int = 1000,
    random_state: int = 0,
) -> Difference:
    """Estimate how much better the finalist that other splits choose is than a configuration named before.

    Parameters
    ----------
    predictions : array-like of shape (n_finalists, n_repeats, n_samples), integer
        As in `bbc_finalists`.
    y : array-like of shape (n_samples,), integer
    reference : array-like of shape (n_samples,), integer
        Out-of-fold class codes of the configuration to compare with, which nothing was chosen by.
    n_classes, metric, groups, n_bootstrap, random_state
        As in `bbc_difference`.

    Returns
    -------
    Difference
        As from `bbc_difference`.

    Raises
    ------
    ValueError
        As `bbc_cv`, and when ``reference`` has no code for every row.
    """
    choice, shape = _choice_of_finalists(predictions, y, n_classes, metric, groups)
    codes = class_codes(reference, n_classes, name="reference")
    if codes.shape != choice.codes.shape:
        raise ValueError(
            f"'reference' has shape {codes.shape}, allowed is {choice.codes.shape}: a class code for every "
            "row of 'y'. Pass the out-of-fold predictions of one trial."
        )
    differences = []
    for drawn, outside in _chosen_finalists(
        choice, shape, n_bootstrap=n_bootstrap, random_state=random_state
    ):
        other = left_out_confusions(drawn, codes[None], choice.codes, n_classes)
        differences.append(score(outside, choice.metric).mean(axis=1) - score(other, choice.metric))
    values = np.concatenate(differences)
    return difference_of(float(values.mean()), values)


def _choice_of_finalists(
    predictions: ArrayLike, y: ArrayLike, n_classes: int, metric: str, groups: ArrayLike | None
) -> tuple[Choice, tuple[int, int]]:
    """Return the choice among all repeats of all finalists, and how many there are of each."""
    table = np.asarray(predictions)
    if table.ndim != 3 or 0 in table.shape:
        raise ValueError(
            f"'predictions' has shape {table.shape}, allowed is (n_finalists, n_repeats, n_samples) with at "
            "least one of each. Pass the predictions of 'tuning.repeat_finalists'."
        )
    flat = table.reshape(-1, table.shape[2])
    choice = choice_of(flat, y, n_classes=n_classes, metric=metric, dropped=None, groups=groups)
    return choice, table.shape[:2]


def _chosen_finalists(
    choice: Choice, shape: tuple[int, int], *, n_bootstrap: int, random_state: int
) -> Iterator[tuple[Ints, Counts]]:
    """Yield what was drawn, and the counts (draws, repeats, k, k) of each draw's choice in the other rows."""
    every = np.ones(len(choice.codes), dtype=np.bool_)
    for drawn in choice.draws(n_bootstrap=n_bootstrap, random_state=random_state):
        inside = score(choice.confusions(drawn, every), choice.metric).reshape(len(drawn), *shape)
        chosen = inside.mean(axis=2).argmax(axis=1)
        outside = choice.confusions((drawn == 0).astype(np.int64), every)
        k = choice.n_classes
        yield drawn, outside.reshape(len(drawn), *shape, k, k)[np.arange(len(drawn)), chosen]
