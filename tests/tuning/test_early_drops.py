"""The corrected estimate repeats the dropping of a search: as written out slowly, and as luck demands."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from tuning import Configuration, EarlyDrops, Trial, bbc_cv, bbc_difference, confusion, macro_f1, make_folds

K = 3


def macro(y, predicted):
    """Macro-F1 from scikit-learn."""
    return f1_score(y, predicted, average="macro", labels=range(K), zero_division=0)


def drawn_rows(y, seed, n_bootstrap):
    """The documented draws, as lists of row numbers with repeats."""
    for child in np.random.SeedSequence(seed).spawn(n_bootstrap):
        rng, inside = np.random.default_rng(child), []
        for code in np.unique(y):
            rows = np.flatnonzero(y == code)
            drawn = rng.choice(rows, len(rows))
            while len(set(drawn)) == len(rows):
                drawn = rng.choice(rows, len(rows))
            inside.extend(drawn.tolist())
        yield np.array(inside)


def slow_choice(inside, y, finished, drops, competed):
    """Decide rung by rung who goes on, on drawn rows; return the predictions of the one chosen in the end."""
    finished = [row.copy() for row in finished]
    for cohort in sorted({cohort for _, cohort, _ in drops}):
        mine = [[row.copy(), rung] for row, home, rung in drops if home == cohort]
        for rung in sorted({rung for _, rung in mine}):
            staying = [row for row, home in zip(finished, competed, strict=True) if home == cohort]
            staying += [row for row, left in mine if left > rung]
            leaving = [row for row, left in mine if left == rung]
            seen = np.flatnonzero(leaving[0] >= 0)
            looked_at = [row for row in inside if row in set(seen.tolist())]
            scores = [macro(y[looked_at], row[looked_at]) for row in staying + leaving]
            ranked = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[: len(staying)]
            fallen = [i for i in range(len(staying)) if i not in ranked]
            risen = [i for i in range(len(staying), len(scores)) if i in ranked]
            before = [row.copy() for row in staying + leaving]
            for low, high in zip(fallen, risen, strict=True):
                staying[low][seen] = before[high][seen]
    scores = [macro(y[inside], row[inside]) for row in finished]
    return finished[int(np.argmax(scores))]


@pytest.fixture
def dropped_search():
    """Seven finished trials and eight dropped ones on 100 rows, of two heads and two rungs."""
    rng = np.random.default_rng(3)
    y = rng.permutation(np.repeat([0, 1, 2], [55, 15, 30]))
    rows = np.argsort(rng.random(100))
    first, second = np.zeros(100, bool), np.zeros(100, bool)
    first[rows[:40]], second[rows[:60]] = True, True

    def predicted():
        return np.where(rng.random(100) < 0.6, y, rng.integers(0, K, 100))

    finished, competed = [predicted() for _ in range(7)], [-1, 0, 0, 0, 1, 1, -1]
    homes = [(0, 1), (0, 1), (0, 2), (0, 2), (1, 1), (1, 1), (1, 1), (0, 1)]
    drops = [(np.where((first, second)[rung - 1], predicted(), -1), home, rung) for home, rung in homes]
    return y, finished, drops, competed


def as_early_drops(drops, competed):
    """The same facts as the library takes them."""
    rows, homes, rungs = zip(*drops, strict=True)
    return EarlyDrops(np.array(rows), np.array(homes), np.array(rungs), np.array(competed))


def test_bbc_cv_repeats_the_dropping_as_written_out_slowly(dropped_search):
    """Loops over draws, rungs and rows with scikit-learn give the same mean and interval."""
    y, finished, drops, competed = dropped_search
    slow, gains, changed = [], [], 0
    for inside in drawn_rows(y, 5, 40):
        outside = np.setdiff1d(np.arange(len(y)), inside)
        chosen = slow_choice(inside, y, finished, drops, competed)
        changed += not any(np.array_equal(chosen, row) for row in finished)
        slow.append(macro(y[outside], chosen[outside]))
        gains.append(slow[-1] - macro(y[outside], finished[2][outside]))
    arguments = {"n_classes": K, "n_bootstrap": 40, "random_state": 5}
    found = bbc_cv(finished, y, dropped=as_early_drops(drops, competed), **arguments)["macro_f1"]
    assert found["mean"] == pytest.approx(np.mean(slow), abs=1e-12)
    assert found["ci95"] == pytest.approx(np.percentile(slow, [2.5, 97.5]), abs=1e-12)
    assert changed > 5  # dropped trials were chosen in some draws
    assert found != bbc_cv(finished, y, **arguments)["macro_f1"]
    gain = bbc_difference(finished, y, 2, dropped=as_early_drops(drops, competed), **arguments)
    assert gain["difference"] == pytest.approx(np.mean(gains), abs=1e-12)


def test_bbc_cv_takes_out_the_luck_of_surviving_a_rung():
    """Of 120 equal trials the 15 best on two folds survive: the choice among these alone looks too good."""
    y = np.repeat([0, 1, 2], [240, 40, 120])
    alone, repeated, typical = [], [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        predictions = np.where(rng.random((120, 400)) < 0.4, y, rng.integers(0, K, (120, 400)))
        seen = np.concatenate([valid for _, valid in make_folds(y, random_state=seed)[:2]])
        ranked = np.argsort(-macro_f1(confusion(y[seen], predictions[:, seen], K)))
        finished, dropped = predictions[ranked[:15]], predictions[ranked[15:]]
        unseen = np.setdiff1d(np.arange(400), seen)
        dropped[:, unseen] = -1
        drops = EarlyDrops(dropped, np.zeros(105, int), np.ones(105, int), np.zeros(15, int))
        arguments = {"n_classes": K, "n_bootstrap": 200, "random_state": seed}
        alone.append(bbc_cv(finished, y, **arguments)["macro_f1"]["mean"])
        repeated.append(bbc_cv(finished, y, dropped=drops, **arguments)["macro_f1"]["mean"])
        typical.append(macro_f1(confusion(y, predictions, K)).mean())
    assert np.mean(alone) - np.mean(typical) > 0.012
    assert abs(np.mean(repeated) - np.mean(typical)) < 0.006


def trial(number, head, rung=0, rows=None):
    """A trial of ten rows, with probabilities in some of them."""
    oof = np.full((10, K), np.nan, np.float32)
    oof[slice(None) if rows is None else rows] = [0.2, 0.7, 0.1]
    asked = Configuration(head, "none", {"a": number})
    return Trial(number, asked, 0.5, [0.5], 0.1, oof, rung=rung, asked=asked)


def test_early_drops_knows_who_could_be_dropped():
    """What was taken to its end in any case and heads without drops stay out; unseen rows are -1."""
    finished = [
        trial(0, "mlp"),
        trial(1, "logreg"),
        trial(2, "lightgbm"),
        trial(5, "mlp"),
        trial(6, "logreg"),
    ]
    dropped = [trial(3, "mlp", 1, slice(0, 4)), trial(4, "lightgbm", 2, slice(0, 6))]
    for place in (2, 3):  # of mlp not the one with the smallest number
        finished[place] = replace(finished[place], asked=None)
    found = EarlyDrops.of(finished, dropped)
    assert found.survivors.tolist() == [0, -1, -1, -1, -1]
    assert (found.cohorts.tolist(), found.rungs.tolist()) == ([0, 1], [1, 2])
    assert found.predictions.tolist() == [[1] * 4 + [-1] * 6, [1] * 6 + [-1] * 4]
    assert [len(step.staying) for step in found.steps()] == [1]  # nobody of lightgbm competed to the end
    assert EarlyDrops.of(finished, []) is None


def test_bbc_cv_refuses_drops_of_another_search(dropped_search):
    """The numbers of trials and rows must agree."""
    y, finished, drops, competed = dropped_search
    with pytest.raises(ValueError, match=r"'dropped' knows 7 finished trials.*allowed are 6 and \(100,\)"):
        bbc_cv(finished[:6], y, n_classes=K, dropped=as_early_drops(drops, competed))
