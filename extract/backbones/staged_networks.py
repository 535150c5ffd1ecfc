"""Staged networks: convolutional networks cut into a stem, stages and a head, with batch norms folded in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn


class StagedNetwork(nn.Module):
    """A convolutional network whose intermediate stages can be read.

    Parameters
    ----------
    stages : sequence of Module
        The stem (stage 0) and the stages that follow; each takes and returns maps of shape (b, c, h, w).
    head : Module
        Last maps -> (b, d), without a classifier.
    """

    def __init__(self, stages: Sequence[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.head = head

    def forward(self, pixels: torch.Tensor, layers: Sequence[int] = ()) -> dict[str, torch.Tensor]:
        """Return "pooled" and, for each k of `layers`, "layer:k": the global average pool of stage k.

        Parameters
        ----------
        pixels : Tensor of shape (b, 3, height, width)
        layers : sequence of int

        Returns
        -------
        dict of str to Tensor of shape (b, d)
        """
        vectors = {}
        maps = pixels
        for k, stage in enumerate(self.stages):
            maps = stage(maps)
            if k in layers:
                vectors[f"layer:{k}"] = maps.float().mean((2, 3))
        vectors["pooled"] = self.head(maps)
        return vectors


def build_resnet(architecture: str, state: Mapping[str, torch.Tensor]) -> StagedNetwork:
    """Build a torchvision ResNet without its classifier.

    Raises
    ------
    RuntimeError
        If the names or shapes in `state` are not the network's; the message lists them.
    """
    network = _loaded(architecture, state, classifier="fc.")
    stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
    stages = [stem, network.layer1, network.layer2, network.layer3, network.layer4]
    return StagedNetwork(stages, nn.Sequential(network.avgpool, nn.Flatten(1)))


def build_efficientnet(architecture: str, state: Mapping[str, torch.Tensor]) -> StagedNetwork:
    """Build a torchvision EfficientNet without its classifier. See :func:`build_resnet`."""
    network = _loaded(architecture, state, classifier="classifier.")
    return StagedNetwork(list(network.features), nn.Sequential(network.avgpool, nn.Flatten(1)))


def build_convnext(architecture: str, state: Mapping[str, torch.Tensor]) -> StagedNetwork:
    """Build a torchvision ConvNeXt without its classifier, with its last norm. See :func:`build_resnet`."""
    network = _loaded(architecture, state, classifier="classifier.2.")
    # A stage is a shrinking convolution and its blocks; the first one shrinks in the stem.
    stem, first, *rest = network.features
    stages = [stem, first, *(nn.Sequential(*rest[i : i + 2]) for i in range(0, len(rest), 2))]
    return StagedNetwork(stages, nn.Sequential(network.avgpool, network.classifier[0], nn.Flatten(1)))


def build_efficientnet_lite0(state: Mapping[str, torch.Tensor]) -> StagedNetwork:
    """Build EfficientNet-Lite0 without its classifier; it is one stage.

    Raises
    ------
    ModuleNotFoundError
        If the package with the network's code is not installed.
    RuntimeError
        As for :func:`build_resnet`.
    """
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Backbone 'efficientnet-lite0' needs package 'efficientnet-lite-pytorch', which is not "
            "installed. Install it with: pip install -e '.[demo]' in the folder of embedonce.",
            name=error.name,
        ) from error
    network = EfficientNet.from_name("efficientnet-lite0")
    network._fc = nn.Identity()
    network.load_state_dict({k: v for k, v in state.items() if not k.startswith("_fc.")}, strict=True)
    return StagedNetwork([], network)


def fold_batch_norms(network: nn.Module) -> int:
    """Fold every batch norm that follows a convolution into the convolution's weights, in place.

    The network must be in eval mode and in float32, and must register such pairs in the order in which it
    runs them; the vectors then stay the same up to rounding (measured: 1e-6 of their length).

    Returns
    -------
    int
        How many pairs were folded.

    References
    ----------
    ``torch.nn.utils.fusion.fuse_conv_bn_eval``.
    """
    n_folded = 0
    for module in network.modules():
        children = list(module.named_children())
        for (conv_name, conv), (norm_name, norm) in pairwise(children):
            if not isinstance(conv, nn.Conv2d) or type(norm) is not nn.BatchNorm2d:
                continue
            if conv.out_channels != norm.num_features:
                continue
            setattr(module, conv_name, nn.utils.fuse_conv_bn_eval(conv, norm).requires_grad_(False))
            setattr(module, norm_name, nn.Identity())
            n_folded += 1
    return n_folded


def _loaded(architecture: str, state: Mapping[str, torch.Tensor], *, classifier: str) -> Any:
    """Build a torchvision network from `state`, whose names that begin with `classifier` are left out."""
    import torchvision

    with torch.device("meta"):
        network = getattr(torchvision.models, architecture)().eval()
    parent, _, last = classifier.rstrip(".").rpartition(".")
    setattr(network.get_submodule(parent), last, nn.Identity())
    # strict: a tensor that is missing or left over is an error, never a random or ignored weight.
    wanted = {name: tensor for name, tensor in state.items() if not name.startswith(classifier)}
    network.load_state_dict(wanted, strict=True, assign=True)
    return network
