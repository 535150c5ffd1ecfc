"""Vision families: what the image networks of transformers give, and the sizes of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from extract.backbones.token_layouts import TokenLayout
from extract.weights import read_state_dict, transformers_weight_files


@dataclass(frozen=True)
class VisionFamily:
    """What a family's networks give.

    Attributes
    ----------
    layout : TokenLayout
        Without register tokens, whose number is in each checkpoint's config.
    pooled : str
        What the network's pooler makes, in words.
    layers : callable
        Config and network -> width of each hidden state.
    width : callable or None
        Config and network -> width of the readouts; None if it is that of the last hidden state.
    fixed_size : bool
        Whether the network takes pictures of its config's size only.
    rounding : {"uint8", "none"}
        See :class:`PixelRecipe`.
    has_batch_norms : bool
        Whether there are batch norms to fold.
    pooler_is_optional : bool
        Whether checkpoints with and without a trained pooler are published.
    """

    layout: TokenLayout
    pooled: str
    layers: Callable[[Any, Any], tuple[int, ...]]
    width: Callable[[Any, Any], int] | None = None
    fixed_size: bool = False
    rounding: str = "uint8"
    has_batch_norms: bool = False
    pooler_is_optional: bool = False


@dataclass(frozen=True)
class VisionShape:
    """Sizes of a checkpoint, as its network without weights gives them.

    Attributes
    ----------
    readouts : dict of str to int
        Readout -> width.
    layers : tuple of int
        Width of each hidden state.
    parameters : int
    """

    readouts: dict[str, int]
    layers: tuple[int, ...]
    parameters: int


def vision_shape(folder: Path) -> VisionShape:
    """Read the sizes of the checkpoint in `folder` from its config and its network without weights.

    Raises
    ------
    ValueError
        If the config does not describe a network.
    """
    import torch

    from extract.backbones.loading import one_line

    config = _config(folder)
    family = FAMILIES[config.model_type]
    options = {} if has_pooler(config.model_type, folder) else {"add_pooling_layer": False}
    try:
        # Built, never run: BEiT keeps an index of the device that it first ran on for the whole process.
        with torch.device("meta"):
            network = model_class(config.model_type)(config, **options)
    except (RuntimeError, ValueError, ZeroDivisionError) as error:
        raise ValueError(
            f"The config.json in '{folder}' does not describe a network ({one_line(error)}). "
            "Copy the whole folder of the model again."
        ) from error
    layers = family.layers(config, network)
    width = layers[-1] if family.width is None else family.width(config, network)
    readouts = dict.fromkeys(family.layout.readouts, width)
    if "add_pooling_layer" not in options and family.pooler_is_optional:
        readouts["pooled"] = config.pooler_output_size
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    return VisionShape(readouts=readouts, layers=layers, parameters=n_parameters)


def _token_layers(config: Any, network: Any) -> tuple[int, ...]:  # noqa: ARG001
    width: int = config.hidden_size
    return (width,) * (int(config.num_hidden_layers) + 1)


def _convnext_layers(config: Any, network: Any) -> tuple[int, ...]:  # noqa: ARG001
    widths: list[int] = config.hidden_sizes
    return (widths[0], *widths)


def _dinov3_convnext_layers(config: Any, network: Any) -> tuple[int, ...]:  # noqa: ARG001
    return (config.num_channels, *config.hidden_sizes)  # its stem belongs to the first stage


def _resnet_layers(config: Any, network: Any) -> tuple[int, ...]:  # noqa: ARG001
    return (config.embedding_size, *config.hidden_sizes)


def _swin_layers(config: Any, network: Any) -> tuple[int, ...]:  # noqa: ARG001
    # Each stage but the last ends in a merging of patches, which doubles the width.
    widths: list[int] = [config.embed_dim * 2**stage for stage in range(len(config.depths))]
    return (*widths, widths[-1])


def _efficientnet_layers(config: Any, network: Any) -> tuple[int, ...]:  # noqa: ARG001
    blocks = [block.projection.project_conv.out_channels for block in network.encoder.blocks]
    return (network.embeddings.convolution.out_channels, *blocks)


def _efficientnet_width(config: Any, network: Any) -> int:  # noqa: ARG001
    return int(network.encoder.top_conv.out_channels)


def layout_of(family: str, config: Any) -> TokenLayout:
    """Return the token layout of a checkpoint, its register tokens counted."""
    layout = FAMILIES[family].layout
    return replace(layout, n_prefix=layout.n_prefix + getattr(config, "num_register_tokens", 0))


def has_pooler(family: str, folder: Path) -> bool:
    """Whether the network is built with a pooler: some ViT checkpoints come without a trained one."""
    return not FAMILIES[family].pooler_is_optional or any("pooler." in name for name in tensor_names(folder))


def tensor_names(folder: Path) -> set[str]:
    """Return the names of the tensors in the checkpoint, without reading them where the format allows it.

    Raises
    ------
    UnsafeWeightsError
        If a file is a pickle that holds more than tensors.
    """
    from safetensors import safe_open

    names: set[str] = set()
    for path in transformers_weight_files(folder):
        if path.suffix == ".safetensors":
            with safe_open(path, framework="numpy") as file:
                names.update(file.keys())
        else:
            names.update(read_state_dict(path))
    return names


def model_class(family: str) -> Any:
    """Return the family's network without a head: ViTModel, Dinov2Model, ..."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    return getattr(transformers, str(MODEL_MAPPING_NAMES[family]))


def _config(folder: Path) -> Any:
    from transformers import AutoConfig

    from extract.backbones.loading import load_config

    return load_config(AutoConfig, folder)


def fixed_size(folder: Path) -> int:
    """Return the side in pixels of the pictures that the checkpoint's network takes."""
    size = _config(folder).image_size
    return int(size[0] if isinstance(size, (list, tuple)) else size)


_MAPS = TokenLayout(is_maps=True)
_TOKENS = TokenLayout(n_prefix=1, has_class_token=True, has_patches=True)
_POOL = "global average pool"
#: What "pooled" is where there is no pooler.
CLASS_TOKEN = "class token after the last norm"
#: model_type in config.json -> what its networks give.
FAMILIES: Mapping[str, VisionFamily] = {
    "vit": VisionFamily(
        _TOKENS,
        "pooler (dense and tanh of the class token)",
        _token_layers,
        fixed_size=True,
        pooler_is_optional=True,
    ),
    "beit": VisionFamily(
        _TOKENS,
        "pooler (norm of the mean of the patch tokens, or class token)",
        _token_layers,
        fixed_size=True,
    ),
    "dinov2": VisionFamily(_TOKENS, CLASS_TOKEN, _token_layers),
    "dinov2_with_registers": VisionFamily(_TOKENS, CLASS_TOKEN, _token_layers),
    "dinov3_vit": VisionFamily(_TOKENS, CLASS_TOKEN, _token_layers, rounding="none"),
    "dinov3_convnext": VisionFamily(
        TokenLayout(n_prefix=1, is_maps=True, has_patches=True),
        f"{_POOL}, normed",
        _dinov3_convnext_layers,
        rounding="none",
    ),
    "convnext": VisionFamily(_MAPS, f"{_POOL}, normed", _convnext_layers),
    "convnextv2": VisionFamily(_MAPS, f"{_POOL}, normed", _convnext_layers),
    "resnet": VisionFamily(_MAPS, _POOL, _resnet_layers, has_batch_norms=True),
    "efficientnet": VisionFamily(
        _MAPS, _POOL, _efficientnet_layers, width=_efficientnet_width, has_batch_norms=True
    ),
    "swin": VisionFamily(
        TokenLayout(), "mean of the tokens after the last norm", _swin_layers, fixed_size=True
    ),
}
