"""Many networks of one shape that learn from the same rows, trained as one computation.

A step of a small network is mostly overhead: dozens of kernels, each on too few numbers. Networks that differ
only in learning rate, weight decay, dropout, label smoothing, focal loss, logit adjustment and row weights
are stacked, so that each kernel serves all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from heads.adamw import AdamW
from heads.layers import NetworkShape
from heads.networks import build_network
from heads.stacked_forward import StackedForward

_ROWS_AT_ONCE = 4096  # of all networks together, in predictions


@dataclass(frozen=True)
class StackMember:
    """What may differ between the networks of a stack.

    Attributes
    ----------
    learning_rate, weight_decay : float
        Of AdamW.
    dropout : float in [0, 1)
    label_smoothing : float in [0, 1)
    focal_gamma : float
        0 is cross-entropy.
    logit_offsets : ndarray of shape (n_classes,), float32, or None
        Added to the logits in training (logit adjustment).
    weights : ndarray of shape (n_rows,), float32, mean 1
        Of the rows.
    """

    learning_rate: float
    weight_decay: float
    dropout: float
    label_smoothing: float
    focal_gamma: float
    logit_offsets: NDArray[np.float32] | None
    weights: NDArray[np.float32]


class NetworkStack:
    """Networks of one shape with the same first weights, order of rows and dropout draws.

    Parameters
    ----------
    fusion : str
        One of ``heads.names.FUSIONS``.
    shape : NetworkShape
        Its ``dropout`` plays no part; ``norm="batch"`` cannot be stacked.
    X : ndarray of shape (n_rows, n_features), float32
        Rows to learn from, standardised.
    codes : ndarray of shape (n_rows,), integer
    members : sequence of StackMember
    batch_size : int
    seed : int
        Of first weights, dropout and the order of the rows.

    Notes
    -----
    A member is the network that ``heads.training.train`` makes with ``validation_fraction=0``, a constant
    learning rate and the same seed, to the rounding of float32: its first weights, its order of rows and its
    dropout masks come from the same draws. Members share those draws, so they differ by merit and not by
    luck. Everything runs on the calling thread's share of torch threads and is exactly repeatable with one.

    References
    ----------
    D. Holzmüller et al., "Better by default: strong pre-tuned MLPs and boosted trees on tabular data",
    NeurIPS 2024 (pytabkit stacks folds and ensemble members, which share their hyper-parameters).
    """

    def __init__(
        self,
        fusion: str,
        shape: NetworkShape,
        X: NDArray[np.float32],
        codes: NDArray[np.int64],
        members: Sequence[StackMember],
        *,
        batch_size: int,
        seed: int,
    ) -> None:
        if shape.norm == "batch":
            raise ValueError(
                "Networks with norm='batch' cannot be stacked. Use norm='layer', or train them one by one."
            )
        self._rows = from_dlpack(X)  # unlike from_numpy, this takes read-only arrays
        self._codes = from_dlpack(codes)
        self._n_batches = math.ceil(len(X) / batch_size)
        self._order = torch.Generator().manual_seed(seed)
        network = build_network(fusion, shape, seed=seed, device=torch.device("cpu"))
        self._layout = {name: part.shape for name, part in network.named_parameters()}
        first = torch.cat([part.detach().flatten() for part in network.parameters()])
        self._forward = StackedForward(network)
        self._members = list(members)
        self._hold(first.expand(len(members), -1).clone())
        self._optimisers = [
            AdamW([own], learning_rate=member.learning_rate, weight_decay=member.weight_decay)
            for own, member in zip(self._flat, self._members, strict=True)
        ]
        self._gather()
        self.n_epochs = 0

    def __len__(self) -> int:
        """Return how many networks there are."""
        return len(self._members)

    def run_epochs(self, n_epochs: int) -> None:
        """Train all networks for some epochs more."""
        for _ in range(n_epochs):
            order = torch.randperm(len(self._rows), generator=self._order)
            for batch in order.tensor_split(self._n_batches):
                self._step(batch)
        self.n_epochs += n_epochs

    def probabilities(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return class probabilities.

        Parameters
        ----------
        X : ndarray of shape (n, n_features), float32

        Returns
        -------
        ndarray of shape (n_members, n, n_classes), float32
            NaN for a network whose weights are no longer finite.
        """
        chunk = max(1, _ROWS_AT_ONCE // len(self))
        with torch.no_grad():
            parts = [
                self._forward(self._parameters, from_dlpack(X[start : start + chunk]), None)
                for start in range(0, len(X), chunk)
            ]
            found: NDArray[np.float32] = torch.cat(parts, dim=1).softmax(dim=2).numpy()
        return found

    def keep(self, members: Sequence[int]) -> None:
        """Go on with some networks only.

        Parameters
        ----------
        members : sequence of int
            Places in the stack, ascending. Their new places are 0, 1, ...
        """
        if len(members) == len(self):
            return
        self._members = [self._members[i] for i in members]
        self._optimisers = [self._optimisers[i] for i in members]
        self._hold(self._flat.index_select(0, torch.as_tensor(list(members))))
        for own, optimiser in zip(self._flat, self._optimisers, strict=True):
            optimiser.weights = [own]
        self._gather()

    def _hold(self, flat: Tensor) -> None:
        """Take over the weights of all networks, one row each: an optimiser steps through memory once.

        Parameters
        ----------
        flat : Tensor of shape (n_members, n_parameters)
        """
        self._flat = flat
        self._gradients = torch.empty_like(flat)
        sizes = [shape.numel() for shape in self._layout.values()]
        self._parameters = {
            name: part.view(len(flat), *shape).requires_grad_()
            for (name, shape), part in zip(self._layout.items(), torch.split(flat, sizes, dim=1), strict=True)
        }

    def _gather(self) -> None:
        """Put what differs between the members side by side."""
        members = self._members
        self._kept = torch.tensor([1 - member.dropout for member in members], dtype=torch.float64)
        self._smoothing = torch.tensor([[member.label_smoothing] for member in members])
        self._gamma = torch.tensor([[member.focal_gamma] for member in members])
        self._weights = torch.from_numpy(np.stack([member.weights for member in members]))
        offsets = [member.logit_offsets for member in members]
        self._offsets = None
        if any(offset is not None for offset in offsets):
            width = next(len(offset) for offset in offsets if offset is not None)
            table = [np.zeros(width, np.float32) if offset is None else offset for offset in offsets]
            self._offsets = torch.from_numpy(np.stack(table))

    def _step(self, batch: Tensor) -> None:
        """Take one step of every network on the rows with the given numbers."""
        logits = self._forward(self._parameters, self._rows.index_select(0, batch), self._kept)
        losses = self._row_losses(logits, self._codes[batch]) * self._weights[:, batch]
        # Networks do not share a parameter: the gradient of the sum holds the gradient of each.
        found = torch.autograd.grad(losses.mean(dim=1).sum(), list(self._parameters.values()))
        torch.cat([gradient.flatten(start_dim=1) for gradient in found], dim=1, out=self._gradients)
        for optimiser, gradient in zip(self._optimisers, self._gradients, strict=True):
            optimiser.step([gradient])

    def _row_losses(self, logits: Tensor, codes: Tensor) -> Tensor:
        """Return the loss of each row in each network, as ``heads.losses.RowLoss`` does.

        Parameters
        ----------
        logits : Tensor of shape (n_members, n, n_classes), or (n_members, n_blocks, n, n_classes)
        codes : Tensor of shape (n,)

        Returns
        -------
        Tensor of shape (n_members, n)
        """
        if logits.dim() == 4:  # late fusion: a loss for each block's network
            blocks = [self._row_losses(part, codes) for part in logits.unbind(dim=1)]
            return torch.stack(blocks).mean(dim=0)
        if self._offsets is not None:
            logits = logits + self._offsets[:, None, :]
        log_shares = logits.log_softmax(dim=2)
        own = log_shares.gather(2, codes.expand(len(logits), -1)[:, :, None])[:, :, 0]
        losses = -(1 - self._smoothing) * own - self._smoothing * log_shares.mean(dim=2)
        if not self._gamma.any():
            return losses
        # 1 - p without cancellation: p near 1 would round the whole factor to 0.
        others = log_shares.scatter(2, codes.expand(len(logits), -1)[:, :, None], -torch.inf).logsumexp(dim=2)
        return losses * torch.exp(self._gamma * others)
