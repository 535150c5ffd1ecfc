"""The forward pass of many networks of one shape, with one more dimension.

``torch.func.vmap`` gives the same numbers, but a step of a small network through it is mostly Python: 4.8 ms
of processor time for one network of 256 columns, 128 projected and 64 hidden units on 256 rows, of which the
products take 1. Here the network itself computes, and each of its layers is a few kernels on tensors of shape
(n_networks, n, width).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from heads.layers import Dropout, KeptUnits, uniform_draws
from heads.networks import Network

_Parameters = Mapping[str, Tensor]


class StackedForward:
    """Logits of stacked networks.

    Parameters
    ----------
    network : FusedNetwork or LateNetwork
        What the networks are alike in; without BatchNorm, which measures its batch. It is taken over: what
        names its parameters must be asked before.

    Notes
    -----
    Dropout draws once for all networks, in the order in which the network itself draws: networks that keep
    the same share of units drop the same ones.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._layers = _Layers({module: name for name, module in self._network.named_modules()})
        self._loose = self._layers.take_over(self._network)

    def __call__(self, parameters: _Parameters, rows: Tensor, kept: Tensor | None) -> Tensor:
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
            For late fusion, in training, those of every block: (n_networks, n_blocks, n, n_classes).
        """
        self._layers.use(parameters, kept)
        for name, module in self._loose.items():
            setattr(module, name.rpartition(".")[2], parameters[name])
        n_networks = len(next(iter(parameters.values())))
        stacked = rows.expand(n_networks, *rows.shape)
        logits: Tensor = self._network(stacked) if kept is None else self._network.training_logits(stacked)
        return logits


class _Layers:
    """Single layers of all networks at once."""

    def __init__(self, names: Mapping[nn.Module, str]) -> None:
        self._names = names
        self._parameters: _Parameters = {}
        self._kept: KeptUnits | None = None

    def use(self, parameters: _Parameters, kept: Tensor | None) -> None:
        """Compute with these from now on; see `StackedForward`."""
        self._parameters = parameters
        self._kept = None if kept is None else KeptUnits(kept[:, None, None])

    def linear(self, layer: nn.Module, rows: Tensor) -> Tensor:
        """Apply a Linear: (n_networks, n, n_in) to (n_networks, n, n_out)."""
        weight = self._parameters[f"{self._names[layer]}.weight"]
        bias = self._parameters[f"{self._names[layer]}.bias"]
        return torch.baddbmm(bias[:, None, :], rows, weight.transpose(1, 2))

    def shortcut(self, layer: nn.Module, rows: Tensor) -> Tensor:
        """Apply a Linear without bias."""
        return torch.bmm(rows, self._parameters[f"{self._names[layer]}.weight"].transpose(1, 2))

    def norm(self, layer: nn.Module, rows: Tensor) -> Tensor:
        """Apply a LayerNorm."""
        assert isinstance(layer, nn.LayerNorm)
        weight = self._parameters[f"{self._names[layer]}.weight"]
        bias = self._parameters[f"{self._names[layer]}.bias"]
        normed = functional.layer_norm(rows, rows.shape[-1:], eps=layer.eps)
        return torch.addcmul(bias[:, None, :], normed, weight[:, None, :])

    def drop(self, layer: nn.Module, rows: Tensor) -> Tensor:
        """Apply a Dropout whose share is each network's own."""
        assert isinstance(layer, Dropout)
        if self._kept is None:
            return rows
        return rows * self._kept.factors(uniform_draws(rows[0], layer.noise))

    def take_over(self, network: nn.Module) -> dict[str, nn.Module]:
        """Put the layers of all networks in place of those of one.

        Returns
        -------
        dict of str to Module
            Parameters that no layer holds, with the modules they were taken away from.
        """
        loose: dict[str, nn.Module] = {}
        for module in list(network.modules()):
            applied = self._applied(module)
            if applied is not None:
                continue
            for name, child in list(module.named_children()):
                apply = self._applied(child)
                if apply is not None:
                    setattr(module, name, _AppliedLayer(apply, child))
            for name, _ in list(module.named_parameters(recurse=False)):
                delattr(module, name)
                loose[f"{self._names[module]}.{name}"] = module
        return loose

    def _applied(self, layer: nn.Module) -> Callable[[nn.Module, Tensor], Tensor] | None:
        """Return what applies a layer, or None for a module that is made of others."""
        if isinstance(layer, nn.Linear):
            return self.shortcut if layer.bias is None else self.linear
        if isinstance(layer, nn.LayerNorm):
            return self.norm
        return self.drop if isinstance(layer, Dropout) else None


class _AppliedLayer(nn.Module):
    """A layer of all networks, in the place of that of one."""

    def __init__(self, apply: Callable[[nn.Module, Tensor], Tensor], layer: nn.Module) -> None:
        super().__init__()
        self._stacked = apply
        self._layer = layer

    def forward(self, rows: Tensor) -> Tensor:
        """Map rows of shape (n_networks, n, n_in) to (n_networks, n, n_out)."""
        return self._stacked(self._layer, rows)
