"""Placement on GPUs: every tower's branch for a GPU, on a machine without one: see tests.kit.pretended_gpu.

All inputs of a batch go through the network together there, padded to the longest one, in weights that are
wholly of the precision asked for. The vectors must be those of the CPU's fixed batches nevertheless.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from extract.backbones import Backbone
from extract.registry import open_backbone
from extract.weights import torch_dtype
from tests.extract.test_backbones_vision_timm import make_timm
from tests.extract.test_precision_families import MAKERS, TEXTS
from tests.kit import tiny_joint, tiny_paired, tiny_text, tiny_vision
from tests.kit.emoji_images import draw_emoji
from tests.kit.pretended_gpu import GpuTensor, pretended_gpu
from tests.kit.tiny_checkpoints import make_resnet18, make_tiny_clip
from tests.kit.tower_inputs import inputs_of

#: Largest difference from the CPU's float32 vectors, relative to their length. Rounding of half precision
#: shows more in these small networks, whose weights are scaled up; a fault of ours is several times larger.
ALLOWED = {"fp32": 1e-5, "fp16": 2e-2, "bf16": 1e-1}
ALL_POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


def make_openclip(folder: Path) -> Path:
    """Save a CLIP in OpenCLIP's layout."""
    return tiny_paired.make_tiny_openclip(folder, make_tiny_clip(folder.parent / "original"))


CHECKPOINTS: dict[str, Callable[[Path], Path]] = {
    **MAKERS,
    "siglip2 with squares": tiny_paired.make_tiny_siglip2,
    "openclip": make_openclip,
    "blip captions": partial(tiny_joint.make_tiny_blip, kind="BlipForConditionalGeneration"),
    "sentence-transformers": partial(
        tiny_text.make_tiny_pipeline,
        pooling=ALL_POOLINGS,
        steps=("Dense", "LayerNorm", "Normalize"),
        prompt="the cat ",
        include_prompt=False,
    ),
    **{
        f"timm {name}": partial(make_timm, name=name) for name in ("test_vit", "test_resnet", "test_convnext")
    },
    "torchvision resnet18": make_resnet18,
}
#: Of the true size.
LARGE = {
    f"torchvision {name}": partial(tiny_vision.make_torchvision, architecture=name)
    for name in ("efficientnet_b0", "convnext_tiny")
}


def three_inputs(tower: Any) -> Sequence[Any]:
    """Return texts of several lengths, pictures of several shapes, or pairs of them."""
    images = [draw_emoji("😀", 40), draw_emoji("😢", 90).crop((0, 0, 90, 50)), draw_emoji("🐶", 57)]
    return inputs_of(tower, [*TEXTS[:2], TEXTS[3]], images)


def check_placement(folder: Path, precisions: Sequence[str]) -> None:
    """Compare every readout of every tower on the pretended GPU with the CPU's in float32."""
    backbone = open_backbone(str(folder))
    for modality in backbone.card.modalities:
        n_layers = len(backbone.card.layers.get(modality, ()))
        readouts = [*backbone.card.readouts[modality], *(f"layer:{k}" for k in range(n_layers))]
        exact = backbone.open_tower(modality, readouts=readouts)
        expected = exact.forward(three_inputs(exact))  # type: ignore[arg-type]
        for precision in precisions:
            found = embed_on_gpu(backbone, modality, readouts, precision)
            assert list(found) == readouts
            allowed = ALLOWED[precision]
            for readout in readouts:
                assert found[readout].dtype == np.float32
                assert found[readout].shape == (3, backbone.card.width(modality, readout))
                gaps = np.linalg.norm(found[readout] - expected[readout], axis=1)
                lengths = np.linalg.norm(expected[readout], axis=1)
                assert (gaps <= allowed * lengths).all(), (modality, precision, readout, gaps / lengths)


def embed_on_gpu(
    backbone: Backbone, modality: str, readouts: Sequence[str], precision: str
) -> dict[str, np.ndarray]:
    """Embed the inputs on the pretended GPU; all weights must be there, in `precision`."""
    with pretended_gpu():
        tower: Any = backbone.open_tower(modality, readouts=readouts, device="cuda", precision=precision)
        for weight in tower.network.parameters():
            assert isinstance(weight, GpuTensor) and weight.dtype == torch_dtype(precision)
        assert all(isinstance(buffer, GpuTensor) for buffer in tower.network.buffers())
        assert tower.rows_per_forward(8) is None
        found: dict[str, np.ndarray] = tower.forward(three_inputs(tower))
    return found


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_tower_on_a_gpu_gives_the_vectors_of_the_cpu(name: str, tmp_path: Path) -> None:
    """Weights, inputs and what the network makes itself are on the GPU, in the precision asked for."""
    check_placement(CHECKPOINTS[name](tmp_path / "checkpoint"), ["fp32", "fp16"])


@pytest.mark.nightly
@pytest.mark.parametrize("name", CHECKPOINTS | LARGE)
def test_a_tower_on_a_gpu_gives_the_vectors_of_the_cpu_in_bf16(name: str, tmp_path: Path) -> None:
    """The same in bf16, which holds the whole network there, not only its matrices as on a CPU."""
    make = (CHECKPOINTS | LARGE)[name]
    check_placement(make(tmp_path / "checkpoint"), ["bf16"] if name in CHECKPOINTS else list(ALLOWED))


def test_the_pretended_gpu_refuses_what_a_gpu_refuses() -> None:
    """Tensors of two devices may meet in copies, as indices and as single numbers, and nowhere else."""
    with pretended_gpu():
        here, there = torch.arange(6.0).view(2, 3), torch.ones(2, 3, device="cuda")
        rows = torch.tensor([1, 0])
        assert (there + torch.tensor(2.0)).device == there.device
        assert there[rows].device == there.device
        assert torch.equal(here.to("cuda")[rows].cpu(), here[[1, 0]])
        there.copy_(here)
        assert torch.equal(there.cpu(), here)
        for meet in (
            lambda: there + here,
            lambda: there @ here.T,
            lambda: here[rows.to("cuda")],
            lambda: here + torch.tensor(2.0, device="cuda"),
            lambda: torch.cat([here, there]),
            lambda: torch.nn.functional.embedding(rows, there),
        ):
            with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
                meet()
