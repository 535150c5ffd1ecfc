"""MLPHead: parity with plain torch, early stopping, small data."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import f1_score
from torch import nn

from heads import MLPHead
from heads.early_stopping import inner_split, stop_scores
from heads.layers import Dropout, NetworkShape
from heads.networks import build_network

# A fraction so small that no class gives two rows to the inner split: every row is learnt from.
NO_SPLIT = {"validation_fraction": 0.001}


def _plain_network(head: MLPHead, n_features: int, n_classes: int) -> nn.Sequential:
    """Build the documented network from torch's own parts, with the first weights of the head."""
    layers: list[nn.Module] = []
    width = n_features
    for _ in range(head.n_hidden):
        layers += [nn.Linear(width, head.hidden), nn.LayerNorm(head.hidden), nn.GELU()]
        width = head.hidden
    network = nn.Sequential(*layers, nn.Linear(width, n_classes))
    first = build_network("concat", head._shape(), seed=head._seed(), device=torch.device("cpu"))
    parts = [m for m in network if not isinstance(m, nn.GELU)]
    ours = [m for pair in zip(first.layers, first.norms, strict=True) for m in pair] + [first.output]
    for part, source in zip(parts, ours, strict=True):
        part.load_state_dict(source.state_dict())
    return network


def _plain_weights(network: nn.Sequential) -> list[np.ndarray]:
    return [parameter.detach().numpy() for parameter in network.parameters()]


def _head_weights(head: MLPHead) -> list[np.ndarray]:
    """Return the head's weights in the order of the plain network."""
    names = [
        f"{kind}.{i}.{part}"
        for i in range(head.n_hidden)
        for kind in ("layers", "norms")
        for part in ("weight", "bias")
    ] + ["output.weight", "output.bias"]
    return [head.weights_[name] for name in names]


@pytest.mark.parametrize("n_hidden", [0, 1, 2])
@pytest.mark.parametrize(("n_steps", "clip_norm"), [(1, None), (3, None), (3, 0.3)])
def test_mlp_step_equals_plain_torch(n_hidden, n_steps, clip_norm, hard):
    """Whole-set steps give the weights of nn.Linear, LayerNorm, GELU and torch.optim.AdamW, weighted loss
    and clipped gradient included.
    """
    X, y = hard
    head = MLPHead(
        hidden=16,
        n_hidden=n_hidden,
        dropout=0.0,
        batch_size=len(X),
        max_epochs=n_steps,
        clip_norm=clip_norm,
        **NO_SPLIT,
    )
    head.fit(X, y)
    network = _plain_network(head, X.shape[1], 3)
    optimiser = torch.optim.AdamW(network.parameters(), lr=head.learning_rate, weight_decay=head.weight_decay)
    rows = torch.from_numpy((X - X.mean(axis=0)) / X.std(axis=0))
    codes = torch.from_numpy(y)
    weights = torch.from_numpy((len(y) / (3 * np.bincount(y)))[y].astype(np.float32))
    for _ in range(n_steps):
        losses = nn.functional.cross_entropy(network(rows), codes, reduction="none", label_smoothing=0.05)
        optimiser.zero_grad()
        ((losses * weights).sum() / weights.sum()).backward()
        if clip_norm is not None:
            norm = torch.sqrt(sum((part.grad**2).sum() for part in network.parameters()))
            assert norm > clip_norm
            for part in network.parameters():
                part.grad *= clip_norm / norm
        optimiser.step()
    for ours, plain in zip(_head_weights(head), _plain_weights(network), strict=True):
        assert_allclose(ours, plain, atol=2e-5)
    with torch.no_grad():
        expected = network(rows).softmax(dim=1).numpy()
    assert_allclose(head.predict_proba(X), expected, atol=1e-4)


def test_mlp_first_weights_are_those_of_torch():
    """First weights are uniform within 1 / sqrt(fan_in), as in nn.Linear, and depend on the seed only."""
    shape = NetworkShape((30, 70), n_classes=3, hidden=(400,))
    device = torch.device("cpu")
    first = build_network("concat", shape, seed=0, device=device)
    weight = first.layers[0].weight
    assert 0.099 < weight.abs().max() <= 0.1
    assert_allclose(weight.std().item(), 0.1 / math.sqrt(3), rtol=0.02)
    assert torch.equal(weight, build_network("concat", shape, seed=0, device=device).layers[0].weight)
    assert not torch.equal(weight, build_network("concat", shape, seed=1, device=device).layers[0].weight)


def test_mlp_dropout_acts_in_training_only():
    """Dropout drops the stated share of units while training, keeps the mean, and is off when predicting."""
    drop = Dropout(0.3, torch.Generator().manual_seed(0))
    ones = torch.ones(1000, 100)
    dropped = drop.train()(ones)
    assert_allclose((dropped == 0).float().mean().item(), 0.3, atol=0.01)
    assert_allclose(dropped.mean().item(), 1.0, atol=0.01)
    assert torch.equal(drop.eval()(ones), ones)


def test_mlp_keeps_the_best_epoch(hard):
    """Training stops `patience` epochs after the lowest validation loss, and that epoch's weights are "
    "kept."""
    X, y = hard
    head = MLPHead(hidden=64, learning_rate=2e-2, dropout=0.0, patience=3).fit(X, y)
    losses = [entry["valid_loss"] for entry in head.history_]
    assert head.best_epoch_ == 1 + int(np.argmin(losses))
    assert head.n_epochs_ == len(losses) == head.best_epoch_ + 3 < head.max_epochs
    again = MLPHead(hidden=64, learning_rate=2e-2, dropout=0.0, max_epochs=head.best_epoch_).fit(X, y)
    assert_array_equal(head.predict_proba(X), again.predict_proba(X))
    assert [entry["epoch"] for entry in head.history_] == list(range(1, head.n_epochs_ + 1))
    assert set(head.history_[0]) == {
        "epoch",
        "learning_rate",
        "train_loss",
        "valid_loss",
        "valid_macro_f1",
        "valid_weighted_f1",
        "valid_accuracy",
    }


def test_mlp_training_lowers_the_loss(easy):
    """The loss falls and the macro-F1 on held-out rows rises from the first epoch to the best."""
    head = MLPHead(hidden=32, learning_rate=1e-3).fit(*easy)
    first, best = head.history_[0], head.history_[head.best_epoch_ - 1]
    assert best["train_loss"] < 0.7 * first["train_loss"]
    assert best["valid_macro_f1"] > max(0.9, first["valid_macro_f1"] - 1e-9)


def test_mlp_few_rows_train_without_early_stopping():
    """When a class is too small for an inner split, all rows are learnt from for max_epochs epochs."""
    random = np.random.default_rng(0)
    y = np.array([0] * 20 + [1] * 5)
    X = (random.normal(size=(25, 4)) + 4 * y[:, None]).astype(np.float32)
    head = MLPHead(max_epochs=40, learning_rate=1e-2).fit(X, y)
    assert head.n_epochs_ == head.best_epoch_ == 40
    assert head.history_[0]["valid_loss"] is None
    assert (head.predict(X) == y).all()


def test_inner_split_is_stratified():
    """The held-out part has the stated share of each class and shares no row with the rest."""
    codes = np.repeat([0, 1, 2], [100, 20, 60])
    kept, held_out = inner_split(codes, 0.15, np.random.RandomState(0))
    assert np.bincount(codes[held_out]).tolist() == [15, 3, 9]
    assert sorted([*kept, *held_out]) == list(range(180))


@pytest.mark.parametrize(("rare", "fraction"), [(8, 0.15), (1, 0.9), (3, 0.9), (2, 0.5)])
def test_inner_split_gives_up_when_a_class_is_too_small(rare, fraction):
    """No split is made when a class would hold out fewer than two rows or keep none."""
    assert inner_split(np.repeat([0, 1], [40, rare]), fraction, np.random.RandomState(0)) is None


def test_stop_scores_equal_scikit_learn():
    """The quick scores of the training loop are scikit-learn's, with a class that is never predicted."""
    random = np.random.default_rng(0)
    truth, guess = random.integers(0, 3, 200), random.integers(0, 2, 200)
    found = stop_scores(truth, guess, 3)
    for average in ("macro", "weighted"):
        expected = f1_score(truth, guess, average=average, zero_division=0)
        assert_allclose(found[f"{average}_f1"], expected)
    assert_allclose(found["accuracy"], (truth == guess).mean())


@pytest.mark.parametrize("metric", ["macro_f1", "weighted_f1", "accuracy"])
def test_mlp_stops_on_the_chosen_metric(metric, hard):
    """The first epoch with the best value of the metric is kept, and patience counts from there."""
    X, y = hard
    head = MLPHead(hidden=32, learning_rate=1e-2, stop_metric=metric, patience=4).fit(X, y)
    values = [entry[f"valid_{metric}"] for entry in head.history_]
    assert head.best_epoch_ == 1 + int(np.argmax(values))
    assert head.n_epochs_ == head.best_epoch_ + 4
    by_loss = MLPHead(hidden=32, learning_rate=1e-2, patience=4).fit(X, y)
    assert by_loss.history_[: head.n_epochs_] == head.history_[: by_loss.n_epochs_]


def test_mlp_without_validation_learns_from_all_rows(hard):
    """validation_fraction=0 trains max_epochs epochs on every row."""
    head = MLPHead(hidden=4, max_epochs=3, validation_fraction=0).fit(*hard)
    assert head.n_epochs_ == head.best_epoch_ == 3
    assert head.history_[-1]["valid_accuracy"] is None
    assert_allclose(head.scale_.mean, hard[0].mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        ({"hidden": 20, "n_hidden": 3, "taper": True}, [20, 10, 5]),
        ({"hidden": 20, "n_hidden": 2}, [20, 20]),
        ({"hidden": [24, 24, 6], "taper": True}, [24, 24, 6]),
        ({"hidden": 3, "n_hidden": 3, "taper": True}, [3, 1, 1]),
        ({"n_hidden": 0}, []),
    ],
)
def test_mlp_hidden_layers_have_the_sizes_asked_for(settings, sizes, hard):
    """Tapering halves each further layer; a list is taken as it is."""
    head = MLPHead(max_epochs=1, **settings).fit(*hard)
    found = [head.weights_[f"layers.{layer}.weight"].shape for layer in range(len(sizes))]
    assert [shape[0] for shape in found] == sizes
    assert f"layers.{len(sizes)}.weight" not in head.weights_
    assert head.weights_["output.weight"].shape == (3, sizes[-1] if sizes else 12)


def test_mlp_batch_norm_keeps_the_measured_statistics(hard):
    """Running means and variances belong to the kept epoch, are not counted as parameters, and are used."""
    X, y = hard
    head = MLPHead(hidden=8, norm="batch", max_epochs=4).fit(X, y)
    assert head.n_parameters == (12 * 8 + 8) + 2 * 8 + (8 * 3 + 3)
    assert np.abs(head.weights_["norms.0.running_mean"]).max() > 1e-3
    alone = np.vstack([head.predict_proba(X[i : i + 1]) for i in range(10)])
    assert_allclose(alone, head.predict_proba(X)[:10], rtol=1e-12)


def test_mlp_batch_norm_refuses_batches_of_one_row(hard):
    """A batch of one row has no variance; the message says what to do."""
    with pytest.raises(ValueError, match=r"255 training row\(s\) in batches of at most 1 leave a batch of 1"):
        MLPHead(norm="batch", batch_size=1).fit(*hard)


def test_mlp_members_are_as_many_heads(hard):
    """An ensemble is the mean of the heads that would be fitted one after another, bit for bit."""
    X, y = hard
    settings = {"hidden": 8, "max_epochs": 4, "learning_rate": 1e-2}
    ensemble = MLPHead(n_members=3, random_state=5, **settings).fit(X, y)
    random = np.random.RandomState(5)
    singles = [MLPHead(random_state=random, **settings).fit(X, y) for _ in range(3)]
    each = [head.predict_proba(X) for head in singles]
    assert_array_equal(ensemble.predict_proba(X), (each[0] + each[1] + each[2]) / 3)
    assert np.abs(each[0] - each[1]).max() > 1e-3
    assert_array_equal(ensemble.weights_["output.bias"], singles[0].weights_["output.bias"])
    assert ensemble.n_parameters == 3 * singles[0].n_parameters
    assert [member.best_epoch for member in ensemble.members_] == [head.best_epoch_ for head in singles]


def test_mlp_rows_do_not_influence_each_other(hard):
    """A row's probabilities are the same alone and among others, up to float64 rounding."""
    X, y = hard
    head = MLPHead(hidden=16, max_epochs=3).fit(X, y)
    alone = np.vstack([head.predict_proba(X[i : i + 1]) for i in range(20)])
    assert_allclose(alone, head.predict_proba(X)[:20], rtol=1e-12)


def test_mlp_diverging_loss_is_an_error(hard):
    """A loss that is not finite is refused with what to do, instead of a model of NaN."""
    X, y = hard
    with pytest.raises(ValueError, match=r"not finite in its first epoch \(learning_rate=1e\+30\)"):
        MLPHead(learning_rate=1e30, n_hidden=0, batch_size=16).fit(X, y)


def test_mlp_refuses_unknown_device(hard):
    """A device that torch does not know, or does not have, is named."""
    with pytest.raises(ValueError, match="device='gpu' is not a device torch knows; use 'cpu'"):
        MLPHead(device="gpu").fit(*hard)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device='cuda' was asked for, but torch sees no CUDA device"):
            MLPHead(device="cuda").fit(*hard)
