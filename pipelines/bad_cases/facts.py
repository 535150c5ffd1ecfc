"""Facts: what the stores and the data set say of a run's rows besides their vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cache import FeatureStore, Status, align
from pipelines.errors import RunError
from pipelines.matrices import Matrix


@dataclass(frozen=True)
class RowFacts:
    """What is known of some rows, in their order.

    Attributes
    ----------
    texts : sequence of str or None
    images : sequence of str or None
        Paths of the pictures, relative to the data set.
    encodings : sequence of str or None
        How each text was decoded; "" = not at all.
    sizes : ndarray of shape (n_rows, 2), int32, or None
        Width and height of the pictures in pixels; 0 = unknown.
    statuses : mapping of str to ndarray of shape (n_rows,), uint8
        Modality -> codes of ``cache.Status``.
    groups : ndarray of shape (n_rows,), integer, or None
        Rows that share a text, a picture or a declared group have the same number.
    """

    texts: Sequence[str] | None = None
    images: Sequence[str] | None = None
    encodings: Sequence[str] | None = None
    sizes: np.ndarray | None = None
    statuses: Mapping[str, np.ndarray] = field(default_factory=dict)
    groups: np.ndarray | None = None


def read_facts(matrix: Matrix, rows: np.ndarray) -> RowFacts:
    """Read what the stores of a matrix say of some of its rows.

    Parameters
    ----------
    matrix : Matrix
    rows : ndarray of shape (n_rows,), integer

    Returns
    -------
    RowFacts
        Texts as they were embedded. Of several stores the first that knows something is believed; a row is
        not ok in a modality when any store says so.
    """
    facts = RowFacts(
        texts=None if matrix.texts is None else [matrix.texts[row] for row in rows],
        images=None if matrix.images is None else [matrix.images[row] for row in rows],
        groups=matrix.groups[rows],
    )
    statuses: dict[str, np.ndarray] = {}
    with ExitStack() as stack:
        paths = list(dict.fromkeys(ref.path for ref in matrix.spaces))
        # Read and verified when the matrix was made.
        aligned = align([stack.enter_context(FeatureStore.open(path, verify=False)) for path in paths])
        place = {guid: position for position, guid in enumerate(aligned.ids)}
        wanted = np.array([place[matrix.ids[row]] for row in rows], dtype=np.int64)
        for store, at in zip(aligned.stores, aligned.rows, strict=True):
            here = at[wanted]
            if facts.encodings is None and store.encodings is not None:
                facts = replace(facts, encodings=[store.encodings[row] for row in here])
            if facts.sizes is None and store.image_sizes is not None:
                facts = replace(facts, sizes=store.image_sizes[here])
            for column, modality in enumerate(store.modalities):
                found = np.asarray(store.status)[here, column]
                known = statuses.setdefault(modality, found)
                statuses[modality] = np.where(known == Status.OK, found, known)
    return replace(facts, statuses=statuses)


def with_raw_texts(facts: RowFacts, ids: Sequence[str], data: Path) -> RowFacts:
    """Put the texts of the data set, before any cleaning, in place of those that were embedded.

    Raises
    ------
    RunError
        If the data set has no texts, or lacks one of the rows.
    DataError, FileNotFoundError
        If it cannot be read.
    """
    from extract import SourceOptions, read_data_set, read_sources

    data_set = read_data_set(data)
    if "text" not in data_set.modalities:
        raise RunError(f"The data set in '{data}' has no texts. Leave --data out.")
    wanted = set(ids)
    samples = tuple(sample for sample in data_set.samples if sample.id in wanted)
    absent = len(wanted) - len({sample.id for sample in samples})
    if absent:
        raise RunError(
            f"The data set in '{data}' lacks {absent:,} of the run's {len(ids):,} rows. Name the folder that "
            "was embedded with --data."
        )
    texts_only = replace(data_set, samples=samples, modalities=("text",))
    sources = read_sources(texts_only, SourceOptions(clean="none"))
    text_of = {sample.id: source.text for sample, source in zip(samples, sources, strict=True)}
    return replace(facts, texts=[text_of[guid] for guid in ids])
