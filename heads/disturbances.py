"""Training rows that are changed at random for one step: mixup and modality dropout."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class MixedBatch:
    """A batch in which each row is ``share`` of itself and the rest of a partner.

    Attributes
    ----------
    X : Tensor of shape (n, n_features)
    partners : Tensor of shape (n,), int64, or None
        Position of each row's partner in the batch; None when nothing was mixed.
    share : float in [0, 1]
    """

    X: Tensor
    partners: Tensor | None = None
    share: float = 1.0


class Disturbances:
    """Draws what happens to each batch.

    Parameters
    ----------
    mixup : float
        Both parameters of the Beta distribution that the share is drawn from, once a batch; 0 is off.
    modality_dropout : float in [0, 1)
        Chance of each block of each row to become 0, which is its mean in training and what an invalid block
        is filled in with. A row that would lose all blocks keeps one of them.
    block_widths : tuple of int
    device : torch.device
    seed : int

    References
    ----------
    H. Zhang et al., "mixup: beyond empirical risk minimization", ICLR 2018; N. Neverova et al., "ModDrop:
    adaptive multi-modal gesture recognition", IEEE TPAMI 38 (2016).
    """

    def __init__(
        self,
        *,
        mixup: float,
        modality_dropout: float,
        block_widths: tuple[int, ...],
        device: torch.device,
        seed: int,
    ) -> None:
        self._mixup = mixup
        self._dropout = modality_dropout if len(block_widths) > 1 else 0.0
        self._widths = torch.tensor(block_widths, device=device)
        self._random = np.random.default_rng(seed)  # torch has no Beta distribution with a generator
        self._generator = torch.Generator(device).manual_seed(seed)

    def apply(self, rows: Tensor) -> MixedBatch:
        """Disturb a batch of shape (n, n_features); the tensor itself is not changed."""
        if self._dropout > 0:
            rows = rows * self._kept_blocks(len(rows)).repeat_interleave(self._widths, dim=1)
        if self._mixup == 0:
            return MixedBatch(rows)
        share = float(self._random.beta(self._mixup, self._mixup))
        partners = torch.randperm(len(rows), generator=self._generator, device=rows.device)
        return MixedBatch(torch.lerp(rows[partners], rows, share), partners, share)

    def _kept_blocks(self, n_rows: int) -> Tensor:
        """Draw a mask of shape (n_rows, n_blocks) with 1 for blocks that stay; every row keeps one."""
        draws = torch.rand(n_rows, len(self._widths), generator=self._generator, device=self._widths.device)
        kept = draws >= self._dropout
        # The largest draw of a row is as likely in each block, and is kept whenever any is.
        kept[torch.arange(n_rows, device=draws.device), draws.argmax(dim=1)] = True
        return kept.float()
