"""Influences of rows on scores equal their slow definition, and give the error of a difference."""

import time
import tracemalloc

import numpy as np
import pytest

from tuning import SCORES, confusion, score
from tuning.influences import influences


@pytest.mark.parametrize("k", [3, 60])
@pytest.mark.parametrize("name", SCORES)
def test_influences_are_what_a_little_more_of_each_row_does(name, k, monkeypatch):
    """The slow definition: every row in turn counts a little more, and the score is computed again."""
    monkeypatch.setattr("tuning.influences._VALUES_AT_ONCE", 600)  # 60 classes take several rounds
    random = np.random.default_rng(0)
    y, pred = random.integers(0, k, 40), random.integers(0, k, 40)
    pred[::3] = y[::3]
    found = influences(y, pred, k, name)
    slow = []
    for row in range(40):
        weights = np.ones(40)
        weights[row] += 1e-4
        counts = np.zeros((k, k))
        np.add.at(counts, (y, pred), weights)
        slow.append(40 * float(score(counts, name) - score(confusion(y, pred, k), name)) / 1e-4)
    np.testing.assert_allclose(found, slow - np.mean(slow), atol=1e-6)
    assert abs(found.mean()) < 1e-12


@pytest.mark.parametrize("name", SCORES)
def test_influences_give_the_error_of_a_difference(name):
    """The standard error from influences is that of a bootstrap of the rows."""
    random = np.random.default_rng(1)
    y = random.choice(3, size=600, p=[0.6, 0.1, 0.3])
    first, second = (
        np.where(random.random(600) < share, y, random.integers(0, 3, 600)) for share in (0.6, 0.5)
    )
    spread = (influences(y, first, 3, name) - influences(y, second, 3, name)).std() / np.sqrt(600)
    draws = random.integers(0, 600, (2000, 600))
    differences = [
        float(score(confusion(y[d], first[d], 3), name) - score(confusion(y[d], second[d], 3), name))
        for d in draws
    ]
    assert spread == pytest.approx(np.std(differences), rel=0.1)


def test_influences_over_a_hundred_classes_take_little():
    """Neither time nor memory is of every cell's own counts: those alone are 800 MB, and take seconds."""
    random = np.random.default_rng(0)
    y, drawn = random.integers(0, 100, (2, 2000))
    pred = np.where(random.random(2000) < 0.3, y, drawn)
    began = time.process_time()
    tracemalloc.start()
    found = influences(y, pred, 100, "macro_f1")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(np.unique(found)) > 100
    assert peak < 30e6
    assert time.process_time() - began < 2
