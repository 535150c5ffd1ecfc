"""A small multi-layer perceptron over one or more blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted, validate_data

from heads.blocks import block_slices
from heads.columns import ColumnScale, LinearMap
from heads.estimator import TrainedState
from heads.large_rows import LargeRows, is_large, widened
from heads.members import Member, join_members, split_members, with_unseen_blocks
from heads.mlp_settings import MLPSettings
from heads.training_rows import TrainingRows, prepare_rows

if TYPE_CHECKING:
    import torch


class MLPHead(MLPSettings):
    """Standardised blocks, fused, through hidden layers of (Linear, LayerNorm, GELU, Dropout).

    Parameters
    ----------
    hidden : int or list of int, default 128
        Units of the hidden layers after the fusion. A list gives the units of each layer; `n_hidden` and
        `taper` then play no part.
    n_hidden : int, default 1
        Hidden layers; 0 gives a linear layer on what is fused.
    dropout : float in [0, 1), default 0.3
    learning_rate, weight_decay : float, default 3e-4 and 1e-2
        Of AdamW. The learning rate is the largest of the schedule.
    batch_size : int, default 128
    max_epochs : int, default 60
    patience : int, default 8
        Epochs without gain in `stop_metric` after which training stops.
    validation_fraction : float in [0, 1), default 0.15
        Share of each class of the training rows that early stopping looks at; these rows are not learnt from.
        With 0 all rows are learnt from, for `max_epochs` epochs.
    stop_metric : str, default "loss"
        What decides on the held-out rows which epoch is kept: ``"loss"``, ``"macro_f1"``, ``"weighted_f1"``
        or ``"accuracy"``.
    schedule : str, default "constant"
        Course of the learning rate: ``"constant"``; ``"cosine"`` (to 0 in `max_epochs`); ``"one-cycle"``
        (up and down once, with torch's default ratios and beta); ``"plateau"`` (halved after 2 epochs in a
        row without gain).
    warmup : float in (0, 1), default 0.3
        Share of the steps in which ``"one-cycle"`` rises.
    clip_norm : float or None
        Largest norm of the gradient of all parameters together.
    loss : str, default "cross-entropy"
        Or ``"focal"``.
    focal_gamma : float, default 2.0
    label_smoothing : float in [0, 1), default 0.05
    logit_adjustment : float, default 0.0
        ``tau`` of logit adjustment; 1 aims at the balanced error. It does what class weights do, so give
        ``class_weight=None`` with it.
    class_weight : None, "balanced", "effective", float in [0, 1] or mapping, default "balanced"
        Applied after resampling, as in a pipeline: on balanced rows ``"balanced"`` changes nothing. A
        number is a power of the balanced weights; see ``heads.class_weights.row_weights``.
    class_boost : mapping of label to factor, or None
        Multiplied on top of the class weights, such as ``{"neutral": 1.5}``.
    effective_beta : float in [0, 1), default 0.999
        For ``class_weight="effective"``.
    resampler : str, default "none"
        One of ``heads.RESAMPLERS``. It sees the standardised rows that are learnt from, after the inner
        split, so a synthetic row never decides when to stop. (A resampling step before this head in a
        pipeline would break that.)
    view_per_epoch : bool, default False
        Whether an epoch shows each training sample once, in one of its augmented views (the clean one among
        them) drawn anew, instead of all its views. It takes as many steps as without views.
    mixup : float, default 0.0
        Parameter of the Beta distribution of mixup; 0 is off.
    modality_dropout : float in [0, 1), default 0.0
        Chance of each block of a training row to be hidden in a step.
    fusion : str, default "concat"
        How blocks are combined; one of ``heads.names.FUSIONS``, each described in ``heads.fusion`` and
        ``heads.networks``: ``"concat"``, ``"projection"`` (each block projected, then side by side),
        ``"early"`` (projected and added), ``"weighted_sum"``, ``"gated"``, ``"attention"``, ``"product"``,
        ``"bilinear"`` (low rank), ``"late"`` (one network per block, mean probability).
    projection_width : int, default 128
        Units that each block is projected to (not in ``"concat"`` and ``"late"``).
    n_attention_heads : int, default 4
        Of ``"attention"``; must divide `projection_width`.
    rank : int, default 4
        Of ``"bilinear"``.
    norm : str, default "layer"
        Or ``"batch"`` or ``"none"``: what normalises hidden units.
    activation : str, default "gelu"
        Or ``"relu"``.
    taper : bool, default False
        Whether each further hidden layer has half the units of the one before.
    residual : bool, default False
        Whether the input of a hidden layer, and of attention, is added to its output.
    input_norm : bool, default False
        Whether each block of a (standardised) row is layer-normalised first.
    pca : int or None, default None
        Principal directions of each block that the network sees, at most (capped by the rows and the width);
        None keeps the columns as they are. Fewer columns train in less time.
    whiten : bool, default False
        Whether each principal column is scaled to a variance of 1, instead of each block as a whole.
    screen_blocks : bool, default True
        Whether a block that says no more about the labels of the training rows than the same vectors dealt
        to other rows is left out, as if it had not been given (see ``heads.silent_blocks``; one block at
        least stays). A wide block that says nothing is otherwise fitted like one that speaks.
    n_members : int, default 1
        Networks whose probabilities are averaged. Each has its own seed, and with it its own inner split,
        first weights and order of rows: the head is the mean of as many heads.
    blocks : mapping of str to int, or None
        Name and width of each block.
    device : str, default "cpu"
        Where to train, such as ``"cuda"``. Predictions are always made on the CPU.
    random_state : int, RandomState or None

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    members_ : list of Member
        The trained networks. The attributes below are those of the first.
    weights_ : dict of str to ndarray, float32
        Network parameters by name.
    scale_ : ColumnScale or LinearMap
        From rows as they come to the columns that the network sees, measured on the rows that were learnt
        from: a LinearMap with `pca`.
    silent_blocks_ : list of str
        Blocks that were left out, because they say nothing. Their weight in what follows is 0.
    n_epochs_ : int
        Epochs that were run.
    best_epoch_ : int
        The epoch (from 1) whose weights were kept.
    history_ : list of dict
        Per epoch: ``epoch``, ``learning_rate`` (of its last step), ``train_loss``, ``valid_loss``,
        ``valid_macro_f1``, ``valid_weighted_f1``, ``valid_accuracy`` (the last four None without a split).
    fusion_weights_ : ndarray of shape (n_epochs, n_blocks), float32, or None
        Mean weight of each block on the held-out rows (without a split, on the rows learnt from) after each
        epoch; None for fusions that do not weigh blocks.
    n_features_in_ : int

    Notes
    -----
    When a class would give fewer than 2 rows to the inner split, all rows are learnt from for exactly
    ``max_epochs`` epochs: such sets have few batches per epoch, so this is a short training. Rows of one
    group (near-duplicates) may fall on both sides of the inner split; that can only make training stop later.

    Training is in float32; predictions are in float64, so that a row's result does not depend on the rows
    beside it.

    Rows on disk that are too many for memory are read in every epoch, shuffled in windows of 256 MiB (see
    ``heads.large_training``); where they fit in one window the result is that of rows in memory.
    """

    @property
    def weights_(self) -> Mapping[str, NDArray[Any]]:
        """Network parameters by name."""
        return self.members_[0].weights

    @property
    def scale_(self) -> ColumnScale | LinearMap:
        """From rows as they come to the columns that the network sees."""
        return self.members_[0].scale

    @property
    def silent_blocks_(self) -> list[str]:
        """Blocks that were left out, because they say nothing."""
        names = list(block_slices(self.blocks, self.n_features_in_))
        widths = self.members_[0].block_widths or self._block_widths()
        return [name for name, width in zip(names, widths, strict=True) if width == 0]

    @property
    def history_(self) -> list[dict[str, float | int | None]]:
        """What was measured after each epoch."""
        return self.members_[0].history

    @property
    def fusion_weights_(self) -> NDArray[np.float32] | None:
        """Mean weight of each block after each epoch."""
        return self.members_[0].fusion_weights

    @property
    def n_epochs_(self) -> int:
        """Epochs that were run."""
        return len(self.members_[0].history)

    @property
    def best_epoch_(self) -> int:
        """The epoch whose weights were kept."""
        return self.members_[0].best_epoch

    @property
    def n_parameters(self) -> int:
        """Trained weights, biases and norms of all networks."""
        return sum(member.n_parameters for member in self.members_)

    def sample_fusion_weights(self, X: ArrayLike, *, detail: bool = False) -> NDArray[np.float64]:
        """Say how much each block counts in each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        detail : bool
            Whether to return the weights of the first network as fine as it computes them: for ``"gated"``
            one per unit, (n_samples, n_blocks, projection_width); for ``"attention"`` (n_samples, n_heads,
            n_blocks that ask, n_blocks that are asked).

        Returns
        -------
        ndarray of shape (n_samples, n_blocks), float64
            Columns in the order of ``blocks``; each row sums to one. Mean over the networks.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ValueError
            If the fusion does not weigh blocks, or `X` does not fit.
        """
        check_is_fitted(self, "classes_")
        if is_large(X):
            parts = (widened(part) for _, part in LargeRows(X).chunks())
            return np.concatenate([self.sample_fusion_weights(part, detail=detail) for part in parts])
        rows = validate_data(self, X, dtype=[np.float32, np.float64], order="C", reset=False)
        used = self.members_[:1] if detail else self.members_
        found = [member.fusion_weights_of(rows, self.fusion, self._shape(), detail=detail) for member in used]
        weights = [part for part in found if part is not None]
        if not weights:
            raise ValueError(
                f"fusion={self.fusion!r} does not weigh blocks. Use 'weighted_sum', 'gated' or 'attention'."
            )
        mean: NDArray[np.float64] = np.mean(weights, axis=0)
        return mean

    def layer_outputs(self, X: ArrayLike) -> dict[str, NDArray[np.float64]]:
        """Return what the layers of the first network make of rows, for maps of them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        dict of str to ndarray of shape (n_samples, width), float64
            ``fused``: the vectors that the fusion makes (not for ``"late"``, which fuses decisions, nor for
            ``"concat"``, whose vectors are the rows themselves); ``hidden``: what the last hidden layer hands
            to the output layer (for ``"late"`` those of every block's network side by side; not with
            ``n_hidden=0``).

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ValueError
            If `X` does not fit.
        """
        check_is_fitted(self, "classes_")
        rows = validate_data(self, X, dtype=[np.float32, np.float64], order="C", reset=False)
        return self.members_[0].layers_of(rows, self.fusion, self._shape())

    def trained_state(self) -> TrainedState:
        """Return the parameters and the column scale of every network."""
        return TrainedState(join_members(self.members_))

    def _restore_state(self, state: TrainedState) -> None:
        self.members_ = split_members(state.arrays, self.n_members)

    def _fit_rows(
        self,
        X: NDArray[Any],
        codes: NDArray[np.intp],
        weights: NDArray[np.float64],
        origins: NDArray[np.intp] | None,
        *,
        has_sample_weight: bool,  # noqa: ARG002 - weights hold everything needed here
    ) -> None:
        from heads.devices import training_device

        device = training_device(self.device)
        self.members_ = [
            self._fit_member(
                self._prepare(X, codes, weights, origins, device=device, seed=seed), device, seed
            )
            for seed in self._seeds(self.n_members)
        ]

    def fits_by_chunks(self, n_features: int) -> bool:  # noqa: ARG002 - of any width
        """Tell whether rows on disk can be trained on: without resampling and PCA."""
        return self.resampler == "none" and self.pca is None

    def _fit_large(self, rows: LargeRows, codes: NDArray[np.intp], weights: NDArray[np.float64]) -> None:
        from heads.devices import training_device
        from heads.large_training import prepare_large_rows

        device = training_device(self.device)
        slices = list(block_slices(self.blocks, self.n_features_in_).values())
        self.members_ = []
        for seed in self._seeds(self.n_members):
            data = prepare_large_rows(
                rows,
                codes,
                weights,
                slices=slices,
                screen_blocks=self.screen_blocks,
                validation_fraction=self.validation_fraction,
                weigh=self._weigh,
                device=device,
                seed=seed,
            )
            self.members_.append(self._fit_member(data, device, seed))

    def _fit_member(self, data: TrainingRows, device: torch.device, seed: int) -> Member:
        """Train one network."""
        from heads.networks import build_network
        from heads.training import train

        self._check_batches(len(data.learnt_from))
        seen = tuple(filter(None, data.block_widths))
        trained = train(
            build_network(self.fusion, replace(self._shape(), block_widths=seen), seed=seed, device=device),
            data.learnt_from,
            data.stopped_on,
            replace(self._plan(), block_widths=seen),
            self._loss(data.priors, device),
            seed=seed,
        )
        weighed = trained.fusion_weights
        return Member(
            data.scale,
            data.block_widths,
            trained.weights,
            trained.history,
            None if weighed is None else with_unseen_blocks(weighed, data.block_widths, axis=1),
            trained.best_epoch,
        )

    def _prepare(
        self,
        X: NDArray[Any],
        codes: NDArray[np.intp],
        weights: NDArray[np.float64],
        origins: NDArray[np.intp] | None = None,
        *,
        device: torch.device,
        seed: int,
    ) -> TrainingRows:
        """Return the rows of one network."""
        return prepare_rows(
            X,
            codes,
            weights,
            origins,
            slices=list(block_slices(self.blocks, X.shape[1]).values()),
            blocks=self.blocks,
            pca=self.pca,
            whiten=self.whiten,
            screen_blocks=self.screen_blocks,
            validation_fraction=self.validation_fraction,
            resampler=self.resampler,
            view_per_epoch=self.view_per_epoch,
            weigh=self._weigh,
            device=device,
            seed=seed,
        )

    def _probabilities(self, X: NDArray[Any]) -> NDArray[np.float64]:
        shape = self._shape()
        total = self.members_[0].probabilities(X, self.fusion, shape)
        for member in self.members_[1:]:
            total += member.probabilities(X, self.fusion, shape)
        return total / len(self.members_)
