"""One answer and what speaks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.explaining.attributions import Attributions
from pipelines.explaining.case import Case
from pipelines.explaining.context import Neighbour, Shares
from pipelines.matrices import Matrix


@dataclass(frozen=True, eq=False)
class Explanation:
    """One answer and what speaks for it.

    Attributes
    ----------
    case : Case
    classes : tuple of str
    probabilities : ndarray of shape (n_classes,), float64
        As ``predict`` says them: after the run's calibration.
    predicted : int
        Position of the class that ``predict`` names: after the run's decision.
    code : int
        Position of the class that is explained.
    held_out : dict of str to float, or None
        Class -> probability by the model that was trained without the row, after the same calibration; None
        for a row that the run's model was not trained on.
    shares : Shares
    attributions : Attributions
    neighbours : dict of str to list of Neighbour
        By block.
    matrix : Matrix or None
        Where the neighbours are; None if the run's stores are gone.
    notes : tuple of str
    seconds : float
    """

    case: Case
    classes: tuple[str, ...]
    probabilities: np.ndarray
    predicted: int
    code: int
    held_out: Mapping[str, float] | None
    shares: Shares
    attributions: Attributions
    neighbours: Mapping[str, list[Neighbour]]
    matrix: Matrix | None
    notes: tuple[str, ...]
    seconds: float


def as_dict(found: Explanation) -> dict[str, Any]:
    """Return an explanation as plain JSON values."""
    maps = found.attributions
    return {
        "id": found.case.name,
        "label": found.case.label,
        "predicted": found.classes[found.predicted],
        "class": found.classes[found.code],
        "probabilities": dict(zip(found.classes, found.probabilities.tolist(), strict=True)),
        "held_out": None if found.held_out is None else dict(found.held_out),
        "method": maps.method,
        "shares": {
            "nothing": found.shares.nothing,
            "whole": found.shares.whole,
            "values": dict(found.shares.values),
        },
        "words": [{"title": m.title, "pieces": [list(piece) for piece in m.pieces]} for m in maps.words],
        "patches": [{"title": m.title, "values": m.values.tolist()} for m in maps.patches],
        "neighbours": {
            block: [{"id": n.guid, "label": n.label, "cosine": n.cosine} for n in rows]
            for block, rows in found.neighbours.items()
        },
        "notes": [*found.notes, *maps.notes],
    }
