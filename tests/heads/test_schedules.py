"""Courses of the learning rate, against torch's own schedulers."""

from __future__ import annotations

import math

import pytest
import torch
from numpy.testing import assert_allclose
from torch.optim import lr_scheduler

from heads import MLPHead
from heads.adamw import AdamW
from heads.schedules import make_schedule


def _ours() -> AdamW:
    return AdamW([torch.zeros(1)], learning_rate=0.1, weight_decay=0.0)


def _theirs() -> torch.optim.AdamW:
    return torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=0.1)


def _state(optimiser) -> tuple[float, float]:
    if isinstance(optimiser, AdamW):
        return optimiser.learning_rate, optimiser.momentum
    group = optimiser.param_groups[0]
    return group["lr"], group["betas"][0]


@pytest.mark.parametrize(("n_steps", "warmup"), [(10, 0.3), (100, 0.3), (57, 0.5), (7, 0.05), (2, 0.25)])
def test_one_cycle_equals_torch(n_steps, warmup):
    """Rate and beta of every step are those of OneCycleLR with its defaults."""
    ours, theirs = _ours(), _theirs()
    schedule = make_schedule("one-cycle", rate=0.1, n_steps=n_steps, warmup=warmup)
    scheduler = lr_scheduler.OneCycleLR(theirs, max_lr=0.1, total_steps=n_steps, pct_start=warmup)
    found, expected = [], []
    for step in range(n_steps):
        schedule.before_step(ours, step)
        found.append(_state(ours))
        expected.append(_state(theirs))
        theirs.step()
        if step < n_steps - 1:
            scheduler.step()
    # torch divides by its own start of the second phase: equal but for the first step of a warm-up that
    # is shorter than a step.
    first = 1 if warmup * n_steps < 1 else 0
    assert_allclose(found[first:], expected[first:], rtol=1e-9)


def test_one_cycle_shape():
    """The rate starts at a 25th of the peak, reaches it after the warm-up and ends near 0."""
    optimiser, schedule = _ours(), make_schedule("one-cycle", rate=1.0, n_steps=100, warmup=0.3)
    rates = []
    for step in range(100):
        schedule.before_step(optimiser, step)
        rates.append(_state(optimiser)[0])
    assert_allclose(rates[0], 1 / 25)
    assert max(range(100), key=rates.__getitem__) == 29
    assert_allclose(rates[29], 1.0)
    assert rates[-1] < 1e-5


def test_cosine_equals_torch():
    """The rate of every step is that of CosineAnnealingLR over all steps."""
    ours, theirs = _ours(), _theirs()
    schedule = make_schedule("cosine", rate=0.1, n_steps=40, warmup=0.3)
    scheduler = lr_scheduler.CosineAnnealingLR(theirs, T_max=40)
    for step in range(40):
        schedule.before_step(ours, step)
        assert_allclose(_state(ours), _state(theirs), rtol=1e-9)
        theirs.step()
        scheduler.step()


def test_plateau_equals_torch():
    """The rate halves as ReduceLROnPlateau does it with factor 0.5 and patience 1."""
    ours, theirs = _ours(), _theirs()
    schedule = make_schedule("plateau", rate=0.1, n_steps=40, warmup=0.3)
    scheduler = lr_scheduler.ReduceLROnPlateau(theirs, factor=0.5, patience=1, threshold=0)
    best = float("inf")
    for loss in [5, 4, 4.5, 4.2, 4.1, 3, 3.5, 3.4, 3.3, 3.2, 2, 2.5]:
        schedule.after_epoch(ours, gained=loss < best)
        scheduler.step(loss)
        best = min(best, loss)
        assert _state(ours) == _state(theirs)
    assert _state(ours)[0] == 0.1 / 8


def test_mlp_history_holds_the_rate(hard):
    """The history has the rate of the last step of each epoch: 4 epochs of 5 steps here."""
    settings = {"hidden": 4, "max_epochs": 4, "batch_size": 60, "validation_fraction": 0}
    head = MLPHead(learning_rate=1e-2, schedule="cosine", **settings).fit(*hard)
    expected = [1e-2 / 2 * (1 + math.cos(math.pi * step / 20)) for step in (4, 9, 14, 19)]
    assert_allclose([entry["learning_rate"] for entry in head.history_], expected)


def test_mlp_plateau_follows_the_stop_metric(hard):
    """The rate is halved after two epochs in a row that brought no gain on the held-out rows, only then."""
    head = MLPHead(
        hidden=64, learning_rate=3e-2, dropout=0.0, schedule="plateau", max_epochs=20, patience=20
    ).fit(*hard)
    rate, best, without = 3e-2, float("inf"), 0
    for entry in head.history_:
        assert entry["learning_rate"] == rate
        without = 0 if entry["valid_loss"] < best else without + 1
        best = min(best, entry["valid_loss"])
        if without == 2:
            rate, without = rate / 2, 0
    assert rate < 3e-2 / 3


def test_mlp_one_cycle_differs_and_repeats(hard):
    """A schedule reaches the training, and the fit is bit-equal when it is made again."""
    X, y = hard
    settings = {"hidden": 8, "max_epochs": 4, "schedule": "one-cycle"}
    first = MLPHead(**settings).fit(X, y).predict_proba(X)
    assert (MLPHead(**settings).fit(X, y).predict_proba(X) == first).all()
    assert abs(MLPHead(hidden=8, max_epochs=4).fit(X, y).predict_proba(X) - first).max() > 1e-3
