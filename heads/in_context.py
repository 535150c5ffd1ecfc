"""TabPFN as a head: a transformer that reads the training rows each time it predicts, and trains nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from heads.blocks import block_slices
from heads.class_weights import EFFECTIVE_BETA
from heads.columns import ColumnScale, LinearMap
from heads.estimator import Head, TrainedState
from heads.parameter_rules import Rule, flag, number, whole
from heads.projection import block_directions


class InContextHead(Head):
    """TabPFN on the principal directions of each block, if its package and weights are there.

    Parameters
    ----------
    weights : str or None
        File of TabPFN's weights (a classifier's checkpoint). Needed: nothing is ever downloaded, because
        newer weights than version 2 have a licence that a user has to accept.
    n_estimators : int, default 4
        Passes over differently prepared rows that are averaged.
    pca : int, default 64
        Principal directions per block; TabPFN is made for tens to hundreds of columns.
    balance : bool, default False
        Whether probabilities are divided by the shares of the classes.
    class_weight, class_boost : None
        Accepted so that all heads are made alike; the network cannot weigh rows, so only None is.
    effective_beta : float
        Accepted so that all heads are made alike.
    blocks : mapping of str to int, or None
        Name and width of each block.
    random_state : int, RandomState or None

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    rows_ : ndarray of shape (n_samples, n_columns), float32
        Training rows on their principal directions: they are the model.
    codes_ : ndarray of shape (n_samples,), int64
    projection_ : LinearMap
    n_features_in_ : int

    Notes
    -----
    A saved model holds the training rows (projected), and predicting with it needs the package and the
    weights again. Rows are best a few thousand at most on a CPU; TabPFN itself refuses more than it was made
    for.

    References
    ----------
    N. Hollmann et al., "Accurate predictions on small data with a tabular foundation model", Nature 637
    (2025).
    """

    _rules: ClassVar[Mapping[str, Rule]] = {
        "n_estimators": whole(1),
        "pca": whole(1),
        "balance": flag(),
        "effective_beta": number(0, 1),
    }

    def __init__(
        self,
        *,
        weights: str | None = None,
        n_estimators: int = 4,
        pca: int = 64,
        balance: bool = False,
        class_weight: None = None,
        class_boost: None = None,
        effective_beta: float = EFFECTIVE_BETA,
        blocks: Mapping[str, int] | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.weights = weights
        self.n_estimators = n_estimators
        self.pca = pca
        self.balance = balance
        self.class_weight = class_weight
        self.class_boost = class_boost
        self.effective_beta = effective_beta
        self.blocks = blocks
        self.random_state = random_state

    @property
    def n_parameters(self) -> int:
        """Nothing is trained but the directions."""
        return int(self.projection_.matrix.size)

    def trained_state(self) -> TrainedState:
        """Return the projected training rows, their classes, the projection and the seed."""
        return TrainedState(
            {
                "rows": self.rows_,
                "codes": self.codes_,
                "matrix": self.projection_.matrix,
                "bias": self.projection_.bias,
                "seed": np.array([self._seed_]),
            }
        )

    def _restore_state(self, state: TrainedState) -> None:
        self.rows_, self.codes_ = state.arrays["rows"], state.arrays["codes"]
        self.projection_ = LinearMap(state.arrays["matrix"], state.arrays["bias"])
        self._seed_ = int(state.arrays["seed"][0])
        self._network = self._read_rows()

    def _fit_rows(
        self,
        X: NDArray[Any],
        codes: NDArray[np.intp],
        weights: NDArray[np.float64],
        origins: NDArray[np.intp] | None,  # noqa: ARG002 - no row is held back here
        *,
        has_sample_weight: bool,  # noqa: ARG002 - weights hold everything needed here
    ) -> None:
        faults = [name for name in ("class_weight", "class_boost") if getattr(self, name) is not None]
        faults += ["sample_weight"] if (weights != weights[0]).any() else []
        if faults:
            raise ValueError(
                f"TabPFN cannot weigh rows, but {', '.join(faults)} asks for it. Use balance=True or a "
                "resampler."
            )
        scale = ColumnScale.of(X, weights, self.blocks)
        slices = block_slices(self.blocks, X.shape[1])
        directions = block_directions(scale.apply(X), slices.values(), self.pca)
        self.projection_ = scale.fold(directions, np.zeros(directions.shape[1]))
        self.rows_ = self.projection_.apply(X).astype(np.float32)
        self.codes_ = codes.astype(np.int64)
        self._seed_ = self._seed()
        self._network = self._read_rows()

    def _probabilities(self, X: NDArray[Any]) -> NDArray[np.float64]:
        found = np.asarray(
            self._network.predict_proba(self.projection_.apply(X).astype(np.float32)), dtype=np.float64
        )
        probabilities: NDArray[np.float64] = found / found.sum(axis=1, keepdims=True)
        return probabilities

    def _read_rows(self) -> Any:
        """Return TabPFN with the training rows in its context."""
        try:
            import torch
            from tabpfn import TabPFNClassifier
        except ImportError as error:
            raise ImportError(
                f"Head 'tabpfn' needs the package tabpfn, which cannot be imported ({error}). Install it "
                "with: pip install tabpfn"
            ) from error
        if self.weights is None or not Path(self.weights).is_file():
            raise FileNotFoundError(
                f"Head 'tabpfn' needs a file of TabPFN's weights, but weights={self.weights!r} is none. Pass "
                "--set weights=FILE; weights are not downloaded, because newer ones than version 2 have a "
                "licence to accept."
            )
        network = TabPFNClassifier(
            model_path=self.weights,
            device="cpu",
            n_estimators=self.n_estimators,
            balance_probabilities=self.balance,
            random_state=self._seed_,
            # In half precision a row's answer would depend on the rows beside it.
            inference_precision=torch.float32,
        )
        return network.fit(self.rows_, self.codes_)
