"""Fusions: each against a plain, slow implementation, and against what theory says it can and cannot do."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import erf, softmax
from sklearn.exceptions import NotFittedError
from sklearn.metrics import f1_score

from heads import FUSIONS, MLPHead
from heads.fusion import FUSION_OF
from heads.layers import NetworkShape
from heads.networks import LateNetwork, build_network

WIDTHS = {1: (5,), 2: (5, 7), 3: (5, 7, 3)}
CPU = torch.device("cpu")
WEIGHING = ("weighted_sum", "gated", "attention")


# The slow implementation: one row at a time, in float64, from the named weights and nothing else.


def _linear(weights, name, x):
    return weights[f"{name}.weight"] @ x + weights.get(f"{name}.bias", 0.0)


def _layer_norm(weights, name, x):
    scaled = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    return weights[f"{name}.weight"] * scaled + weights[f"{name}.bias"]


def _batch_norm(weights, name, x):
    scaled = (x - weights[f"{name}.running_mean"]) / np.sqrt(weights[f"{name}.running_var"] + 1e-5)
    return weights[f"{name}.weight"] * scaled + weights[f"{name}.bias"]


def _hidden(shape, weights, layer, norm, x):
    x = _linear(weights, layer, x)
    if shape.norm != "none":
        x = {"layer": _layer_norm, "batch": _batch_norm}[shape.norm](weights, norm, x)
    return x * (1 + erf(x / math.sqrt(2))) / 2 if shape.activation == "gelu" else np.maximum(x, 0)


def _trunk(shape, weights, prefix, x):
    for i, size in enumerate(shape.hidden):
        out = _hidden(shape, weights, f"{prefix}layers.{i}", f"{prefix}norms.{i}", x)
        if shape.residual:
            out = out + (x if len(x) == size else weights[f"{prefix}shortcuts.{i}.weight"] @ x)
        x = out
    return _linear(weights, f"{prefix}output", x)


def _projections(shape, weights, blocks):
    names = [f"fusion.projections.{{}}.{m}" for m in range(len(blocks))]
    return [
        _hidden(shape, weights, n.format("layers"), n.format("norms"), b)
        for n, b in zip(names, blocks, strict=True)
    ]


def _attended(shape, weights, tokens):
    size = shape.projection_width // shape.n_attention_heads
    parts = [_linear(weights, "fusion.queries_keys_values", token) for token in tokens]
    mean = np.zeros(shape.projection_width)
    for token, asking in zip(tokens, parts, strict=True):
        heads = []
        for h in range(shape.n_attention_heads):
            query, key, value = (slice(k * shape.projection_width + h * size, None) for k in range(3))
            scores = [asking[query][:size] @ part[key][:size] / math.sqrt(size) for part in parts]
            shares = softmax(scores)
            heads.append(sum(share * part[value][:size] for share, part in zip(shares, parts, strict=True)))
        out = _linear(weights, "fusion.merge", np.concatenate(heads))
        mean += (out + token if shape.residual else out) / len(tokens)
    return mean


def _fused(fusion, shape, weights, x, blocks):
    if fusion == "concat":
        return x
    if fusion == "product":
        product = np.ones(shape.projection_width)
        for m, block in enumerate(blocks):
            factor = _linear(weights, f"fusion.layers.{m}", block)
            product = product * factor / np.linalg.norm(factor) * math.sqrt(shape.projection_width)
        return product
    projected = _projections(shape, weights, blocks)
    if fusion == "projection":
        return np.concatenate(projected)
    if fusion == "early":
        return np.sum(projected, axis=0)
    if fusion == "weighted_sum":
        return softmax(weights["fusion.logits"]) @ np.stack(projected)
    if fusion == "attention":
        return _attended(shape, weights, projected)
    if fusion == "gated":
        if len(blocks) == 1:
            return projected[0]
        logits = _linear(weights, "fusion.gate", x).reshape(len(blocks) - 1, -1)
        gates = softmax(np.vstack([logits, np.zeros(shape.projection_width)]), axis=0)
        return np.sum(gates * np.stack(projected), axis=0)
    fused = weights["fusion.bias"].copy()
    for r in range(shape.rank):
        term = np.ones(shape.projection_width)
        for m, block in enumerate(projected):
            units = slice(r * shape.projection_width, (r + 1) * shape.projection_width)
            term = term * _linear(weights, f"fusion.factors.{m}", block)[units]
        fused += weights["fusion.term_weights"][r] * term
    return fused


def _slow_logits(fusion, shape, weights, x):
    ends = np.cumsum(shape.block_widths)[:-1]
    blocks = np.split(x, ends)
    if shape.input_norm:
        blocks = [_layer_norm(weights, f"input_norm.norms.{m}", block) for m, block in enumerate(blocks)]
        x = np.concatenate(blocks)
    if fusion == "late":
        each = [softmax(_trunk(shape, weights, f"trunks.{m}.", block)) for m, block in enumerate(blocks)]
        return np.log(np.mean(each, axis=0))
    return _trunk(shape, weights, "", _fused(fusion, shape, weights, x, blocks))


def _shaken(network):
    """Move every weight and buffer, so that no term is at an initial value that hides it."""
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for part in network.state_dict().values():
            if part.dtype.is_floating_point:
                part += torch.empty_like(part).uniform_(0.1, 0.5, generator=generator)
    return network.double().eval()


VARIANTS = {
    "default": {},
    "linear": {"hidden": ()},
    "deep": {"hidden": (8, 4), "residual": True, "activation": "relu", "norm": "batch"},
    "bare": {"hidden": (6, 6), "residual": True, "norm": "none", "input_norm": True},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("n_blocks", WIDTHS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_fusion_equals_slow_implementation(fusion, n_blocks, variant):
    """Logits are those of a row-by-row numpy implementation, for 1 to 3 blocks and every option."""
    shape = NetworkShape(
        WIDTHS[n_blocks],
        n_classes=3,
        **{"hidden": (6,), "projection_width": 6, "n_attention_heads": 3, "rank": 2, **VARIANTS[variant]},
    )
    network = _shaken(build_network(fusion, shape, seed=0, device=CPU))
    rows = np.random.default_rng(1).normal(size=(4, sum(WIDTHS[n_blocks])))
    weights = {name: part.numpy() for name, part in network.state_dict().items()}
    with torch.no_grad():
        found = network(torch.from_numpy(rows)).numpy()
    expected = np.stack([_slow_logits(fusion, shape, weights, row) for row in rows])
    assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_attention_equals_torch():
    """With the same weights the attention is that of torch.nn.MultiheadAttention, scores included."""
    shape = NetworkShape(WIDTHS[3], n_classes=2, projection_width=12, n_attention_heads=4)
    fusion = build_network("attention", shape, seed=0, device=CPU).fusion
    theirs = torch.nn.MultiheadAttention(12, 4, batch_first=True)
    theirs.in_proj_weight.data = fusion.queries_keys_values.weight.data
    theirs.in_proj_bias.data = fusion.queries_keys_values.bias.data
    theirs.out_proj.load_state_dict(fusion.merge.state_dict())
    rows = torch.randn(5, 15, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tokens = torch.stack(fusion.projections(rows), dim=1)
        out, scores = theirs(tokens, tokens, tokens, average_attn_weights=False)
        assert_allclose(fusion(rows), out.mean(dim=1), atol=1e-6)
        assert_allclose(fusion.weight_details(rows), scores, atol=1e-6)


def test_gate_of_two_blocks_is_a_sigmoid():
    """With two blocks the gates are sigmoid(Wx + b) and its complement."""
    network = build_network("gated", NetworkShape((5, 7), 3, projection_width=4), seed=0, device=CPU)
    rows = torch.randn(3, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        gates = network.weight_details(rows)
        assert_allclose(gates[:, 0], torch.sigmoid(network.fusion.gate(rows)), atol=1e-6)
    assert_allclose(gates.sum(dim=1), 1.0, atol=1e-6)


def test_fusion_names_and_networks_agree():
    """Every fusion a user may name has a network."""
    assert {*FUSION_OF, "late"} == set(FUSIONS)
    assert len(FUSIONS) == len(set(FUSIONS))


def test_late_trains_each_block_alone(hard):
    """The network of a block is the same whatever the other block holds, when nothing stops early."""
    X, y = hard
    other = X.copy()
    other[:, 5:] = np.random.default_rng(3).normal(size=(len(X), 7))
    settings = {"fusion": "late", "blocks": {"text": 5, "image": 7}, "max_epochs": 4, "dropout": 0.0}
    settings |= {"validation_fraction": 0, "screen_blocks": False}
    first, second = (MLPHead(**settings).fit(rows, y).weights_ for rows in (X, other))
    text = [name for name in first if name.startswith("trunks.0.")]
    image = [name for name in first if name.startswith("trunks.1.")]
    assert text
    assert image
    # As close as AdamW keeps float32 gradients whose common factor 1/2 is taken at another place.
    assert all(np.allclose(first[name], second[name], atol=1e-6) for name in text)
    assert not np.allclose(first[image[0]], second[image[0]], atol=1e-3)
    assert isinstance(build_network("late", NetworkShape((5, 7), 3), seed=0, device=CPU), LateNetwork)


@pytest.mark.parametrize("n_blocks", WIDTHS)
@pytest.mark.parametrize("fusion", WEIGHING)
def test_fusion_weights_are_readable(fusion, n_blocks, easy):
    """After each epoch and for each row there is one weight per block, and they sum to one."""
    X, y = easy
    X = X[:, : sum(WIDTHS[n_blocks])]
    blocks = dict(zip("abc", WIDTHS[n_blocks], strict=False))
    settings = {"hidden": 8, "projection_width": 8, "max_epochs": 3, "n_members": 2, "screen_blocks": False}
    head = MLPHead(fusion=fusion, blocks=blocks, **settings).fit(X, y)
    assert head.fusion_weights_.shape == (head.n_epochs_, n_blocks)
    assert_allclose(head.fusion_weights_.sum(axis=1), 1.0, atol=1e-5)
    weights = head.sample_fusion_weights(X[:20])
    assert weights.shape == (20, n_blocks)
    assert_allclose(weights.sum(axis=1), 1.0)
    detail = head.sample_fusion_weights(X[:20], detail=True)
    shapes = {"weighted_sum": (20, n_blocks), "gated": (20, n_blocks, 8)}
    assert detail.shape == shapes.get(fusion, (20, 4, n_blocks, n_blocks))
    if fusion == "attention":
        assert_allclose(detail.sum(axis=3), 1.0)
    if n_blocks > 1:
        assert np.ptp(head.fusion_weights_[:, 0]) > 0
        assert (np.ptp(weights, axis=0) > 0).all() == (fusion != "weighted_sum")


def test_weighted_sum_starts_with_equal_weights():
    """Two blocks start at 0.5 each."""
    network = build_network("weighted_sum", NetworkShape((5, 7), 3), seed=3, device=CPU)
    assert_array_equal(network.block_weights(torch.zeros(2, 12)).detach(), np.full((2, 2), 0.5))


@pytest.mark.parametrize("fusion", [name for name in FUSIONS if name not in WEIGHING])
def test_fusion_without_weights_says_so(fusion, hard):
    """A fusion that weighs no blocks has no history of weights, and names those that do."""
    X, y = hard
    head = MLPHead(hidden=4, projection_width=4, fusion=fusion, blocks={"a": 5, "b": 7}, max_epochs=1)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        head.sample_fusion_weights(X)
    head.fit(X, y)
    assert head.fusion_weights_ is None
    with pytest.raises(ValueError, match=f"fusion='{fusion}' does not weigh blocks. Use 'weighted_sum'"):
        head.sample_fusion_weights(X)


def test_attention_heads_must_divide(hard):
    """A number of heads that does not divide the width is refused, beside other faults."""
    head = MLPHead(fusion="attention", projection_width=10, resampler="smote")
    message = r"sample_weight cannot .*; n_attention_heads=4 does not divide projection_width=10"
    with pytest.raises(ValueError, match=message):
        head.fit(*hard, sample_weight=np.ones(300))


# What theory says.


def _two_blocks(kind: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw 3,000 rows of two blocks of 16 columns with one hidden direction each."""
    random = np.random.default_rng(seed)
    text, image = random.normal(size=(2, 3000, 16))
    a, b = (
        block @ (direction := random.normal(size=16)) / np.linalg.norm(direction) for block in (text, image)
    )
    signal = {"text": a, "image": b, "xor": 2 * a * b}[kind] + 0.3 * random.normal(size=3000)
    return np.hstack([text, image]).astype(np.float32), (signal > 0).astype(int)


def _score(X, y, **settings) -> float:
    defaults = {"hidden": 32, "projection_width": 32, "dropout": 0.1, "learning_rate": 3e-3, "max_epochs": 40}
    head = MLPHead(**{**defaults, **settings})
    head.fit(X[:2000], y[:2000])
    return f1_score(y[2000:], head.predict(X[2000:]), average="macro")


BLOCKS = {"text": 16, "image": 16}


@pytest.mark.parametrize("fusion", ["product", "bilinear", "attention", "concat"])
def test_fusion_solves_xor_across_blocks(fusion):
    """A label that is in neither block alone is found by fusions that multiply blocks or mix them early."""
    assert _score(*_two_blocks("xor", 0), fusion=fusion, blocks=BLOCKS) > 0.75


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize("fusion", ["product", "bilinear", "attention", "concat", "late"])
def test_fusion_behaves_on_xor_as_theory_says(fusion, seed):
    """On more draws fusions that multiply or mix blocks early find XOR across them, late fusion never."""
    found = _score(*_two_blocks("xor", seed), fusion=fusion, blocks=BLOCKS)
    assert 0.42 < found < 0.58 if fusion == "late" else found > 0.75


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["text", "image"])
def test_fusion_is_not_harmed_on_more_draws(kind):
    """Signal in one block alone: over six draws no fusion loses more than 0.02 on average to the other."""
    half = {"text": slice(0, 16), "image": slice(16, 32)}[kind]
    settings = {"max_epochs": 12, "batch_size": 256, "dropout": 0.3, "screen_blocks": False}
    sets = [_two_blocks(kind, seed) for seed in range(2, 8)]
    alone = np.mean([_score(X[:, half], y, **settings) for X, y in sets])
    both = {
        name: np.mean([_score(X, y, fusion=name, blocks=BLOCKS, **settings) for X, y in sets])
        for name in FUSIONS
    }
    assert {name: score for name, score in both.items() if score < alone - 0.02} == {}


def test_late_cannot_solve_xor_across_blocks():
    """Decisions of the blocks alone are at chance on it."""
    assert 0.44 < _score(*_two_blocks("xor", 0), fusion="late", blocks=BLOCKS) < 0.56


def test_fusion_is_not_harmed_by_a_useless_block():
    """No fusion loses more than 0.02 macro-F1 to a block of noise at the default dropout (mean of four)."""
    sets = [(_two_blocks(kind, seed), kind) for kind in ("text", "image") for seed in (0, 1)]
    half = {"text": slice(0, 16), "image": slice(16, 32)}
    settings = {"max_epochs": 12, "batch_size": 256, "dropout": 0.3, "screen_blocks": False}
    alone = np.mean([_score(X[:, half[kind]], y, **settings) for (X, y), kind in sets])
    both = {
        name: np.mean([_score(X, y, fusion=name, blocks=BLOCKS, **settings) for (X, y), _ in sets])
        for name in FUSIONS
    }
    assert {name: score for name, score in both.items() if score < alone - 0.02} == {}
