"""Decisions after training against plain searches."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.model_selection import cross_val_predict

import heads
from heads.columns import softmax
from heads.decisions import _best_log_weight, _plateau, _staircase
from tests.kit.stratified_folds import fold_of_row, splits


def _rare(n_samples=600, *, seed=0):
    """Three classes at 6 : 1 : 3 with probabilities that are right: the rare class is hardly named."""
    random = np.random.default_rng(seed)
    shares = np.array([0.6, 0.1, 0.3])
    y = np.repeat([0, 1, 2], np.round(n_samples * shares).astype(int))
    x = random.normal(size=(n_samples, 3)) + 1.2 * np.eye(3)[y]
    return softmax(1.2 * x + np.log(shares)), y


def _macro_f1(y, predicted):
    return f1_score(y, predicted, average="macro", labels=range(3), zero_division=0)


def test_staircase_equals_scoring_between_all_steps():
    """Between any two neighbouring steps the score is that of the decisions made there one by one."""
    p, y = _rare(120)
    p[7:12] = p[3]  # equal rows share a step
    others = np.log(p)
    others[:, 1] = -np.inf
    thresholds = (others.max(axis=1) - np.log(p[:, 1])).round(9)
    steps, scores = _staircase(y, others.argmax(axis=1), thresholds, 1, 3, "macro_f1")
    assert len(steps) == len(np.unique(thresholds)) == len(scores) - 1
    points = np.concatenate([[steps[0] - 1], (steps[:-1] + steps[1:]) / 2, [steps[-1] + 1]])
    plain = [_macro_f1(y, (np.log(p) + np.array([0, point, 0])).argmax(axis=1)) for point in points]
    assert_allclose(scores, plain)


def test_best_log_weight_by_the_plateau_rule():
    """The middle of the wide stretch wins over a narrow peak that is hardly higher."""
    scores = np.array([0.5, 0.601, 0.5, 0.6, 0.6, 0.601, 0.6, 0.2])
    low = np.array([0.0, 1.0, 1.1, 2.0, 3.0, 4.0, 4.5, 6.0])
    high = np.append(low[1:], 9.0)
    assert _plateau(scores, low, high, 0.002) == (3, 6)
    assert _plateau(scores, low, high, 0.0) == (5, 5)
    assert _plateau(scores - [0, 0, 0, 0, 0, 0.1, 0, 0], low, high, 0.0) == (1, 1)


def test_best_log_weight_with_few_distinct_probabilities_keeps_off_the_edges():
    """When rows tie in bulk, the weight lies between steps, so the score is the one that was promised."""
    random = np.random.default_rng(3)
    y = random.integers(0, 3, 300)
    counts = random.integers(0, 3, (300, 3)) + 2 * np.eye(3, dtype=int)[y] * random.integers(0, 2, (300, 1))
    p = (counts + 1) / (counts + 1).sum(axis=1, keepdims=True)
    logs = np.log(p)
    for code, plateau in itertools.product(range(3), (0.0, 0.002, 0.02, 0.5)):
        found, score = _best_log_weight(logs, logs[:, code], y, code, "macro_f1", plateau, 3.0)
        weights = np.exp(found * np.eye(3)[code])
        assert _macro_f1(y, (weights * p).argmax(axis=1)) == pytest.approx(score)


def test_decision_weights_near_the_best_of_a_grid():
    """On the rows of the fit the score is within the plateau's width of the best of 6,561 weights."""
    p, y = _rare(300)
    grid = np.exp(np.linspace(-3, 3, 81))
    best = max(
        _macro_f1(y, (p * [1, a, b]).argmax(axis=1)) for a, b in itertools.product(grid[::2], grid[::2])
    )
    found = heads.fit_decision_weights(p, y)
    assert _macro_f1(y, found.apply(p)) >= best - 0.012
    assert _macro_f1(y, p.argmax(axis=1)) < best - 0.02
    assert np.prod(found.weights) == pytest.approx(1)
    assert found.weights.argmax() == 1


def test_decision_weights_stay_equal_when_nothing_is_gained():
    """Probabilities that are already right keep the most probable class."""
    y = np.arange(30) % 3
    sureness = np.array([0.9, 0.5, 0.7])[y][:, None]
    found = heads.fit_decision_weights(np.eye(3)[y] * sureness + (1 - sureness) / 3, y)
    assert found.weights.tolist() == [1, 1, 1]


def test_decision_weights_follow_a_metric_given_as_a_function():
    """Any function of confusion counts can be what is maximised."""
    p, y = _rare()

    def balanced_accuracy(counts):
        return (np.diagonal(counts, axis1=-2, axis2=-1) / counts.sum(axis=-1)).mean(axis=-1)

    found = heads.fit_decision_weights(p, y, metric=balanced_accuracy)
    by_shares = (p / [0.6, 0.1, 0.3]).argmax(axis=1)  # the best rule when probabilities are right
    assert balanced_accuracy_score(y, found.apply(p)) >= balanced_accuracy_score(y, by_shares) - 0.005
    assert balanced_accuracy_score(y, p.argmax(axis=1)) < balanced_accuracy_score(y, by_shares) - 0.05


def test_decision_weights_help_rows_they_have_not_seen():
    """Nested over folds, naming the rare class earlier is worth more than a point of macro-F1."""
    p, y = _rare(3000)
    report = heads.with_and_without(heads.decision_fit("weights"), p, y, fold_of_row(y))
    assert report["with"]["macro_f1"] > report["without"]["macro_f1"] + 0.01
    assert "log_loss" not in report["with"]


def test_decision_weights_of_permuted_labels_score_chance(hard):
    """Out-of-fold probabilities of permuted labels give nothing that nested weights could find."""
    X, y = hard
    scores, chance = [], []
    for seed in range(3):
        permuted = np.random.default_rng(seed).permutation(y)
        p = cross_val_predict(heads.LogisticHead(), X, permuted, cv=splits(permuted), method="predict_proba")
        found = heads.nested_apply(heads.decision_fit("weights"), p, permuted, fold_of_row(permuted))
        scores.append(_macro_f1(permuted, found))
        shuffled = [np.random.default_rng(i).permutation(found) for i in range(50)]
        chance.append(np.mean([_macro_f1(permuted, labels) for labels in shuffled]))
    assert np.mean(scores) == pytest.approx(np.mean(chance), abs=0.04)


def test_low_confidence_rule_equals_the_report_row_by_row():
    """Below 0.8 confidence and above 0.4 for neutral a row is neutral; every other row keeps its class."""
    random = np.random.default_rng(0)
    p = softmax(random.normal(size=(500, 3)) * 2)
    p[0], p[1], p[2] = [0.5, 0.45, 0.05], [0.5, 0.4, 0.1], [0.85, 0.1, 0.05]
    plain = []
    for row in p:
        named = int(np.argmax(row))
        if max(row) < 0.8 and row[1] > 0.4:
            named = 1
        plain.append(named)
    fitted = heads.decision_fit("low-confidence", code=1)(p, np.zeros(500, dtype=int))
    assert isinstance(fitted, heads.LowConfidenceRule)
    assert_array_equal(fitted.apply(p), plain)
    assert plain[:3] == [1, 0, 0]
    assert (np.array(plain) != p.argmax(axis=1)).sum() > 5


def test_decision_argmax_is_the_most_probable_class():
    """The decision that changes nothing is one of the named ones."""
    p, y = _rare(100)
    assert_array_equal(heads.decision_fit("argmax")(p, y).apply(p), p.argmax(axis=1))
    assert heads.DECISIONS == ("argmax", "weights", "low-confidence")


def test_decisions_refuse_faulty_arguments():
    """Unknown names, classes and ranges are one clear error each."""
    p, y = _rare(50)
    with pytest.raises(ValueError, match=r"unknown decision 'weight'.*did you mean 'weights'"):
        heads.decision_fit("weight")
    with pytest.raises(
        ValueError, match=r"2 wrong.*code=None.*confidence_below=1.5 .allowed: a number in \[0, 1\]"
    ):
        heads.decision_fit("low-confidence", confidence_below=1.5)
    with pytest.raises(ValueError, match=r"code=3 is no class; allowed are 0..2"):
        heads.with_and_without(heads.decision_fit("low-confidence", code=3), p, y, fold_of_row(y))
    with pytest.raises(ValueError, match=r"2 wrong parameter\(s\): plateau=-1.*largest=1 "):
        heads.fit_decision_weights(p, y, plateau=-1, largest=1)
    with pytest.raises(ValueError, match="unknown metric 'f2'"):
        heads.fit_decision_weights(p, y, metric="f2")
