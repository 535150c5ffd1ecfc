"""Stacked networks: each is the network that an MLP head trains alone."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from heads import FUSIONS, MLPHead
from heads.layers import NetworkShape
from heads.network_stack import NetworkStack, StackMember

BLOCKS = {"text.pooled": 8, "image.pooled": 6}
CODES = np.array([0] * 60 + [1] * 30 + [2] * 12)


def rows() -> NDArray[np.float32]:
    """Return weakly separated classes, already standardised."""
    X = np.random.default_rng(0).normal(size=(len(CODES), 14))
    X[:, :3] += 1.5 * np.eye(3)[CODES]
    standard: NDArray[np.float32] = ((X - X.mean(0)) / X.std(0)).astype(np.float32)
    return standard


def head(**changes: Any) -> MLPHead:
    """Return a head without an inner split, as a stack trains it."""
    settings = {
        "hidden": 16,
        "batch_size": 32,
        "max_epochs": 6,
        "learning_rate": 3e-3,
        "n_attention_heads": 2,
    }
    return MLPHead(
        **{**settings, "projection_width": 8, "blocks": BLOCKS, **changes},
        validation_fraction=0,
        patience=100,
        screen_blocks=False,  # the rows of a stack are screened before
        random_state=5,
    )


def member_of(mlp: MLPHead) -> StackMember:
    """Return what the stack needs to know of a fitted head."""
    weights = mlp._weigh(CODES, np.ones(len(CODES)))
    priors = np.bincount(CODES) / len(CODES)
    return StackMember(
        learning_rate=mlp.learning_rate,
        weight_decay=mlp.weight_decay,
        dropout=mlp.dropout,
        label_smoothing=mlp.label_smoothing,
        focal_gamma=mlp.focal_gamma if mlp.loss == "focal" else 0.0,
        logit_offsets=(mlp.logit_adjustment * np.log(priors)).astype(np.float32)
        if mlp.logit_adjustment
        else None,
        weights=(weights / weights.mean()).astype(np.float32),
    )


def stack_of(heads: list[MLPHead]) -> NetworkStack:
    """Stack fitted heads of one shape."""
    first = heads[0]
    return NetworkStack(
        first.fusion,
        first._shape(),
        rows(),
        CODES.astype(np.int64),
        [member_of(each) for each in heads],
        batch_size=first.batch_size,
        seed=first._seeds(1)[0],
    )


VARIANTS: list[dict[str, Any]] = [
    {},
    {"dropout": 0.6, "learning_rate": 1e-2, "weight_decay": 0.5},
    {"dropout": 0.0, "class_weight": None, "label_smoothing": 0.2},
    {"loss": "focal", "focal_gamma": 1.5, "class_weight": {0: 1.0, 1: 2.0, 2: 4.0}},
    {"class_weight": None, "logit_adjustment": 1.0},
]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_stack_member_equals_the_head_that_is_trained_alone(fusion: str) -> None:
    """Five networks in a stack give the probabilities of five heads, each trained by itself."""
    heads = [head(fusion=fusion, **variant).fit(rows(), CODES) for variant in VARIANTS]
    stack = stack_of(heads)
    stack.run_epochs(6)
    found = stack.probabilities(rows())
    for stacked, alone in zip(found, heads, strict=True):
        np.testing.assert_allclose(stacked, alone.predict_proba(rows()), atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 0.01  # the members do differ


@pytest.mark.parametrize(
    "shape",
    [
        {"hidden": [16, 8], "activation": "relu", "residual": True},
        {"n_hidden": 0},
        {"n_hidden": 2, "taper": True, "input_norm": True, "norm": "none"},
    ],
)
def test_stack_equals_heads_of_every_depth(shape: dict[str, Any]) -> None:
    """The shape of the network makes no difference to that."""
    heads = [head(**shape, **variant).fit(rows(), CODES) for variant in VARIANTS[:2]]
    stack = stack_of(heads)
    stack.run_epochs(6)
    for stacked, alone in zip(stack.probabilities(rows()), heads, strict=True):
        np.testing.assert_allclose(stacked, alone.predict_proba(rows()), atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_stack_equals_heads_with_every_option_of_a_fusion(fusion: str) -> None:
    """Three blocks, input norm, residuals of other and of the same width: every fusion, to rounding."""
    shape = {"hidden": [8, 8], "residual": True, "input_norm": True, "norm": "none", "activation": "relu"}
    blocks = {"text.pooled": 6, "image.pooled": 5, "caption.pooled": 3}
    heads = [
        head(fusion=fusion, blocks=blocks, **shape, **variant).fit(rows(), CODES) for variant in VARIANTS[:2]
    ]
    stack = stack_of(heads)
    stack.run_epochs(6)
    for stacked, alone in zip(stack.probabilities(rows()), heads, strict=True):
        np.testing.assert_allclose(stacked, alone.predict_proba(rows()), atol=1e-5)


def test_dropped_members_change_nothing_for_the_others() -> None:
    """Members that are dropped half-way leave the rest where they would have been."""
    heads = [head(**variant).fit(rows(), CODES) for variant in VARIANTS]
    whole, thinned = stack_of(heads), stack_of(heads)
    whole.run_epochs(6)
    thinned.run_epochs(2)
    thinned.keep([1, 3])
    assert len(thinned) == 2
    thinned.run_epochs(4)
    np.testing.assert_allclose(thinned.probabilities(rows()), whole.probabilities(rows())[[1, 3]], atol=1e-6)
    for stacked, alone in zip(thinned.probabilities(rows()), (heads[1], heads[3]), strict=True):
        np.testing.assert_allclose(stacked, alone.predict_proba(rows()), atol=1e-5)


DIVERGING: list[dict[str, Any]] = [{}, {"learning_rate": 1e30}]


def test_member_that_diverges_leaves_the_others_alone() -> None:
    """A learning rate that blows one network up gives NaN there and nowhere else."""
    heads = [head(norm="none", **variant) for variant in DIVERGING]
    for each in heads:
        each.classes_, each.n_features_in_ = np.arange(3), 14
    stack = stack_of(heads)
    stack.run_epochs(6)
    found = stack.probabilities(rows())
    assert not np.isfinite(found[1]).any()
    np.testing.assert_allclose(found[0], heads[0].fit(rows(), CODES).predict_proba(rows()), atol=1e-5)


def test_stack_is_repeatable_and_leaves_global_draws_alone() -> None:
    """The same stack on one thread gives the same bits, whatever else draws random numbers."""
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    results = []
    for _ in range(2):
        heads = [head(**variant) for variant in VARIANTS[:2]]
        for each in heads:
            each.classes_, each.n_features_in_ = np.arange(3), 14
        stack = stack_of(heads)
        stack.run_epochs(3)
        results.append(stack.probabilities(rows()))
    np.testing.assert_array_equal(results[0], results[1])
    assert torch.equal(before, torch.random.get_rng_state())


def test_shape_with_batch_norm_cannot_be_stacked() -> None:
    """BatchNorm measures its batch, which a stack does not do for each member; that is refused."""
    shape = NetworkShape((8, 6), 3, norm="batch")
    member = member_of(_fitted_names())
    with pytest.raises(ValueError, match="norm='batch' cannot be stacked"):
        NetworkStack("concat", shape, rows(), CODES.astype(np.int64), [member], batch_size=32, seed=0)


def _fitted_names() -> MLPHead:
    """Return a head that knows its classes, though it was not trained."""
    plain = head()
    plain.classes_, plain.n_features_in_ = np.arange(3), 14
    return plain
