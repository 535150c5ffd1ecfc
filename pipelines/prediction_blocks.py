"""Rows to predict from stores: blocks as a run needs them, read part by part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cache import Aligned, align
from pipelines.joined_blocks import texts_of
from pipelines.named_stores import open_store
from pipelines.reordered_rows import in_sample_order
from pipelines.stored_rows import Block, StoredRows, stored_block
from pipelines.term_counts import count_terms

Space = Mapping[str, Any]
"""An entry of ``spaces`` in a run's ``config.json``; one of term counts with its terms under ``"terms"``."""


@dataclass(frozen=True)
class PredictionRows:
    """Rows to predict.

    Attributes
    ----------
    ids : tuple of str
    X : StoredRows
        One block for each space that the run needs, in its order; NaN where there is nothing, to be imputed.
    notes : tuple of str
    """

    ids: tuple[str, ...]
    X: StoredRows
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class AbsentBlock:
    """A block of which no sample has values.

    Attributes
    ----------
    n_samples, width : int
    """

    n_samples: int
    width: int
    dtype = np.dtype(np.float32)

    @property
    def valid(self) -> np.ndarray:
        """False for every sample: ndarray of shape (n_samples,), bool."""
        return np.zeros(self.n_samples, dtype=bool)

    def read(self, places: slice) -> np.ndarray:
        """Return rows of NaN."""
        n_rows = len(range(*places.indices(self.n_samples)))
        return np.full((n_rows, self.width), np.nan, dtype=self.dtype)


@dataclass(frozen=True, eq=False)
class TermBlock:
    """Counts of a run's terms in texts, counted when they are asked for.

    Attributes
    ----------
    texts : sequence of str
        Cleaned as the run's.
    space : mapping
        Of term counts.
    """

    texts: Sequence[str]
    space: Space
    dtype = np.dtype(np.float32)

    @property
    def width(self) -> int:
        """Number of terms."""
        return len(self.space["terms"])

    @property
    def valid(self) -> np.ndarray:
        """True for every sample: ndarray of shape (n_samples,), bool. A text without known terms is zeros."""
        return np.ones(len(self.texts), dtype=bool)

    def read(self, places: slice) -> np.ndarray:
        """Return the counts in some texts."""
        return count_terms(self.texts[places], self.space["space"], self.space["terms"])


def rows_to_predict(
    files: Mapping[str, Path],
    spaces: Sequence[Space],
    *,
    unlabelled_only: bool,
    stay_open: ExitStack,
    texts: Mapping[str, Mapping[str, str]] | None = None,
) -> PredictionRows:
    """Join the needed spaces of stores; no vector is read yet.

    Parameters
    ----------
    files : mapping of str to Path
        Block -> store.
    spaces : sequence of mapping
        What the run needs; a block without a file is absent.
    unlabelled_only : bool
    stay_open : ExitStack
        Closes the stores when the rows have been read.
    texts : mapping of str to mapping of str to str, optional
        Cleaning recipe -> id -> cleaned text, for terms that are not counted in a store's own texts.

    Raises
    ------
    StoreError
        If a store cannot be trusted, or they do not belong together.
    """
    paths = list(dict.fromkeys(files.values()))
    aligned = align([stay_open.enter_context(open_store(path)) for path in paths])
    keep = np.arange(len(aligned.ids))
    if unlabelled_only:
        keep = np.flatnonzero(np.asarray(aligned.labels) < 0)
    ids = tuple(aligned.ids[i] for i in keep)
    blocks: list[Block] = []
    for space in spaces:
        path = files.get(space["block"])
        if texts and "terms" in space:
            blocks.append(TermBlock([texts[space["clean"]][guid] for guid in ids], space))
        elif path is None:
            blocks.append(AbsentBlock(len(ids), space["width"]))
        else:
            blocks.append(_block_of(aligned, paths.index(path), keep, space, stay_open))
    dropped = [
        f"{n:,} rows of '{path}' are not in every store and are left out"
        for path, n in aligned.dropped.items()
        if n
    ]
    return PredictionRows(ids, StoredRows(blocks), (*dropped, *imputed_notes(blocks, spaces)))


def _block_of(aligned: Aligned, at: int, keep: np.ndarray, space: Space, stay_open: ExitStack) -> Block:
    """Return the block of one space from one of the stores."""
    store, rows = aligned.stores[at], aligned.rows[at][keep]
    if "terms" in space:
        found = texts_of(store, rows)
        assert found is not None  # find_spaces and the run took a store that has texts
        return TermBlock(found, space)
    fingerprint = space["space_fingerprint"]
    name = next(name for name in store.spaces if store.select(name).fingerprint == fingerprint)
    return in_sample_order(stored_block(store, name, rows), stay_open)


def imputed_notes(blocks: Sequence[Block], spaces: Sequence[Space]) -> list[str]:
    """Say which blocks are missing in how many rows."""
    missing = [int((~block.valid).sum()) for block in blocks]
    return [
        f"{n:,} of {len(block.valid):,} rows have no {space['block']}; the training mean stands in for it"
        for n, block, space in zip(missing, blocks, spaces, strict=True)
        if n
    ]
