"""A small multi-layer perceptron over one or more blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from heads.blocks import block_slices
from heads.columns import ColumnScale, softmax
from heads.early_stopping import inner_split, matched_weights
from heads.estimator import Head, TrainedState
from heads.names import FUSIONS, RESAMPLERS
from heads.parameter_rules import Rule, number, one_of, whole
from heads.resampling import make_resampler

if TYPE_CHECKING:
    import torch

    from heads.fusion import NetworkShape
    from heads.training import WeightedRows

_ROWS_AT_ONCE = 1024


class MLPHead(Head):
    """Standardised blocks, fused, through hidden layers of (Linear, LayerNorm, GELU, Dropout).

    Parameters
    ----------
    hidden : int, default 128
        Units per hidden layer.
    n_hidden : int, default 1
        Hidden layers; 0 gives a linear model.
    dropout : float in [0, 1), default 0.3
    learning_rate, weight_decay : float, default 3e-4 and 1e-2
        Of AdamW.
    batch_size : int, default 128
    max_epochs : int, default 60
    patience : int, default 8
        Epochs without a lower validation loss after which training stops.
    validation_fraction : float in (0, 1), default 0.15
        Share of each class of the training rows that early stopping looks at; these rows are not learnt from.
    label_smoothing : float in [0, 1), default 0.05
    class_weight : None, "balanced" or mapping of label to weight, default "balanced"
        Applied after resampling, as in a pipeline: on balanced rows ``"balanced"`` changes nothing.
    resampler : str, default "none"
        One of ``heads.RESAMPLERS``. It sees the standardised rows that are learnt from, after the inner
        split, so a synthetic row never decides when to stop. (A resampling step before this head in a
        pipeline would break that.)
    fusion : str, default "concat"
        How blocks are combined; one of ``heads.names.FUSIONS``.
    blocks : mapping of str to int, or None
        Name and width of each block.
    device : str, default "cpu"
        Where to train, such as ``"cuda"``. Predictions are always made on the CPU.
    random_state : int, RandomState or None

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    weights_ : dict of str to ndarray, float32
        Network parameters by name.
    scale_ : ColumnScale
        Column means and spreads of the rows that were learnt from.
    n_epochs_ : int
        Epochs that were run.
    best_epoch_ : int
        The epoch (from 1) whose weights were kept.
    history_ : list of dict
        Per epoch: ``epoch``, ``train_loss``, ``valid_loss``, ``valid_macro_f1`` (the last two None without a
        split).
    n_features_in_ : int

    Notes
    -----
    When a class would give fewer than 2 rows to the inner split, all rows are learnt from for exactly
    ``max_epochs`` epochs: such sets have few batches per epoch, so this is a short training. Rows of one
    group (near-duplicates) may fall on both sides of the inner split; that can only make training stop later.

    Training is in float32; predictions are in float64, so that a row's result does not depend on the rows
    beside it.
    """

    _rules: ClassVar[Mapping[str, Rule]] = {
        "hidden": whole(1),
        "n_hidden": whole(0),
        "dropout": number(0, 1),
        "learning_rate": number(0, open_low=True),
        "weight_decay": number(0),
        "batch_size": whole(1),
        "max_epochs": whole(1),
        "patience": whole(1),
        "validation_fraction": number(0, 1, open_low=True),
        "label_smoothing": number(0, 1),
        "resampler": one_of(RESAMPLERS),
        "fusion": one_of(FUSIONS),
    }

    def __init__(
        self,
        hidden: int = 128,
        n_hidden: int = 1,
        *,
        dropout: float = 0.3,
        learning_rate: float = 3e-4,
        weight_decay: float = 1e-2,
        batch_size: int = 128,
        max_epochs: int = 60,
        patience: int = 8,
        validation_fraction: float = 0.15,
        label_smoothing: float = 0.05,
        class_weight: str | Mapping[object, float] | None = "balanced",
        resampler: str = "none",
        fusion: str = "concat",
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
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        self.resampler = resampler
        self.fusion = fusion
        self.blocks = blocks
        self.device = device
        self.random_state = random_state

    @property
    def n_parameters(self) -> int:
        """Weights, biases and LayerNorm parameters."""
        return sum(int(value.size) for value in self.weights_.values())

    def trained_state(self) -> TrainedState:
        """Return the network parameters and the column scale."""
        network = {f"network.{name}": value for name, value in self.weights_.items()}
        return TrainedState(network | {"mean": self.scale_.mean, "inverse": self.scale_.inverse})

    def _restore_state(self, state: TrainedState) -> None:
        self.scale_ = ColumnScale(state.arrays["mean"], state.arrays["inverse"])
        self.weights_ = {
            name.removeprefix("network."): value
            for name, value in state.arrays.items()
            if name.startswith("network.")
        }

    def _fit_rows(
        self,
        X: NDArray[Any],
        codes: NDArray[np.intp],
        weights: NDArray[np.float64],
        *,
        has_sample_weight: bool,
    ) -> None:
        from heads.fusion import build_network
        from heads.training import Schedule, train

        if has_sample_weight and self.resampler != "none":
            raise ValueError(
                f"sample_weight cannot be combined with resampler={self.resampler!r}, because synthetic and "
                "repeated rows have no weight of their own. Use resampler='none', or leave sample_weight out."
            )
        device = _device(self.device)
        seed = self._seed()
        rows, held_out = self._prepare(X, codes, weights, device=device, seed=seed)
        trained = train(
            build_network(self.fusion, self._shape(), seed=seed, device=device),
            rows,
            held_out,
            Schedule(
                learning_rate=self.learning_rate,
                weight_decay=self.weight_decay,
                batch_size=self.batch_size,
                max_epochs=self.max_epochs,
                patience=self.patience,
                label_smoothing=self.label_smoothing,
            ),
            seed=seed,
        )
        self.weights_ = trained.weights
        self.history_ = trained.history
        self.n_epochs_ = len(trained.history)
        self.best_epoch_ = trained.best_epoch

    def _prepare(
        self,
        X: NDArray[Any],
        codes: NDArray[np.intp],
        weights: NDArray[np.float64],
        *,
        device: torch.device,
        seed: int,
    ) -> tuple[WeightedRows, WeightedRows | None]:
        """Split first, then scale, then resample: held-out rows are original rows and shape nothing."""
        from heads.training import WeightedRows

        split = inner_split(codes, self.validation_fraction, np.random.RandomState(seed))
        kept, held_out = (np.arange(len(X)), None) if split is None else split
        self.scale_ = ColumnScale.of(X[kept], weights[kept])
        rows, row_codes, row_weights = self.scale_.apply(X[kept]), codes[kept], weights[kept]
        sampler = make_resampler(self.resampler, random_state=seed)
        if sampler is not None:
            rows, row_codes = sampler.fit_resample(rows, row_codes)
            row_weights = np.ones(len(rows))
        row_weights = self._weigh(row_codes, row_weights)
        learnt_from = WeightedRows.on(device, rows, row_codes, row_weights)
        if held_out is None:
            return learnt_from, None
        matched = matched_weights(row_codes, row_weights, codes[held_out], weights[held_out])
        return learnt_from, WeightedRows.on(device, self.scale_.apply(X[held_out]), codes[held_out], matched)

    def _probabilities(self, X: NDArray[Any]) -> NDArray[np.float64]:
        import torch

        from heads.fusion import build_network

        network = build_network(self.fusion, self._shape(), seed=0, device=torch.device("cpu"))
        network.load_state_dict({name: torch.from_numpy(value) for name, value in self.weights_.items()})
        network = network.double().eval()
        out = np.empty((len(X), len(self.classes_)))
        with torch.inference_mode():
            for start in range(0, len(X), _ROWS_AT_ONCE):
                rows = self.scale_.apply(X[start : start + _ROWS_AT_ONCE].astype(np.float64))
                out[start : start + len(rows)] = network(torch.from_numpy(rows)).numpy()
        return softmax(out)

    def _shape(self) -> NetworkShape:
        """Return the sizes of the network for the fitted data."""
        from heads.fusion import NetworkShape

        slices = block_slices(self.blocks, self.n_features_in_)
        return NetworkShape(
            block_widths=tuple(columns.stop - columns.start for columns in slices.values()),
            n_classes=len(self.classes_),
            hidden=self.hidden,
            n_hidden=self.n_hidden,
            dropout=self.dropout,
        )


def _device(name: str) -> torch.device:
    """Turn a name into a device that is there."""
    import torch

    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"device={name!r} is not a device torch knows; use 'cpu', 'cuda' or 'cuda:N'."
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device={name!r} was asked for, but torch sees no CUDA device here; use device='cpu'."
        )
    return device
