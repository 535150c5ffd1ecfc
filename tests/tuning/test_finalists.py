"""The best few of a search on other splits: who they are, who wins, and what is said of the winner."""

from dataclasses import replace

import numpy as np
import pytest

from tuning import (
    Configuration,
    Finalists,
    Repeats,
    SearchResult,
    Trial,
    decide_on_splits,
    finalists_of,
    make_folds,
    search,
)


def _found(scores, alphas, y, best=0):
    """A search of trials with these scores and settings."""
    oof = np.full((len(y), 3), 1 / 3, np.float32)
    trials = [
        Trial(number, Configuration("ridge", "none", {"alpha": alpha}), value, [value] * 5, 0.1, oof)
        for number, (value, alpha) in enumerate(zip(scores, alphas, strict=True))
    ]
    return SearchResult(trials, [], best, 0, make_folds(y), "macro_f1", 3)


@pytest.fixture
def y():
    """Codes of 60 rows of three classes."""
    return np.repeat([0, 1, 2], 20)


def test_finalists_are_the_best_trials_each_configuration_once(y):
    """The chosen one first, then by score; equal configurations count once, equal scores keep their order."""
    found = _found([0.5, 0.7, 0.9, 0.8, 0.7, 0.8], [1, 2, 3, 4, 5, 4], y, best=1)
    assert finalists_of(found) == [1, 2, 3, 4, 0]
    assert finalists_of(found, 2) == [1, 2, 0]  # the default comes besides
    assert finalists_of(replace(found, default=None), 2) == [1, 2]


def test_the_highest_mean_on_other_splits_wins_whatever_the_search_said(y):
    """The search's own split has no vote; the search is otherwise as it was."""
    found = _found([0.9, 0.8, 0.7], [1, 2, 3], y)
    scores = np.array([[[0.5] * 5], [[0.6] * 5], [[0.55] * 5]])
    repeats = Repeats(
        [t.configuration for t in found.trials], scores, np.zeros((3, 1, len(y)), np.int64), 0.25
    )
    decided = Finalists([0, 1, 2], repeats).decide(found)
    assert decided.best == 1
    assert replace(decided, best=0) == found


def test_nothing_is_decided_among_one_configuration_or_on_no_split(y):
    """Nothing is cross-validated again, and the search stays what it was; less than no split is refused."""
    X = np.zeros((60, 2))
    one, two = _found([0.5, 0.5], [1, 1], y), _found([0.5, 0.6], [1, 2], y)
    assert decide_on_splits(one, X, y, n_repeats=3) == (one, None)
    assert decide_on_splits(two, X, y, n_repeats=0) == (two, None)
    with pytest.raises(ValueError, match="'n_repeats' is -1, allowed is 1 or more"):
        decide_on_splits(two, X, y, n_repeats=-1)


def test_a_lucky_winner_of_the_search_is_found_out(make_data):
    """Of noise and a signal, the noise that the search is told was best loses on other splits."""
    X, y = make_data(150, d=60, signal=1.5)
    found = search(X, y, heads=["ridge"], n_trials=6, folds=make_folds(y), n_classes=3, random_state=2)
    means = np.array([trial.score for trial in found.trials])
    worst, best = int(means.argmin()), int(means.argmax())
    assert means[worst] < means[best] - 0.03
    decided, finalists = decide_on_splits(replace(found, best=worst), X, y, n_repeats=2)
    assert finalists.trials[0] == worst
    assert decided == finalists.decide(replace(found, best=worst))
    assert decided.best != worst
    assert found.trials[decided.best].score > means[worst] + 0.02
