"""The forward pass of many networks of one shape, written out with one more dimension.

``torch.func.vmap`` gives the same numbers for any network, but a step of a small network through it is
mostly Python: 4.8 ms of processor time for one network of 256 columns, 128 projected and 64 hidden units on
256 rows, of which the products take 1. Here every layer is a few kernels on tensors of shape (n_networks, n,
width), and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import FunctionCtx
from torch.nn import functional

from heads.fusion import ConcatFusion, Fusion, GatedFusion, ProductFusion, ProjectionFusion
from heads.layers import Dropout, Projections, Trunk, uniform_draws
from heads.networks import FusedNetwork, Network

_LEAST = 1e-24  # mean square below which a row counts as zeros, and stays as it is
_FUSIONS = (ConcatFusion, ProjectionFusion, GatedFusion, ProductFusion)


class StackedForward:
    """Logits of stacked networks.

    Parameters
    ----------
    network : FusedNetwork
        What the networks are alike in; one that `supports` takes.

    Notes
    -----
    Dropout draws once for all networks, in the order in which the network itself draws: networks that keep
    the same share of units drop the same ones.
    """

    def __init__(self, network: Network) -> None:
        self._network = cast("FusedNetwork", network)
        self._names = {module: name for name, module in network.named_modules()}

    @staticmethod
    def supports(network: Network) -> bool:
        """Tell whether a network is of a kind that is written out here."""
        if not isinstance(network, FusedNetwork) or type(network.fusion) not in _FUSIONS:
            return False
        gated = network.fusion if isinstance(network.fusion, GatedFusion) else None
        plain = network.input_norm is None and len(network.shortcuts) == 0
        return plain and (gated is None or gated.n_blocks == 2)

    def __call__(self, parameters: Mapping[str, Tensor], rows: Tensor, kept: Tensor | None) -> Tensor:
        """Return logits.

        Parameters
        ----------
        parameters : mapping of str to Tensor of shape (n_networks, ...)
            By the names that the network gives its own.
        rows : Tensor of shape (n, n_features)
        kept : Tensor of shape (n_networks,), float64, or None
            Share of units that each network keeps; None when nothing is dropped, as in predictions.

        Returns
        -------
        Tensor of shape (n_networks, n, n_classes)
        """
        layers = _Layers(self._names, parameters, kept)
        n_networks = len(next(iter(parameters.values())))
        fused = _fuse(layers, self._network.fusion, rows.expand(n_networks, *rows.shape))
        return _trunk(layers, self._network, fused)


class _Layers:
    """Single layers of all networks at once."""

    def __init__(
        self, names: Mapping[nn.Module, str], parameters: Mapping[str, Tensor], kept: Tensor | None
    ) -> None:
        self._names = names
        self._parameters = parameters
        self._kept = None if kept is None else kept[:, None, None]
        self._scale = None if kept is None else kept.reciprocal().float()[:, None, None]

    def linear(self, layer: nn.Module, rows: Tensor) -> Tensor:
        """Apply a Linear: (n_networks, n, n_in) to (n_networks, n, n_out)."""
        weight = self._parameters[f"{self._names[layer]}.weight"]
        bias = self._parameters[f"{self._names[layer]}.bias"]
        return torch.baddbmm(bias[:, None, :], rows, weight.transpose(1, 2))

    def norm(self, layer: nn.Module, rows: Tensor) -> Tensor:
        """Apply a LayerNorm, or nothing."""
        if not isinstance(layer, nn.LayerNorm):
            return rows
        weight = self._parameters[f"{self._names[layer]}.weight"]
        bias = self._parameters[f"{self._names[layer]}.bias"]
        normed = functional.layer_norm(rows, rows.shape[-1:], eps=layer.eps)
        return torch.addcmul(bias[:, None, :], normed, weight[:, None, :])

    def drop(self, layer: Dropout, rows: Tensor) -> Tensor:
        """Apply a Dropout whose share is each network's own."""
        if self._kept is None or self._scale is None:
            return rows
        draws = uniform_draws(rows[0], layer.noise)
        return rows * (draws < self._kept).float().mul_(self._scale)


def _fuse(layers: _Layers, fusion: Fusion, rows: Tensor) -> Tensor:
    """Turn rows into fused vectors, as each class of ``heads.fusion`` does."""
    if isinstance(fusion, ProductFusion):
        return _product(layers, fusion, rows)
    if isinstance(fusion, ProjectionFusion):
        return torch.cat(_projected(layers, fusion.projections, rows), dim=2)
    if isinstance(fusion, GatedFusion):
        first, second = _projected(layers, fusion.projections, rows)
        assert fusion.gate is not None  # two blocks
        return torch.lerp(second, first, torch.sigmoid(layers.linear(fusion.gate, rows)))
    return rows


def _projected(layers: _Layers, projections: Projections, rows: Tensor) -> list[Tensor]:
    blocks = torch.split(rows, projections.block_widths, dim=2)
    found = []
    for layer, norm, block in zip(projections.layers, projections.norms, blocks, strict=True):
        active = projections.activation(layers.norm(norm, layers.linear(layer, block)))
        found.append(layers.drop(projections.drop, active))
    return found


def _product(layers: _Layers, fusion: ProductFusion, rows: Tensor) -> Tensor:
    blocks = torch.split(rows, fusion.block_widths, dim=2)
    product: Tensor | None = None
    for layer, block in zip(fusion.layers, blocks, strict=True):
        factor = layers.drop(fusion.drop, layers.linear(layer, block))
        factor = cast("Tensor", _UnitMeanSquare.apply(factor))
        product = factor if product is None else product * factor
    assert product is not None  # there is a block
    return product


def _trunk(layers: _Layers, trunk: Trunk, rows: Tensor) -> Tensor:
    for layer, norm in zip(trunk.layers, trunk.norms, strict=True):
        rows = layers.drop(trunk.drop, trunk.activation(layers.norm(norm, layers.linear(layer, rows))))
    return layers.linear(trunk.output, rows)


class _UnitMeanSquare(Function):
    """Scale each row to a mean square of 1, in half the passes of ``normalize`` and its gradient."""

    @staticmethod
    def forward(ctx: FunctionCtx, rows: Tensor) -> Tensor:
        squares = torch.linalg.vecdot(rows, rows) / rows.shape[-1]
        inverse = squares.clamp_min(_LEAST).rsqrt()[..., None]
        scaled: Tensor = rows * inverse
        ctx.save_for_backward(scaled, inverse)
        return scaled

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        scaled, inverse = ctx.saved_tensors
        along = torch.linalg.vecdot(gradient, scaled)[..., None] / scaled.shape[-1]
        found: Tensor = torch.addcmul(gradient, scaled, along, value=-1).mul_(inverse)
        return found
