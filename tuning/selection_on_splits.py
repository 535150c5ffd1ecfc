"""The score of the finalist that other splits choose, corrected for having been chosen.

A search that lets other splits decide chooses twice: its best few, by its own split, and one of them, by
the others. Other splits do not share the luck of the first split, but they have its rows, and what suits
these by chance suits them again. So BBC-CV repeats both choices on the rows of a bootstrap draw, and scores
on the rows left out (see `tuning.selection`).

What would become a finalist only in a draw was never cross-validated on other splits. Letting it compete by
its own split made the estimate 0.004 lower, below -0.01 in 50 draws with a signal. Leaving it out, as done,
keeps a third of the luck where a hundred trials err independently. Those of a search do not: with permuted
labels both ways were equal (docs/performance.md).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tuning.early_drops import EarlyDrops
from tuning.repeated_choice import Choice, Counts, choice_of
from tuning.scores import SCORES, Floats, Ints, score
from tuning.selection import estimate_of, left_out_confusions
from tuning.uncertainty import Difference, Estimate, difference_of


@dataclass(frozen=True)
class ChoiceOnSplits:
    """The two choices of a search that lets other splits decide.

    Attributes
    ----------
    search : Choice
        Among all trials, on the split of the search.
    finalists : ndarray of shape (n_finalists,), int64
        Trials that are cross-validated on other splits.
    splits : Choice
        All repeats of all finalists: row ``f * n_repeats + r`` is finalist f on split r.
    n_repeats : int
    n_chosen : int
        So many of the best trials become finalists.
    always : int or None
        A trial that is a finalist whatever it scores.
    """

    search: Choice
    finalists: Ints
    splits: Choice
    n_repeats: int
    n_chosen: int
    always: int | None

    @classmethod
    def of(
        cls,
        predictions: ArrayLike,
        y: ArrayLike,
        *,
        finalists: Sequence[int],
        repeats: ArrayLike,
        always: int | None = None,
        n_classes: int,
        metric: str = "macro-f1",
        dropped: EarlyDrops | None = None,
        groups: ArrayLike | None = None,
    ) -> "ChoiceOnSplits":
        """Check what was predicted, and put it together.

        Parameters
        ----------
        predictions : array-like of shape (n_trials, n_samples), integer
            Out-of-fold class codes of every trial on the split of the search.
        y : array-like of shape (n_samples,), integer
            True class codes.
        finalists : sequence of int
            Indices of trials, each once.
        repeats : array-like of shape (n_finalists, n_repeats, n_samples), integer
            Their out-of-fold class codes on other splits: ``Repeats.predictions``.
        always : int or None
            Index of the trial that was a finalist before any score was known, such as the default.
        n_classes, metric, dropped, groups
            As in `tuning.bbc_cv`.

        Returns
        -------
        ChoiceOnSplits

        Raises
        ------
        ValueError
            As `tuning.bbc_cv`, or when ``repeats`` does not belong to ``finalists``, or ``always`` is none.
        """
        search = choice_of(predictions, y, n_classes=n_classes, metric=metric, dropped=dropped, groups=groups)
        table, numbers = np.asarray(repeats), np.asarray(finalists, dtype=np.int64)
        known = set(range(search.n_trials))
        if table.ndim != 3 or 0 in table.shape or len(table) != len(numbers):
            raise ValueError(
                f"'repeats' has shape {table.shape}, allowed is ({len(numbers)}, n_repeats, n_samples): one "
                "for each of 'finalists'. Pass the predictions of 'tuning.repeat_finalists'."
            )
        if not set(numbers.tolist()) <= known or len(set(numbers.tolist())) < len(numbers):
            raise ValueError(
                f"'finalists' is {numbers.tolist()}, allowed are indices of the {search.n_trials} trials, "
                "each once. Pass those that were cross-validated on other splits."
            )
        if always is not None and always not in numbers:
            raise ValueError(f"'always' is {always}, allowed is one of 'finalists': {numbers.tolist()}.")
        flat = table.reshape(-1, table.shape[2])
        splits = choice_of(flat, y, n_classes=n_classes, metric=metric, dropped=None, groups=groups)
        n_chosen = int((numbers != always).sum()) if always is not None else len(numbers)
        return cls(search, numbers, splits, table.shape[1], max(n_chosen, 1), always)

    def left_out(self, *, n_bootstrap: int, random_state: int) -> "Iterator[_LeftOut]":
        """Choose in each draw of `tuning.bbc_cv`, and count on the rows left out; a chunk at a time."""
        every = np.ones(len(self.search.codes), dtype=np.bool_)
        k = self.search.n_classes
        place = np.full(self.search.n_trials, -1)
        place[self.finalists] = np.arange(len(self.finalists))
        for drawn, standings in self.search.standings(n_bootstrap=n_bootstrap, random_state=random_state):
            shape = (len(drawn), len(self.finalists), self.n_repeats)
            inside = score(self.splits.confusions(drawn, every), self.splits.metric).reshape(shape)
            chosen = self._chosen(standings.scores, inside.mean(axis=2))
            own = left_out_confusions(drawn, standings.predictions_of(chosen), self.search.codes, k)
            outside = self.splits.confusions((drawn == 0).astype(np.int64), every)
            yield _LeftOut(own, place[chosen], outside.reshape(*shape, k, k))

    def _chosen(self, scores: NDArray[np.float64], inside: NDArray[np.float64]) -> Ints:
        """Choose a trial in each draw, from scores of all trials and of the finalists on other splits.

        Of the trials that are finalists in the draw, those that the search had cross-validated on other
        splits compete there, and the one that always does. Where there are none of them, the draw's best on
        the split of the search is chosen.
        """
        top = np.argsort(-scores, axis=1, kind="stable")[:, : self.n_chosen]
        is_top = np.zeros(scores.shape, dtype=np.bool_)
        np.put_along_axis(is_top, top, True, axis=1)
        competes = is_top[:, self.finalists] | (self.finalists == self.always)
        best = self.finalists[np.where(competes, inside, -np.inf).argmax(axis=1)]
        chosen: Ints = np.where(competes.any(axis=1), best, top[:, 0])
        return chosen


@dataclass(frozen=True)
class _LeftOut:
    """Confusion counts on the rows that some draws leave out.

    ``own``, (draws, k, k), are of the choice on the split of the search; ``place``, (draws,), is its place
    among the finalists, or -1; ``finalists``, (draws, n_finalists, n_repeats, k, k), are of all of them on
    other splits.
    """

    own: Ints
    place: Ints
    finalists: Counts

    def scores(self, key: str) -> tuple[Floats, NDArray[np.float64]]:
        """Score the choice (draws,), and every finalist (draws, n_finalists), each on average over splits."""
        of_all: NDArray[np.float64] = score(self.finalists, key).mean(axis=2)
        on_splits = of_all[np.arange(len(self.place)), self.place]
        # What became a finalist only in a draw was not cross-validated on other splits.
        return np.where(self.place >= 0, on_splits, score(self.own, key)), of_all


def bbc_finalists(
    choice: ChoiceOnSplits, *, n_bootstrap: int = 1000, random_state: int = 0
) -> dict[str, Estimate]:
    """Estimate every score of the finalist that other splits choose, free of the luck of being chosen.

    Parameters
    ----------
    choice : ChoiceOnSplits
    n_bootstrap, random_state : int
        As in `tuning.bbc_cv`.

    Returns
    -------
    dict of str to Estimate
        A key for each of ``SCORES``: mean and percentile interval, over the draws, of the chosen trial's mean
        score over the repeats, on the rows that were not drawn.

    Raises
    ------
    ValueError
        When there is no draw.
    """
    values: dict[str, list[Floats]] = {key: [] for key in SCORES}
    for left_out in choice.left_out(n_bootstrap=n_bootstrap, random_state=random_state):
        for key, draws in values.items():
            draws.append(left_out.scores(key)[0])
    return {key: estimate_of(np.concatenate(draws)) for key, draws in values.items()}


def bbc_finalists_difference(
    choice: ChoiceOnSplits, reference: int, *, n_bootstrap: int = 1000, random_state: int = 0
) -> Difference:
    """Estimate how much better the finalist that other splits choose is than one named beforehand.

    Parameters
    ----------
    choice : ChoiceOnSplits
    reference : int
        Index of the trial to compare with: one of the finalists, so that both are seen on the same splits.
    n_bootstrap, random_state : int
        As in `tuning.bbc_difference`.

    Returns
    -------
    Difference
        As from `tuning.bbc_difference`; 0 in draws that choose the reference.

    Raises
    ------
    ValueError
        When the reference is no finalist, or there is no draw.
    """
    places = np.flatnonzero(choice.finalists == reference)
    if not len(places):
        raise ValueError(
            f"'reference' is {reference}, allowed is one of the finalists {choice.finalists.tolist()}. "
            "Cross-validate it on the other splits too."
        )
    differences = []
    for left_out in choice.left_out(n_bootstrap=n_bootstrap, random_state=random_state):
        own, of_all = left_out.scores(choice.search.metric)
        differences.append(own - of_all[:, places[0]])
    values = np.concatenate(differences)
    return difference_of(float(values.mean()), values)
