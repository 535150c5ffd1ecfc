"""Gradient-boosted trees (LightGBM) on principal directions of each block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from heads.blocks import block_slices
from heads.class_weights import EFFECTIVE_BETA, row_weights
from heads.columns import ColumnScale, LinearMap
from heads.estimator import Head, TrainedState
from heads.parameter_rules import Rule, check_parameters, number, whole
from heads.projection import block_directions

if TYPE_CHECKING:
    from lightgbm import Booster


class LightGBMHead(Head):
    """LightGBM on standardised, PCA-reduced columns.

    Parameters
    ----------
    n_estimators : int, default 100
        Boosting rounds; each grows one tree per class.
    learning_rate : float, default 0.1
    num_leaves : int, default 7
    min_child_samples : int, default 20
        Smallest number of rows in a leaf.
    feature_fraction : float, default 0.3
        Share of the columns that each tree may use.
    reg_lambda : float, default 1.0
        L2 penalty on leaf values.
    max_bin : int, default 63
    pca : int or None, default 64
        Principal directions per block (capped by the rows and the width). None leaves the columns as they
        are, which on 1,536 of them is 10 to 100 times slower.
    class_weight : None, "balanced", "effective", float in [0, 1] or mapping, default "balanced"
        A number is a power of the balanced weights; see ``heads.class_weights.row_weights``.
    class_boost : mapping of label to factor, or None
        Multiplied on top of the class weights, such as ``{"neutral": 1.5}``.
    effective_beta : float in [0, 1), default 0.999
        For ``class_weight="effective"``.
    blocks : mapping of str to int, or None
        Name and width of each block: each gets principal directions of its own.
    n_jobs : int, default 2
        Threads. A fixed number, because LightGBM's own default oversubscribes small machines.
    random_state : int, RandomState or None

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    booster_ : lightgbm.Booster
    projection_ : LinearMap or None
        From raw rows to the columns the trees see. None when ``pca`` is None: trees need no scaling.
    n_features_in_ : int

    Notes
    -----
    Trees split one column at a time, and the columns of an embedding mean little alone; principal directions
    carry more per column and make a fit 10 to 100 times cheaper.
    """

    _rules: ClassVar[Mapping[str, Rule]] = {
        "n_estimators": whole(1),
        "learning_rate": number(0, open_low=True),
        "num_leaves": whole(2),
        "min_child_samples": whole(1),
        "feature_fraction": number(0, 1, open_low=True, open_high=False),
        "reg_lambda": number(0),
        "max_bin": whole(2),
        "pca": whole(1, or_none=True),
        "n_jobs": whole(1),
        "effective_beta": number(0, 1),
    }

    def __init__(
        self,
        n_estimators: int = 100,
        learning_rate: float = 0.1,
        *,
        num_leaves: int = 7,
        min_child_samples: int = 20,
        feature_fraction: float = 0.3,
        reg_lambda: float = 1.0,
        max_bin: int = 63,
        pca: int | None = 64,
        class_weight: str | float | Mapping[object, float] | None = "balanced",
        class_boost: Mapping[object, float] | None = None,
        effective_beta: float = EFFECTIVE_BETA,
        blocks: Mapping[str, int] | None = None,
        n_jobs: int = 2,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.n_estimators = n_estimators
        self.learning_rate = learning_rate
        self.num_leaves = num_leaves
        self.min_child_samples = min_child_samples
        self.feature_fraction = feature_fraction
        self.reg_lambda = reg_lambda
        self.max_bin = max_bin
        self.pca = pca
        self.class_weight = class_weight
        self.class_boost = class_boost
        self.effective_beta = effective_beta
        self.blocks = blocks
        self.n_jobs = n_jobs
        self.random_state = random_state

    @property
    def n_parameters(self) -> int:
        """Leaf values and split thresholds of all trees, plus the entries of the principal directions."""
        leaves = [tree["num_leaves"] for tree in self.booster_.dump_model()["tree_info"]]
        directions = 0 if self.projection_ is None else int(np.count_nonzero(self.projection_.matrix))
        return int(sum(2 * n - 1 for n in leaves)) + directions

    def trained_state(self) -> TrainedState:
        """Return the projection and the booster's text."""
        arrays = {}
        if self.projection_ is not None:
            arrays = {"projection": self.projection_.matrix, "projection_bias": self.projection_.bias}
        return TrainedState(arrays, text=self.booster_.model_to_string())

    def binning_settings(self) -> dict[str, Any]:
        """Return, in LightGBM's names, what is fixed once rows are binned.

        Returns
        -------
        dict of str to JSON value
            For ``lightgbm.Dataset(params=...)``.
        """
        return {
            "max_bin": self.max_bin,
            "feature_pre_filter": False,
            "num_threads": self.n_jobs,
            "verbosity": -1,
        }

    def booster_settings(self, n_classes: int) -> dict[str, Any]:
        """Translate the arguments into LightGBM's names.

        Parameters
        ----------
        n_classes : int

        Returns
        -------
        dict of str to JSON value
            For ``lightgbm.Booster(params=...)`` on rows binned with ``binning_settings``. ``n_estimators`` is
            not among them.

        Raises
        ------
        ValueError
            If a constructor argument is out of range.
        """
        check_parameters(type(self).__name__, self.get_params(deep=False), self._rules)
        return self.binning_settings() | {
            "objective": "multiclass",
            "num_class": n_classes,
            "learning_rate": self.learning_rate,
            "num_leaves": self.num_leaves,
            "min_data_in_leaf": self.min_child_samples,
            "feature_fraction": self.feature_fraction,
            "lambda_l2": self.reg_lambda,
            "seed": self._seed(),
            "deterministic": True,
            "force_col_wise": True,
        }

    def booster_weights(
        self, codes: NDArray[np.intp], classes: Sequence[object], sample_weight: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return what each training row counts: sample weight times class weight, with a mean of 1.

        Parameters
        ----------
        codes : ndarray of shape (n_samples,), integer
            Position of each row's label in `classes`.
        classes : sequence of length n_classes
        sample_weight : ndarray of shape (n_samples,), float64
            Not negative; every class has a positive total.

        Returns
        -------
        ndarray of shape (n_samples,), float64

        Raises
        ------
        ValueError
            See ``heads.class_weights.row_weights``.
        """
        weights = row_weights(
            codes,
            classes,
            class_weight=self.class_weight,
            sample_weight=sample_weight,
            class_boost=self.class_boost,
            effective_beta=self.effective_beta,
        )
        scaled: NDArray[np.float64] = weights / weights.mean()
        return scaled

    def _restore_state(self, state: TrainedState) -> None:
        if state.text is None:
            raise ValueError("A LightGBM head needs the booster's text, but the saved state has none.")
        self.projection_ = None
        if "projection" in state.arrays:
            self.projection_ = LinearMap(state.arrays["projection"], state.arrays["projection_bias"])
        self.booster_ = _booster_from_text(state.text)

    def _fit_rows(
        self,
        X: NDArray[Any],
        codes: NDArray[np.intp],
        weights: NDArray[np.float64],
        origins: NDArray[np.intp] | None,  # noqa: ARG002 - no row is held back here
        *,
        has_sample_weight: bool,  # noqa: ARG002 - weights hold everything needed here
    ) -> None:
        import lightgbm

        self.projection_ = self._projection(X, weights)
        data = lightgbm.Dataset(
            self._columns(X),
            label=codes,
            weight=self.booster_weights(codes, self.classes_.tolist(), weights),
            params=self.binning_settings(),
            free_raw_data=True,
        )
        settings = self.booster_settings(len(self.classes_))
        booster = lightgbm.train(settings, data, num_boost_round=self.n_estimators)
        # The booster read back from text is what a model file holds, and it lets go of the training data.
        self.booster_ = _booster_from_text(booster.model_to_string())

    def _probabilities(self, X: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(self.booster_.predict(self._columns(X), num_threads=self.n_jobs), dtype=np.float64)

    def _projection(self, X: NDArray[Any], weights: NDArray[np.float64]) -> LinearMap | None:
        """Fit standardising and PCA on the training rows, folded into one map."""
        if self.pca is None:
            return None
        scale = ColumnScale.of(X, weights, self.blocks)
        slices = block_slices(self.blocks, X.shape[1])
        directions = block_directions(scale.apply(X), slices.values(), self.pca)
        return scale.fold(directions, np.zeros(directions.shape[1]))

    def _columns(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return the columns the trees see."""
        return X if self.projection_ is None else self.projection_.apply(X)


def _booster_from_text(text: str) -> Booster:
    """Read a booster from its text form."""
    import lightgbm

    return lightgbm.Booster(model_str=text)
