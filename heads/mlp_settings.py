"""The arguments of an MLP head, and what they mean for its network, its loss and its training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from heads.blocks import block_slices
from heads.class_weights import EFFECTIVE_BETA
from heads.estimator import Head
from heads.faults import Faults
from heads.names import ACTIVATIONS, FUSIONS, LOSSES, NORMS, RESAMPLERS, SCHEDULES, STOP_METRICS
from heads.parameter_rules import Rule, flag, number, one_of, whole, wholes
from heads.resampling import check_resampling

if TYPE_CHECKING:
    import torch

    from heads.layers import NetworkShape
    from heads.losses import RowLoss
    from heads.training import Plan


MOST_UNITS = 1 << 16  # of a layer: more is a slip of the hand, and no memory holds it


class MLPSettings(Head):
    """Constructor of ``heads.MLPHead``, which documents the arguments."""

    _rules: ClassVar[Mapping[str, Rule]] = {
        "hidden": wholes(1, MOST_UNITS),
        "n_hidden": whole(0, 64),
        "dropout": number(0, 1),
        "learning_rate": number(0, open_low=True),
        "weight_decay": number(0),
        "batch_size": whole(1),
        "max_epochs": whole(1),
        "patience": whole(1),
        "validation_fraction": number(0, 1),
        "stop_metric": one_of(STOP_METRICS),
        "schedule": one_of(SCHEDULES),
        "warmup": number(0, 1, open_low=True),
        "clip_norm": number(0, open_low=True, or_none=True),
        "loss": one_of(LOSSES),
        "focal_gamma": number(0),
        "label_smoothing": number(0, 1),
        "logit_adjustment": number(0),
        "effective_beta": number(0, 1),
        "resampler": one_of(RESAMPLERS),
        "view_per_epoch": flag(),
        "mixup": number(0),
        "modality_dropout": number(0, 1),
        "fusion": one_of(FUSIONS),
        "projection_width": whole(1, MOST_UNITS),
        "n_attention_heads": whole(1),
        "rank": whole(1, 4096),
        "norm": one_of(NORMS),
        "activation": one_of(ACTIVATIONS),
        "taper": flag(),
        "residual": flag(),
        "input_norm": flag(),
        "pca": whole(1, or_none=True),
        "whiten": flag(),
        "screen_blocks": flag(),
        "n_members": whole(1, 1000),
    }

    def __init__(
        self,
        hidden: int | Sequence[int] = 128,
        n_hidden: int = 1,
        *,
        dropout: float = 0.3,
        learning_rate: float = 3e-4,
        weight_decay: float = 1e-2,
        batch_size: int = 128,
        max_epochs: int = 60,
        patience: int = 8,
        validation_fraction: float = 0.15,
        stop_metric: str = "loss",
        schedule: str = "constant",
        warmup: float = 0.3,
        clip_norm: float | None = None,
        loss: str = "cross-entropy",
        focal_gamma: float = 2.0,
        label_smoothing: float = 0.05,
        logit_adjustment: float = 0.0,
        class_weight: str | float | Mapping[object, float] | None = "balanced",
        class_boost: Mapping[object, float] | None = None,
        effective_beta: float = EFFECTIVE_BETA,
        resampler: str = "none",
        view_per_epoch: bool = False,
        mixup: float = 0.0,
        modality_dropout: float = 0.0,
        fusion: str = "concat",
        projection_width: int = 128,
        n_attention_heads: int = 4,
        rank: int = 4,
        norm: str = "layer",
        activation: str = "gelu",
        taper: bool = False,
        residual: bool = False,
        input_norm: bool = False,
        pca: int | None = None,
        whiten: bool = False,
        screen_blocks: bool = True,
        n_members: int = 1,
        blocks: Mapping[str, int] | None = None,
        device: str = "cpu",
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.hidden = hidden
        self.n_hidden = n_hidden
        self.dropout = dropout
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.stop_metric = stop_metric
        self.schedule = schedule
        self.warmup = warmup
        self.clip_norm = clip_norm
        self.loss = loss
        self.focal_gamma = focal_gamma
        self.label_smoothing = label_smoothing
        self.logit_adjustment = logit_adjustment
        self.class_weight = class_weight
        self.class_boost = class_boost
        self.effective_beta = effective_beta
        self.resampler = resampler
        self.view_per_epoch = view_per_epoch
        self.mixup = mixup
        self.modality_dropout = modality_dropout
        self.fusion = fusion
        self.projection_width = projection_width
        self.n_attention_heads = n_attention_heads
        self.rank = rank
        self.norm = norm
        self.activation = activation
        self.taper = taper
        self.residual = residual
        self.input_norm = input_norm
        self.pca = pca
        self.whiten = whiten
        self.screen_blocks = screen_blocks
        self.n_members = n_members
        self.blocks = blocks
        self.device = device
        self.random_state = random_state

    def _shape(self) -> NetworkShape:
        """Return the sizes of the network for the fitted data."""
        from heads.layers import NetworkShape

        return NetworkShape(
            block_widths=self._block_widths(),
            n_classes=len(self.classes_),
            hidden=layer_sizes(self.hidden, self.n_hidden, taper=self.taper),
            dropout=self.dropout,
            norm=self.norm,
            activation=self.activation,
            residual=self.residual,
            input_norm=self.input_norm,
            projection_width=self.projection_width,
            n_attention_heads=self.n_attention_heads,
            rank=self.rank,
        )

    def _plan(self) -> Plan:
        """Return how to train."""
        from heads.training import Plan

        return Plan(
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            max_epochs=self.max_epochs,
            patience=self.patience,
            stop_metric=self.stop_metric,
            schedule=self.schedule,
            warmup=self.warmup,
            clip_norm=self.clip_norm,
            mixup=self.mixup,
            modality_dropout=self.modality_dropout,
            block_widths=self._block_widths(),
        )

    def _loss(self, priors: NDArray[np.float64], device: torch.device) -> RowLoss:
        """Return the loss of a row."""
        import torch

        from heads.losses import RowLoss, adjusted_logit_offsets

        on_device = torch.as_tensor(priors.astype(np.float32), device=device)
        return RowLoss(
            kind=self.loss,
            label_smoothing=self.label_smoothing,
            focal_gamma=self.focal_gamma,
            logit_offsets=adjusted_logit_offsets(on_device, self.logit_adjustment),
        )

    def _block_widths(self) -> tuple[int, ...]:
        slices = block_slices(self.blocks, self.n_features_in_)
        return tuple(columns.stop - columns.start for columns in slices.values())

    def _check_training(self, labels: NDArray[Any], *, has_sample_weight: bool) -> None:
        faults = Faults("Its arguments do not go together")
        faults.note(self._check_combinations, has_sample_weight=has_sample_weight)
        faults.note(check_resampling, self.resampler, labels)
        faults.raise_any()

    def _check_combinations(self, *, has_sample_weight: bool) -> None:
        """Refuse arguments that do not go together."""
        faults = []
        if has_sample_weight and self.resampler != "none":
            faults.append(
                f"sample_weight cannot be combined with resampler={self.resampler!r}, because synthetic and "
                "repeated rows have no weight of their own (use resampler='none', or leave sample_weight out)"
            )
        if self.view_per_epoch and self.resampler != "none":
            faults.append(
                f"view_per_epoch cannot be combined with resampler={self.resampler!r}, because synthetic and "
                "repeated rows are views of no sample (use resampler='none' and class weights)"
            )
        if self.fusion == "attention" and self.projection_width % self.n_attention_heads:
            faults.append(
                f"n_attention_heads={self.n_attention_heads} does not divide projection_width="
                f"{self.projection_width} (choose a divisor)"
            )
        if faults:
            raise ValueError(f"{'; '.join(faults)}.")

    def _check_batches(self, n_rows: int) -> None:
        """Refuse batches that BatchNorm cannot measure."""
        n_batches = math.ceil(n_rows / self.batch_size)
        if self.norm == "batch" and n_rows // n_batches < 2:
            raise ValueError(
                f"norm='batch' needs two rows in every batch, but {n_rows} training row(s) in batches of at "
                f"most {self.batch_size} leave a batch of 1. Use norm='layer', or a larger batch_size."
            )


def layer_sizes(hidden: int | Sequence[int], n_hidden: int, *, taper: bool) -> tuple[int, ...]:
    """Return the units of each hidden layer.

    Parameters
    ----------
    hidden : int or sequence of int
    n_hidden : int
    taper : bool
        As in ``heads.MLPHead``.

    Returns
    -------
    tuple of int
        Empty when there is no hidden layer.
    """
    if isinstance(hidden, Sequence):
        return tuple(hidden)
    return tuple(max(1, hidden // 2**layer) if taper else hidden for layer in range(n_hidden))
