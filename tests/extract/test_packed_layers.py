"""Layers with packed weights: torch's own layers are the reference."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from typing import cast
from warnings import catch_warnings, simplefilter

import pytest
import torch
from PIL import Image
from torch import nn
from transformers import BertConfig, BertModel

from extract import open_backbone
from extract.backbones import ImageTower, TextTower, packed_layers
from extract.backbones.packed_layers import pack_layers
from extract.precision import cpu_has_bf16
from tests.kit.tiny_checkpoints import make_tiny_bert, make_tiny_clip

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "matrix": lambda: nn.Linear(48, 80),
    "matrix without bias": lambda: nn.Linear(48, 80, bias=False),
    "convolution": lambda: nn.Conv2d(16, 24, 3, stride=2, padding=1),
    "convolution of single points": lambda: nn.Conv2d(16, 40, 1, bias=False),
    "convolution of patches": lambda: nn.Conv2d(3, 32, 8, stride=8),
    "convolution of groups": lambda: nn.Conv2d(16, 16, 5, padding=2, groups=16),
}


def _inputs(layer: nn.Module, n_rows: int = 8) -> torch.Tensor:
    torch.manual_seed(1)
    if isinstance(layer, nn.Linear):
        return torch.randn(n_rows, 7, layer.in_features)
    assert isinstance(layer, nn.Conv2d)
    maps = torch.randn(n_rows, layer.in_channels, 32, 32)
    return maps.contiguous(memory_format=torch.channels_last)


def _pair(layer: nn.Module, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, nn.Module]:
    """Return a layer with weights of its own, and a packed one with the same."""
    plain = layer.eval().requires_grad_(False).to(dtype).to(memory_format=torch.channels_last)
    packed = deepcopy(plain)
    pack_layers(packed)
    return plain, packed


def _is_packed(layer: nn.Module) -> bool:
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    return weight.layout is torch._mkldnn  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def _needs_kernels() -> None:
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        pytest.skip("layers are packed on x86 processors with AVX2 only")


@pytest.mark.parametrize("name", LAYERS)
@torch.inference_mode()
def test_packed_layer_equals_torchs(name: str) -> None:
    """Values are torch's up to the rounding of float32, in the first forward and in those of other sizes."""
    torch.manual_seed(0)
    plain, packed = _pair(LAYERS[name]())
    for n_rows in (8, 8, 3, 1):
        values = _inputs(plain, n_rows)
        torch.testing.assert_close(packed(values), plain(values), rtol=1e-5, atol=2e-6)
        assert _is_packed(packed)


@pytest.mark.skipif(not cpu_has_bf16(), reason="the processor multiplies no bf16")
@pytest.mark.parametrize("name", LAYERS)
@torch.inference_mode()
def test_packed_layer_takes_float32_under_autocast(name: str) -> None:
    """A bf16 layer casts its inputs as autocast does, and gives autocast's numbers to the bit."""
    torch.manual_seed(0)
    plain, packed = _pair(LAYERS[name](), torch.bfloat16)
    values = _inputs(plain)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        expected, found = plain(values), packed(values)
    assert found.dtype == expected.dtype == torch.bfloat16
    assert torch.equal(found, expected)
    assert _is_packed(packed)


@pytest.mark.parametrize("view", [lambda x: x[:, 0], lambda x: x[::2, 1:3], lambda x: x.transpose(0, 1)])
@torch.inference_mode()
def test_packed_matrix_takes_views(view: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Slices and transposed tensors, which do not lie in one piece, give what they give in torch."""
    plain, packed = _pair(nn.Linear(48, 80))
    values = view(_inputs(plain))
    torch.testing.assert_close(packed(values), plain(values), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_packed_layer_lets_go_of_its_plain_weight(name: str) -> None:
    """Only one copy of the weights stays, and it still tells its shape and dtype."""
    plain, packed = _pair(LAYERS[name]())
    plain_weight, before = plain.weight, packed.weight
    assert isinstance(plain_weight, torch.Tensor) and isinstance(before, torch.Tensor)
    assert before.layout is torch.strided, "nothing is packed before the first forward"
    with torch.inference_mode():
        packed(_inputs(plain))
    weight = packed.weight
    assert isinstance(weight, torch.Tensor)
    assert _is_packed(packed)
    assert (weight.shape, weight.dtype, weight.device) == (before.shape, before.dtype, before.device)
    assert torch.equal(weight.to_dense(), plain_weight)
    assert [name for name, _ in packed.named_parameters()] == [name for name, _ in plain.named_parameters()]


@pytest.mark.parametrize("name", LAYERS)
def test_packed_layer_has_gradients_of_its_inputs(name: str) -> None:
    """Explanations differentiate by the inputs: before the weights are packed and after."""
    torch.manual_seed(0)
    plain, packed = _pair(LAYERS[name]())
    gradients = []
    for layer in (plain, packed, packed):
        if layer is packed and gradients[1:]:
            with torch.inference_mode():
                packed(_inputs(plain))
            assert _is_packed(packed)
        values = _inputs(plain).requires_grad_(True)
        layer(values).square().sum().backward()
        assert values.grad is not None
        gradients.append(values.grad)
    for found in gradients[1:]:
        torch.testing.assert_close(found, gradients[0], rtol=1e-4, atol=1e-5)


def test_packed_layer_differentiates_through_layers_that_stand_before_it() -> None:
    """What flows out of a packed layer still leads back to the inputs through a second one."""
    torch.manual_seed(0)
    plain, packed = _pair(nn.Sequential(nn.Linear(48, 48), nn.GELU(), nn.Linear(48, 5)))
    gradients = []
    for network in (plain, packed):
        values = torch.linspace(-1, 1, 96).view(2, 48).requires_grad_(True)
        network(values).square().sum().backward()
        assert values.grad is not None
        gradients.append(values.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 8, 3, padding="same"),
        nn.Conv2d(4, 8, 3, padding=1, padding_mode="reflect"),
        nn.Conv1d(4, 8, 3),
        nn.modules.linear.NonDynamicallyQuantizableLinear(4, 8),
    ],
)
@torch.inference_mode()
def test_pack_layers_leaves_what_it_does_not_know(layer: nn.Module) -> None:
    """Other kinds of layers, subclasses and odd paddings give torch's own values, to the bit."""
    plain, packed = layer.eval(), deepcopy(layer)
    pack_layers(packed)
    values = torch.randn(2, 4, 9) if isinstance(layer, nn.Conv1d) else torch.randn(2, 4, 9, 9)
    if isinstance(layer, nn.Linear):
        values = torch.randn(2, 4)
    assert torch.equal(packed(values), plain(values))
    assert not _is_packed(packed)


@torch.inference_mode()
def test_packed_convolution_leaves_torchs_own_memory_format_alone() -> None:
    """Maps that are not channels-last are convolved by torch."""
    plain, packed = _pair(LAYERS["convolution of patches"]())
    values = _inputs(plain).contiguous(memory_format=torch.contiguous_format)
    assert torch.equal(packed(values), plain(values))
    assert not _is_packed(packed)


@torch.inference_mode()
def test_packed_layer_never_packs_a_weight_that_others_read() -> None:
    """A layer that never runs itself keeps the weight that its network multiplies with."""
    network = nn.ModuleDict({"qkv": nn.Linear(8, 24)})
    pack_layers(network)
    layer = network["qkv"]
    assert isinstance(layer, nn.Linear)
    assert nn.functional.linear(torch.ones(2, 8), layer.weight).shape == (2, 24)


def _with_weight_norm() -> nn.Linear:
    with catch_warnings():
        simplefilter("ignore", FutureWarning)  # the old kind, which old networks have
        layer: nn.Linear = nn.utils.weight_norm(nn.Linear(8, 5))
    return layer


def _with_a_forward_of_its_own() -> nn.Linear:
    layer = nn.Linear(8, 5)
    layer.forward = lambda values: values[:, :5] + layer.bias  # type: ignore[method-assign]
    return layer


@pytest.mark.parametrize("make", [_with_weight_norm, _with_a_forward_of_its_own])
@torch.inference_mode()
def test_pack_layers_leaves_layers_that_are_not_plain(make: Callable[[], nn.Linear]) -> None:
    """A weight that is made anew in every forward, and a forward that is not the class's."""
    layer, values = make().requires_grad_(False), torch.randn(3, 8)
    expected = layer(values)
    pack_layers(layer)
    assert torch.equal(layer(values), expected)
    assert torch.equal(layer(values), expected)
    assert not _is_packed(layer)


@torch.inference_mode()
def test_pack_layers_twice_is_once() -> None:
    """Also when the network has run in between."""
    plain, packed = _pair(nn.Linear(48, 80))
    values = _inputs(plain)
    expected = packed(values)
    pack_layers(packed)
    assert torch.equal(packed(values), expected)


@torch.inference_mode()
def test_packed_layer_takes_no_rows_and_refuses_other_dtypes_as_torch_does() -> None:
    """An empty batch gives an empty result; a wrong dtype raises torch's own error."""
    _, packed = _pair(nn.Linear(8, 5))
    assert packed(torch.empty(0, 8)).shape == (0, 5)
    with pytest.raises(RuntimeError, match="same dtype"):
        packed(torch.ones(2, 8, dtype=torch.float64))


def test_packed_layer_packs_once_for_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads whose first forwards meet get the bits of one thread, from one packed weight."""
    plain, packed = _pair(nn.Linear(256, 512))
    values = torch.randn(64, 256)
    with torch.inference_mode():
        reference = deepcopy(plain)
        pack_layers(reference)
        expected = reference(values)
    n_packed, reorder = [0], packed_layers._PackedLinear._reordered

    def slowly(self: packed_layers._PackedLinear, weight: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        n_packed[0] += 1
        time.sleep(0.1)  # the other threads come meanwhile
        found = reorder(self, weight, values)
        assert isinstance(found, torch.Tensor)
        return found

    monkeypatch.setattr(packed_layers._PackedLinear, "_reordered", slowly)

    def run(_: int) -> torch.Tensor:
        with torch.inference_mode():
            found = packed(values)
        assert isinstance(found, torch.Tensor)
        return found

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, range(4)))
    assert n_packed == [1]
    assert all(torch.equal(each, expected) for each in found)


def test_pack_layers_leaves_processors_without_kernels_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below AVX2, where packed weights were measured to be slower, layers are torch's own."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    _, layer = _pair(nn.Linear(8, 5))
    with torch.inference_mode():
        layer(torch.ones(2, 8))
    assert not _is_packed(layer)


def test_towers_compute_with_packed_layers(tmp_path: Path) -> None:
    """Every matrix that a tower runs is packed after its first forward."""
    backbone = open_backbone(str(make_tiny_clip(tmp_path / "clip")))
    tower = cast("ImageTower", backbone.open_tower("image"))
    tower.forward([tower.preprocess(Image.new("RGB", (40, 40)))])
    network = cast("nn.Module", tower.network)  # type: ignore[attr-defined]
    layers = [layer for layer in network.modules() if type(layer) is nn.Linear]
    assert layers and all(_is_packed(layer) for layer in layers)


@pytest.mark.parametrize(("limit", "is_packed"), [(512, True), (513, False)])
def test_encoders_of_long_texts_keep_plain_layers(tmp_path: Path, limit: int, is_packed: bool) -> None:
    """Else the kernels of every length that occurs would stay in memory."""
    folder = make_tiny_bert(tmp_path / "bert")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    BertModel(BertConfig(**config | {"max_position_embeddings": limit})).save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(settings | {"model_max_length": limit}), encoding="utf-8")
    backbone = open_backbone(str(folder))
    assert backbone.card.token_limit == limit
    tower = cast("TextTower", backbone.open_tower("text"))
    tower.forward(tower.tokenise(["the cat sat"]))
    network = cast("nn.Module", tower.network)  # type: ignore[attr-defined]
    layers = [layer for layer in network.modules() if type(layer) is nn.Linear]
    assert layers and all(_is_packed(layer) == is_packed for layer in layers)


def test_pack_layers_asks_the_library_about_bf16() -> None:
    """Where oneDNN may not use what the processor has, bf16 layers are torch's own instead of an error."""
    program = (
        "import torch\n"
        "from torch import nn\n"
        "from extract.backbones.packed_layers import pack_layers\n"
        "layer = nn.Linear(8, 5).requires_grad_(False).bfloat16()\n"
        "pack_layers(layer)\n"
        "with torch.inference_mode():\n"
        "    layer(torch.ones(2, 8, dtype=torch.bfloat16))\n"
        "assert layer.weight.layout is torch.strided, layer.weight.layout\n"
    )
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_packed_layers_free_their_weights_with_the_network() -> None:
    """Dropping a network frees its weights at once, without waiting for Python to look for cycles."""
    _, packed = _pair(nn.Sequential(nn.Linear(48, 48), nn.Conv2d(3, 4, 1)))
    with torch.inference_mode():
        packed[0](torch.ones(2, 48))  # type: ignore[index]
    layer = weakref.ref(packed[0])  # type: ignore[index]
    gc.disable()
    try:
        del packed
        assert layer() is None
    finally:
        gc.enable()


def test_packed_layers_let_go_of_the_weight_file(tmp_path: Path) -> None:
    """After a forward no tensor of a network is a part of the file that its weights were read from."""
    folder = make_tiny_clip(tmp_path / "clip")
    backbone = open_backbone(str(folder))
    tower = cast("ImageTower", backbone.open_tower("image"))
    tower.forward([tower.preprocess(Image.new("RGB", (40, 40)))])
    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(folder) in line]
    assert not mapped
