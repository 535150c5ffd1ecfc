"""Context of a case: what each modality gives to the answer, and the training samples nearest to it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import factorial

import numpy as np

from pipelines.explaining.case import MODALITIES, Case
from pipelines.matrices import Matrix
from pipelines.run_inputs import modality_of_space

N_NEIGHBOURS = 5


@dataclass(frozen=True)
class Shares:
    """What each modality adds to the probability of the class.

    Attributes
    ----------
    nothing, whole : float
        Probability of the class from the training means alone, and from the whole case.
    values : dict of str to float
        Modality -> its Shapley value; they add up to ``whole - nothing``.
    """

    nothing: float
    whole: float
    values: dict[str, float]


def modality_shares(case: Case, code: int) -> Shares:
    """Share the probability of a class among the modalities of a case.

    Parameters
    ----------
    case : Case
    code : int
        Position of the class among the model's.

    Notes
    -----
    Shapley values over the modalities, exact: every subset is evaluated (four of two modalities). A modality
    that is left out has the training mean for a block, as a missing one has; a joint block needs both.

    References
    ----------
    L. Shapley, "A value for n-person games", 1953.
    """
    players = case.has
    subsets = [frozenset(c) for size in range(len(players) + 1) for c in combinations(players, size)]
    answers = case.probabilities([_without_others(case, subset) for subset in subsets])[:, code]
    worth = dict(zip(subsets, answers.tolist(), strict=True))
    n = len(players)
    values = {
        player: sum(
            factorial(len(subset))
            * factorial(n - len(subset) - 1)
            / factorial(n)
            * (worth[subset | {player}] - worth[subset])
            for subset in subsets
            if player not in subset
        )
        for player in players
    }
    return Shares(worth[frozenset()], worth[frozenset(players)], values)


def _without_others(case: Case, kept: frozenset[str]) -> dict[str, np.ndarray]:
    """Return NaN for every block that needs a modality that is not kept."""
    needed = {"joint": frozenset(MODALITIES)}
    return {
        space["block"]: np.full_like(case.vectors[space["block"]], np.nan)
        for space in case.spaces
        if not needed.get(modality_of_space(space), frozenset({modality_of_space(space)})) <= kept
    }


@dataclass(frozen=True)
class Neighbour:
    """A labelled row that the model was trained on; `row` is its place in the matrix."""

    row: int
    guid: str
    label: str
    cosine: float
    text: str


def nearest_training_rows(case: Case, matrix: Matrix) -> dict[str, list[Neighbour]]:
    """Find the training rows that lie nearest to a case, block by block.

    Parameters
    ----------
    case : Case
    matrix : Matrix
        Of the run.

    Returns
    -------
    dict of str to list of Neighbour
        Block -> at most five rows, the nearest first; the case itself is left out. Blocks that the case has
        no vector of are left out.
    """
    training = matrix.training
    if case.is_stored:
        training = training[[matrix.ids[row] != case.name for row in training]]
    found = {}
    for block in matrix.blocks:
        vector = case.vectors[block].astype(np.float64)
        if np.isfinite(vector).all() and vector.any():
            rows = matrix.columns([block])[training].astype(np.float64)
            lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(vector)
            cosines = np.divide(rows @ vector, lengths, out=np.full(len(rows), np.nan), where=lengths > 0)
            order = np.argsort(np.where(np.isnan(cosines), 2.0, -cosines), kind="stable")[:N_NEIGHBOURS]
            found[block] = [
                _neighbour(matrix, int(training[k]), float(cosines[k]))
                for k in order
                if np.isfinite(cosines[k])
            ]
    return found


def _neighbour(matrix: Matrix, row: int, cosine: float) -> Neighbour:
    text = "" if matrix.texts is None else matrix.texts[row]
    return Neighbour(row, matrix.ids[row], matrix.class_names[matrix.labels[row]], cosine, text)
