"""What may be tried of one head: the ranges that a search starts with, and what they become for some data.

The ranges suit 500 to 10,000 rows of 768 to 2,048 standardised features.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import heads
from tuning.balance import (
    BALANCE,
    CLASS_WEIGHT,
    HALF_CLASS_WEIGHT,
    NONE,
    SEARCHED_RESAMPLERS,
    balance_of,
    treatment,
)
from tuning.dimensions import Choice, Condition, Dimension, Float, Int
from tuning.trials import Configuration

if TYPE_CHECKING:
    import optuna

_WEIGHTS = Choice((CLASS_WEIGHT, HALF_CLASS_WEIGHT, NONE))
_WEIGHTS_AND_RESAMPLERS = Choice((CLASS_WEIGHT, HALF_CLASS_WEIGHT, *SEARCHED_RESAMPLERS))

_PCA: dict[str, tuple[int | None, ...]] = {"mlp": (64, 128, 256, None), "lightgbm": (16, 32, 64)}
"""Principal directions per block; None leaves the columns as they are."""

_MANY_FEATURES = 512
"""From here on an MLP on all columns costs several times one on principal directions, and is not tried."""

_FEW_FEATURES = 64
"""Up to here principal directions save nothing."""

_DIMENSIONS: dict[str, dict[str, Dimension]] = {
    "mlp": {
        "whiten": Choice((False, True)),
        "hidden": Choice((64, 128)),
        "n_hidden": Int(1, 2),
        "dropout": Float(0.0, 0.7),
        "learning_rate": Float(1e-4, 1e-2, log=True),
        "weight_decay": Float(1e-4, 1.0, log=True),
        "label_smoothing": Float(0.0, 0.2),
        "fusion": Choice(("concat", "projection", "gated", "product")),
        BALANCE: _WEIGHTS_AND_RESAMPLERS,
    },
    # Standardised columns by the hundred separate small data perfectly: the useful strengths are small.
    "logreg": {"C": Float(1e-5, 10.0, log=True), BALANCE: _WEIGHTS},
    # Cost grows with rounds x leaves x columns; principal components, few leaves and a small share of the
    # columns per tree are 20 to 50 times cheaper than the usual ranges on dense embeddings, and no worse.
    "lightgbm": {
        "learning_rate": Float(0.02, 0.3, log=True),
        "num_leaves": Int(3, 15, log=True),
        "min_child_samples": Int(5, 80, log=True),
        "feature_fraction": Float(0.1, 0.3),
        "reg_lambda": Float(1e-2, 100.0, log=True),
        BALANCE: _WEIGHTS,
    },
    "ridge": {"alpha": Float(1.0, 1e5, log=True), BALANCE: _WEIGHTS_AND_RESAMPLERS},
    # The curvature of the squared hinge is eight times that of the logistic loss: smaller C than logreg's.
    "svm": {"C": Float(1e-6, 0.1, log=True), BALANCE: _WEIGHTS_AND_RESAMPLERS},
    # Nothing but the treatment of the rare classes moves its predictions.
    "centroid": {BALANCE: _WEIGHTS_AND_RESAMPLERS},
    "knn": {
        "n_neighbors": Int(3, 100, log=True),
        "temperature": Float(0.02, 1.0, log=True),
        BALANCE: _WEIGHTS_AND_RESAMPLERS,
    },
}

# How long to train is not asked: a search keeps scores on the way and chooses the epoch or round itself, so
# it trains to the longest, without rows put aside for early stopping.
_FIXED: dict[str, dict[str, Any]] = {
    "mlp": {
        "validation_fraction": 0.0,
        "batch_size": 256,
        "max_epochs": 30,
        "schedule": "constant",
        "projection_width": 64,  # scored like 128 (0.8185 and 0.8163 to 0.8164 and 0.8205), in half the time
    },
    "lightgbm": {"n_estimators": 200},
}

_EPOCHS = ((20_000, 8, 12), (2_000, 20, 20))
"""On more than so many rows: the epochs that an MLP starts with, and may take at most.

Of ten learning rates and dropouts, scored after every epoch up to 30 on 12,000 other rows, the best up to
epoch 20 was 0.0004 below the best of all at 3,200 rows and 0.0006 at 8,000 (means over three problems, two
draws each). At 40,000 rows the best had come by epoch 6, and by 8 and 12 on two problems of 20,000."""

# What a search tries first, where that differs from the head's defaults and from the fixed values.
_START: dict[str, dict[str, Any]] = {
    "mlp": {"pca": 128, "learning_rate": 1e-3, "weight_decay": 1e-2, "max_epochs": 20},
    "lightgbm": {"n_estimators": 100},
}

CONDITIONS: dict[str, dict[str, Condition]] = {
    "mlp": {
        "whiten": Condition("pca", (None,), among=False),
        "projection_width": Condition("fusion", ("concat", "late"), among=False),
        "n_attention_heads": Condition("fusion", ("attention",)),
        "rank": Condition("fusion", ("bilinear",)),
        "focal_gamma": Condition("loss", ("focal",)),
        "warmup": Condition("schedule", ("one-cycle",)),
        "patience": Condition("validation_fraction", (0,), among=False),
        "stop_metric": Condition("validation_fraction", (0,), among=False),
    }
}
"""Head -> parameter -> when it matters. A parameter that does not keeps its fixed value, so that
configurations which differ in nothing that counts are equal."""


@dataclass(frozen=True)
class HeadSpace:
    """What may be tried of one head.

    Attributes
    ----------
    head : str
    dimensions : mapping of str to Dimension
        What is asked, by parameter name; ``balance`` is the treatment of the rare classes.
    fixed : mapping of str to JSON value
        A value for every parameter of the head and for ``balance``; those of `dimensions` hold while the
        dimension is not asked because its condition does not hold.
    start : mapping of str to JSON value
        What is tried first, where it is not the value in `fixed`.
    """

    head: str
    dimensions: Mapping[str, Dimension]
    fixed: Mapping[str, Any]
    start: Mapping[str, Any]

    def is_asked(self, name: str, values: Mapping[str, Any]) -> bool:
        """Whether a dimension matters, given the values of the other parameters."""
        condition = CONDITIONS.get(self.head, {}).get(name)
        return condition is None or condition.holds(values)

    def can_matter(self, name: str) -> bool:
        """Whether any value of the other parameters makes a parameter matter."""
        condition = CONDITIONS.get(self.head, {}).get(name)
        if condition is None:
            return True
        other = self.dimensions.get(condition.on)
        if isinstance(other, Float | Int):
            return True
        values = (self.fixed[condition.on],) if other is None else other.values
        return any(condition.holds({condition.on: value}) for value in values)

    @property
    def order(self) -> list[str]:
        """The dimensions in the order in which they are asked: those with a condition last."""
        conditioned = CONDITIONS.get(self.head, {})
        return sorted(self.dimensions, key=lambda name: name in conditioned)

    def suggest(self, trial: "optuna.Trial") -> Configuration:
        """Ask a trial for every dimension that matters; names in the study are prefixed by the head."""
        values = dict(self.fixed)
        for name in self.order:
            if self.is_asked(name, values):
                values[name] = self.dimensions[name].ask(trial, f"{self.head}.{name}")
        return self.configuration(values)

    def configuration(self, values: Mapping[str, Any]) -> Configuration:
        """Return the configuration with these values (a ``balance`` among them)."""
        resampler, class_weight = treatment(values[BALANCE])
        parameters = {name: value for name, value in values.items() if name != BALANCE}
        return Configuration(self.head, resampler, {**parameters, "class_weight": class_weight})

    def starting_configuration(self) -> Configuration:
        """Return the configuration that a search tries first; its dimensions lie inside the space."""
        values = {**self.fixed, **self.start}
        for name in self.order:
            asked = self.is_asked(name, values)
            values[name] = self.dimensions[name].nearest(values[name]) if asked else self.fixed[name]
        return self.configuration(values)

    def study_parameters(self, configuration: Configuration) -> dict[str, Any]:
        """Return the study parameters whose answer comes nearest to a configuration of this head."""
        word = balance_of(configuration.resampler, configuration.parameters)
        known = {**self.fixed, **configuration.parameters, BALANCE: word}
        return {
            f"{self.head}.{name}": dimension.label(dimension.nearest(known[name]))
            for name, dimension in self.dimensions.items()
        }

    def declared(self) -> dict[str, Any]:
        """Return the space as in a space file: what is asked, and what is fixed unlike the head's default."""
        asked = {name: dimension.declared() for name, dimension in self.dimensions.items()}
        usual = default_values(self.head)
        fixed = {n: v for n, v in self.fixed.items() if n not in asked and v != usual[n]}
        return {**asked, **fixed}


def default_values(head: str) -> dict[str, Any]:
    """Return the head's default parameters, with ``balance`` in place of ``class_weight``."""
    parameters = heads.default_parameters(head)
    word = balance_of(NONE, parameters)
    return {**{n: v for n, v in parameters.items() if n != "class_weight"}, BALANCE: word}


def default_head_space(
    head: str, *, blocks: Mapping[str, int] | None, n_features: int | None, n_rows: int | None
) -> HeadSpace:
    """Return what is tried of a head when nobody says otherwise; see `tuning.build_spaces`."""
    fixed = {**default_values(head), **_FIXED.get(head, {})}
    start = dict(_START.get(head, {}))
    if head == "mlp":
        for more_than, begins, longest in _EPOCHS:
            if (n_rows or 0) > more_than:
                start["max_epochs"], fixed["max_epochs"] = begins, longest
                break
    dimensions = dict(_DIMENSIONS[head])
    if len(blocks or {}) < 2:
        dimensions.pop("fusion", None)
    if head in _PCA:
        few = n_features is not None and n_features <= _FEW_FEATURES
        limits = [*(blocks or {}).values(), n_features, None if n_rows is None else n_rows // 2]
        most = 0 if few else min((limit for limit in limits if limit is not None), default=None)
        too_many = n_features is not None and n_features > _MANY_FEATURES
        allowed = [width for width in _PCA[head] if width is not None or not too_many]
        widths = tuple(width for width in allowed if width is None or most is None or width <= most)
        dimensions = {"pca": Choice(widths or (None,)), **dimensions}
    return settled(HeadSpace(head, dimensions, fixed, start))


def settled(space: HeadSpace) -> HeadSpace:
    """Fix the dimensions with a single choice, and drop those that can never matter."""
    single = {
        name: dimension.values[0]
        for name, dimension in space.dimensions.items()
        if isinstance(dimension, Choice) and len(dimension.values) == 1
    }
    fixed = {**space.fixed, **single}
    kept = {name: space.dimensions[name] for name in space.dimensions if name not in single}
    start = {name: value for name, value in space.start.items() if name not in single}
    fewer = replace(space, dimensions=kept, fixed=fixed, start=start)
    return replace(fewer, dimensions={name: kept[name] for name in kept if fewer.can_matter(name)})
