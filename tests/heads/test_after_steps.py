"""A calibration and a decision, fitted once, kept as JSON, applied to new probabilities."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from heads import (
    CALIBRATIONS,
    DECISIONS,
    AfterSteps,
    DecisionWeights,
    LowConfidenceRule,
    fit_after_steps,
    fit_decision_weights,
    fit_temperature,
    fit_vector_scaling,
    nested_apply,
)


@pytest.fixture(scope="module")
def overconfident() -> tuple[np.ndarray, np.ndarray]:
    """600 rows of three classes whose probabilities are too sure, and which neglect the rare one."""
    random = np.random.default_rng(0)
    y = random.choice(3, 600, p=[0.6, 0.1, 0.3])
    x = 2.5 * (random.normal(size=(600, 3)) + 1.5 * np.eye(3)[y]) + np.log([0.6, 1e-4, 0.3])
    p = np.exp(x - x.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True), y


@pytest.mark.parametrize("calibrate", CALIBRATIONS)
@pytest.mark.parametrize("decide", DECISIONS)
def test_after_steps_are_the_parts_in_turn_and_survive_json(calibrate, decide, overconfident):
    """Fitting both is fitting one after the other; what is read back is equal to the last bit."""
    p, y = overconfident
    steps = fit_after_steps(p, y, calibrate=calibrate, decide=decide, code=1)
    by_hand = p
    if calibrate != "none":
        fit = {"temperature": fit_temperature, "vector": fit_vector_scaling}[calibrate]
        by_hand = fit(p, y).apply(p)
    decision = {
        "argmax": DecisionWeights(np.ones(3)),
        "weights": fit_decision_weights(by_hand, y),
        "low-confidence": LowConfidenceRule(1),
    }[decide]
    assert_allclose(steps.probabilities(p), by_hand, atol=1e-12)
    assert_array_equal(steps.codes(by_hand), decision.apply(by_hand))
    again = AfterSteps.from_dict(json.loads(json.dumps(steps.as_dict())), n_classes=3)
    assert_array_equal(again.probabilities(p), steps.probabilities(p))
    assert_array_equal(again.codes(by_hand), steps.codes(by_hand))
    assert again.as_dict() == steps.as_dict()


def test_after_steps_of_nothing_change_no_bit(overconfident):
    """Without a calibration probabilities stay as they are."""
    p, _ = overconfident
    assert AfterSteps().as_dict() == {}
    assert_array_equal(AfterSteps.from_dict({}, n_classes=3).probabilities(p), p)
    assert_array_equal(AfterSteps().codes(p), p.argmax(axis=1))


def test_calibration_and_weights_help_where_they_should(overconfident):
    """On rows not fitted on, the temperature cuts the log loss, and weights find more of the rare class."""
    p, y = overconfident
    folds = np.arange(len(y)) % 3
    calibrated = nested_apply(lambda q, z: fit_after_steps(q, z, calibrate="temperature"), p, y, folds)
    rows = np.arange(len(y))
    assert -np.log(calibrated[rows, y]).mean() < -np.log(p[rows, y]).mean() - 0.1
    codes = nested_apply(lambda q, z: fit_after_steps(q, z, decide="weights"), p, y, folds)
    recalls = [(found[y == 1] == 1).mean() for found in (p.argmax(axis=1), codes)]
    assert recalls[1] > recalls[0] + 0.1


@pytest.mark.parametrize(
    "facts",
    [
        {"calibration": {"temperature": 0.0}},
        {"calibration": {"temperature": [1.0]}},
        {"calibration": {"scale": [1.0, 1.0], "shift": [0.0, 0.0, 0.0]}},
        {"calibration": {"scale": [1.0, 1.0, float("nan")], "shift": [0.0, 0.0, 0.0]}},
        {"decision": {"weights": [1.0, -1.0, 1.0]}},
        {"decision": {"code": 3, "confidence_below": 0.8, "probability_above": 0.4}},
        {"decision": {"code": 0}},
        {"decision": ["weights"]},
    ],
)
def test_steps_of_another_model_are_refused(facts):
    """What does not fit the model's classes is an error, not a wrong answer."""
    with pytest.raises(ValueError, match="What follows the model cannot be read"):
        AfterSteps.from_dict(facts, n_classes=3)


def test_wrong_names_are_refused(overconfident):
    """An unknown calibration or decision is answered with what there is."""
    p, y = overconfident
    with pytest.raises(ValueError, match=r"unknown calibration 'vectors'.*did you mean 'vector'"):
        fit_after_steps(p, y, calibrate="vectors")
    with pytest.raises(ValueError, match="unknown decision 'weight'"):
        fit_after_steps(p, y, decide="weight")
