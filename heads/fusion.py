"""Ways to turn the blocks of a row into one vector. A new one is a class here and a line in ``FUSION_OF``.

Each works with one block or more. Where a fusion weighs blocks, ``block_weights`` shows how much each counts.

``forward`` may be given rows with one more dimension in front, one entry per network, where the layers (and
parameters) of many networks have taken the place of those of one; see ``heads.stacked_forward``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from heads.block_products import attention_shares, mean_attended, unit_mean_square
from heads.layers import Draws, Dropout, NetworkShape, Projections, seeded_linear


class Fusion(nn.Module):
    """Base of the fusions.

    Parameters
    ----------
    shape : NetworkShape
    draws : Draws

    Attributes
    ----------
    width : int
        Length of the fused vectors.
    """

    def __init__(self, shape: NetworkShape, draws: Draws) -> None:  # noqa: ARG002 - the subclasses' signature
        super().__init__()
        self.width = shape.projection_width

    def forward(self, rows: Tensor) -> Tensor:
        """Map rows of shape (..., n, n_features) to fused vectors of shape (..., n, width)."""
        raise NotImplementedError

    def weight_details(self, rows: Tensor) -> Tensor | None:  # noqa: ARG002 - the subclasses' signature
        """Return the weights that blocks get in each row, as fine as they are computed, or None."""
        return None

    def block_weights(self, rows: Tensor) -> Tensor | None:
        """Return one weight per row and block, shape (n, n_blocks), with sum 1 per row; None without any."""
        return self.weight_details(rows)


class ConcatFusion(Fusion):
    """All blocks side by side, as they come."""

    def __init__(self, shape: NetworkShape, draws: Draws) -> None:
        super().__init__(shape, draws)
        self.width = sum(shape.block_widths)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the rows themselves."""
        return rows


class ProjectionFusion(Fusion):
    """Each block projected, then side by side.

    References
    ----------
    X. Shi et al., "Benchmarking multimodal AutoML for tabular data with text fields", NeurIPS Datasets and
    Benchmarks 2021 ("fuse-late": encode, concatenate, MLP); ``MultimodalFusionMLP`` of AutoGluon.
    """

    def __init__(self, shape: NetworkShape, draws: Draws) -> None:
        super().__init__(shape, draws)
        self.projections = Projections(shape, draws)
        self.width = shape.projection_width * len(shape.block_widths)

    def forward(self, rows: Tensor) -> Tensor:
        """Concatenate the projections."""
        return torch.cat(self.projections(rows), dim=-1)


class EarlyFusion(Fusion):
    """Each block projected to one width, then added.

    References
    ----------
    D. Kiela et al., "Efficient large-scale multi-modal classification", AAAI 2018 ("additive").
    """

    def __init__(self, shape: NetworkShape, draws: Draws) -> None:
        super().__init__(shape, draws)
        self.projections = Projections(shape, draws)

    def forward(self, rows: Tensor) -> Tensor:
        """Add the projections."""
        first, *others = self.projections(rows)
        fused: Tensor = first
        for block in others:
            fused = fused + block
        return fused


class WeightedSumFusion(Fusion):
    """A weighted sum of the projections; one trained weight per block, through a softmax, all equal at first.

    References
    ----------
    M. E. Peters et al., "Deep contextualized word representations", NAACL 2018, equation 1 (scalar mix).
    """

    def __init__(self, shape: NetworkShape, draws: Draws) -> None:
        super().__init__(shape, draws)
        self.projections = Projections(shape, draws)
        self.logits = nn.Parameter(torch.zeros(len(shape.block_widths)))

    def forward(self, rows: Tensor) -> Tensor:
        """Add the projections times their weights."""
        first_share, *shares = self.logits.softmax(dim=-1)[..., None, None].unbind(dim=-3)
        first, *others = self.projections(rows)
        fused: Tensor = first_share * first
        for share, block in zip(shares, others, strict=True):
            fused = torch.addcmul(fused, share, block)
        return fused

    def weight_details(self, rows: Tensor) -> Tensor:
        """Return the weights, the same for every row: shape (n, n_blocks)."""
        return self.logits.softmax(dim=0).expand(len(rows), -1)


class GatedFusion(Fusion):
    """A sum of the projections in which a gate weighs the blocks, for each row and dimension.

    Notes
    -----
    The gate sees all blocks. With two blocks it is ``z = sigmoid(W x + b)`` and the sum ``z h1 + (1 - z) h2``
    (the bimodal unit of the paper); with more, a softmax over the blocks whose last logit is 0, which for two
    is the same function. Gates start at 1 / n_blocks for every row: random ones only add noise at first
    (macro-F1 rose from 0.883 to 0.887 with a useless block, from 0.820 to 0.836 on XOR across blocks).

    References
    ----------
    J. Arevalo et al., "Gated multimodal units for information fusion", arXiv 1702.01992 (2017).
    """

    def __init__(self, shape: NetworkShape, draws: Draws) -> None:
        super().__init__(shape, draws)
        self.projections = Projections(shape, draws)
        self.n_blocks = len(shape.block_widths)
        self.gate = None
        if self.n_blocks > 1:
            self.gate = seeded_linear(sum(shape.block_widths), (self.n_blocks - 1) * self.width, draws.init)
            for part in self.gate.parameters():
                nn.init.zeros_(part)

    def forward(self, rows: Tensor) -> Tensor:
        """Add the projections times their gates."""
        projected: list[Tensor] = self.projections(rows)
        if self.gate is None:
            return projected[0]
        if self.n_blocks == 2:
            first, second = projected
            return torch.lerp(second, first, torch.sigmoid(self.gate(rows)))
        return (torch.stack(projected, dim=-2) * self.weight_details(rows)).sum(dim=-2)

    def weight_details(self, rows: Tensor) -> Tensor:
        """Return the gates, shape (..., n, n_blocks, width)."""
        if self.gate is None:
            return rows.new_ones(len(rows), 1, self.width)
        logits = self.gate(rows).unflatten(-1, (self.n_blocks - 1, self.width))
        return functional.pad(logits, (0, 0, 0, 1)).softmax(dim=-2)

    def block_weights(self, rows: Tensor) -> Tensor:
        """Return the mean gate of each block, shape (n, n_blocks)."""
        return self.weight_details(rows).mean(dim=2)


class AttentionFusion(Fusion):
    """Multi-head self-attention over the projections as tokens, then their mean.

    Notes
    -----
    With ``residual`` each token is added to what attention makes of it. Follow it by hidden layers, or by one
    linear layer (``n_hidden=0``).

    References
    ----------
    A. Vaswani et al., "Attention is all you need", NeurIPS 2017, section 3.2.
    """

    def __init__(self, shape: NetworkShape, draws: Draws) -> None:
        super().__init__(shape, draws)
        self.projections = Projections(shape, draws)
        self.n_heads = shape.n_attention_heads
        self.residual = shape.residual
        self.queries_keys_values = seeded_linear(self.width, 3 * self.width, draws.init)
        self.merge = seeded_linear(self.width, self.width, draws.init)

    def forward(self, rows: Tensor) -> Tensor:
        """Average the attended tokens.

        The mean over the asking tokens is taken before the values are mixed and merged, which are linear:
        the same vector for half the work.
        """
        tokens = self.projections(rows)
        queries, keys, values = self._parts(tokens)
        attended: Tensor = self.merge(mean_attended(queries, keys, values).flatten(-2))
        return attended.add(torch.stack(tokens).mean(dim=0)) if self.residual else attended

    def weight_details(self, rows: Tensor) -> Tensor:
        """Return what each block (query) takes from each (key): shape (n, n_heads, n_blocks, n_blocks)."""
        queries, keys, _ = self._parts(self.projections(rows))
        return attention_shares(queries, keys).permute(2, 3, 0, 1)

    def block_weights(self, rows: Tensor) -> Tensor:
        """Return what is taken from each block, over heads and queries: shape (n, n_blocks)."""
        return self.weight_details(rows).mean(dim=(1, 2))

    def _parts(self, tokens: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, each of shape (..., n_blocks, n, n_heads, width per head)."""
        parts = self.queries_keys_values(torch.cat(tokens, dim=-2)).unflatten(-2, (len(tokens), -1))
        queries, keys, values = parts.unflatten(-1, (3, self.n_heads, -1)).unbind(dim=-3)
        return queries, keys, values


class ProductFusion(Fusion):
    """The element-wise product of linear projections of unit length.

    Notes
    -----
    Every projection is scaled to a mean square of 1, where the paper scales to a length of 1: the same vector
    times ``sqrt(width)``, at which layers after it learn at ordinary rates.

    First biases are 1, not random. The product of ``1 + f1`` and ``1 + f2`` holds each of them alone as well,
    so a block without signal does no harm: on 2,000 rows with signal in one of two blocks macro-F1 rose from
    0.848 to 0.888 (0.894 on that block alone), with signal in both from 0.852 to 0.911.

    References
    ----------
    G. K. Kumar and K. Nandakumar, "Hate-CLIPper: multimodal hateful meme classification based on
    cross-modal interaction of CLIP features", NLP4PI 2022 ("align"); github.com/gokulkarthik/hateclipper.
    """

    def __init__(self, shape: NetworkShape, draws: Draws) -> None:
        super().__init__(shape, draws)
        self.block_widths = list(shape.block_widths)
        self.layers = nn.ModuleList(_about_one(n, self.width, draws) for n in self.block_widths)
        self.drop = Dropout(shape.dropout, draws.noise)

    def forward(self, rows: Tensor) -> Tensor:
        """Multiply the projections."""
        blocks = torch.split(rows, self.block_widths, dim=-1)
        factors = [
            unit_mean_square(self.drop(layer(block)))
            for layer, block in zip(self.layers, blocks, strict=True)
        ]
        product = factors[0]
        for factor in factors[1:]:
            product = product * factor
        return product


class BilinearFusion(Fusion):
    """Low-rank multilinear fusion: a weighted sum of `rank` element-wise products of affine maps.

    Notes
    -----
    Each block is projected first (the paper's sub-networks). An affine map is a linear map of the projection
    with a 1 appended, so that products of fewer blocks, and single blocks, are part of the sum; the weight of
    that 1 starts at 1 (see ``ProductFusion``).

    References
    ----------
    Z. Liu et al., "Efficient low-rank multimodal fusion with modality-specific factors", ACL 2018;
    github.com/Justin1904/Low-rank-Multimodal-Fusion (trained weights of the terms).
    """

    def __init__(self, shape: NetworkShape, draws: Draws) -> None:
        super().__init__(shape, draws)
        self.projections = Projections(shape, draws)
        self.rank = shape.rank
        self.factors = nn.ModuleList(
            _about_one(self.width, self.rank * self.width, draws) for _ in shape.block_widths
        )
        self.term_weights = nn.Parameter(torch.full((self.rank,), 1 / math.sqrt(self.rank)))
        self.bias = nn.Parameter(torch.zeros(self.width))

    def forward(self, rows: Tensor) -> Tensor:
        """Add the products."""
        projected: list[Tensor] = self.projections(rows)
        product = self.factors[0](projected[0])
        for factor, block in zip(list(self.factors)[1:], projected[1:], strict=True):
            product = product * factor(block)
        terms = product.unflatten(-1, (self.rank, self.width))
        fused: Tensor = (terms * self.term_weights[..., None, :, None]).sum(dim=-2)
        return fused + self.bias[..., None, :]


FUSION_OF: Mapping[str, type[Fusion]] = {
    "concat": ConcatFusion,
    "projection": ProjectionFusion,
    "early": EarlyFusion,
    "weighted_sum": WeightedSumFusion,
    "gated": GatedFusion,
    "attention": AttentionFusion,
    "product": ProductFusion,
    "bilinear": BilinearFusion,
}
"""All of ``heads.names.FUSIONS`` but ``"late"``, which combines decisions and not vectors."""


def _about_one(n_in: int, n_out: int, draws: Draws) -> nn.Linear:
    """Make a Linear whose outputs lie around 1 at first."""
    layer = seeded_linear(n_in, n_out, draws.init)
    with torch.no_grad():
        layer.bias.fill_(1.0)
    return layer
