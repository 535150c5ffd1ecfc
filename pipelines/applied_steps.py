"""What ``predict`` does to a model's probabilities, asked for when it is trained and fitted out of fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from heads.names import CALIBRATIONS, DECISIONS, known_names, unknown_name
from pipelines.errors import UsageError
from tuning import score

if TYPE_CHECKING:
    from heads import AfterSteps, LoadedModel
    from tuning import SearchResult

#: Key of a model's ``extra`` that holds them.
EXTRA = "after"

_LOW_CONFIDENCE = "low-confidence"


@dataclass(frozen=True)
class AppliedSteps:
    """The calibration and the decision that were asked for.

    Attributes
    ----------
    calibrate : str
        One of ``heads.CALIBRATIONS``.
    decide : str
        One of ``heads.DECISIONS``.
    preferred : str
        For ``low-confidence``: the class that is named instead of an unsure one.
    confidence_below, probability_above : float
        For ``low-confidence``; see ``heads.LowConfidenceRule``.
    """

    calibrate: str = "none"
    decide: str = "argmax"
    preferred: str = ""
    confidence_below: float = 0.8
    probability_above: float = 0.4

    @property
    def is_nothing(self) -> bool:
        """Whether predictions are those of the model alone."""
        return self.calibrate == "none" and self.decide == "argmax"


def asked_steps(calibrate: str, decide: str) -> AppliedSteps:
    """Return what ``--calibrate`` and ``--decide`` ask for.

    Parameters
    ----------
    calibrate : str
    decide : str
        A decision; ``low-confidence:CLASS[,A,B]`` names a class, and the two limits if they are not 0.8, 0.4.

    Raises
    ------
    UsageError
        If a word is unknown or a limit is no probability; all faults in one message.
    """
    name, _, rest = decide.partition(":")
    faults = []
    if calibrate not in CALIBRATIONS:
        faults.append(unknown_name("calibration", calibrate, CALIBRATIONS))
    if name not in DECISIONS:
        faults.append(f"unknown decision {decide!r} (allowed: {known_names(name, DECISIONS)})")
    elif name != _LOW_CONFIDENCE and rest:
        faults.append(f"decision {decide!r} takes nothing after its name")
    limits = (0.8, 0.4)
    preferred = ""
    if name == _LOW_CONFIDENCE:
        preferred, *numbers = (part.strip() for part in rest.split(","))
        try:
            limits = (0.8, 0.4) if not numbers else (float(numbers[0]), float(numbers[1]))
            wrong = len(numbers) not in (0, 2) or not all(0 <= limit <= 1 for limit in limits)
        except (IndexError, ValueError):
            wrong = True
        if wrong or not preferred:
            faults.append(
                f"decision {decide!r} is not low-confidence:CLASS or low-confidence:CLASS,A,B (an answer "
                "with a confidence below A becomes CLASS if its probability is above B)"
            )
    if faults:
        raise UsageError("; ".join(faults))
    return AppliedSteps(calibrate, name, preferred, *limits)


def check_preferred(asked: AppliedSteps, model_classes: Sequence[str]) -> None:
    """Refuse a preferred class that a model will not know.

    Parameters
    ----------
    asked : AppliedSteps
    model_classes : sequence of str
        Names of the classes that have training rows.

    Raises
    ------
    UsageError
        With near matches.
    """
    if asked.decide == _LOW_CONFIDENCE and asked.preferred not in model_classes:
        raise UsageError(
            f"--decide names class {asked.preferred!r}, which has no training rows (classes: "
            f"{known_names(asked.preferred, model_classes)})."
        )


def fit_applied(
    asked: AppliedSteps,
    found: SearchResult,
    y: np.ndarray,
    class_names: Sequence[str],
    model_codes: np.ndarray,
) -> AfterSteps:
    """Fit what was asked for on the winner's out-of-fold rows.

    Parameters
    ----------
    asked : AppliedSteps
    found : SearchResult
    y : ndarray of shape (n_samples,), integer
        Class codes of the rows that were cross-validated.
    class_names : sequence of str
    model_codes : ndarray of shape (n_model_classes,), integer
        Class code of each column of the model's probabilities: a class without rows has none.

    Raises
    ------
    UsageError
        If the preferred class is none of the model's.
    """
    table = found.trials[found.best].oof[:, model_codes]
    # One thread: sums over several may differ in the last bits from run to run, and a replay must not.
    with threadpool_limits(limits=1, user_api="blas"):
        fitted: AfterSteps = _fit(asked, found.metric, class_names, model_codes)(
            table, np.searchsorted(model_codes, y)
        )
    return fitted


def nested_results(
    asked: AppliedSteps,
    found: SearchResult,
    y: np.ndarray,
    class_names: Sequence[str],
    model_codes: np.ndarray,
    fold_of_row: np.ndarray,
) -> np.ndarray:
    """Return what the steps make of each row when they are fitted without the row's fold.

    Returns
    -------
    ndarray of shape (n_samples, n_classes), float64, or (n_samples,), integer
        Probabilities, or with a decision class codes.
    """
    from heads import nested_apply

    fit = _fit(asked, found.metric, class_names, model_codes)
    table = found.trials[found.best].oof[:, model_codes]
    with threadpool_limits(limits=1, user_api="blas"):
        made = nested_apply(fit, table, np.searchsorted(model_codes, y), fold_of_row)
    if made.ndim == 1:
        codes: np.ndarray = model_codes[made]
        return codes
    whole = np.zeros((len(y), found.n_classes))
    whole[:, model_codes] = made
    return whole


def _fit(asked: AppliedSteps, metric: str, class_names: Sequence[str], model_codes: np.ndarray) -> Any:
    from heads import fit_after_steps

    of_model = [class_names[code] for code in model_codes]
    check_preferred(asked, of_model)
    code = of_model.index(asked.preferred) if asked.decide == _LOW_CONFIDENCE else None
    return partial(
        fit_after_steps,
        calibrate=asked.calibrate,
        decide=asked.decide,
        metric=partial(score, name=metric),
        code=code,
        confidence_below=asked.confidence_below,
        probability_above=asked.probability_above,
    )


def steps_of_model(extra: Mapping[str, Any], n_classes: int) -> AfterSteps:
    """Return the steps that a model file holds; those of a model without any change nothing.

    Raises
    ------
    ValueError
        If they were not written by this version.
    """
    from heads import AfterSteps

    return AfterSteps.from_dict(extra.get(EXTRA, {}), n_classes=n_classes)


def answer(model: LoadedModel, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what a run answers: probabilities after its calibration, and class positions after its decision.

    Parameters
    ----------
    model : LoadedModel
        Of a run.
    X : ndarray of shape (n_samples, n_features), float32

    Returns
    -------
    probabilities : ndarray of shape (n_samples, n_classes), float64
        Columns in the order of ``model.classes``.
    positions : ndarray of shape (n_samples,), integer
        Into ``model.classes``.
    """
    steps = steps_of_model(model.extra, len(model.classes))
    probabilities = steps.probabilities(model.predict_proba(X))
    return probabilities, steps.codes(probabilities)
