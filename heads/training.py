"""Training a network on rows that are in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from heads.early_stopping import macro_f1


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    Attributes
    ----------
    learning_rate, weight_decay : float
        Of AdamW.
    batch_size : int
        Largest batch; an epoch is cut into batches of equal size.
    max_epochs : int
    patience : int
        Epochs without a lower validation loss after which training stops.
    label_smoothing : float in [0, 1)
    """

    learning_rate: float
    weight_decay: float
    batch_size: int
    max_epochs: int
    patience: int
    label_smoothing: float


@dataclass(frozen=True)
class WeightedRows:
    """Rows on the training device.

    Attributes
    ----------
    X : Tensor of shape (n, n_features), float32
    codes : Tensor of shape (n,), int64
    weights : Tensor of shape (n,), float32, mean 1
    """

    X: Tensor
    codes: Tensor
    weights: Tensor

    @classmethod
    def on(
        cls, device: torch.device, X: NDArray[Any], codes: NDArray[np.intp], weights: NDArray[np.float64]
    ) -> WeightedRows:
        """Copy arrays to a device and scale the weights to a mean of 1."""
        return cls(
            torch.as_tensor(np.ascontiguousarray(X, dtype=np.float32), device=device),
            torch.as_tensor(codes.astype(np.int64), device=device),
            torch.as_tensor((weights / weights.mean()).astype(np.float32), device=device),
        )


@dataclass(frozen=True)
class Trained:
    """What training gives.

    Attributes
    ----------
    weights : dict of str to ndarray, float32
        Parameters by name, from the best epoch.
    history : list of dict
        Per epoch: ``epoch`` (from 1), ``train_loss``, ``valid_loss``, ``valid_macro_f1`` (None without
        held-out rows).
    best_epoch : int
    """

    weights: dict[str, NDArray[np.float32]]
    history: list[dict[str, float | int | None]]
    best_epoch: int


def train(
    network: nn.Module, rows: WeightedRows, held_out: WeightedRows | None, schedule: Schedule, *, seed: int
) -> Trained:
    """Train in place.

    Parameters
    ----------
    network : torch.nn.Module
    rows : WeightedRows
        To learn from.
    held_out : WeightedRows or None
        To stop on: the weights of the epoch with the lowest loss here are kept. None trains ``max_epochs``
        epochs.
    schedule : Schedule
    seed : int
        Of the order of the rows.

    Returns
    -------
    Trained

    Raises
    ------
    ValueError
        If the loss was not finite in any epoch.
    """
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay, fused=True
    )
    history: list[dict[str, float | int | None]] = []
    best_epoch, best_loss, best_weights = 0, math.inf, {}
    for epoch in range(1, schedule.max_epochs + 1):
        train_loss = _one_epoch(network, rows, optimiser, schedule, generator)
        valid_loss, valid_macro_f1 = _evaluate(network, held_out, schedule) if held_out else (None, None)
        history.append(
            {
                "epoch": epoch,
                "train_loss": train_loss,
                "valid_loss": valid_loss,
                "valid_macro_f1": valid_macro_f1,
            }
        )
        if not math.isfinite(train_loss):
            break  # nothing can be learnt from here on; an earlier epoch may still be good
        if valid_loss is None or valid_loss < best_loss:
            best_epoch, best_loss = epoch, math.inf if valid_loss is None else valid_loss
            best_weights = {name: value.detach().clone() for name, value in network.named_parameters()}
        elif epoch - best_epoch >= schedule.patience:
            break
    if not best_weights:
        raise ValueError(
            f"The loss of the MLP was not finite in its first epoch "
            f"(learning_rate={schedule.learning_rate}). Use a smaller learning_rate, or look for extreme "
            "values in X."
        )
    weights = {name: value.cpu().numpy() for name, value in best_weights.items()}
    return Trained(weights, history, best_epoch)


def _one_epoch(
    network: nn.Module,
    rows: WeightedRows,
    optimiser: torch.optim.Optimizer,
    schedule: Schedule,
    generator: torch.Generator,
) -> float:
    """Take one pass over the rows in random order; return the mean loss."""
    network.train()
    n_rows = len(rows.X)
    order = torch.randperm(n_rows, generator=generator).to(rows.X.device)
    total = torch.zeros((), device=rows.X.device)
    # Batches of equal size: a last batch of two rows would take a step as large as the others.
    for batch in order.tensor_split(math.ceil(n_rows / schedule.batch_size)):
        logits = network(rows.X.index_select(0, batch))
        loss = _loss(logits, rows.codes[batch], rows.weights[batch], schedule.label_smoothing)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        total += loss.detach() * len(batch)
    return float(total) / n_rows


def _evaluate(network: nn.Module, rows: WeightedRows, schedule: Schedule) -> tuple[float, float]:
    """Return (loss, macro-F1) on held-out rows; the loss is the one that is being trained."""
    network.eval()
    with torch.inference_mode():
        logits = network(rows.X)
        loss = _loss(logits, rows.codes, rows.weights, schedule.label_smoothing)
    predicted = logits.argmax(dim=1).cpu().numpy()
    return float(loss), macro_f1(rows.codes.cpu().numpy(), predicted, logits.shape[1])


def _loss(logits: Tensor, codes: Tensor, weights: Tensor, label_smoothing: float) -> Tensor:
    """Return the mean of the rows' losses times their weights.

    Weights have a mean of 1 over all rows, not over the batch: then the mean over batches is the loss of the
    whole set, however the rare rows fall.
    """
    losses = functional.cross_entropy(logits, codes, reduction="none", label_smoothing=label_smoothing)
    return (losses * weights).mean()
