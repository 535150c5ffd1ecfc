"""Finding bad cases in the out-of-fold predictions of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cache import StoreError
from pipelines.bad_cases.facts import RowFacts, read_facts, with_raw_texts
from pipelines.bad_cases.neighbours import Neighbours
from pipelines.bad_cases.opinions import modality_opinions
from pipelines.bad_cases.slices import Slices, input_slices, model_slices, slice_table
from pipelines.errors import RunError
from pipelines.matrices import Matrix, read_matrix
from pipelines.run_stores import store_specs
from pipelines.runs import OUT_OF_FOLD
from tuning import confusion, find_label_errors, wilson_interval

if TYPE_CHECKING:
    from pipelines.report.evidence import OutOfFold

#: Neighbours are looked up for so many cases at most, the least believable labels first.
MOST_WITH_NEIGHBOURS = 2000


@dataclass(frozen=True, eq=False)
class BadCases:
    """What goes wrong in a run, from out-of-fold predictions of its labelled rows; never from a test split.

    Attributes
    ----------
    run : Path
    rows : OutOfFold
        Every labelled row with its probabilities.
    scores : ndarray of shape (n_rows,), float64
        How little each label is believed, from 0 to 1 (see `tuning.label_errors`).
    cases : pandas.DataFrame
        One line per row that is wrong out of fold or whose label is suspected, the least believed label
        first: ``id, fold, label, predicted, confidence, margin, label_error_score, suspected, slices,
        neighbours``. ``margin`` is the probability of the label less the largest other one. ``slices`` are
        the names of the row's slices, ``neighbours`` tuples of (id, label, cosine).
    slices : pandas.DataFrame
        See `slices.slice_table`: the surely worst slice first.
    confusion_pairs : pandas.DataFrame
        ``label, predicted, n, rate, low, high``: rows of a label that are taken for another class, the share
        of the label's rows, and its Wilson interval; the most frequent pair first.
    label_errors : pandas.DataFrame
        The lines of `cases` whose label is suspected.
    members : dict of str to ndarray of shape (n_rows,), bool
        The rows of every slice.
    neighbours : Neighbours or None
        Who is near whom among `rows`; None when the stores are gone.
    facts : RowFacts
    notes : tuple of str
        What could not be looked at, and why.
    """

    run: Path
    rows: OutOfFold
    scores: np.ndarray
    cases: pd.DataFrame
    slices: pd.DataFrame
    confusion_pairs: pd.DataFrame
    label_errors: pd.DataFrame
    members: Slices
    neighbours: Neighbours | None
    facts: RowFacts
    notes: tuple[str, ...]

    @cached_property
    def place_of(self) -> dict[str, int]:
        """Id -> position among the labelled rows."""
        return {guid: place for place, guid in enumerate(self.rows.ids)}


def find_bad_cases(run: Path | str, *, data: Path | None = None) -> BadCases:
    """Find bad cases, likely label errors and weak slices of a finished run.

    Parameters
    ----------
    run : Path or str
        Run folder of ``tune`` or ``train``.
    data : Path or None
        The data set, for slices of the texts before they were cleaned; None takes them as embedded.

    Returns
    -------
    BadCases
        With the stores gone or changed there are predictions only, and a note says so.

    Raises
    ------
    RunError
        If the folder is no finished run, or `data` is another data set.
    """
    run = Path(run)
    rows, config = _predictions(run)
    matrix, facts, notes = _from_stores(run, rows, config["spaces"])
    if data is not None:
        facts = with_raw_texts(facts, rows.ids, data)
    elif facts.texts is not None:
        notes += _cleaning_notes(config["spaces"])
    places = None if matrix is None else _places(matrix, rows.ids)
    alone = {} if matrix is None or places is None else modality_opinions(matrix, places, rows.folds)
    inputs = input_slices(facts, np.arange(len(rows.ids)))
    models = model_slices(rows.predicted, rows.classes, alone)
    table = slice_table(inputs, models, rows.wrong)
    found = find_label_errors(rows.probabilities, rows.y)
    members = {name: mask for name, mask in (inputs | models).items() if name in set(table["name"])}
    neighbours = None if matrix is None or places is None else Neighbours(matrix, places)
    cases = _cases(rows, found.score, found.suspected, members, neighbours)
    return BadCases(
        run=run,
        rows=rows,
        scores=found.score,
        cases=cases,
        slices=table,
        confusion_pairs=_confusion_pairs(rows),
        label_errors=cases[cases["suspected"]].reset_index(drop=True),
        members=members,
        neighbours=neighbours,
        facts=facts,
        notes=tuple(notes),
    )


def _predictions(run: Path) -> tuple[OutOfFold, dict[str, Any]]:
    """Return the out-of-fold rows and the settings of a run."""
    from pipelines.report.evidence import read_evidence  # the page of `report` imports this package

    evidence = read_evidence(run, title=run.name)
    if evidence.rows is None:
        raise RunError(evidence.missing[OUT_OF_FOLD])
    return evidence.rows, evidence.config


def _from_stores(
    run: Path, rows: OutOfFold, spaces: Sequence[dict[str, Any]]
) -> tuple[Matrix | None, RowFacts, list[str]]:
    """Return the features of the run and what its stores say of the rows, or why there are none."""
    try:
        matrix = read_matrix(store_specs(spaces, run), use_views=0, duplicates="exact")
        return matrix, read_facts(matrix, _places(matrix, rows.ids)), []
    except (StoreError, RunError) as error:
        return None, RowFacts(), [f"no neighbours and no slices of inputs: {error}"]


def _places(matrix: Matrix, ids: Sequence[str]) -> np.ndarray:
    """Return the matrix's row of each id."""
    row_of = {guid: row for row, guid in enumerate(matrix.ids)}
    absent = sum(guid not in row_of for guid in ids)
    if absent:
        raise RunError(f"The stores lack {absent:,} of the run's {len(ids):,} rows.")
    return np.array([row_of[guid] for guid in ids], dtype=np.int64)


def _cleaning_notes(spaces: Sequence[dict[str, Any]]) -> list[str]:
    recipes = sorted({space["clean"] for space in spaces} - {"", "none"})
    if not recipes:
        return []
    return [
        f"texts are looked at as they were embedded (cleaning '{recipes[0]}' drops URLs, mentions and hash "
        "signs); --data looks at the original ones"
    ]


def _confusion_pairs(rows: OutOfFold) -> pd.DataFrame:
    counts = confusion(rows.y, rows.predicted, len(rows.classes))
    sizes = counts.sum(axis=1)
    pairs = [(a, b) for a, b in np.argwhere(counts > 0) if a != b]
    n = np.array([counts[pair] for pair in pairs], dtype=np.int64)
    of = np.array([sizes[a] for a, _ in pairs], dtype=np.int64)
    low, high = wilson_interval(n, of)
    table = pd.DataFrame(
        {
            "label": [rows.classes[a] for a, _ in pairs],
            "predicted": [rows.classes[b] for _, b in pairs],
            "n": n,
            "rate": n / of,
            "low": low,
            "high": high,
        }
    )
    return table.sort_values("n", ascending=False, kind="stable", ignore_index=True)


def _cases(
    rows: OutOfFold,
    scores: np.ndarray,
    suspected: np.ndarray,
    members: Slices,
    neighbours: Neighbours | None,
) -> pd.DataFrame:
    chosen = np.flatnonzero(rows.wrong | suspected)
    chosen = chosen[np.argsort(-scores[chosen], kind="stable")]
    names = np.array(list(members), dtype=object)
    inside = np.stack(list(members.values()), axis=1) if members else np.zeros((len(rows.ids), 0), dtype=bool)
    near: list[tuple[tuple[str, str, float], ...]] = [()] * len(chosen)
    if neighbours is not None:
        asked = chosen[:MOST_WITH_NEIGHBOURS]
        near[: len(asked)] = described_neighbours(rows, *neighbours.nearest(asked))
    return pd.DataFrame(
        {
            "id": [rows.ids[i] for i in chosen],
            "fold": rows.folds[chosen],
            "label": [rows.classes[c] for c in rows.y[chosen]],
            "predicted": [rows.classes[c] for c in rows.predicted[chosen]],
            "confidence": rows.confidence[chosen],
            "margin": 1.0 - 2.0 * scores[chosen],
            "label_error_score": scores[chosen],
            "suspected": suspected[chosen],
            "slices": [tuple(names[inside[i]]) for i in chosen],
            "neighbours": near,
        }
    )


def described_neighbours(
    rows: OutOfFold, near: np.ndarray, cosines: np.ndarray
) -> list[tuple[tuple[str, str, float], ...]]:
    """Return (id, label, cosine) of every neighbour of every row asked for."""
    return [
        tuple(
            (rows.ids[other], rows.classes[rows.y[other]], float(cosine))
            for other, cosine in zip(line, values, strict=True)
        )
        for line, values in zip(near.tolist(), cosines.tolist(), strict=True)
    ]
