"""Tiny image checkpoints: every family's real network, from a config and a fixed seed, saved to disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

SEED = 0
_TOKENS = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
_STAGES = {"depths": [1, 1, 2, 1], "hidden_sizes": [8, 16, 24, 32]}
_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
_SQUARE = {"size": {"height": 32, "width": 32}, "do_resize": True, "do_rescale": True, "do_normalize": True}
_CUT = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}, "do_center_crop": True}
_CONVNEXT = {"image_processor_type": "ConvNextImageProcessor", **_SQUARE, **_IMAGENET}
_CONVNEXT |= {"size": {"shortest_edge": 64}, "crop_pct": 0.875, "resample": 3}

#: Family -> (config class, config, processor settings).
FAMILIES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "vit": (
        "ViTConfig",
        {**_TOKENS, "image_size": 32, "patch_size": 8},
        {"image_processor_type": "ViTImageProcessor", **_SQUARE, **_HALF, "resample": 2},
    ),
    "beit": (
        "BeitConfig",
        {**_TOKENS, "image_size": 32, "patch_size": 8, "use_relative_position_bias": True},
        {"image_processor_type": "BeitImageProcessor", **_SQUARE, **_HALF, "resample": 3},
    ),
    "dinov2": (
        "Dinov2Config",
        {**_TOKENS, "image_size": 64, "patch_size": 8},  # pictures of 32: positions are interpolated
        {"image_processor_type": "BitImageProcessor", **_SQUARE, **_IMAGENET, **_CUT, "resample": 3},
    ),
    "dinov2_with_registers": (
        "Dinov2WithRegistersConfig",
        {**_TOKENS, "image_size": 64, "patch_size": 8, "num_register_tokens": 3},
        {"image_processor_type": "BitImageProcessor", **_SQUARE, **_IMAGENET, **_CUT, "resample": 3},
    ),
    "dinov3_vit": (
        "DINOv3ViTConfig",
        {**_TOKENS, "image_size": 32, "patch_size": 8, "num_register_tokens": 2},
        {"image_processor_type": "DINOv3ViTImageProcessorFast", **_SQUARE, **_IMAGENET, "resample": 2},
    ),
    "dinov3_convnext": (
        "DINOv3ConvNextConfig",
        {**_STAGES, "image_size": 32},
        {"image_processor_type": "DINOv3ViTImageProcessorFast", **_SQUARE, **_IMAGENET, "resample": 2},
    ),
    "convnext": ("ConvNextConfig", _STAGES, _CONVNEXT),
    "convnextv2": ("ConvNextV2Config", _STAGES, _CONVNEXT),
    "resnet": ("ResNetConfig", {**_STAGES, "embedding_size": 8, "layer_type": "bottleneck"}, _CONVNEXT),
    "efficientnet": (
        "EfficientNetConfig",
        {
            "in_channels": [32, 16, 64], "out_channels": [16, 64, 96], "kernel_sizes": [3, 3, 5],
            "strides": [1, 2, 2], "num_block_repeats": [1, 2, 2], "expand_ratios": [1, 6, 6],
            "hidden_dim": 320, "width_coefficient": 0.25, "depth_coefficient": 1.0, "image_size": 32,
            "depthwise_padding": [],
        },
        {
            "image_processor_type": "EfficientNetImageProcessor", **_SQUARE, "do_center_crop": False,
            "image_mean": [0.485, 0.456, 0.406], "image_std": [0.47853944, 0.4732864, 0.47434163],
            "include_top": True, "resample": 0,
        },
    ),
    "swin": (
        "SwinConfig",
        {"image_size": 32, "patch_size": 2, "embed_dim": 8, "depths": [1, 2, 1], "num_heads": [1, 2, 2],
         "window_size": 4},
        {"image_processor_type": "ViTImageProcessor", **_SQUARE, **_IMAGENET, "resample": 3},
    ),
}  # fmt: skip


def make_tiny_vision(folder: Path, family: str, *, head: bool = False, safetensors: bool = True) -> Path:
    """Save a tiny checkpoint of a family with its processor; returns `folder`.

    With `head` it is a classifier's checkpoint: its base has a prefix, and a ViT in it has no pooler.
    """
    import transformers

    config_class, config, processor = FAMILIES[family]
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    made = getattr(transformers, config_class)(**config, num_labels=5)
    kind = transformers.AutoModelForImageClassification if head else transformers.AutoModel
    model = spread(kind.from_config(made))
    if safetensors:
        model.save_pretrained(folder)
    else:
        model.config.save_pretrained(folder)
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    return folder


def make_torchvision(folder: Path, architecture: str) -> Path:
    """Save a torchvision state dict with random weights and lived-in batch norms; returns `folder`."""
    import torchvision

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    model = getattr(torchvision.models, architecture)().eval()
    generator = torch.Generator().manual_seed(SEED)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            # Mild: deep random networks whose norms are fitted blow rounding up a thousandfold.
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    torch.save(model.state_dict(), folder / f"{architecture}.pth")
    return folder


def spread(model: torch.nn.Module) -> torch.nn.Module:
    """Make a fresh network tell pictures apart.

    Initial weights are small, batch norms know nothing and layer scales are nearly 0: a wrong pixel or a
    wrong fold would not show.
    """
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 4 and parameter.shape[0] > 1:
                fan_in = parameter[0].numel()
                parameter.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
            elif parameter.ndim == 4:  # ConvNeXtV2's response normalisation
                parameter.normal_(0, 0.3, generator=generator)
            elif parameter.ndim == 2 or "token" in name or "position" in name:
                parameter.mul_(5)
            elif "scale" in name or "gamma" in name:
                parameter.fill_(0.7)
            elif parameter.ndim == 1:
                parameter.add_(torch.empty_like(parameter).normal_(0, 0.1, generator=generator))
    return learn_batch_norms(model.eval())


def learn_batch_norms(model: torch.nn.Module) -> torch.nn.Module:
    """Give batch norms the statistics of coloured blots, so that every layer passes on what it sees."""

    def learn(norm: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        norm.running_mean.copy_(inputs[0].mean((0, 2, 3)))
        variance = inputs[0].var((0, 2, 3))
        norm.running_var.copy_(variance.clamp(min=float(variance.mean()) / 3))  # no channel is blown up

    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(learn) for norm in norms]
    if norms:
        blots = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(SEED))
        with torch.no_grad():
            model(torch.nn.functional.interpolate(blots, size=64, mode="bilinear"))
    for hook in hooks:
        hook.remove()
    return model
