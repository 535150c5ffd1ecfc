"""What the layers inside a trained network make of rows, read off while it predicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from heads.fusion import ConcatFusion
from heads.layers import Trunk
from heads.networks import FusedNetwork, Network


def layer_outputs(network: Network, rows: Tensor) -> dict[str, Tensor]:
    """Return the fused vectors and the last hidden layer of rows.

    Parameters
    ----------
    network : FusedNetwork or LateNetwork
        In evaluation mode.
    rows : Tensor of shape (n, n_features)

    Returns
    -------
    dict of str to Tensor of shape (n, width)
        ``fused`` and ``hidden``, as of ``MLPHead.layer_outputs``.
    """
    fused: list[Tensor] = []
    hidden: list[Tensor] = []
    trunks = [module for module in network.modules() if isinstance(module, Trunk)]
    hooks = [trunk.output.register_forward_pre_hook(_noting_input(hidden)) for trunk in trunks]
    if isinstance(network, FusedNetwork) and not isinstance(network.fusion, ConcatFusion):
        hooks.append(network.fusion.register_forward_hook(_noting_output(fused)))
    try:
        network(rows)
    finally:
        for hook in hooks:
            hook.remove()
    found = {"fused": fused} if fused else {}
    if len(trunks[0].layers):
        found["hidden"] = hidden
    return {name: torch.cat(parts, dim=1) for name, parts in found.items()}


def _noting_input(seen: list[Tensor]) -> Callable[[nn.Module, Any], None]:
    return lambda _, inputs: seen.append(inputs[0])


def _noting_output(seen: list[Tensor]) -> Callable[[nn.Module, Any, Any], None]:
    return lambda _, __, output: seen.append(output)
