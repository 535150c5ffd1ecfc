"""Rungs: who is trained how far, and who goes on."""

import numpy as np

from tuning import Configuration, make_folds
from tuning.rungs import Judge, Rung, climb

Y = np.array([0] * 60 + [1] * 60)
CHECKPOINTS = (2, 4, 6, 8, 10, 12, 15, 20, 25, 30)


class Recorded:
    """Members whose hits at each checkpoint are known beforehand; it writes down what was trained."""

    def __init__(self, folds, hits):
        self.configurations = tuple(
            Configuration("mlp", "none", {"member": place}) for place in range(len(hits))
        )
        self.checkpoints = CHECKPOINTS
        self._folds, self._hits = folds, hits
        self.asked: list[tuple[dict[int, int], list[int]]] = []
        self.dropped: list[int] = []
        self._reached: dict[tuple[int, int], int] = {}

    def train(self, targets, folds):
        """Write down, and go there."""
        assert not set(self.dropped).intersection(targets)
        self.asked.append((dict(targets), list(folds)))
        for member, until in targets.items():
            for fold in folds:
                self._reached[member, fold] = max(until, self._reached.get((member, fold), -1))

    def probabilities(self, member, fold):
        """Return the recorded share of hits, spread evenly over a fold's rows."""
        truth = Y[self._folds[fold][1]]
        made = []
        for share in self._hits[member][: self._reached[member, fold] + 1]:
            right = np.arange(len(truth)) % 100 < round(share * len(truth))
            predicted = np.where(right, truth, 1 - truth)
            made.append(np.eye(2, dtype=np.float32)[predicted])
        return np.stack(made)

    def final(self, member, checkpoint):
        """Return the configuration with the epochs of a checkpoint."""
        return Configuration("mlp", "none", {"member": member, "max_epochs": self.checkpoints[checkpoint]})

    def seconds(self, member):  # noqa: ARG002 - the protocol's
        """Return nothing worth mentioning."""
        return 0.0

    def drop(self, member):
        """Write down."""
        self.dropped.append(member)


def taken_up(hits, **options):
    """Return a population that was taken up the rungs, and its trials."""
    folds = make_folds(Y, n_folds=4)
    population = Recorded(folds, hits)
    judge = Judge(Y, folds, 2, "accuracy")
    trials = climb(population, judge, numbers=range(len(hits)), **options)
    return population, trials


def rising(top, peak):
    """Return hits that rise to `top` at checkpoint `peak` and fall after it."""
    return [max(0.0, top - 0.04 * abs(place - peak)) for place in range(len(CHECKPOINTS))]


def test_climb_drops_the_worst_after_each_rung_and_keeps_what_they_had():
    """Half go on from each rung; those that were dropped have NaN in the rows that they did not see."""
    hits = [rising(0.9 - 0.02 * place, 9) for place in range(8)]
    population, trials = taken_up(hits, rungs=(Rung(1, 0.3, 0.5), Rung(2, 0.8, 0.5)))
    assert [trial.rung for trial in trials] == [0, 0, 2, 2, 1, 1, 1, 1]
    assert [sorted(targets) for targets, _ in population.asked] == [list(range(8)), [0, 1, 2, 3], [0, 1]]
    assert [folds for _, folds in population.asked] == [[0], [0, 1], [0, 1, 2, 3]]
    seen = [int(np.isfinite(trial.oof[:, 0]).sum()) for trial in trials]
    assert seen == [120, 120, 60, 60, 30, 30, 30, 30]


def test_climb_does_not_drop_what_must_be_taken_to_the_end():
    """The worst of all is trained in full when it is named, and scored where it ends."""
    hits = [rising(0.9, 9), rising(0.88, 9), rising(0.4, 3)]
    population, trials = taken_up(hits, never_dropped=[2], rungs=(Rung(1, 0.3, 1 / 3),))
    assert [trial.rung for trial in trials] == [0, 1, 0]
    assert trials[2].configuration == population.configurations[2]
    assert [trial.asked for trial in trials] == [*population.configurations[:2], None]


def test_climb_stops_a_member_that_was_best_early_and_lets_others_rise():
    """Best at 4 epochs: not beyond 12, three times that; still rising at the end of the rung: to the end."""
    early, late = rising(0.8, 1), rising(0.96, 9)
    population, trials = taken_up([early, late], rungs=(Rung(2, 0.6, 1.0),))
    assert population.asked[-1][0] == {0: CHECKPOINTS.index(12), 1: CHECKPOINTS.index(30)}
    assert [trial.configuration.parameters["max_epochs"] for trial in trials] == [4, 30]


def test_climb_drops_who_is_clearly_worse_however_many_places_there_are():
    """A paired test over the rows, not the number of places, ends a hopeless member."""
    hits = [rising(0.95, 2), rising(0.5, 2)]
    _, trials = taken_up(hits, rungs=(Rung(2, 0.3, 1.0),))
    assert [trial.rung for trial in trials] == [0, 1]


def test_members_are_compared_by_the_metric():
    """Who is better by macro-F1 is not clearly worse, though it finds fewer rows of the rare class."""
    truth = np.array([0] * 900 + [1] * 100)
    eager, careful = truth.copy(), truth.copy()
    eager[:120], eager[900:905] = 1, 0  # finds 95 of 100 rare rows, and calls 120 others rare
    careful[:5], careful[900:945] = 1, 0  # finds 55, and calls 5 others rare
    rows = np.arange(1000)
    judge = Judge(truth, [], 2, "macro_f1")
    eagers, carefuls = judge.measured(eager, rows), judge.measured(careful, rows)
    assert carefuls.score > eagers.score
    assert eagers.is_clearly_below(carefuls)
    assert not carefuls.is_clearly_below(eagers)
    recall = Judge(truth, [], 2, "balanced_accuracy")
    assert recall.measured(careful, rows).is_clearly_below(recall.measured(eager, rows))
    assert not eagers.is_clearly_below(eagers)
