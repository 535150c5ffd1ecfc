"""Training a network on rows, wherever they are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from heads.adamw import AdamW
from heads.disturbances import Disturbances, MixedBatch
from heads.early_stopping import stop_scores
from heads.losses import RowLoss
from heads.networks import Network
from heads.schedules import make_schedule
from heads.threads import threads_for
from heads.weighted_rows import Batch, Rows

_ROWS_FOR_WEIGHTS = 512  # enough for a mean weight per block


@dataclass(frozen=True)
class Plan:
    """How to train.

    Attributes
    ----------
    learning_rate, weight_decay : float
        Of AdamW; the learning rate is the largest of the schedule.
    batch_size : int
        Largest batch; an epoch is cut into batches of equal size.
    max_epochs : int
    patience : int
        Epochs without gain after which training stops.
    stop_metric : str
        One of ``heads.names.STOP_METRICS``: what gain means.
    schedule : str
        One of ``heads.names.SCHEDULES``.
    warmup : float in (0, 1)
        For ``"one-cycle"``.
    clip_norm : float or None
        Largest Euclidean norm of the whole gradient.
    mixup, modality_dropout : float
        See ``heads.disturbances``; 0 is off.
    block_widths : tuple of int
    """

    learning_rate: float
    weight_decay: float
    batch_size: int
    max_epochs: int
    patience: int
    stop_metric: str
    schedule: str
    warmup: float
    clip_norm: float | None
    mixup: float
    modality_dropout: float
    block_widths: tuple[int, ...]


@dataclass(frozen=True)
class Trained:
    """What training gives.

    Attributes
    ----------
    weights : dict of str to ndarray
        Parameters and buffers by name, from the best epoch.
    history : list of dict
        Per epoch: ``epoch`` (from 1), ``learning_rate`` (of its last step), ``train_loss``, ``valid_loss``,
        ``valid_macro_f1``, ``valid_weighted_f1``, ``valid_accuracy`` (None without held-out rows).
    fusion_weights : ndarray of shape (n_epochs, n_blocks), float32, or None
        Mean weight of each block after each epoch.
    best_epoch : int
    """

    weights: dict[str, NDArray[Any]]
    history: list[dict[str, float | int | None]]
    fusion_weights: NDArray[np.float32] | None
    best_epoch: int


def train(
    network: Network,
    rows: Rows,
    held_out: Rows | None,
    plan: Plan,
    loss: RowLoss,
    *,
    seed: int,
) -> Trained:
    """Train in place.

    Parameters
    ----------
    network : FusedNetwork or LateNetwork
    rows : Rows
        To learn from.
    held_out : Rows or None
        To stop on: the weights of the epoch with the best value of the stop metric here are kept, the first
        of equals. None trains ``max_epochs`` epochs.
    plan : Plan
    loss : RowLoss
    seed : int
        Of the order of the rows, mixup and modality dropout.

    Returns
    -------
    Trained

    Raises
    ------
    ValueError
        If the loss was not finite in the first epoch.
    """
    n_weights = sum(part.numel() for part in network.parameters())
    with threads_for(plan.batch_size * n_weights):
        return _train(network, rows, held_out, plan, loss, seed=seed)


def _train(
    network: Network, rows: Rows, held_out: Rows | None, plan: Plan, loss: RowLoss, *, seed: int
) -> Trained:
    """Train epoch by epoch, and keep the weights of the best."""
    course = _Course(network, rows, plan, loss, seed=seed)
    history: list[dict[str, float | int | None]] = []
    fusion_weights: list[Tensor] = []
    best_epoch, best_value = 0, -math.inf
    lowest_train_loss = math.inf
    best_weights: dict[str, Tensor] = {}
    for epoch in range(1, plan.max_epochs + 1):
        train_loss = course.run_epoch()
        scores = _evaluate(network, held_out, loss) if held_out else {}
        history.append(_entry(epoch, course.learning_rate, train_loss, scores))
        weights = _mean_block_weights(network, held_out or rows)
        if weights is not None:
            fusion_weights.append(weights)
        if not math.isfinite(train_loss):
            break  # nothing can be learnt from here on; an earlier epoch may still be good
        value = _value(scores, plan.stop_metric)
        gained = train_loss < lowest_train_loss if value is None else value > best_value
        lowest_train_loss = min(lowest_train_loss, train_loss)
        if value is None or gained:
            best_epoch, best_value = epoch, -math.inf if value is None else value
            best_weights = {name: part.detach().clone() for name, part in network.state_dict().items()}
        elif epoch - best_epoch >= plan.patience:
            break
        course.after_epoch(gained=gained)
    if not best_weights:
        raise ValueError(
            f"The loss of the MLP was not finite in its first epoch (learning_rate={plan.learning_rate}). "
            "Use a smaller learning_rate, or look for extreme values in X."
        )
    return Trained(
        {name: part.cpu().numpy() for name, part in best_weights.items()},
        history,
        torch.stack(fusion_weights).cpu().numpy() if fusion_weights else None,
        best_epoch,
    )


class _Course:
    """The steps of one training."""

    def __init__(self, network: Network, rows: Rows, plan: Plan, loss: RowLoss, *, seed: int) -> None:
        self.network = network
        self.rows = rows
        self.plan = plan
        self.loss = loss
        self.parameters = list(network.parameters())
        self.optimiser = AdamW(
            [part.detach() for part in self.parameters],
            learning_rate=plan.learning_rate,
            weight_decay=plan.weight_decay,
        )
        self.order = torch.Generator().manual_seed(seed)
        self.n_batches = math.ceil(len(rows) / plan.batch_size)
        self.n_steps = 0
        self.schedule = make_schedule(
            plan.schedule,
            rate=plan.learning_rate,
            n_steps=self.n_batches * plan.max_epochs,
            warmup=plan.warmup,
        )
        self.disturbances = Disturbances(
            mixup=plan.mixup,
            modality_dropout=plan.modality_dropout,
            block_widths=plan.block_widths,
            device=rows.device,
            seed=seed,
        )

    @property
    def learning_rate(self) -> float:
        """The learning rate of the last step."""
        return self.optimiser.learning_rate

    def run_epoch(self) -> float:
        """Take one pass over the rows in random order; return the mean loss."""
        self.network.train()
        total = torch.zeros((), device=self.rows.device)
        for batch in self.rows.batches(self.order, self.n_batches):
            total += self._step(batch) * len(batch.X)
        return float(total) / len(self.rows)

    def after_epoch(self, *, gained: bool) -> None:
        """Let the schedule know how the epoch went."""
        self.schedule.after_epoch(self.optimiser, gained=gained)

    def _step(self, batch: Batch) -> Tensor:
        """Take one step on some rows; return the loss before it."""
        self.schedule.before_step(self.optimiser, self.n_steps)
        self.n_steps += 1
        mixed = self.disturbances.apply(batch.X)
        loss = self._mixed_loss(mixed, batch.codes, batch.weights)
        gradients = list(torch.autograd.grad(loss, self.parameters))
        if self.plan.clip_norm is not None:
            _clip(gradients, self.plan.clip_norm)
        self.optimiser.step(gradients)
        return loss.detach()

    def _mixed_loss(self, mixed: MixedBatch, codes: Tensor, weights: Tensor) -> Tensor:
        """Return the loss against the labels of the rows and of their partners, in their shares."""
        logits = self.network.training_logits(mixed.X)
        own = _mean_loss(self.loss, logits, codes, weights)
        if mixed.partners is None:
            return own
        other = _mean_loss(self.loss, logits, codes[mixed.partners], weights[mixed.partners])
        return mixed.share * own + (1 - mixed.share) * other


def _clip(gradients: list[Tensor], most: float) -> None:
    """Scale gradients down in place where their common norm is larger, as ``torch.nn.utils`` does."""
    norm = nn.utils.get_total_norm(gradients)
    torch._foreach_mul_(gradients, (most / (norm + 1e-6)).clamp(max=1.0))


def _mean_loss(loss: RowLoss, logits: Tensor, codes: Tensor, weights: Tensor) -> Tensor:
    """Return the mean of the rows' losses times their weights.

    Weights have a mean of 1 over all rows, not over the batch: then the mean over batches is the loss of the
    whole set, however the rare rows fall.
    """
    return (loss(logits, codes) * weights).mean()


def _evaluate(network: Network, rows: Rows, loss: RowLoss) -> dict[str, float]:
    """Return ``loss`` (the one that is being trained) and the other stop metrics on held-out rows."""
    network.eval()
    total, codes, predicted, n_classes = 0.0, [], [], 0
    with torch.inference_mode():
        for part in rows.parts():
            logits = network(part.X)
            total += float(_mean_loss(loss, logits, part.codes, part.weights)) * len(part.X)
            codes.append(part.codes.cpu().numpy())
            predicted.append(logits.argmax(dim=1).cpu().numpy())
            n_classes = logits.shape[1]
    scores = stop_scores(np.concatenate(codes), np.concatenate(predicted), n_classes)
    return {"loss": total / len(rows), **scores}


def _value(scores: dict[str, float], stop_metric: str) -> float | None:
    """Return what must grow, or None without held-out rows; a loss that is not finite is never a gain."""
    if not scores:
        return None
    if not math.isfinite(scores["loss"]):
        return -math.inf
    return -scores["loss"] if stop_metric == "loss" else scores[stop_metric]


def _mean_block_weights(network: Network, rows: Rows) -> Tensor | None:
    """Return the mean weight of each block over the first rows, shape (n_blocks,)."""
    network.eval()
    with torch.inference_mode():
        weights = network.block_weights(rows.first(_ROWS_FOR_WEIGHTS))
    return None if weights is None else weights.mean(dim=0)


def _entry(
    epoch: int, learning_rate: float, train_loss: float, scores: dict[str, float]
) -> dict[str, float | int | None]:
    """Return one line of the history."""
    valid = {f"valid_{name}": scores.get(name) for name in ("loss", "macro_f1", "weighted_f1", "accuracy")}
    return {"epoch": epoch, "learning_rate": learning_rate, "train_loss": train_loss, **valid}
