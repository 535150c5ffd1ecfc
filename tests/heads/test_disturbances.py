"""Mixup and modality dropout."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from heads import MLPHead
from heads.disturbances import Disturbances
from heads.networks import build_network


def _disturbances(*, widths=(3, 2), mixup=0.0, modality_dropout=0.0, seed=0) -> Disturbances:
    return Disturbances(
        mixup=mixup,
        modality_dropout=modality_dropout,
        block_widths=widths,
        device=torch.device("cpu"),
        seed=seed,
    )


def test_nothing_asked_for_changes_nothing():
    """Without either the batch is the very tensor."""
    rows = torch.randn(4, 5)
    mixed = _disturbances().apply(rows)
    assert mixed.X is rows
    assert mixed.partners is None


def test_mixup_mixes_rows_and_says_how():
    """Each row is a share of itself and the rest of its partner; shares follow the Beta distribution."""
    disturbances = _disturbances(mixup=0.4)
    rows = torch.randn(50, 5, generator=torch.Generator().manual_seed(0))
    shares = []
    for _ in range(2000):
        mixed = disturbances.apply(rows)
        shares.append(mixed.share)
    assert sorted(mixed.partners.tolist()) == list(range(50))
    expected = mixed.share * rows + (1 - mixed.share) * rows[mixed.partners]
    assert_allclose(mixed.X, expected, atol=1e-6)
    assert_allclose(np.mean(shares), 0.5, atol=0.03)
    assert_allclose(np.var(shares), 1 / (4 * (2 * 0.4 + 1)), rtol=0.05)


def test_mixup_step_equals_plain_torch(hard):
    """A whole-set step is AdamW on the soft-label cross-entropy of the mixed rows."""
    X, y = hard
    head = MLPHead(
        n_hidden=0,
        batch_size=len(X),
        max_epochs=1,
        mixup=0.5,
        class_weight=None,
        label_smoothing=0.0,
        validation_fraction=0,
    ).fit(X, y)
    seed = head._seed()
    network = build_network("concat", head._shape(), seed=seed, device=torch.device("cpu"))
    order = torch.randperm(len(X), generator=torch.Generator().manual_seed(seed))
    rows = torch.from_numpy(((X - X.mean(axis=0)) / X.std(axis=0))[order])
    labels = torch.eye(3)[torch.from_numpy(y)[order]]
    mixed = _disturbances(widths=(12,), mixup=0.5, seed=seed).apply(rows)
    targets = mixed.share * labels + (1 - mixed.share) * labels[mixed.partners]
    optimiser = torch.optim.AdamW(network.parameters(), lr=head.learning_rate, weight_decay=head.weight_decay)
    torch.nn.functional.cross_entropy(network(mixed.X), targets).backward()
    optimiser.step()
    assert_allclose(head.weights_["output.weight"], network.output.weight.detach(), atol=1e-5)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_modality_dropout_hides_whole_blocks(share):
    """Blocks are hidden with the stated chance, whole, and no row loses all of them."""
    rows = torch.ones(20_000, 6)
    found = _disturbances(widths=(3, 2, 1), modality_dropout=share).apply(rows).X
    kept = torch.stack([found[:, 0], found[:, 3], found[:, 5]], dim=1)
    assert torch.equal(found, kept.repeat_interleave(torch.tensor([3, 2, 1]), dim=1))
    assert kept.sum(dim=1).min() == 1
    assert torch.equal(rows, torch.ones(20_000, 6))
    # All three go with chance share^3, and then one of them comes back.
    expected = 1 - (1 - share) - share**3 / 3
    assert_allclose((kept == 0).float().mean(dim=0), expected, atol=0.015)


def test_modality_dropout_leaves_one_block_alone():
    """With a single block there is nothing to hide."""
    rows = torch.randn(4, 5)
    assert _disturbances(widths=(5,), modality_dropout=0.9).apply(rows).X is rows


@pytest.mark.parametrize("settings", [{"mixup": 0.4}, {"modality_dropout": 0.3}])
def test_disturbed_training_repeats_and_differs(settings, hard):
    """A disturbed fit is bit-equal when made again, and is not the undisturbed one."""
    X, y = hard
    shared = {"hidden": 8, "max_epochs": 3, "blocks": {"a": 5, "b": 7}, "screen_blocks": False}
    first = MLPHead(**shared, **settings).fit(X, y).predict_proba(X)
    assert (MLPHead(**shared, **settings).fit(X, y).predict_proba(X) == first).all()
    assert np.abs(MLPHead(**shared).fit(X, y).predict_proba(X) - first).max() > 1e-3


def test_modality_dropout_helps_rows_without_a_block():
    """A block that is harder to read is learnt as well, and counts where the easy one is missing."""
    random = np.random.default_rng(0)
    hard_block = random.normal(size=(2000, 4))
    y = (hard_block[:, 0] * hard_block[:, 1] > 0).astype(int)
    easy_block = 4 * y[:, None] + random.normal(size=(2000, 4))
    X = np.hstack([easy_block, hard_block]).astype(np.float32)
    missing = X[1500:].copy()
    missing[:, :4] = X[:1500, :4].mean(axis=0)
    accuracy = []
    for share in (0.0, 0.5):
        head = MLPHead(
            hidden=32, learning_rate=5e-3, blocks={"a": 4, "b": 4}, modality_dropout=share, max_epochs=20
        ).fit(X[:1500], y[:1500])
        accuracy.append((head.predict(missing) == y[1500:]).mean())
    assert accuracy[1] > accuracy[0] + 0.1
