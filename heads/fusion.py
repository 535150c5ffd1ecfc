"""Networks that combine blocks. A new kind of fusion is one class here and one line in ``_NETWORKS``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class NetworkShape:
    """Sizes of a fusion network.

    Attributes
    ----------
    block_widths : tuple of int
        Columns of each block, in order.
    n_classes : int
    hidden : int
        Units of each hidden layer.
    n_hidden : int
        Hidden layers; 0 is a linear model.
    dropout : float
        Share of hidden units that are dropped in training.
    """

    block_widths: tuple[int, ...]
    n_classes: int
    hidden: int
    n_hidden: int
    dropout: float


class ConcatNetwork(nn.Module):
    """All blocks side by side, then (Linear, LayerNorm, GELU, Dropout) layers, then Linear.

    Parameters
    ----------
    shape : NetworkShape
    init : torch.Generator, on the CPU
        Draws the first weights.
    noise : torch.Generator, on the training device
        Draws the dropout masks.

    Notes
    -----
    First weights follow ``torch.nn.Linear``: uniform within ``1 / sqrt(fan_in)``. torch's own constructors
    and dropout draw from the global generator, so they are not used: training must neither depend on it nor
    disturb it.
    """

    def __init__(self, shape: NetworkShape, *, init: torch.Generator, noise: torch.Generator) -> None:
        super().__init__()
        sizes = [sum(shape.block_widths)] + [shape.hidden] * shape.n_hidden
        self.layers = nn.ModuleList(_linear(i, o, init) for i, o in pairwise(sizes))
        self.norms = nn.ModuleList(nn.LayerNorm(size) for size in sizes[1:])
        self.output = _linear(sizes[-1], shape.n_classes, init)
        self.dropout = shape.dropout
        self.noise = noise

    def forward(self, rows: Tensor) -> Tensor:
        """Map rows of shape (n, n_features) to logits of shape (n, n_classes)."""
        for layer, norm in zip(self.layers, self.norms, strict=True):
            rows = self._drop(functional.gelu(norm(layer(rows))))
        logits: Tensor = self.output(rows)
        return logits

    def _drop(self, rows: Tensor) -> Tensor:
        """Zero random units and scale up the others, in training only."""
        if not self.training or self.dropout == 0:
            return rows
        kept = torch.empty_like(rows).bernoulli_(1 - self.dropout, generator=self.noise)
        return rows * kept.div_(1 - self.dropout)


_NETWORKS = {"concat": ConcatNetwork}  # the keys are heads.names.FUSIONS


def build_network(fusion: str, shape: NetworkShape, *, seed: int, device: torch.device) -> nn.Module:
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
    torch.nn.Module
        From float32 rows (n, n_features) to logits (n, n_classes).
    """
    init = torch.Generator().manual_seed(seed)
    noise = torch.Generator(device).manual_seed(seed + 1)
    return _NETWORKS[fusion](shape, init=init, noise=noise).to(device)


def _linear(n_in: int, n_out: int, generator: torch.Generator) -> nn.Linear:
    """Make a Linear whose weights come from `generator`."""
    layer = nn.Linear(n_in, n_out, device="meta").to_empty(device="cpu")  # draws nothing
    bound = 1 / math.sqrt(n_in)
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)
    return layer
