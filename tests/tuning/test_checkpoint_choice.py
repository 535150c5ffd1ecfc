"""The epoch at which a trial stops is a choice too: a fold must not choose what it is scored by."""

import numpy as np
import pytest

from tuning import Configuration, make_folds
from tuning.rungs import Judge, climb

Y = np.repeat([0, 1, 2], [120, 20, 60])


class Guesses:
    """A member whose predictions at every checkpoint are luck, right in half of the rows."""

    checkpoints = tuple(range(1, 41))

    def __init__(self, folds, seed):
        rng = np.random.default_rng(seed)
        self.configurations = (Configuration("mlp", "none", {}),)
        right = rng.random((len(self.checkpoints), len(Y))) < 0.5
        self.codes = np.where(right, Y, (Y + rng.integers(1, 3, right.shape)) % 3)
        self._folds = folds

    def train(self, targets, folds):
        """Nothing to learn."""

    def probabilities(self, member, fold):  # noqa: ARG002 - the protocol's
        """Return the predictions of every checkpoint."""
        return np.eye(3, dtype=np.float32)[self.codes[:, self._folds[fold][1]]]

    def final(self, member, checkpoint):  # noqa: ARG002 - the protocol's
        """Return the configuration that stops at a checkpoint."""
        return Configuration("mlp", "none", {"max_epochs": self.checkpoints[checkpoint]})

    def seconds(self, member):  # noqa: ARG002 - the protocol's
        """Return nothing worth mentioning."""
        return 0.0

    def drop(self, member):
        """Nothing to free."""


def test_the_score_of_a_trial_is_not_the_best_of_its_checkpoints():
    """Where all 40 checkpoints are equally good, the score that is kept is that of any, on average."""
    best, kept = [], []
    for seed in range(40):
        folds = make_folds(Y, random_state=seed)
        population = Guesses(folds, seed)
        judge = Judge(Y, folds, 3, "accuracy")
        (trial,) = climb(population, judge, numbers=[0], rungs=())
        table = [[(codes[valid] == Y[valid]).mean() for _, valid in folds] for codes in population.codes]
        means = np.mean(table, axis=1)
        best.append(means.max())
        kept.append(trial.score)
        assert trial.configuration.parameters["max_epochs"] == 1 + means.argmax()
        assert trial.score == pytest.approx(np.mean(trial.fold_scores))
    assert np.mean(best) > 0.55
    assert abs(np.mean(kept) - 0.5) < 0.02  # four standard errors
