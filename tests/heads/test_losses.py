"""Losses and class weights, against their formulas in plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax

from heads import HEADS, LogisticHead, MLPHead, make_pipeline
from heads.class_weights import row_weights
from heads.losses import RowLoss, adjusted_logit_offsets

CODES = np.array([0, 2, 1, 0, 2, 2])
LOGITS = np.random.default_rng(0).normal(size=(6, 3)) * 3


def _torch_losses(loss: RowLoss, logits: np.ndarray = LOGITS) -> np.ndarray:
    return loss(torch.from_numpy(logits), torch.from_numpy(CODES)).numpy()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("tau", [0.0, 1.5])
@pytest.mark.parametrize(("kind", "gamma"), [("cross-entropy", 2.0), ("focal", 2.0), ("focal", 0.7)])
def test_loss_equals_its_formula(kind, gamma, tau, smoothing):
    """Every combination of focal factor, label smoothing and logit adjustment is the documented sum."""
    priors = np.array([0.6, 0.1, 0.3])
    offsets = adjusted_logit_offsets(torch.from_numpy(priors), tau)
    found = _torch_losses(RowLoss(kind, label_smoothing=smoothing, focal_gamma=gamma, logit_offsets=offsets))
    for row, (logits, code) in enumerate(zip(LOGITS, CODES, strict=True)):
        p = softmax(logits + tau * np.log(priors))
        target = (1 - smoothing) * np.eye(3)[code] + smoothing / 3
        expected = -np.sum(target * np.log(p))
        if kind == "focal":
            expected *= (1 - p[code]) ** gamma
        assert_allclose(found[row], expected)


def test_loss_of_stacked_logits_is_the_mean():
    """Logits of several networks give the mean of their losses, row by row."""
    stacked = np.stack([LOGITS, -LOGITS, 2 * LOGITS])
    loss = RowLoss("focal", label_smoothing=0.1)
    expected = np.mean([_torch_losses(loss, logits) for logits in stacked], axis=0)
    assert_allclose(_torch_losses(loss, stacked), expected)


def test_focal_loss_is_finite_when_a_row_is_certain():
    """A probability that rounds to one gives a loss and a gradient of 0, not NaN."""
    logits = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    loss = RowLoss("focal", focal_gamma=0.5)(logits, torch.tensor([0])).sum()
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(logits.grad).all()


def test_focal_gamma_zero_is_cross_entropy(hard):
    """A focal head whose gamma is 0 is the plain one."""
    X, y = hard
    plain = MLPHead(hidden=8, max_epochs=3).fit(X, y).predict_proba(X)
    focal = MLPHead(hidden=8, max_epochs=3, loss="focal", focal_gamma=0).fit(X, y).predict_proba(X)
    assert_allclose(focal, plain, atol=1e-6)


@pytest.mark.parametrize("settings", [{"class_weight": "balanced"}, {"logit_adjustment": 1.0}])
def test_imbalance_settings_find_the_rare_class(settings, hard):
    """Weights and logit adjustment both predict the rare class more often than the plain loss."""
    X, y = hard
    shared = {"hidden": 8, "learning_rate": 1e-2, "max_epochs": 15, "class_weight": None}
    plain = MLPHead(**shared).fit(X, y).predict(X)
    helped = MLPHead(**{**shared, **settings}).fit(X, y).predict(X)
    assert (helped == 1).sum() > (plain == 1).sum() + 10


def test_logit_adjustment_sees_the_rows_after_resampling(hard):
    """Priors are those of the rows that are learnt from: over-sampling makes them equal."""
    X, y = hard
    shared = {"hidden": 8, "max_epochs": 3, "resampler": "random-over", "class_weight": None}
    plain = MLPHead(**shared).fit(X, y).predict_proba(X)
    adjusted = MLPHead(**shared, logit_adjustment=1.0).fit(X, y).predict_proba(X)
    assert_allclose(adjusted, plain, atol=1e-6)


# Class weights.

COUNTS = np.array([240, 40, 120])
ROWS = np.repeat([0, 1, 2], COUNTS)
ONES = np.ones(400)
NAMES = ["positive", "neutral", "negative"]


def _per_class(**settings) -> np.ndarray:
    weights = row_weights(ROWS, NAMES, sample_weight=ONES, **settings)
    return np.array([weights[first] for first in (0, 240, 280)])


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.999])
def test_effective_weights_equal_their_formula(beta):
    """Weights are (1 - beta) / (1 - beta^n), scaled to a mean of 1 over the rows."""
    raw = np.array([(1 - beta) / (1 - beta**n) for n in COUNTS.tolist()])
    expected = raw * 400 / np.sum(raw * COUNTS)
    found = _per_class(class_weight="effective", effective_beta=beta)
    assert_allclose(found, expected)
    if beta == 0:
        assert_allclose(found, 1.0)


def test_effective_weights_become_balanced():
    """Towards beta = 1 they are the balanced weights."""
    found = _per_class(class_weight="effective", effective_beta=1 - 1e-9)
    assert_allclose(found, _per_class(class_weight="balanced"), rtol=1e-5)


@pytest.mark.parametrize("power", [0.25, 0.5, np.float64(0.8)])
def test_class_weight_power_equals_its_formula(power):
    """A number raises the balanced weights to that power, scaled to a mean of 1 over the rows."""
    raw = _per_class(class_weight="balanced") ** power
    found = _per_class(class_weight=power)
    assert_allclose(found, raw * 400 / np.sum(raw * COUNTS))
    assert_allclose(found / found[0], raw / raw[0])


def test_class_weight_power_ends_are_none_and_balanced():
    """Power 0 is no weighting and power 1 is ``"balanced"``."""
    assert_array_equal(_per_class(class_weight=0), _per_class(class_weight=None))
    assert_allclose(_per_class(class_weight=1.0), _per_class(class_weight="balanced"), rtol=1e-12)


@pytest.mark.parametrize("wrong", [-0.1, 1.5, np.nan, True])
def test_class_weight_power_out_of_range_is_refused(wrong):
    """A power outside 0 to 1, NaN and True are refused with what is allowed."""
    with pytest.raises(ValueError, match=r"class_weight=.* a power of the balanced weights from 0 to 1"):
        _per_class(class_weight=wrong)


@pytest.mark.parametrize("class_weight", [None, "balanced", 0.5, {"neutral": 3.0}])
def test_class_boost_multiplies(class_weight):
    """A boost multiplies the weight of its class and leaves the others."""
    plain = _per_class(class_weight=class_weight)
    boosted = _per_class(class_weight=class_weight, class_boost={"neutral": 1.5})
    assert_array_equal(boosted, plain * [1, 1.5, 1])


@pytest.mark.parametrize("name", HEADS)
def test_class_boost_is_a_class_weight_in_every_head(name, hard):
    """Boosting plain classes is weighing them."""
    X, y = hard
    parameters = {"mlp": {"hidden": 8, "max_epochs": 3}, "lightgbm": {"n_estimators": 5}}.get(name, {})
    answers = [
        make_pipeline(name, parameters={**parameters, **setting}).fit(X, y).predict_proba(X)
        for setting in (
            {"class_weight": None, "class_boost": {1: 2.5}},
            {"class_weight": {1: 2.5}},
            {"class_weight": None},
        )
    ]
    assert_array_equal(answers[0], answers[1])
    assert np.abs(answers[0] - answers[2]).max() > 1e-3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"class_boost": {"neutrl": 2}}, r"class_boost has 1 fault\(s\): unknown class 'neutrl'.*'neutral'"),
        ({"class_boost": {"neutral": -1}}, r"class 'neutral' has weight -1 \(allowed: finite"),
        ({"class_boost": 1.5}, "class_boost=1.5 is not understood; allowed are None or a mapping"),
        (
            {"class_weight": {"neutral": 0, "negative": 0}, "class_boost": {"positive": 0}},
            "together give every class the weight 0",
        ),
    ],
)
def test_class_boost_faults_are_named(settings, message):
    """Unknown classes, negative factors and other types are refused."""
    with pytest.raises(ValueError, match=message):
        row_weights(ROWS, NAMES, sample_weight=ONES, **{"class_weight": None, **settings})


def test_effective_beta_of_one_is_refused(hard):
    """A beta at which no class has a weight is refused."""
    with pytest.raises(ValueError, match=r"effective_beta=1.0 \(allowed: a number in \[0, 1\)\)"):
        LogisticHead(class_weight="effective", effective_beta=1.0).fit(*hard)
