"""``embedonce explain``: why a run's model answers what it answers for one text and picture."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cache import StoreError
from extract import DEFAULT_ENCODINGS
from pipelines.applied_steps import steps_of_model
from pipelines.console import tell
from pipelines.errors import RunError, UsageError, unwritable
from pipelines.explaining.attributions import (
    METHODS,
    check_gradient,
    follow_gradients,
    occlude,
)
from pipelines.explaining.case import Case, given_case, stored_case
from pipelines.explaining.context import modality_shares, nearest_training_rows
from pipelines.explaining.explanation import Explanation
from pipelines.matrices import Matrix, read_matrix
from pipelines.prediction_rows import EmbeddingOptions, device_of
from pipelines.run_inputs import group_by_tower
from pipelines.run_stores import store_specs
from pipelines.runs import CONFIG, MODEL, OUT_OF_FOLD, check_config, read_csv, read_json


@dataclass(frozen=True)
class ExplainSettings:
    """Settings of ``embedonce explain``, as on the command line.

    Attributes
    ----------
    run : Path
    id : str or None
        A row of the run's stores; else `text`, `image` or both.
    text : str or None
    image : Path or None
    target : str or None
        The class that is explained; None is the one that ``predict`` names.
    method : {"occlusion", "gradient"}
    data : Path or None
        The data set, where the pictures of stored rows lie; None looks around the stores and the run.
    out : Path or None
        The page; None is ``explain-<id>.html`` in the current folder.
    device : str
    weights : mapping of str to Path
    encodings : tuple of str
    """

    run: Path
    id: str | None = None
    text: str | None = None
    image: Path | None = None
    target: str | None = None
    method: str = "occlusion"
    data: Path | None = None
    out: Path | None = None
    device: str = "auto"
    weights: Mapping[str, Path] = field(default_factory=dict)
    encodings: tuple[str, ...] = DEFAULT_ENCODINGS

    def __post_init__(self) -> None:
        faults = []
        given = self.text is not None or self.image is not None
        if (self.id is None) != given:
            faults.append("give either --id, or --text and/or --image")
        if self.method not in METHODS:
            faults.append(f"method {self.method!r} is not known; allowed are {', '.join(METHODS)}")
        if self.out is not None and (fault := unwritable(self.out)):
            faults.append(fault)
        if faults:
            raise UsageError("; ".join(faults))


def explain(settings: ExplainSettings) -> Explanation:
    """Explain one answer of a run's model.

    Parameters
    ----------
    settings : ExplainSettings

    Returns
    -------
    Explanation

    Raises
    ------
    RunError
        If the run is not there, or the row's inputs are not those that were embedded.
    UsageError
        If a row, a class or a device is not known, the run has an imported space, or nothing has a gradient
        that is asked for.
    """
    from heads import load_model

    began = time.perf_counter()
    config = read_json(settings.run / CONFIG)
    check_config(config, settings.run / CONFIG)
    model = load_model(settings.run / MODEL)
    if settings.target is not None and settings.target not in model.classes:
        raise UsageError(
            f"Class '{settings.target}' is not one of the run's: {', '.join(map(repr, model.classes))}."
        )
    spaces = config["spaces"]
    group_by_tower(spaces)  # an imported space is named before any network runs
    if settings.method == "gradient":
        check_gradient(model)
    names = dict.fromkeys(str(space["backbone"]) for space in spaces)
    tell(f"embedding with {' and '.join(names)}")  # libraries and weights take seconds to load
    how = EmbeddingOptions(device_of(settings.device), settings.weights, settings.encodings)
    if settings.id is not None:
        case = stored_case(settings.run, spaces, model, settings.id, data=settings.data, how=how)
    else:
        case = given_case(spaces, model, text=settings.text, image=settings.image, how=how)
    code = case.predicted if settings.target is None else model.classes.index(settings.target)
    attributions = (occlude if settings.method == "occlusion" else follow_gradients)(case, code)
    held_out = _held_out(settings.run, case)
    matrix, why_not = _matrix(settings.run, spaces)
    return Explanation(
        case=case,
        classes=model.classes,
        probabilities=case.probabilities([{}])[0],
        predicted=case.predicted,
        code=code,
        held_out=None if held_out is None else dict(zip(model.classes, held_out[0].tolist(), strict=True)),
        shares=modality_shares(case, code),
        attributions=attributions,
        neighbours={} if matrix is None else nearest_training_rows(case, matrix),
        matrix=matrix,
        notes=(*_absent(case), *_honesty(case, held_out), *_steps_note(case, settings.method), *why_not),
        seconds=time.perf_counter() - began,
    )


def _matrix(run: Path, spaces: list[dict[str, Any]]) -> tuple[Matrix | None, tuple[str, ...]]:
    """Return the run's rows, or why there are no neighbours."""
    try:
        return read_matrix(store_specs(spaces, run), use_views=0, duplicates="none"), ()
    except (RunError, StoreError) as error:
        return None, (f"No neighbours: {error}",)


def _held_out(run: Path, case: Case) -> tuple[np.ndarray, int] | None:
    """Return the row's out-of-fold probabilities and class, after the run's own calibration and decision."""
    if not case.is_stored or not (run / OUT_OF_FOLD).is_file():
        return None
    for row in read_csv(run / OUT_OF_FOLD):
        if row.get("id") == case.name:
            return _answered(row, case, run / OUT_OF_FOLD)
    return None


def _answered(row: Mapping[str, str], case: Case, path: Path) -> tuple[np.ndarray, int]:
    try:
        told = np.array([[float(row[f"p_{name}"]) for name in case.model.classes]])
        if not np.isfinite(told).all():
            raise ValueError("one is not finite")
    except (KeyError, ValueError) as error:
        raise RunError(
            f"'{path}' is damaged: it has no probability of every class for row '{case.name}' "
            f"({type(error).__name__}: {error}). Make the run again."
        ) from error
    steps = steps_of_model(case.model.extra, len(case.model.classes))
    probabilities = steps.probabilities(told)
    return probabilities[0], int(steps.codes(probabilities)[0])


def _absent(case: Case) -> tuple[str, ...]:
    """Say what the input does not have: the answer is not from it."""
    absent = [block for block, vector in case.vectors.items() if np.isnan(vector).all()]
    return tuple(f"The input has no {block}; the training mean stands in for it." for block in absent)


def _honesty(case: Case, held_out: tuple[np.ndarray, int] | None) -> tuple[str, ...]:
    """Say when the model has seen the row: its confidence then says little."""
    if held_out is None:
        return ()
    probabilities, named = held_out
    return (
        f"The model was trained on row '{case.name}', so it knows the answer. The model that was trained "
        f"without it said {case.model.classes[named]} ({probabilities[named]:.3f}).",
    )


def _steps_note(case: Case, method: str) -> tuple[str, ...]:
    """Say which of the numbers the run's calibration and decision have changed."""
    steps = steps_of_model(case.model.extra, len(case.model.classes))
    notes = []
    if steps.calibration is not None and method == "gradient":
        notes.append(
            "Gradients are of the head's probability before the run's calibration; all other probabilities "
            "are after it."
        )
    if steps.decision is not None:
        notes.append(
            "The class is named by the run's decision, which need not be the most probable one; what is "
            "explained is a probability, before that decision."
        )
    return tuple(notes)
