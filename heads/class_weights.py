"""What each training row counts: its sample weight times the weight of its class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from heads.names import unknown_name

ClassWeight = str | float | Mapping[object, float] | None
"""None (classes count as they come), ``"balanced"``, a power of it, ``"effective"``, or label to weight."""

EFFECTIVE_BETA = 0.999
"""Default of the overlap parameter of ``"effective"``."""


def row_weights(
    codes: NDArray[np.intp],
    classes: Sequence[object],
    *,
    class_weight: ClassWeight,
    sample_weight: NDArray[np.float64],
    class_boost: Mapping[object, float] | None = None,
    effective_beta: float = EFFECTIVE_BETA,
) -> NDArray[np.float64]:
    """Combine sample weights, class weights and boosts of classes.

    Parameters
    ----------
    codes : ndarray of shape (n_samples,), integer
        Position of each row's label in `classes`.
    classes : sequence of length n_classes
        The labels.
    class_weight : None, "balanced", "effective", float in [0, 1] or mapping
        ``"balanced"`` gives every class the same total weight, ``sum(sample_weight) / n_classes``.
        ``"effective"`` weighs a class of n rows by ``(1 - beta) / (1 - beta^n)``, the inverse of its
        effective number of samples, scaled so that the sum of all weights stays what it was. A number is a
        power of the balanced weights, scaled in the same way: 0 is None, 1 is ``"balanced"``, 0.5 is
        half-way. A label that a mapping leaves out has weight 1.
    sample_weight : ndarray of shape (n_samples,), float64
        Not negative; every class has a positive total.
    class_boost : mapping of label to factor, or None
        Multiplied on top, such as ``{"neutral": 1.5}``; a label that is left out has factor 1.
    effective_beta : float in [0, 1)
        0 is no weighting; towards 1 it becomes ``"balanced"``.

    Returns
    -------
    ndarray of shape (n_samples,), float64

    Raises
    ------
    ValueError
        If `class_weight` or `class_boost` is of another kind, names a label that is not in `classes`, has a
        value that is no finite number of at least 0, or leaves no class with a weight.

    References
    ----------
    Y. Cui et al., "Class-balanced loss based on effective number of samples", CVPR 2019 (``"effective"``).
    """
    if class_boost is not None:
        if not isinstance(class_boost, Mapping):
            raise ValueError(
                f"class_boost={class_boost!r} is not understood; allowed are None or a mapping from label to "
                "factor."
            )
        boost = _from_mapping("class_boost", class_boost, classes)
    weights = _class_weighted(codes, classes, class_weight, sample_weight, effective_beta)
    if class_boost is None:
        return weights
    boosted: NDArray[np.float64] = weights * boost[codes]
    if not boosted.any():
        raise ValueError(
            f"class_weight={class_weight!r} and class_boost={class_boost!r} together give every class the "
            "weight 0; at least one class must count."
        )
    return boosted


def _class_weighted(
    codes: NDArray[np.intp],
    classes: Sequence[object],
    class_weight: ClassWeight,
    sample_weight: NDArray[np.float64],
    effective_beta: float,
) -> NDArray[np.float64]:
    """Combine sample weights and class weights."""
    if class_weight is None:
        return sample_weight
    mass = np.bincount(codes, weights=sample_weight, minlength=len(classes))
    if class_weight == "balanced":
        per_class = mass.sum() / (len(classes) * mass)
    elif class_weight == "effective":
        per_class = (1 - effective_beta) / (1 - effective_beta**mass)
        per_class *= mass.sum() / (per_class @ mass)
    elif _is_power(class_weight):
        per_class = (mass.mean() / mass) ** class_weight
        per_class *= mass.sum() / (per_class @ mass)
    elif isinstance(class_weight, Mapping):
        per_class = _from_mapping("class_weight", class_weight, classes)
    else:
        raise ValueError(
            f"class_weight={class_weight!r} is not understood; allowed are None, 'balanced', 'effective', a "
            "power of the balanced weights from 0 to 1, or a mapping from label to weight."
        )
    weights: NDArray[np.float64] = sample_weight * per_class[codes]
    return weights


def _is_power(class_weight: object) -> TypeGuard[float]:
    """Whether this is a number from 0 to 1; True and False are none."""
    if not isinstance(class_weight, Real) or isinstance(class_weight, bool):
        return False
    return 0.0 <= float(class_weight) <= 1.0


def _from_mapping(
    argument: str, mapping: Mapping[object, float], classes: Sequence[object]
) -> NDArray[np.float64]:
    """Return one weight per class, after checking the mapping."""
    labels = [str(label) for label in classes]
    known = set(classes)
    faults = [unknown_name("class", label, labels) for label in mapping if label not in known]
    for label, weight in mapping.items():
        if not isinstance(weight, Real) or not math.isfinite(weight) or weight < 0:
            faults.append(f"class {label!r} has weight {weight!r} (allowed: finite and not negative)")
    if faults:
        raise ValueError(f"{argument} has {len(faults)} fault(s): {'; '.join(faults)}.")
    per_class = np.array([float(mapping.get(label, 1.0)) for label in classes])
    if not per_class.any():
        raise ValueError(f"{argument} gives every class the weight 0; at least one class must count.")
    return per_class
