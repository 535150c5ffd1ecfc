"""Whole networks, from standardised rows to logits."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from heads.fusion import FUSION_OF
from heads.layers import BlockNorm, Draws, NetworkShape, Trunk


class FusedNetwork(Trunk):
    """A fusion of the blocks, then hidden layers and logits.

    Parameters
    ----------
    fusion : str
        A key of ``heads.fusion.FUSION_OF``.
    shape : NetworkShape
    draws : Draws
    """

    def __init__(self, fusion: str, shape: NetworkShape, draws: Draws) -> None:
        made = FUSION_OF[fusion](shape, draws)
        super().__init__(made.width, shape, draws)
        self.fusion = made
        self.input_norm = BlockNorm(shape.block_widths) if shape.input_norm else None

    def forward(self, rows: Tensor) -> Tensor:
        """Map rows of shape (..., n, n_features) to logits of shape (..., n, n_classes)."""
        return super().forward(self.fusion(self._normed(rows)))

    def training_logits(self, rows: Tensor) -> Tensor:
        """Return what the loss is taken of: shape (..., n, n_classes)."""
        return self.forward(rows)

    def block_weights(self, rows: Tensor) -> Tensor | None:
        """Return how much each block counts in each row, shape (n, n_blocks), or None."""
        return self.fusion.block_weights(self._normed(rows))

    def weight_details(self, rows: Tensor) -> Tensor | None:
        """Return the weights as fine as the fusion computes them, or None."""
        return self.fusion.weight_details(self._normed(rows))

    def _normed(self, rows: Tensor) -> Tensor:
        return rows if self.input_norm is None else self.input_norm(rows)


class LateNetwork(nn.Module):
    """One network per block; their probabilities are averaged.

    Parameters
    ----------
    shape : NetworkShape
    draws : Draws

    Notes
    -----
    In training each network has its own loss, as if it were alone: the mean of the losses, not the loss of
    the mean. Only the choice of the epoch looks at the averaged decision.

    References
    ----------
    J. Kittler et al., "On combining classifiers", IEEE TPAMI 20 (1998): the sum rule.
    """

    def __init__(self, shape: NetworkShape, draws: Draws) -> None:
        super().__init__()
        self.block_widths = list(shape.block_widths)
        self.trunks = nn.ModuleList(Trunk(width, shape, draws) for width in self.block_widths)
        self.input_norm = BlockNorm(shape.block_widths) if shape.input_norm else None

    def forward(self, rows: Tensor) -> Tensor:
        """Map rows of shape (..., n, n_features) to log mean probabilities, (..., n, n_classes)."""
        each = self.training_logits(rows).log_softmax(dim=-1)
        return each.logsumexp(dim=-3) - math.log(len(self.trunks))

    def training_logits(self, rows: Tensor) -> Tensor:
        """Return the logits of every block's network: shape (..., n_blocks, n, n_classes)."""
        if self.input_norm is not None:
            rows = self.input_norm(rows)
        blocks = torch.split(rows, self.block_widths, dim=-1)
        logits = [trunk(block) for trunk, block in zip(self.trunks, blocks, strict=True)]
        return torch.stack(logits, dim=-3)

    def block_weights(self, rows: Tensor) -> None:
        """Return None: decisions count alike."""

    def weight_details(self, rows: Tensor) -> None:
        """Return None: decisions count alike."""


Network = FusedNetwork | LateNetwork


def build_network(fusion: str, shape: NetworkShape, *, seed: int, device: torch.device) -> Network:
    """Make a network with first weights that depend on `seed` only.

    Parameters
    ----------
    fusion : str
        One of ``heads.names.FUSIONS``.
    shape : NetworkShape
    seed : int
        Of the first weights and of dropout.
    device : torch.device
        Where it will be trained.

    Returns
    -------
    FusedNetwork or LateNetwork
        From float32 rows (n, n_features) to logits (n, n_classes).
    """
    draws = Draws(torch.Generator().manual_seed(seed), torch.Generator(device).manual_seed(seed + 1))
    network = LateNetwork(shape, draws) if fusion == "late" else FusedNetwork(fusion, shape, draws)
    return network.to(device)
