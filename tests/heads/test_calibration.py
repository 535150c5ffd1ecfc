"""Calibration against plain implementations, and what nested evaluation sees."""

from __future__ import annotations

import doctest
import importlib

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize
from sklearn.metrics import accuracy_score, f1_score, log_loss
from sklearn.model_selection import cross_val_predict

import heads
from heads.columns import softmax
from heads.out_of_fold import METRICS, confusion_counts, most_probable, score_counts
from tests.kit.stratified_folds import fold_of_row, splits


def _drawn(n_samples=3000, *, sharpness=1.0, seed=0):
    """Probabilities and labels drawn from them; the probabilities returned are too sharp by a factor."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(n_samples, 3)) * 1.5 + [1.0, -1.0, 0.3]
    y = (random.random(n_samples)[:, None] > softmax(logits).cumsum(axis=1)).sum(axis=1)
    return softmax(sharpness * logits), y


def test_temperature_finds_the_factor_that_was_applied():
    """Logits multiplied by three have a temperature of three, and log loss and ECE fall."""
    p, y = _drawn(sharpness=3.0)
    fitted = heads.fit_temperature(p, y)
    assert fitted.temperature == pytest.approx(3.0, rel=0.1)
    calibrated = fitted.apply(p)
    assert log_loss(y, calibrated) < log_loss(y, p) - 0.1
    assert heads.expected_calibration_error(calibrated, y) < 0.04
    assert heads.expected_calibration_error(p, y) > 0.1
    assert_array_equal(calibrated.argmax(axis=1), p.argmax(axis=1))


def test_temperature_is_the_best_of_a_fine_grid():
    """No temperature of a grid has a lower log loss, computed with scikit-learn."""
    p, y = _drawn(200, sharpness=0.5, seed=1)
    found = heads.fit_temperature(p, y)
    grid = np.exp(np.linspace(np.log(0.1), np.log(10), 2001))
    losses = [log_loss(y, softmax(np.log(p) / temperature)) for temperature in grid]
    assert log_loss(y, found.apply(p)) <= min(losses) + 1e-9
    assert found.temperature == pytest.approx(grid[int(np.argmin(losses))], rel=5e-3)


def test_temperature_stays_in_its_range_for_separated_and_useless_rows():
    """Perfect probabilities cannot divide by zero, and uniform ones change nothing."""
    y = np.arange(30) % 3
    perfect = np.eye(3)[y] * 0.7 + 0.1
    fitted = heads.fit_temperature(perfect, y)
    assert 0.01 <= fitted.temperature < 0.2
    assert_allclose(fitted.apply(perfect), np.eye(3)[y], atol=1e-5)
    always_wrong = np.eye(3)[(y + 1) % 3]
    assert heads.fit_temperature(always_wrong, y).temperature == pytest.approx(100.0)
    uniform = np.full((30, 3), 1 / 3)
    assert_allclose(heads.fit_temperature(uniform, y).apply(uniform), uniform)


@pytest.mark.parametrize("penalty", [0.0, 1.0, 50.0])
def test_vector_scaling_equals_minimum_without_gradient(penalty):
    """The fit is the minimum that a solver with numerical slopes finds of the loss written down plainly."""
    p, y = _drawn(150, sharpness=2.0, seed=2)

    def objective(flat):
        q = softmax(np.log(p) * flat[:3] + flat[3:])
        away = np.sum((flat[:3] - 1) ** 2) + np.sum(flat[3:] ** 2)
        return -np.log(q[np.arange(len(y)), y]).sum() + penalty / 2 * away

    slow = minimize(objective, np.r_[np.ones(3), np.zeros(3)], method="BFGS", options={"gtol": 1e-3})
    fitted = heads.fit_vector_scaling(p, y, penalty=penalty)
    assert objective(np.r_[fitted.scale, fitted.shift]) <= slow.fun + 1e-5
    expected = softmax(np.log(p) * slow.x[:3] + slow.x[3:])
    assert_allclose(fitted.apply(p), expected, atol=2e-3)


def test_vector_scaling_mends_a_class_that_is_pushed():
    """A prior shifted by a factor is shifted back, which no temperature can do."""
    p, y = _drawn(seed=3)
    pushed = p * [1.0, 6.0, 1.0]
    pushed /= pushed.sum(axis=1, keepdims=True)
    fitted = heads.fit_vector_scaling(pushed, y)
    assert fitted.shift[1] - fitted.shift[[0, 2]].mean() == pytest.approx(-np.log(6), abs=0.25)
    assert (
        log_loss(y, fitted.apply(pushed)) < log_loss(y, heads.fit_temperature(pushed, y).apply(pushed)) - 0.05
    )


def test_vector_scaling_survives_a_class_without_rows():
    """A class that no row has stays possible, with finite numbers."""
    p, y = _drawn(60)
    y = np.where(y == 1, 0, y)
    fitted = heads.fit_vector_scaling(p, y)
    assert np.isfinite(fitted.shift).all()
    assert (fitted.apply(p)[:, 1] > 0).all()


def test_reliability_bins_equal_a_plain_loop():
    """Counts, means and the error are those of a loop over rows, bins closed on the right."""
    p, y = _drawn(400, sharpness=2.0)
    p[:4] = [[1.0, 0.0, 0.0], [0.4, 0.3, 0.3], [0.8, 0.1, 0.1], [0.6, 0.2, 0.2]]
    rows = [[] for _ in range(5)]
    for row, label in zip(p, y, strict=True):
        for b in range(5):
            if b / 5 < row.max() <= (b + 1) / 5:
                rows[b].append((row.max(), float(np.argmax(row) == label)))
    bins = heads.reliability_bins(p, y, n_bins=5)
    assert bins.count.tolist() == [len(found) for found in rows]
    assert bins.count[0] == 0
    assert np.isnan(bins.accuracy[0])
    for b in range(1, 5):
        assert_allclose((bins.confidence[b], bins.accuracy[b]), np.mean(rows[b], axis=0))
    error = sum(len(f) * abs(np.mean([c - a for c, a in f])) for f in rows if f) / 400
    assert heads.expected_calibration_error(p, y, n_bins=5) == pytest.approx(error)


def test_scores_equal_scikit_learn():
    """The scores and the fast argmax used everywhere after training are the usual ones."""
    p, y = _drawn(200)
    p[:3] = [[0.4, 0.4, 0.2], [0.2, 0.4, 0.4], [1 / 3, 1 / 3, 1 / 3]]
    predicted = most_probable(p)
    assert_array_equal(predicted, p.argmax(axis=1))
    found = heads.step_scores(p, y, 3)
    for name, average in (("macro_f1", "macro"), ("weighted_f1", "weighted")):
        assert found[name] == pytest.approx(f1_score(y, predicted, average=average))
    assert found["accuracy"] == pytest.approx(accuracy_score(y, predicted))
    assert found["log_loss"] == pytest.approx(log_loss(y, p))
    assert set(heads.step_scores(predicted, y, 3)) == set(METRICS)
    many = confusion_counts(y, np.stack([predicted, y]), 3)
    assert score_counts(many, "macro_f1").tolist() == pytest.approx([found["macro_f1"], 1.0])


def test_nested_apply_fits_without_the_rows_it_scores():
    """Each row's result equals that of a fit on the other folds, and its own fold's labels change nothing."""
    p, y = _drawn(300, sharpness=3.0)
    folds = fold_of_row(y)
    found = heads.nested_apply(heads.fit_vector_scaling, p, y, folds)
    for fold in range(5):
        fitted = heads.fit_vector_scaling(p[folds != fold], y[folds != fold])
        assert_allclose(found[folds == fold], fitted.apply(p[folds == fold]))
    other = np.where(folds == 2, (y + 1) % 3, y)
    changed = heads.nested_apply(heads.fit_vector_scaling, p, other, folds)
    assert_array_equal(changed[folds == 2], found[folds == 2])
    assert np.abs(changed[folds != 2] - found[folds != 2]).max() > 1e-3


def test_with_and_without_reports_what_calibration_is_worth():
    """Calibration that is needed helps log loss and ECE; temperature leaves the decisions as they were."""
    p, y = _drawn(1000, sharpness=3.0)
    report = heads.with_and_without(heads.fit_temperature, p, y, fold_of_row(y))
    assert report["with"]["log_loss"] < report["without"]["log_loss"] - 0.1
    assert report["with"]["ece"] < report["without"]["ece"] - 0.05
    assert report["with"]["macro_f1"] == report["without"]["macro_f1"]
    assert report["without"] == heads.step_scores(p, y, 3)


@pytest.mark.parametrize("fit", [heads.fit_temperature, heads.fit_vector_scaling])
def test_calibration_of_permuted_labels_knows_no_more_than_the_shares(fit, hard):
    """With permuted labels nested calibration is no better than naming each class's share."""
    X, y = hard
    y = np.random.default_rng(0).permutation(y)
    folds = fold_of_row(y)
    p = cross_val_predict(heads.LogisticHead(C=1.0), X, y, cv=splits(y), method="predict_proba")
    after = heads.with_and_without(fit, p, y, folds)
    shares = np.bincount(y) / len(y)
    assert after["with"]["log_loss"] < after["without"]["log_loss"]
    assert after["with"]["log_loss"] > -(shares @ np.log(shares)) - 0.01


def test_calibration_names_all_faults_of_its_input():
    """Wrong probabilities, codes, folds and arguments are one clear error each."""
    p, y = _drawn(20)
    with pytest.raises(ValueError, match=r"shape \(20,\), but \(n_samples, n_classes\) is needed"):
        heads.fit_temperature(p[:, 0], y)
    bad = p.copy()
    bad[0, 0], bad[1, 1] = np.nan, -0.5
    with pytest.raises(ValueError, match=r"2 fault\(s\): 1 value\(s\) are NaN.*1 value\(s\) are negative"):
        heads.fit_temperature(bad, y)
    with pytest.raises(ValueError, match=r"20 row\(s\) do not sum to 1 \(one sums to 2\)"):
        heads.fit_vector_scaling(2 * p, y)
    with pytest.raises(ValueError, match=r"class codes \[3\]; allowed are 0..2"):
        heads.fit_temperature(p, np.full(20, 3))
    with pytest.raises(ValueError, match="one integer class code for each of the 20 rows"):
        heads.reliability_bins(p, y[:5])
    with pytest.raises(ValueError, match=r"penalty=-1 .allowed: a number in \[0, inf\)"):
        heads.fit_vector_scaling(p, y, penalty=-1)
    with pytest.raises(ValueError, match="n_bins=0"):
        heads.reliability_bins(p, y, n_bins=0)
    with pytest.raises(ValueError, match="names one fold only"):
        heads.nested_apply(heads.fit_temperature, p, y, np.zeros(20, dtype=int))
    with pytest.raises(ValueError, match="one integer fold number for each of the 20 rows"):
        heads.nested_apply(heads.fit_temperature, p, y, np.zeros(3, dtype=int))
    with pytest.raises(ValueError, match=r"unknown metric 'macrof1'.*did you mean 'macro_f1'"):
        score_counts(np.eye(3), "macrof1")


@pytest.mark.parametrize("module", ["calibration", "decisions", "ensembles"])
def test_after_training_docstring_examples_run(module):
    """The examples in the docstrings print what they say."""
    result = doctest.testmod(importlib.import_module(f"heads.{module}"))
    assert result.attempted > 0
    assert result.failed == 0
