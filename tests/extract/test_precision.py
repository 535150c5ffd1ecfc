"""Precision: what "auto" stands for, and bf16 on a CPU that stays close to fp32 and true to its row."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from extract.backbones.arithmetic import forward_context, loading_dtype, place
from extract.precision import BF16_PARAMETERS, cpu_has_bf16, gains_from_bf16, resolve_precision
from extract.registry import find_card, open_backbone
from tests.kit.emoji_images import draw_emoji
from tests.kit.tiny_checkpoints import make_resnet18, make_tiny_bert, make_tiny_clip
from tests.kit.tower_inputs import inputs_of

TEXTS = [
    "sun",
    "the cat sat on the mat",
    "very sad day is not good rain",
    "a",
    "happy dog sun sun sun",
    "bad",
]
EMOJI = "😀😢🐶🌧🌞🎉"

Make = Callable[[Path], Path]
TINY = [
    (make_tiny_bert, "text"),
    (make_tiny_clip, "text"),
    (make_tiny_clip, "image"),
    (make_resnet18, "image"),
]


def open_tiny(make: Make, folder: Path, modality: str, precision: str) -> Any:
    """Open a tower of a tiny checkpoint on the CPU."""
    return open_backbone(str(make(folder))).open_tower(modality, precision=precision)


def six_inputs(tower: Any) -> Sequence[Any]:
    """Return six inputs of a tower."""
    return inputs_of(tower, TEXTS, [draw_emoji(character, 40) for character in EMOJI])


def worst_cosine(one: np.ndarray, two: np.ndarray) -> float:
    """Return the smallest cosine between rows of the same place."""
    products = (one * two).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)
    return float(products.min())


@pytest.fixture(params=[True, False], ids=["bf16 processor", "other processor"])
def has_bf16(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Let the processor have bf16 or not; what it has decides "auto" and nothing else."""
    monkeypatch.setattr("extract.precision.cpu_has_bf16", lambda: request.param)
    return bool(request.param)


@pytest.mark.parametrize("name", ["clip-vit-b32", "clip-vit-l14", "bert-base-uncased"])
def test_resolve_precision_takes_bf16_for_large_transformers(name: str, has_bf16: bool) -> None:
    """auto on a CPU is bf16 exactly where the processor has it."""
    assert resolve_precision("auto", "cpu", find_card(name)) == ("bf16" if has_bf16 else "fp32")


@pytest.mark.parametrize("name", ["minilm-l6", "efficientnet-lite0", "resnet50"])
def test_resolve_precision_keeps_small_and_convolutional_networks_exact(name: str, has_bf16: bool) -> None:
    """Small networks, and those whose bf16 vectors were not shown to be close enough, stay in fp32."""
    assert resolve_precision("auto", "cpu", find_card(name)) == "fp32"


def test_resolve_precision_does_what_it_is_told(has_bf16: bool) -> None:
    """A stated precision is taken whatever the processor; a GPU computes in fp16 unless told otherwise."""
    card = find_card("clip-vit-l14")
    assert [resolve_precision(p, "cpu", card) for p in ("fp32", "fp16", "bf16")] == ["fp32", "fp16", "bf16"]
    assert resolve_precision("auto", "cpu") == "fp32"
    assert resolve_precision("auto", "cuda:1", card) == "fp16"
    with pytest.raises(ValueError, match="Precision 'int8' is not known; allowed are auto, fp32, fp16, bf16"):
        resolve_precision("int8", "cpu", card)


def test_gains_from_bf16_needs_a_known_size_and_family() -> None:
    """A card of an unknown size, or of a family that was not measured, says nothing of a gain."""
    card = find_card("clip-vit-b32")
    assert gains_from_bf16(replace(card, parameters=BF16_PARAMETERS))
    assert not gains_from_bf16(replace(card, parameters=BF16_PARAMETERS - 1))
    assert gains_from_bf16(replace(card, parameters=None, layers={"image": (768,) * 13}))
    assert not gains_from_bf16(replace(card, parameters=None, layers={"image": (384,) * 13}))
    assert not gains_from_bf16(replace(card, parameters=None, layers={}))
    assert not gains_from_bf16(replace(card, family="a family of tomorrow"))


def test_cpu_has_bf16_agrees_with_the_kernel() -> None:
    """torch's feature test says what the operating system says of this processor."""
    file = Path("/proc/cpuinfo")
    if not file.is_file():
        pytest.skip("only Linux lists the processor's features in a file")
    flags = file.read_text(encoding="utf-8").split()
    assert cpu_has_bf16() == ("avx512_bf16" in flags or "amx_tile" in flags)


def test_place_keeps_norms_and_embeddings_in_float32(tmp_path: Path) -> None:
    """In bf16 on a CPU only matrices and convolutions are bf16, and no digit of the others is lost."""
    exact = open_tiny(make_tiny_clip, tmp_path / "fp32", "image", "fp32").network.state_dict()
    mixed = open_tiny(make_tiny_clip, tmp_path / "bf16", "image", "bf16").network.state_dict()
    assert {name for name, w in mixed.items() if w.dtype == torch.bfloat16} == {
        name for name in exact if "proj" in name or ".fc" in name or "patch_embedding" in name
    }
    for name, weight in mixed.items():
        assert torch.equal(weight, exact[name].to(weight.dtype)), name


def test_place_keeps_torchs_own_attention_in_float32() -> None:
    """The attention layer that is slow in bf16 gives the float32 vectors inside a mixed network."""
    torch.manual_seed(0)
    layer = torch.nn.MultiheadAttention(16, 2, batch_first=True)
    probe, states = torch.randn(2, 1, 16), torch.randn(2, 5, 16)
    exact = layer(probe, states, states)[0]
    network = place(torch.nn.ModuleDict({"pool": layer, "matrix": torch.nn.Linear(16, 4)}), "bf16", "cpu")
    assert loading_dtype("bf16", "cpu") is torch.float32
    with torch.inference_mode(), forward_context(network):
        assert network["matrix"](states).dtype is torch.bfloat16
        assert torch.allclose(network["pool"](probe, states, states)[0], exact, atol=1e-6)
        assert network["pool"](probe.bfloat16(), key=states, value=states)[0].dtype is torch.float32


def test_place_lets_attention_go_with_its_network() -> None:
    """Dropping a mixed network frees its weights at once, without waiting for Python to look for cycles."""
    network = place(torch.nn.Sequential(torch.nn.MultiheadAttention(16, 2)), "bf16", "cpu")
    weight = weakref.ref(network[0].in_proj_weight)
    gc.disable()
    try:
        del network
        assert weight() is None
    finally:
        gc.enable()


def test_place_runs_attention_that_masks_by_the_type_of_its_queries() -> None:
    """DeBERTa's scores and queries have one type, so that its mask fits; padding changes nothing."""
    from transformers import DebertaConfig, DebertaModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    relative = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False}
    exact = DebertaModel(DebertaConfig(vocab_size=50, type_vocab_size=0, **sizes, **relative)).eval()
    ids, mask = torch.arange(1, 13)[None], torch.ones(1, 12, dtype=torch.long)
    mask[0, 9:] = 0
    with torch.inference_mode():
        expected = exact(ids, attention_mask=mask).last_hidden_state[0, :9]
        mixed = place(exact, "bf16", "cpu")
        with forward_context(mixed):
            found = mixed(ids, attention_mask=mask).last_hidden_state[0, :9].float()
    assert torch.nn.functional.cosine_similarity(expected, found, dim=-1).min() > 0.999


@pytest.mark.parametrize("layer", [torch.nn.SiLU(), torch.nn.SiLU(inplace=True), torch.nn.Sigmoid()])
def test_place_computes_every_row_alike(layer: torch.nn.Module) -> None:
    """Maps squeezed to 8 x 6 numbers have no odd end: a row is the same bits wherever it stands."""
    network = place(torch.nn.Sequential(layer), "fp32", "cpu")
    for row in torch.randn(500, 6, 1, 1, generator=torch.Generator().manual_seed(0)):
        found = network(row.repeat(8, 1, 1, 1).contiguous(memory_format=torch.channels_last))
        assert found.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(found, found[:1].expand(8, 6, 1, 1))
    slopes = row.clone().requires_grad_()
    network(slopes * 1.0).sum().backward()
    assert torch.allclose(slopes.grad, torch.func.grad(lambda x: type(layer)()(x).sum())(row))


def test_forward_context_does_nothing_in_fp32() -> None:
    """A float32 network runs without autocast, so its vectors keep every bit."""
    with forward_context(torch.nn.Linear(2, 2)):
        assert not torch.is_autocast_enabled("cpu")
    with forward_context(place(torch.nn.Linear(2, 2), "bf16", "cpu")):
        assert torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(("make", "modality"), TINY)
def test_bf16_vectors_are_close_to_fp32(make: Make, modality: str, tmp_path: Path) -> None:
    """On a CPU every row in bf16 points where the float32 row points, and comes back as float32."""
    exact = open_tiny(make, tmp_path / "fp32", modality, "fp32")
    mixed = open_tiny(make, tmp_path / "bf16", modality, "bf16")
    inputs = six_inputs(exact)
    one, two = exact.forward(inputs)["pooled"], mixed.forward(inputs)["pooled"]
    assert two.dtype == np.float32
    assert worst_cosine(one, two) > 0.999
    assert not np.array_equal(one, two), "bf16 was not used"


def test_bf16_keeps_trained_vectors_within_the_tolerance() -> None:
    """With trained weights (MiniLM) the angle stays a tenth of what is promised, to the mean as well."""
    backbone = open_backbone("minilm-l6")
    exact, mixed = (backbone.open_tower("text", precision=p) for p in ("fp32", "bf16"))
    tokens = exact.tokenise(
        ["I love this!", "worst day ever :(", "ok", "grinning face with smiling eyes", "rain"]
    )
    one, two = exact.forward(tokens)["pooled"], mixed.forward(tokens)["pooled"]
    assert worst_cosine(one, two) > 0.9999
    assert worst_cosine(one - one.mean(0), two - one.mean(0)) > 0.999


@pytest.mark.parametrize(("make", "modality"), TINY)
def test_bf16_rows_do_not_depend_on_their_batch(make: Make, modality: str, tmp_path: Path) -> None:
    """On a CPU a row has the same bits alone, among others, and among others in another order."""
    tower = open_tiny(make, tmp_path, modality, "bf16")
    inputs = six_inputs(tower)
    whole = tower.forward(inputs)["pooled"]
    assert np.array_equal(np.concatenate([tower.forward([item])["pooled"] for item in inputs]), whole)
    assert np.array_equal(tower.forward(inputs[::-1])["pooled"][::-1], whole)


@pytest.mark.parametrize("make", [make_tiny_bert, make_tiny_clip])
def test_bf16_survives_padding(make: Make, tmp_path: Path) -> None:
    """A padded row is finite and equals the unpadded one (transformers #31035: SDPA in bf16 gave NaN)."""
    tower = open_tiny(make, tmp_path, "text", "bf16")
    ids = torch.from_numpy(tower.tokenise(["the cat"])[0].ids)[None]
    pad = torch.full((1, 10), tower._pad_id)
    padded, mask = torch.cat([ids, pad], 1), torch.cat([torch.ones_like(ids), torch.zeros_like(pad)], 1)
    with torch.inference_mode(), forward_context(tower.network):
        alone = tower._readout(ids, torch.ones_like(ids))["pooled"].float().numpy()
        row = tower._readout(padded, mask)["pooled"].float().numpy()
    assert np.isfinite(row).all()
    assert worst_cosine(alone, row) > 0.9995


def test_bf16_towers_run_in_several_threads(tmp_path: Path) -> None:
    """Two threads that share a tower get the bits that one thread gets."""
    tower = open_tiny(make_tiny_clip, tmp_path, "image", "bf16")
    inputs = six_inputs(tower)
    expected = tower.forward(inputs)["pooled"]
    with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for vectors in pool.map(tower.forward, [inputs] * 20):
            assert np.array_equal(vectors["pooled"], expected)
