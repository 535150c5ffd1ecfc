"""The best few of a search, and which of them is chosen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import ArrayLike

from tuning.early_drops import EarlyDrops
from tuning.repeats import EvaluationOnSplits, Repeats, repeat_finalists
from tuning.search_loop import SearchResult
from tuning.selection_on_splits import ChoiceOnSplits

N_FINALISTS = 5


def finalists_of(found: SearchResult, n_finalists: int = N_FINALISTS) -> list[int]:
    """Return the best trials of a search, and its default.

    Parameters
    ----------
    found : SearchResult
    n_finalists : int
        At most so many, no two of one configuration, but for the default, which comes besides.

    Returns
    -------
    list of int
        Indices into ``found.trials``: ``found.best``, then the highest scores, the earlier of equals first;
        the default last where it is not among them.

    Notes
    -----
    Trials that stop at the same epoch can be equal though they were asked for differently. The default was
    named before any score was known, and what a search gains over it is seen on the same splits.
    """
    order = sorted(range(len(found.trials)), key=lambda i: (i != found.best, -found.trials[i].score, i))
    first = {found.trials[i].configuration.key: i for i in reversed(order)}
    if found.default is not None:
        first[found.trials[found.default].configuration.key] = found.default
    best = sorted(first.values(), key=order.index)[:n_finalists]
    besides = [] if found.default is None or found.default in best else [found.default]
    return [*best, *besides]


@dataclass(frozen=True)
class Finalists:
    """The best few of a search on other splits.

    Attributes
    ----------
    trials : list of int
        Indices into the search's trials, from `finalists_of`.
    repeats : Repeats
        Of their configurations, in this order.
    """

    trials: list[int]
    repeats: Repeats

    def decide(self, found: SearchResult) -> SearchResult:
        """Return the search with the finalist as its best that did best on the other splits.

        The split of the search made them finalists; what made a trial lucky there says nothing more. So that
        split has no vote, and the winner's mean over the others is free of its luck.
        """
        return replace(found, best=self.trials[self.repeats.best])

    def choice(self, found: SearchResult, y: ArrayLike, *, groups: ArrayLike | None = None) -> ChoiceOnSplits:
        """Return both choices, for `tuning.bbc_finalists`.

        Parameters
        ----------
        found : SearchResult
            The search, before or after `decide`.
        y : array-like of shape (n_samples,), integer
        groups : array-like of shape (n_samples,) or None
        """
        return ChoiceOnSplits.of(
            found.predictions,
            y,
            finalists=self.trials,
            repeats=self.repeats.predictions,
            always=found.default,
            n_classes=found.n_classes,
            metric=found.metric,
            dropped=EarlyDrops.of(found.trials, found.dropped),
            groups=groups,
        )


def decide_on_splits(
    found: SearchResult,
    X: ArrayLike,
    y: ArrayLike,
    *,
    views: Any = None,
    blocks: Mapping[str, int] | None = None,
    groups: ArrayLike | None = None,
    n_repeats: int = 3,
    random_state: int = 0,
    goes_on: Callable[[int], bool] | None = None,
    on_step: Callable[[str], None] | None = None,
) -> tuple[SearchResult, Finalists | None]:
    """Cross-validate the best few of a search on other splits, and let these choose among them.

    Parameters
    ----------
    found : SearchResult
    X, y, views, blocks
        What was searched, as in `tuning.search`.
    groups : array-like of shape (n_samples,) or None
        Related rows, which stay on one side.
    n_repeats : int
        Other splits; 0 leaves the search as it is.
    random_state : int
        Of the splits and models.
    goes_on : callable (repeat) -> bool, or None
        As in `tuning.repeat_finalists`.
    on_step : callable (text) or None
        Called with one sentence before each longer piece of work.

    Returns
    -------
    SearchResult
        With the finalist as its best that `Finalists.decide` chooses; the search itself if there are none.
    Finalists or None
        None when there is one configuration only, or no repeat is asked for or allowed by ``goes_on``.

    Raises
    ------
    ValueError
        As `tuning.repeat_finalists`.
    RepeatError
        When another split cannot be cut, or a finalist refuses its rows.
    """
    trials = finalists_of(found)
    if len(trials) < 2 or n_repeats == 0:
        return found, None
    repeats = repeat_finalists(
        [found.trials[i].configuration for i in trials],
        EvaluationOnSplits(
            X, y, n_classes=found.n_classes, metric=found.metric, blocks=blocks, views=views, on_step=on_step
        ),
        y,
        groups=groups,
        n_folds=len(found.folds),
        n_repeats=n_repeats,
        random_state=random_state,
        goes_on=goes_on,
    )
    if repeats is None:
        return found, None
    finalists = Finalists(trials, repeats)
    return finalists.decide(found), finalists
