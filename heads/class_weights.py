"""What each training row counts: its sample weight times the weight of its class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from heads.names import unknown_name

ClassWeight = str | Mapping[object, float] | None
"""None (classes count as they come), ``"balanced"``, or a mapping from label to weight."""


def row_weights(
    codes: NDArray[np.intp],
    classes: Sequence[object],
    *,
    class_weight: ClassWeight,
    sample_weight: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Combine sample weights and class weights.

    Parameters
    ----------
    codes : ndarray of shape (n_samples,), integer
        Position of each row's label in `classes`.
    classes : sequence of length n_classes
        The labels.
    class_weight : None, "balanced" or mapping
        ``"balanced"`` gives every class the same total weight, ``sum(sample_weight) / n_classes``. A label
        that a mapping leaves out has weight 1.
    sample_weight : ndarray of shape (n_samples,), float64
        Not negative; every class has a positive total.

    Returns
    -------
    ndarray of shape (n_samples,), float64

    Raises
    ------
    ValueError
        If `class_weight` is of another kind, names a label that is not in `classes`, has a value that is no
        finite number of at least 0, or leaves no class with a weight.
    """
    if class_weight is None:
        return sample_weight
    if class_weight == "balanced":
        mass = np.bincount(codes, weights=sample_weight, minlength=len(classes))
        per_class = mass.sum() / (len(classes) * mass)
    elif isinstance(class_weight, Mapping):
        per_class = _from_mapping(class_weight, classes)
    else:
        raise ValueError(
            f"class_weight={class_weight!r} is not understood; allowed are None, 'balanced' or a mapping "
            "from label to weight."
        )
    weights: NDArray[np.float64] = sample_weight * per_class[codes]
    return weights


def _from_mapping(class_weight: Mapping[object, float], classes: Sequence[object]) -> NDArray[np.float64]:
    """Return one weight per class, after checking the mapping."""
    labels = [str(label) for label in classes]
    known = set(classes)
    faults = [unknown_name("class", label, labels) for label in class_weight if label not in known]
    for label, weight in class_weight.items():
        if not isinstance(weight, Real) or not math.isfinite(weight) or weight < 0:
            faults.append(f"class {label!r} has weight {weight!r} (allowed: finite and not negative)")
    if faults:
        raise ValueError(f"class_weight has {len(faults)} fault(s): {'; '.join(faults)}.")
    per_class = np.array([float(class_weight.get(label, 1.0)) for label in classes])
    if not per_class.any():
        raise ValueError("class_weight gives every class the weight 0; at least one class must count.")
    return per_class
