"""Parts of the fusion networks whose random draws come from given generators only.

torch's own constructors and dropout draw from the global generator, so they are not used: training must
neither depend on it nor disturb it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

_FINEST = 2.0**-16  # difference between neighbouring draws
_STEEP = 2.0**16

_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {"gelu": functional.gelu, "relu": functional.relu}


@dataclass(frozen=True)
class NetworkShape:
    """Sizes and kinds of the layers of a fusion network.

    Attributes
    ----------
    block_widths : tuple of int
        Columns of each block, in order.
    n_classes : int
    hidden : tuple of int
        Units of each hidden layer after the fusion; an empty tuple is a linear layer.
    dropout : float in [0, 1)
        Share of units that are dropped in training.
    norm : str
        One of ``heads.names.NORMS``.
    activation : str
        One of ``heads.names.ACTIVATIONS``.
    residual : bool
        Whether what goes into a hidden layer (or into attention) is added to what comes out.
    input_norm : bool
        Whether the columns of each block are layer-normalised first.
    projection_width : int
        Units that each block is projected to, in the fusions that project.
    n_attention_heads : int
        A divisor of `projection_width`.
    rank : int
        Terms of the low-rank tensor of ``"bilinear"``.
    """

    block_widths: tuple[int, ...]
    n_classes: int
    hidden: tuple[int, ...] = (128,)
    dropout: float = 0.0
    norm: str = "layer"
    activation: str = "gelu"
    residual: bool = False
    input_norm: bool = False
    projection_width: int = 128
    n_attention_heads: int = 4
    rank: int = 4


@dataclass(frozen=True)
class Draws:
    """Where random numbers come from.

    Attributes
    ----------
    init : torch.Generator, on the CPU
        Draws the first weights.
    noise : torch.Generator, on the training device
        Draws the dropout masks.
    """

    init: torch.Generator
    noise: torch.Generator


class Dropout(nn.Module):
    """Zero random units and scale up the others, in training only.

    Parameters
    ----------
    share : float in [0, 1)
    noise : torch.Generator
    """

    def __init__(self, share: float, noise: torch.Generator) -> None:
        super().__init__()
        self.share = share
        self.noise = noise
        self._kept = KeptUnits(torch.tensor(1 - share, dtype=torch.float64))

    def forward(self, rows: Tensor) -> Tensor:
        """Return a tensor of the shape of `rows`."""
        if not self.training or self.share == 0:
            return rows
        return rows * self._kept.factors(uniform_draws(rows, self.noise))


class KeptUnits:
    """Which units stay, and by how much they are scaled up.

    Parameters
    ----------
    kept : Tensor, float64
        Share of units that stay, in (0, 1]; one number, or of a shape that broadcasts against the draws.
    """

    def __init__(self, kept: Tensor) -> None:
        self._limit = torch.ceil(kept / _FINEST).mul(_FINEST * _STEEP).float()
        self._scale = kept.reciprocal().float()

    def factors(self, draws: Tensor) -> Tensor:
        """Return ``1 / kept`` where a draw of `uniform_draws` is smaller than ``kept``, 0 elsewhere; float32.

        A ramp that is steep enough to be a step between two draws: two thirds of the time of a comparison,
        whose booleans have to be made numbers again (45 instead of 65 us for a dropout of 126 x 128).
        """
        return torch.sub(self._limit, draws, alpha=_STEEP).clamp_(0, 1).mul_(self._scale)


class Trunk(nn.Module):
    """Hidden layers of (Linear, norm, activation, Dropout), then Linear.

    Parameters
    ----------
    n_in : int
    shape : NetworkShape
    draws : Draws

    Notes
    -----
    With ``residual`` the input of a hidden layer is added to its output, through a linear map without bias
    where the widths differ (K. He et al., "Deep residual learning for image recognition", CVPR 2016, option
    B).
    """

    def __init__(self, n_in: int, shape: NetworkShape, draws: Draws) -> None:
        super().__init__()
        sizes = [n_in, *shape.hidden]
        self.layers = nn.ModuleList(seeded_linear(i, o, draws.init) for i, o in pairwise(sizes))
        self.norms = nn.ModuleList(make_norm(shape.norm, size) for size in sizes[1:])
        self.output = seeded_linear(sizes[-1], shape.n_classes, draws.init)
        self.shortcuts = nn.ModuleList(
            nn.Identity() if i == o else seeded_linear(i, o, draws.init, bias=False)
            for i, o in pairwise(sizes)
            if shape.residual
        )
        self.activation = _ACTIVATIONS[shape.activation]
        self.drop = Dropout(shape.dropout, draws.noise)

    def forward(self, rows: Tensor) -> Tensor:
        """Map rows of shape (..., n, n_in) to logits of shape (..., n, n_classes)."""
        for position, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            out = self.drop(self.activation(norm(layer(rows))))
            rows = out + self.shortcuts[position](rows) if len(self.shortcuts) else out
        logits: Tensor = self.output(rows)
        return logits


class Projections(nn.Module):
    """Each block through its own (Linear, norm, activation, Dropout) to one common width.

    Parameters
    ----------
    shape : NetworkShape
    draws : Draws
    """

    def __init__(self, shape: NetworkShape, draws: Draws) -> None:
        super().__init__()
        self.block_widths = list(shape.block_widths)
        width = shape.projection_width
        self.layers = nn.ModuleList(seeded_linear(n, width, draws.init) for n in self.block_widths)
        self.norms = nn.ModuleList(make_norm(shape.norm, width) for _ in self.block_widths)
        self.activation = _ACTIVATIONS[shape.activation]
        self.drop = Dropout(shape.dropout, draws.noise)

    def forward(self, rows: Tensor) -> list[Tensor]:
        """Map rows of shape (..., n, n_features) to one (..., n, projection_width) per block."""
        blocks = torch.split(rows, self.block_widths, dim=-1)
        return [
            self.drop(self.activation(norm(layer(block))))
            for layer, norm, block in zip(self.layers, self.norms, blocks, strict=True)
        ]


class BlockNorm(nn.Module):
    """LayerNorm over the columns of each block, from rows to rows of the same shape.

    Parameters
    ----------
    block_widths : tuple of int
    """

    def __init__(self, block_widths: tuple[int, ...]) -> None:
        super().__init__()
        self.block_widths = list(block_widths)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in block_widths)

    def forward(self, rows: Tensor) -> Tensor:
        """Normalise each block of each row by itself."""
        blocks = torch.split(rows, self.block_widths, dim=-1)
        return torch.cat([norm(block) for norm, block in zip(self.norms, blocks, strict=True)], dim=-1)


def uniform_draws(like: Tensor, noise: torch.Generator) -> Tensor:
    """Draw multiples of 2^-16 in [0, 1), float32, of the shape and on the device of a tensor.

    Four from each 64-bit draw of the generator: a fifth of the time of ``torch.rand`` in float64 (17 instead
    of 72 us for 128 x 128), and fine enough for the chance of a unit to be dropped.
    """
    words = torch.empty((like.numel() + 3) // 4, dtype=torch.int64, device=like.device)
    words.random_(-(2**63), None, generator=noise)
    draws = words.view(torch.int16)[: like.numel()].view(like.shape)
    return draws.to(torch.float32).mul_(_FINEST).add_(0.5)


def make_norm(kind: str, size: int) -> nn.Module:
    """Make a layer of ``heads.names.NORMS``; nothing is drawn."""
    if kind == "layer":
        return nn.LayerNorm(size)
    if kind == "batch":
        return nn.BatchNorm1d(size)
    return nn.Identity()


def seeded_linear(n_in: int, n_out: int, generator: torch.Generator, *, bias: bool = True) -> nn.Linear:
    """Make a Linear as torch does, uniform within ``1 / sqrt(n_in)``, with weights from `generator`."""
    layer = nn.Linear(n_in, n_out, bias=bias, device="meta").to_empty(device="cpu")  # draws nothing
    bound = 1 / math.sqrt(n_in)
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        if bias:
            layer.bias.uniform_(-bound, bound, generator=generator)
    return layer
