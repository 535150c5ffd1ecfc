"""What is done to a trained model's probabilities: a calibration, then a decision, fitted once and kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heads.calibration import TemperatureScaling, VectorScaling, fit_temperature, fit_vector_scaling
from heads.decisions import DecisionWeights, LowConfidenceRule, decision_fit
from heads.names import CALIBRATIONS, unknown_name
from heads.out_of_fold import Metric

Calibration = TemperatureScaling | VectorScaling
Decision = DecisionWeights | LowConfidenceRule


@dataclass(frozen=True, eq=False)
class AfterSteps:
    """A calibration and a decision, both optional.

    Attributes
    ----------
    calibration : TemperatureScaling, VectorScaling or None
    decision : DecisionWeights, LowConfidenceRule or None
        Applied to the calibrated probabilities; None names the most probable class.
    """

    calibration: Calibration | None = None
    decision: Decision | None = None

    def probabilities(self, probabilities: ArrayLike) -> NDArray[np.float64]:
        """Return calibrated probabilities of shape (n_samples, n_classes), float64."""
        if self.calibration is None:
            return np.asarray(probabilities, dtype=np.float64)
        return self.calibration.apply(probabilities)

    def codes(self, calibrated: ArrayLike) -> NDArray[np.intp]:
        """Return the class codes, shape (n_samples,), of what `probabilities` returned."""
        if self.decision is None:
            codes: NDArray[np.intp] = np.asarray(calibrated).argmax(axis=1)
            return codes
        return self.decision.apply(calibrated)

    def apply(self, probabilities: ArrayLike) -> NDArray[Any]:
        """Return calibrated probabilities, or class codes with a decision: an ``AfterStep`` of `nested`."""
        calibrated = self.probabilities(probabilities)
        return calibrated if self.decision is None else self.codes(calibrated)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-able dict, from which `from_dict` makes an equal object, to the last bit."""
        facts: dict[str, Any] = {}
        if isinstance(self.calibration, TemperatureScaling):
            facts["calibration"] = {"temperature": self.calibration.temperature}
        elif self.calibration is not None:
            facts["calibration"] = {
                "scale": self.calibration.scale.tolist(),
                "shift": self.calibration.shift.tolist(),
            }
        if isinstance(self.decision, DecisionWeights):
            facts["decision"] = {"weights": self.decision.weights.tolist()}
        elif self.decision is not None:
            facts["decision"] = {
                "code": self.decision.code,
                "confidence_below": self.decision.confidence_below,
                "probability_above": self.decision.probability_above,
            }
        return facts

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any], *, n_classes: int) -> AfterSteps:
        """Make the steps that `as_dict` described.

        Parameters
        ----------
        facts : mapping
        n_classes : int
            Of the model.

        Raises
        ------
        ValueError
            If `facts` were not written by `as_dict` of a model with so many classes.
        """
        try:
            return cls(_calibration_of(facts, n_classes), _decision_of(facts, n_classes))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"What follows the model cannot be read ({type(error).__name__}: {error}). The run was made "
                "by another version or was altered; train it again."
            ) from error


def fit_after_steps(
    probabilities: ArrayLike,
    y: ArrayLike,
    *,
    calibrate: str = "none",
    decide: str = "argmax",
    metric: Metric = "macro_f1",
    code: int | None = None,
    confidence_below: float = 0.8,
    probability_above: float = 0.4,
) -> AfterSteps:
    """Fit a calibration, and a decision on what it gives.

    Parameters
    ----------
    probabilities : array-like of shape (n_samples, n_classes)
        Out-of-fold probabilities.
    y : array-like of shape (n_samples,), integer
        Class codes.
    calibrate : {"none", "temperature", "vector"}
    decide : {"argmax", "weights", "low-confidence"}
    metric : str or callable
        For ``"weights"``; see `heads.fit_decision_weights`.
    code, confidence_below, probability_above
        For ``"low-confidence"``; see `heads.LowConfidenceRule`.

    Returns
    -------
    AfterSteps

    Raises
    ------
    ValueError
        If a name is unknown, or the arrays are faulty.

    Notes
    -----
    Decision weights are fitted on probabilities that the same rows calibrated. That is no leak into a score:
    what a step is worth is measured by `heads.with_and_without`, which fits both without the fold it scores.

    Examples
    --------
    >>> boastful = [[0.99, 0.01], [0.99, 0.01], [0.99, 0.01], [0.99, 0.01]]
    >>> steps = fit_after_steps(boastful, [0, 0, 0, 1], calibrate="temperature")
    >>> steps.probabilities([[0.99, 0.01]]).round(3).tolist()
    [[0.75, 0.25]]
    """
    if calibrate not in CALIBRATIONS:
        raise ValueError(f"Wrong calibration: {unknown_name('calibration', calibrate, CALIBRATIONS)}.")
    fit_decision = decision_fit(
        decide,
        metric=metric,
        code=code,
        confidence_below=confidence_below,
        probability_above=probability_above,
    )
    calibration: Calibration | None = None
    if calibrate == "temperature":
        calibration = fit_temperature(probabilities, y)
    elif calibrate == "vector":
        calibration = fit_vector_scaling(probabilities, y)
    if decide == "argmax":
        return AfterSteps(calibration)
    calibrated = AfterSteps(calibration).probabilities(probabilities)
    return AfterSteps(calibration, fit_decision(calibrated, np.asarray(y)))


def _calibration_of(facts: Mapping[str, Any], n_classes: int) -> Calibration | None:
    values = facts.get("calibration")
    if values is None:
        return None
    if "temperature" in values:
        return TemperatureScaling(float(_positive(values["temperature"], 0)))
    return VectorScaling(_finite(values["scale"], n_classes), _finite(values["shift"], n_classes))


def _decision_of(facts: Mapping[str, Any], n_classes: int) -> Decision | None:
    values = facts.get("decision")
    if values is None:
        return None
    if "weights" in values:
        return DecisionWeights(_positive(values["weights"], n_classes))
    code = values["code"]
    if not isinstance(code, int) or not 0 <= code < n_classes:
        raise ValueError(f"code {code!r} is no class of {n_classes}")
    return LowConfidenceRule(code, float(values["confidence_below"]), float(values["probability_above"]))


def _finite(values: Any, n_classes: int) -> NDArray[np.float64]:
    """Return finite numbers, one per class; `n_classes` of 0 is a single number."""
    array = np.asarray(values, dtype=np.float64)
    if array.shape != ((n_classes,) if n_classes else ()) or not np.isfinite(array).all():
        raise ValueError(f"{n_classes or 1} finite number(s) are needed, but found {values!r}")
    return array


def _positive(values: Any, n_classes: int) -> NDArray[np.float64]:
    array = _finite(values, n_classes)
    if not (array > 0).all():
        raise ValueError(f"positive numbers are needed, but found {values!r}")
    return array
