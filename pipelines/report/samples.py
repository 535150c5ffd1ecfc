"""Samples: texts, places of the pictures and features of a run's rows, from its stores if they are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cache import FeatureStore, StoreError
from pipelines.errors import RunError
from pipelines.joined_blocks import texts_of
from pipelines.named_stores import open_store
from pipelines.prediction_rows import with_terms
from pipelines.report.evidence import Evidence, OutOfFold
from pipelines.run_stores import find_store
from pipelines.runs import MODEL
from pipelines.stored_rows import stored_block
from pipelines.term_counts import count_terms, is_term_space

MOST_ROWS = 4000
"""Rows whose text, picture and place on the maps are in the page."""


@dataclass(frozen=True)
class Samples:
    """What the stores of a run say about its labelled rows, in the order of ``oof.csv``.

    Attributes
    ----------
    shown : ndarray of shape (n_shown,), int64
        Rows that are in the page; all of them up to `MOST_ROWS`.
    texts : list of str or None
        Cleaned texts of all rows.
    sizes : ndarray of shape (n_samples, 2), int32, or None
        Width and height of the pictures in pixels; 0 = unknown.
    image_paths : list of str or None
        Relative to the data set, of the rows shown.
    image_hashes : list of bytes or None
        SHA-256 of the picture files of the rows shown; zeros = unknown.
    features : dict of str to ndarray of shape (n_shown, d), float32
        Block -> vectors of the rows shown; NaN where an embedding is missing.
    n_unlabelled : int or None
    stores : tuple of Path
        The store files.
    missing : dict
        ``stores``, ``texts`` or ``images`` -> one sentence that says why there are none.
    """

    shown: np.ndarray
    texts: list[str] | None = None
    sizes: np.ndarray | None = None
    image_paths: list[str] | None = None
    image_hashes: list[bytes] | None = None
    features: Mapping[str, np.ndarray] = field(default_factory=dict)
    n_unlabelled: int | None = None
    stores: tuple[Path, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)


def find_samples(run: Evidence, rows: OutOfFold, *, with_features: bool) -> Samples:
    """Read what the stores named in ``config.json`` hold about the rows.

    Parameters
    ----------
    run : Evidence
    rows : OutOfFold
    with_features : bool
        Whether to read vectors (of the rows shown only).

    Returns
    -------
    Samples
        A store that is gone, has changed, or lacks a row is a sentence in ``missing``, not an error.
    """
    shown = choose_rows(rows)
    with ExitStack() as stack:
        try:
            found = {space["path"]: find_store(space, run.folder) for space in run.config["spaces"]}
            opened = {name: stack.enter_context(open_store(path)) for name, path in found.items()}
            places = {path: _places(store, rows.ids) for path, store in opened.items()}
            features = (
                {
                    s["block"]: _vectors(opened[s["path"]], s, places[s["path"]][shown])
                    for s in _spaces_with_terms(run)
                }
                if with_features
                else {}
            )
            return _gather(opened, places, shown, features)
        except (StoreError, RunError, _NoStoreError) as error:
            return Samples(shown, missing=dict.fromkeys(("stores", "texts", "images"), str(error)))


def choose_rows(rows: OutOfFold) -> np.ndarray:
    """Return which rows are in the page: all, or a seeded sample and the most confident errors."""
    n = len(rows.y)
    if n <= MOST_ROWS:
        return np.arange(n)
    sample = np.random.default_rng(0).choice(n, MOST_ROWS * 3 // 4, replace=False)
    doubt = np.where(rows.wrong, -rows.confidence, 1.0)
    doubt[sample] = 2.0
    return np.sort(np.concatenate([sample, np.argsort(doubt, kind="stable")[: MOST_ROWS - len(sample)]]))


class _NoStoreError(Exception):
    """A store of the run cannot be used; the message is a sentence for the page."""


def _places(store: FeatureStore, ids: Sequence[str]) -> np.ndarray:
    """Return the store's row of each id."""
    row_of = {guid: row for row, guid in enumerate(store.ids)}
    absent = [guid for guid in ids if guid not in row_of]
    if absent:
        raise _NoStoreError(f"Store '{store.path.name}' lacks {len(absent):,} row(s) of the run.")
    return np.array([row_of[guid] for guid in ids], dtype=np.int64)


def _spaces_with_terms(run: Evidence) -> Sequence[Mapping[str, Any]]:
    """Return the run's spaces; those of term counts with the terms that its model counts."""
    spaces: list[Mapping[str, Any]] = run.config["spaces"]
    if not any(is_term_space(space["space"]) for space in spaces):
        return spaces
    from heads import load_model

    try:
        return with_terms(spaces, load_model(run.folder / MODEL).extra)
    except (OSError, ValueError) as error:
        raise _NoStoreError(f"The terms of the run's model cannot be read: {error}") from error


def _vectors(store: FeatureStore, space: Mapping[str, Any], places: np.ndarray) -> np.ndarray:
    if "terms" in space:
        return count_terms(texts_of(store, places) or [], space["space"], space["terms"])
    return stored_block(store, space["space"], places).vectors()


def _gather(
    opened: Mapping[str, FeatureStore],
    places: Mapping[str, np.ndarray],
    shown: np.ndarray,
    features: Mapping[str, np.ndarray],
) -> Samples:
    texts = sizes = paths = hashes = None
    for path, store in opened.items():
        at = places[path]
        if texts is None and store.texts is not None:
            texts = [store.texts[row] for row in at]
        if paths is None and store.image_paths is not None and any(store.image_paths):
            sizes = np.asarray(store.image_sizes)[at]
            paths = [store.image_paths[row] for row in at[shown]]
            if store.image_sha256 is not None:
                hashes = [row.tobytes() for row in np.asarray(store.image_sha256)[at[shown]]]
    missing = {}
    if texts is None:
        missing["texts"] = "The stores of this run hold no texts."
    if paths is None:
        missing["images"] = "The stores of this run name no pictures."
    first = next(iter(opened.values()))
    return Samples(
        shown,
        texts,
        sizes,
        paths,
        hashes,
        features,
        int((np.asarray(first.labels) < 0).sum()),
        tuple(store.path for store in opened.values()),
        missing,
    )
